"""Rank by three rules against NumPy's matrix_rank and the definitions written out."""

import numpy as np
import pytest

from logitlab.analysis import UndefinedError, feature_rank, spectra
from logitlab.config.errors import InputError


def features(count: int = 300, size: int = 40) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return generator.normal(size=(count, size)) * np.geomspace(1, 1e-7, size) @ turn


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(300, 40), (20, 40), (40, 40)])
@pytest.mark.parametrize("small", [2**18, 0])
def test_equals_the_definitions(
    center: bool, shape: tuple[int, int], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "_SMALL", small)
    x = features(*shape) + 0.01
    centred = x - x.mean(axis=0) if center else x
    s = np.linalg.svd(centred, compute_uv=False)
    energy = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= 0.99 * (s**2).sum())
    p = s / s.sum()
    found = feature_rank(x, center=center, split="test")
    assert found.value == found.details["energy_99"] == energy
    default = max(shape) * np.finfo(np.float32).eps
    assert found.details["float32"] == np.linalg.matrix_rank(centred, rtol=default)
    p = p[p > 0]
    assert found.details["entropy"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6 if small == 0 else 1e-9)
    for rule in ("energy_99", "float32", "entropy"):
        assert feature_rank(x, rule, center=center).value == found.details[rule]  # type: ignore[arg-type]
    assert found.split == "test"


def test_float32_is_the_default_of_float32_features() -> None:
    # Away from the threshold, where float32's own rounding does not decide.
    x = (np.random.default_rng(0).normal(size=(50, 6)) * [1, 1, 1, 1e-1, 1e-2, 0]).astype(np.float32)
    assert feature_rank(x, "float32").value == np.linalg.matrix_rank(x) == 5


def test_equal_values_and_one_direction() -> None:
    # A hundred equal singular values: 99 of them hold 99 %, and the entropy counts them all.
    found = feature_rank(np.eye(100))
    assert found.details == pytest.approx({"energy_99": 99, "float32": 100, "entropy": 100}, rel=1e-12)
    one = feature_rank(np.outer(np.arange(1.0, 6), [1.0, 2.0, 3.0]))
    assert one.details == pytest.approx({"energy_99": 1, "float32": 1, "entropy": 1}, rel=1e-9)


def test_duplicated_features_add_no_rank() -> None:
    x = np.random.default_rng(1).normal(size=(60, 5))
    for rule in ("energy_99", "float32", "entropy"):
        once, twice = (feature_rank(a, rule) for a in (x, np.concatenate([x, x], axis=1)))  # type: ignore[arg-type]
        assert twice.value == pytest.approx(once.value, rel=1e-9)


@pytest.mark.parametrize("size", [3, 50])
def test_nothing_has_no_rank(size: int) -> None:
    with pytest.raises(UndefinedError, match="not all zero"):
        feature_rank(np.zeros((10, size)))
    with pytest.raises(UndefinedError, match="that differ"):
        feature_rank(np.full((10, size), 0.1), center=True)
    assert feature_rank(np.full((10, size), 0.1)).value == 1


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'entropy'"):
        feature_rank(np.eye(3), "entropie")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="finite"):
        feature_rank([[np.inf, 1.0]])
