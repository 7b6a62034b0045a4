"""Votes against SciPy's mode and counts by hand."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import accuracy_score

from logitlab.analysis import ensemble_accuracy, ensembles, mixed_ensembles, modal_vote
from logitlab.config.errors import InputError


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 20)).flatmap(
        lambda shape: arrays(np.int64, shape, elements=st.integers(0, 4))
    )
)
def test_vote_equals_scipys_mode(predictions: np.ndarray) -> None:
    # Both take the smallest of equally common labels; so few classes make ties likely.
    assert modal_vote(predictions).tolist() == stats.mode(predictions, axis=0).mode.tolist()


@pytest.mark.parametrize("chunk", [1, 7, 2**18])
def test_vote_in_chunks_equals_a_counter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensembles, "_CHUNK_ELEMENTS", chunk)
    predictions = np.random.default_rng(0).integers(0, 1000, (8, 50)) // 250
    for sample, answer in zip(predictions.T.tolist(), modal_vote(predictions).tolist(), strict=True):
        votes = Counter(sample)
        assert answer == min(label for label, count in votes.items() if count == max(votes.values()))


def test_a_tie_goes_to_the_smallest_label_wherever_it_stands() -> None:
    assert modal_vote([[3], [1], [3], [1], [2]]).tolist() == [1]
    assert modal_vote([[1], [3], [1], [3], [2]]).tolist() == [1]
    assert modal_vote([[9], [8], [7], [6]]).tolist() == [6]


@pytest.mark.parametrize("give", [torch.tensor, np.asarray, np.ndarray.tolist], ids=["torch", "numpy", "list"])
def test_ensemble_accuracy_equals_scikit_learn(give: object) -> None:
    generator = np.random.default_rng(1)
    truth = generator.choice(6, 300, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    predictions = np.where(generator.random((4, 300)) < 0.5, truth, generator.integers(0, 6, (4, 300)))
    found = ensemble_accuracy(give(predictions), give(truth), split="test")  # type: ignore[operator]
    assert found.value == accuracy_score(truth, stats.mode(predictions, axis=0).mode)
    assert found.details["single"] == pytest.approx(np.mean([accuracy_score(truth, row) for row in predictions]))
    tied = [sum(n == max(Counter(row).values()) for n in Counter(row).values()) > 1 for row in predictions.T.tolist()]
    assert found.details["tied"] == np.mean(tied) > 0
    assert (found.details["models"], found.n, found.split) == (4, 300, "test")


def test_independent_mistakes_are_outvoted() -> None:
    # Three models err on a third of the samples each, never on the same one.
    truth = torch.zeros(9, dtype=torch.int64)
    predictions = [torch.where(torch.arange(9) % 3 == model, 1, 0) for model in range(3)]
    assert ensemble_accuracy(predictions, truth).value == 1
    assert ensemble_accuracy(predictions, truth).details["single"] == pytest.approx(2 / 3)
    assert ensemble_accuracy(predictions[:1], truth).value == pytest.approx(2 / 3)


def heads(seeds: dict[str, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 4, 200)
    return {
        name: np.where(generator.random((count, 200)) < 0.6, truth, generator.integers(0, 4, (count, 200)))
        for name, count in seeds.items()
    }, truth


def test_mixed_ensembles_by_hand() -> None:
    predictions, truth = heads({"a": 4, "b": 4, "c": 4})
    found = mixed_ensembles(predictions, truth, split="validation")
    assert (found.size, found.names, found.warnings) == (4, ("a", "b", "c"), ())

    def vote(*members: np.ndarray) -> float:
        return accuracy_score(truth, stats.mode(np.stack(members), axis=0).mode)

    a, b = predictions["a"], predictions["b"]
    assert found.value[0, 0] == vote(*a)
    assert found.value[1, 1] == vote(*b)
    expected = (vote(a[0], a[1], b[2], b[3]) + vote(a[2], a[3], b[0], b[1])) / 2
    assert found.value[0, 1] == found.value[1, 0] == pytest.approx(expected, abs=1e-15)
    assert torch.equal(found.value, found.value.T)
    assert json.loads(json.dumps(found.to_json()))["size"] == 4
    assert "best of two" in str(found)


def test_seeds_never_meet_themselves() -> None:
    # Two heads that answer alike, seed by seed: mixed or not, the ensemble is the same four models.
    predictions, truth = heads({"a": 4})
    found = mixed_ensembles({"a": predictions["a"], "twin": predictions["a"]}, truth)
    assert torch.equal(found.value, found.value[0, 0].expand(2, 2))


def test_ensembles_have_one_even_size() -> None:
    predictions, truth = heads({"a": 5, "b": 8})
    found = mixed_ensembles(predictions, truth)
    assert found.size == 4
    assert found.warnings == ("Seeds left out, for ensembles of one even size: 1 of 'a', 4 of 'b'.",)
    assert found.value[1, 1] == ensemble_accuracy(predictions["b"][:4], truth).value


def test_one_head() -> None:
    predictions, truth = heads({"a": 2})
    found = mixed_ensembles(predictions, truth)
    assert found.value.shape == (1, 1)
    assert "best of two" not in found.headline


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="at least one model"):
        modal_vote([])
    with pytest.raises(InputError, match=r"predictions\[0\]"):
        modal_vote([0, 1])
    with pytest.raises(InputError, match=r"'predictions' of shape \[M, N\]. Got int"):
        modal_vote(3)
    with pytest.raises(InputError, match=r"'predictions\[1\]' of shape \[2\]"):
        modal_vote([[0, 1], [0, 1, 2]])
    with pytest.raises(InputError, match="float"):
        modal_vote(torch.rand(2, 3))
    with pytest.raises(InputError, match=r"'y' of shape \[2\]"):
        ensemble_accuracy([[0, 1], [0, 1]], [0])
    with pytest.raises(InputError, match="at least one head"):
        mixed_ensembles({}, [0])
    with pytest.raises(InputError, match="at least two seeds a head.*'b'"):
        mixed_ensembles({"a": [[0], [0]], "b": [[0]]}, [0])
    with pytest.raises(InputError, match="Expected 1 predictions a model of 'b'. Got 2"):
        mixed_ensembles({"a": [[0], [0]], "b": [[0, 1], [0, 1]]}, [0])
