"""Reliability against SciPy's binned statistics, counts by hand, and numbers that netcal gave."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import special
from scipy.stats import binned_statistic

from logitlab.analysis import arrays, expected_calibration_error, reliability
from logitlab.config.errors import InputError


def random_case(seed: int, n: int = 400, c: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    p = special.softmax(2 * generator.normal(size=(n, c)), axis=1)
    return p, np.array([generator.choice(c, p=row**0.5 / (row**0.5).sum()) for row in p])


def with_confidence(confidence: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of eleven classes whose largest is given, and labels."""
    given = np.array(confidence)
    p = np.repeat(((1 - given) / 10)[:, None], 11, axis=1)
    top = np.arange(len(given)) % 11
    p[np.arange(len(given)), top] = given
    return p, np.where(right, top, (top + 1) % 11)


@pytest.mark.parametrize("bins", [1, 2, 15, 40])
def test_equals_scipy_bin_by_bin(bins: int) -> None:
    p, y = random_case(0)
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)
    found = reliability(p, y, bins, split="test")
    # No confidence lies on a border here, so that SciPy's [lo, hi) gives the same.
    for name, values, statistic in (
        ("counts", right, "count"),
        ("confidence", confidence, "mean"),
        ("accuracy", right, "mean"),
    ):
        expected = binned_statistic(confidence, values, statistic, bins, range=(0, 1)).statistic
        np.testing.assert_allclose(getattr(found, name).numpy(), expected, rtol=0, atol=1e-13, equal_nan=True)
    assert found.edges.tolist() == pytest.approx(np.linspace(0, 1, bins + 1), abs=1e-15)
    gaps = (found.accuracy - found.confidence).abs()
    filled = found.counts > 0
    assert found.value == pytest.approx(float((gaps * found.counts)[filled].sum()) / 400, abs=1e-14)
    assert found.value == expected_calibration_error(p, y, bins).value
    assert found.maximum == pytest.approx(float(gaps[filled].max()), abs=1e-14)
    assert (found.n, found.split, int(found.counts.sum())) == (400, "test", 400)
    assert (found.counts.dtype, found.accuracy.dtype) == (torch.int64, torch.float64)


@pytest.mark.parametrize(
    ("bins", "expected", "maximum"),
    [
        (1, 0.2140166751643468, 0.2140166751643468),
        (2, 0.2140166751643464, 0.25850291793674013),
        (15, 0.2140166751643463, 0.45780000619237204),
        (40, 0.22142750512693424, 0.6583527228209869),
    ],
)
def test_equals_netcal(bins: int, expected: float, maximum: float) -> None:
    # ECE(bins).measure and MCE(bins).measure of netcal 1.4.0 on these very numbers.
    p, y = random_case(0)
    found = reliability(p, y, bins)
    assert found.value == pytest.approx(expected, abs=1e-13)
    assert found.maximum == pytest.approx(maximum, abs=1e-13)


def test_on_borders_by_hand() -> None:
    # Five bins (lo, hi]: gaps .2 of .2, .6 of .4, .7 of .6 .6 .5 (one right), .5 of .8 .7, .95 of 1 1 .95 (two right).
    # netcal, whose bins are [lo, hi), says .135 here.
    case = with_confidence([0.2, 0.4, 0.6, 0.6, 0.8, 1.0, 1.0, 0.95, 0.5, 0.7], [0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
    found = reliability(*case, bins=5)
    assert found.counts.tolist() == [1, 1, 3, 2, 3]
    assert found.value == pytest.approx((0.2 + 0.6 + 0.7 + 0.5 + 0.95) / 10, abs=1e-15)
    assert found.maximum == pytest.approx(0.6, abs=1e-15)


@pytest.mark.parametrize("bins", [5, 10, 15, 20, 50])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_border_belongs_to_the_bin_below(bins: int, dtype: torch.dtype) -> None:
    # A border computed in steps may lie a rounding beside the number that is meant: 11 / 20 and 0.55.
    borders = torch.tensor([k / bins for k in range(1, bins + 1) if k / bins > 0.5], dtype=dtype)
    p = torch.stack([borders, 1 - borders], dim=1)
    found = reliability(p, torch.zeros(len(p), dtype=torch.int64), bins)
    assert found.counts.tolist() == [int(k / bins > 0.5) for k in range(1, bins + 1)]


def test_one_bin_of_three_quarters() -> None:
    found = reliability([[0.75, 0.25]] * 5, [0, 0, 0, 1, 1])
    assert found.value == found.maximum == pytest.approx(0.15, abs=1e-15)
    assert found.counts.nonzero().flatten().tolist() == [11]


def test_goes_to_json_and_prints() -> None:
    found = reliability([[0.75, 0.25]] * 5, [0, 0, 0, 1, 1], bins=2, split="test")
    written = json.loads(json.dumps(found.to_json()))
    assert written["accuracy"] == [None, 0.6]
    assert (written["counts"], written["edges"], written["value"]) == ([0, 5], [0, 0.5, 1], pytest.approx(0.15))
    assert str(found) == ("reliability expected error 0.15, largest 0.15 (2 bins of equal width (lo, hi]; test, n = 5)")


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = random_case(4)
    whole = reliability(p, y)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 50)
    parts = reliability(p, y)
    assert parts.value == pytest.approx(whole.value, abs=1e-14)
    assert parts.counts.tolist() == whole.counts.tolist()


def test_nonsense_is_refused() -> None:
    for bins in (15.0, True, None, "15"):
        with pytest.raises(InputError, match=f"an integer 'bins' of at least 1. Got {bins}"):
            reliability([[0.5, 0.5]], [0], bins=bins)  # type: ignore[arg-type]
    assert len(reliability([[0.5, 0.5]], [0], bins=np.int64(3)).counts) == 3
    with pytest.raises(InputError, match="'bins' of at least 1. Got 0"):
        reliability([[0.5, 0.5]], [0], bins=0)
    with pytest.raises(InputError, match="Got a negative value"):
        reliability([[2.0, -1.0]], [0])
    with pytest.raises(InputError, match="row 0"):
        reliability([[math.nan, 1.0]], [0])
    with pytest.raises(InputError, match=r"\[1\]"):
        reliability([[0.5, 0.5]], [0, 1])
    with pytest.raises(InputError, match="not empty"):
        reliability(np.zeros((0, 2)), [])
    with pytest.raises(InputError, match="0 to 1"):
        reliability([[0.5, 0.5]], [2])
