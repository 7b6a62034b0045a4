"""Agreement against scikit-learn, loops and counts by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from logitlab.analysis import agreement, agreement_matrix, modal_vote
from logitlab.config.errors import InputError

GENERATOR = np.random.default_rng(5)
# Unbalanced: class 0 has half of the samples, class 4 hardly any.
TRUTH = GENERATOR.choice(5, 400, p=[0.5, 0.3, 0.1, 0.08, 0.02])
MODELS = {name: np.where(GENERATOR.random(400) < 0.7, TRUTH, GENERATOR.integers(0, 5, 400)) for name in "abcd"}


def by_loops(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    alike, wrong, same = 0, 0, 0
    for a, b, y in zip(one.tolist(), other.tolist(), TRUTH.tolist()):
        if (a == y) is (b == y):
            alike += 1
        if a != y and b != y:
            wrong += 1
            same += a == b
    return alike / len(TRUTH), same / wrong


@pytest.mark.parametrize("give", [torch.tensor, np.asarray, np.ndarray.tolist], ids=["torch", "numpy", "list"])
def test_equals_scikit_learn_and_loops(give: object) -> None:
    one, other = MODELS["a"], MODELS["b"]
    found = agreement(give(one), give(other), give(TRUTH), split="validation")  # type: ignore[operator]
    assert found.value == accuracy_score(one, other)
    alike, same = by_loops(one, other)
    assert found.details == {"both_right_or_both_wrong": alike, "same_when_both_wrong": same}
    assert 0 < same < 1
    assert (found.n, found.split, found.warnings) == (400, "validation", ())
    assert agreement(one, other).value == found.value
    assert agreement(one, other).details == {}


def test_by_hand() -> None:
    # Both right: 0; both wrong alike: 1; both wrong apart: 2; one right: 3 and 4.
    found = agreement([0, 1, 2, 0, 1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0])
    assert found.value == 2 / 5
    assert found.details == {"both_right_or_both_wrong": 3 / 5, "same_when_both_wrong": 1 / 2}


def test_closed_forms() -> None:
    one = torch.arange(1000) % 10
    assert agreement(one, one).value == 1.0
    assert agreement(one, (one + 1) % 10).value == 0.0
    # Answers that ignore each other: every pair of 10 x 10 classes once.
    assert agreement(torch.arange(100) // 10, torch.arange(100) % 10).value == 1 / 10


def test_shared_mistakes_that_do_not_exist_are_undefined() -> None:
    found = agreement([0, 1, 0], [0, 0, 1], [0, 1, 1])
    assert math.isnan(found.details["same_when_both_wrong"])
    assert "never both wrong" in found.warnings[0]
    assert found.to_json()["details"]["same_when_both_wrong"] is None


@pytest.mark.parametrize("kind", ["same", "both_right_or_both_wrong", "same_when_both_wrong"])
def test_matrix_holds_every_pair(kind: str) -> None:
    found = agreement_matrix(MODELS, TRUTH, kind, split="test")  # type: ignore[arg-type]
    assert found.names == ("a", "b", "c", "d")
    assert found.value.dtype == torch.float64
    assert torch.equal(found.value.diagonal(), torch.ones(4, dtype=torch.float64))
    for row, one in enumerate(MODELS.values()):
        for column, other in enumerate(MODELS.values()):
            pair = agreement(one, other, TRUTH)
            assert found.value[row, column] == (pair.value if kind == "same" else pair.details[kind])
    assert json.loads(json.dumps(found.to_json()))["value"][0][1] == found.value[0, 1]
    assert "of 4 models" in str(found)
    assert (found.kind, found.split, found.n) == (kind, "test", 400)


def test_matrix_tells_undefined_pairs() -> None:
    found = agreement_matrix({"right": [0, 1], "a": [1, 1], "b": [0, 0]}, [0, 1], "same_when_both_wrong")
    # The right one with anyone, itself too, and the two others, which err on different samples.
    assert found.value.isnan().tolist() == [[True, True, True], [True, False, True], [True, True, False]]
    assert found.warnings == ("4 of 6 pairs are never both wrong: undefined.",)
    assert found.to_json()["value"][0] == [None, None, None]
    assert "between" not in found.headline


def test_one_model() -> None:
    assert agreement_matrix({"a": [0, 1]}).headline == "of 1 model"


def test_ensembles_agree_more_than_their_members() -> None:
    # W Figure D.2, on answers that are the truth or noise.
    heads = {
        head: [np.where(GENERATOR.random(400) < 0.6, TRUTH, GENERATOR.integers(0, 5, 400)) for _ in range(8)]
        for head in ("first", "second")
    }
    single = agreement_matrix({head: seeds[0] for head, seeds in heads.items()}).value[0, 1]
    assert agreement_matrix({head: modal_vote(seeds) for head, seeds in heads.items()}).value[0, 1] > single + 0.2


def test_mapped_labels_and_small_integers(tmp_path: object) -> None:
    file = np.lib.format.open_memmap(tmp_path / "answers.npy", mode="w+", dtype=np.uint8, shape=(400,))  # type: ignore[operator]
    file[:] = MODELS["a"]
    file.flush()
    mapped = np.load(tmp_path / "answers.npy", mmap_mode="r")  # type: ignore[operator]
    assert agreement(mapped, MODELS["b"]).value == accuracy_score(MODELS["a"], MODELS["b"])


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match=r"'second' of shape \[2\].*Got \[3\]"):
        agreement([0, 1], [0, 1, 2])
    with pytest.raises(InputError, match=r"'y' of shape \[2\]"):
        agreement([0, 1], [0, 1], [0])
    with pytest.raises(InputError, match="'first' of shape .*not empty"):
        agreement([], [])
    with pytest.raises(InputError, match="'first' to hold class indices .*float"):
        agreement([0.0, float("nan")], [0, 1])
    with pytest.raises(InputError, match=r"'first' of shape \[2\]"):
        agreement([[0, 1], [1, 0]], [0, 1])
    with pytest.raises(InputError, match="'second' to hold class indices, from 0. Got -1"):
        agreement([0, 1], [0, -1])
    with pytest.raises(InputError, match="'first' of shape .* without a length"):
        agreement(3, [0])
    with pytest.raises(InputError, match="at least one model"):
        agreement_matrix({})
    with pytest.raises(InputError, match=r"predictions\['b'\]"):
        agreement_matrix({"a": [0, 1], "b": [0]})
    with pytest.raises(InputError, match="Expected 'y'"):
        agreement_matrix({"a": [0, 1]}, kind="same_when_both_wrong")
    with pytest.raises(InputError, match="did you mean 'same'"):
        agreement_matrix({"a": [0, 1]}, kind="sam")  # type: ignore[arg-type]
