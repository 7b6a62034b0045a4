"""T Eq. (15) against closed forms, and the mean loss of bins against a loop."""

import json
import math

import numpy as np
import pytest
import torch

from logitlab.analysis import UndefinedError, directions, loss_by_cosine, simplified_loss
from logitlab.config.errors import InputError


def test_the_curve_by_hand() -> None:
    # -1 + log(e + 2) for C = 3, κ = 2, z = 1/2; 1 + log(e^-1 + 2) for z = -1/2; log 3 at zero.
    found = simplified_loss([0.5, -0.5, 0.0], 2.0, 3)
    assert found.tolist() == pytest.approx([0.5514447139320511, 1.8619948040582512, 1.0986122886681098], rel=1e-12)
    assert found.dtype == torch.float64


def test_the_curve_neither_overflows_nor_loses_digits() -> None:
    # The loss of a sure answer is (C - 1) exp(-κ) up to its square; that of a wrong one κ + log(C - 1).
    assert float(simplified_loss([1.0], 60.0, 10)) == pytest.approx(9 * math.exp(-60), rel=1e-12)
    assert float(simplified_loss([-1.0], 65525.0, 1001)) == pytest.approx(65525 + math.log(1000), rel=1e-14)
    assert simplified_loss([0.0], 0.14, 2).tolist() == pytest.approx([math.log(2)], rel=1e-15)


@pytest.mark.parametrize("kappa", [0.5, 5.0, 60.0])
def test_losses_lie_on_the_curve_where_the_other_cosines_are_zero(kappa: float) -> None:
    own = np.linspace(-0.99, 0.99, 67)
    y = np.arange(67) % 4
    x = np.zeros((67, 5))
    x[np.arange(67), y], x[:, 4] = own, np.sqrt(1 - own**2)
    # Lengths mean nothing.
    found = loss_by_cosine(x * np.arange(1, 68)[:, None], 3 * np.eye(4, 5), y, kappa, bins=11, split="test")
    wanted = np.log1p(3 * np.exp(-kappa * own))
    assert found.value == pytest.approx(wanted.mean(), rel=1e-12)
    assert found.simplified == pytest.approx(wanted.mean(), rel=1e-12)
    place = np.clip(np.floor((own + 1) / 2 * 11).astype(int), 0, 10)
    assert found.counts.tolist() == np.bincount(place, minlength=11).tolist()
    np.testing.assert_allclose(found.loss, np.bincount(place, wanted) / np.bincount(place), rtol=1e-12)
    assert (found.kappa, found.num_classes, found.n, found.split, found.warnings) == (kappa, 4, 67, "test", ())


@pytest.mark.parametrize("block", [2**20, 14])
def test_bins_equal_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "_BLOCK_ELEMENTS", block)
    generator = np.random.default_rng(0)
    x, weight, bias = generator.normal(size=(50, 6)), generator.normal(size=(5, 6)), generator.normal(size=5)
    y = generator.integers(5, size=50)
    found = loss_by_cosine(x, torch.from_numpy(weight), y, 7.0, bias=bias)
    totals, counts = np.zeros(20), np.zeros(20, dtype=int)
    for feature, label in zip(x, y):
        cosine = [feature @ row / np.linalg.norm(feature) / np.linalg.norm(row) for row in weight]
        logits = [7 * value + shift for value, shift in zip(cosine, bias)]
        loss = math.log(sum(math.exp(value) for value in logits)) - logits[label]
        place = int((cosine[label] + 1) * 10)
        totals[place] += loss
        counts[place] += 1
    assert found.counts.tolist() == counts.tolist()
    full = counts > 0
    np.testing.assert_allclose(found.loss[full], totals[full] / counts[full], rtol=1e-12)
    assert found.loss[~full].isnan().all()
    assert found.value == pytest.approx(totals.sum() / 50, rel=1e-12)
    assert "κ cos + b, without a margin" in found.convention


def test_the_centres_of_the_bins_lie_on_the_grid() -> None:
    found = loss_by_cosine(np.eye(3), np.eye(3), [0, 1, 2], 4.0)
    centres = (found.edges[1:] + found.edges[:-1]) / 2
    np.testing.assert_allclose(found.expected, np.log1p(2 * np.exp(-4 * centres.numpy())), rtol=1e-12)
    np.testing.assert_allclose(found.grid[4::8], centres, atol=1e-15)
    np.testing.assert_allclose(found.curve[4::8], found.expected, rtol=1e-12)
    # A cosine of one belongs to the last bin.
    assert found.counts.tolist() == [0] * 19 + [3]
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["loss"][:19] == [None] * 19
    assert str(found).startswith(
        "loss_by_cosine 0.03598 at κ = 4; Eq. (15) gives 0.03598 (softmax cross-entropy of κ cos,"
    )


def test_a_zero_feature_has_the_cosine_zero() -> None:
    found = loss_by_cosine([[0.0, 0.0], [1.0, 0.0]], np.eye(2), [0, 1], 3.0, bins=2)
    assert found.warnings == ("1 of 2 cosines belong to a zero feature or a zero weight and count as 0.",)
    assert found.value == pytest.approx((math.log(2) + math.log(1 + math.exp(3))) / 2)


def test_bad_input_is_refused() -> None:
    x, weight = np.eye(2), np.eye(2)
    with pytest.raises(UndefinedError, match="at least two rows in 'weight'"):
        loss_by_cosine(x, weight[:1], [0, 0], 1.0)
    for kappa in (0.0, -1.0, math.inf, math.nan, True, "5"):
        with pytest.raises(InputError, match="positive, finite number 'kappa'. Got "):
            loss_by_cosine(x, weight, [0, 1], kappa)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="positive, finite number 'kappa'"):
            simplified_loss([0.5], kappa, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="integer 'bins' of at least 1. Got 0"):
        loss_by_cosine(x, weight, [0, 1], 1.0, bins=0)
    with pytest.raises(InputError, match=r"Expected 'bias' of shape \[2\], one number a class. Got \[3\]."):
        loss_by_cosine(x, weight, [0, 1], 1.0, bias=[1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="'num_classes' of at least 2. Got 1"):
        simplified_loss([0.5], 1.0, 1)
    with pytest.raises(InputError, match=r"cosines in \[-1, 1\] in 'z'. Got values from 0.5 to 2; divide"):
        simplified_loss([0.5, 2.0], 1.0, 3)
