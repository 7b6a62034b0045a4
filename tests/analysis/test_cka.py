"""CKA against centring matrices written out, the definition of the unbiased estimator, and closed forms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from logitlab.analysis import UndefinedError, arrays, cka_matrix, linear_cka, minibatch_cka
from logitlab.config.errors import InputError

Array = NDArray[np.float64]


def hsic(k: Array, m: Array) -> float:
    """Biased: tr(KHMH)."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h))


def unbiased_hsic(k: Array, m: Array) -> float:
    """Song et al. (2012), Eq. (5), letter by letter."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    terms = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return float(terms / (n * (n - 3)))


def alignment(x: Array, y: Array, measure: Callable[[Array, Array], float]) -> float:
    k, m = x @ x.T, y @ y.T
    return measure(k, m) / (measure(k, k) * measure(m, m)) ** 0.5


def pair(count: int = 40, widths: tuple[int, int] = (6, 9), seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, widths[0])) @ generator.normal(size=(widths[0], widths[0])) + 3
    return x, np.tanh(x @ generator.normal(size=widths)) + 0.3 * generator.normal(size=(count, widths[1])) - 1


@pytest.mark.parametrize(("debiased", "measure"), [(False, hsic), (True, unbiased_hsic)])
@pytest.mark.parametrize("widths", [(6, 9), (3, 700), (600, 2), (90, 80), (1, 1)])
def test_equals_explicit_centring(
    debiased: bool, measure: Callable[[Array, Array], float], widths: tuple[int, int]
) -> None:
    # More samples than columns (cross-products), fewer (Gram matrices), and one of each.
    x, y = pair(widths=widths)
    found = linear_cka(x, y, debiased=debiased, split="test")
    assert found.value == pytest.approx(alignment(x, y, measure), rel=1e-10)
    assert (found.n, found.split) == (40, "test")
    assert ("debiased" in found.convention) == debiased


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("count", [5, 40])
def test_duplicated_and_dead_columns_and_rows(debiased: bool, count: int) -> None:
    x, y = pair(count)
    x = np.concatenate([x, x[:, :2], np.zeros((count, 3)), np.full((count, 1), 7.0)], axis=1)
    x, y = np.concatenate([x, x[:3]]), np.concatenate([y, y[:3]])
    measure = unbiased_hsic if debiased else hsic
    assert linear_cka(x, y, debiased=debiased).value == pytest.approx(alignment(x, y, measure), rel=1e-10)


@pytest.mark.parametrize("widths", [(6, 9), (600, 500)])
def test_rotation_shift_and_scale_change_nothing(widths: tuple[int, int]) -> None:
    x, y = pair(widths=widths)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(widths[0], widths[0])))[0]
    assert linear_cka(x, 3 * x @ turn - 5).value == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, x).value == pytest.approx(1, abs=1e-14)
    expected = linear_cka(x, y).value
    assert linear_cka(y, x).value == pytest.approx(expected, rel=1e-12)
    # Neither overflow, underflow, nor a mean that dwarfs the deviation.
    for moved in (x * 1e200, x * 1e-200, x @ turn):
        assert linear_cka(moved, y).value == pytest.approx(expected, rel=1e-10)
    assert linear_cka(x + 1e6, y).value == pytest.approx(linear_cka((x + 1e6) - 1e6, y).value, rel=1e-9)


def test_independent_noise_of_few_samples() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(100, 500)), generator.normal(size=(100, 500))
    assert linear_cka(x, y).value == pytest.approx(0.83, abs=0.02)
    assert linear_cka(x, y, debiased=True).value == pytest.approx(0, abs=0.03)


def test_orthogonal_columns_have_a_closed_form() -> None:
    # X holds a and b, Y only a (unit, centred, orthogonal): 1 / (sqrt(2) * 1).
    a, b = np.array([1, -1, 0, 0]) / 2**0.5, np.array([0, 0, 1, -1]) / 2**0.5
    assert linear_cka(np.stack([a, b], 1), a[:, None]).value == pytest.approx(0.5**0.5, abs=1e-14)
    assert linear_cka(b[:, None], a[:, None]).value == pytest.approx(0, abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    elements=st.integers(1, 4000),
    seed=st.integers(0, 2**16),
    debiased=st.booleans(),
    widths=st.sampled_from([(6, 9), (70, 3), (50, 60)]),
)
def test_any_order_and_chunk_size(elements: int, seed: int, debiased: bool, widths: tuple[int, int]) -> None:
    x, y = pair(widths=widths)
    expected = linear_cka(x, y, debiased=debiased).value
    order = np.random.default_rng(seed).permutation(len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK_ELEMENTS", elements)
        patch.setattr("logitlab.analysis.products._BLOCK", 4)
        patch.setattr("logitlab.analysis.products.PRODUCT_CHUNKS", 1)
        assert linear_cka(x[order], y[order], debiased=debiased).value == pytest.approx(expected, abs=1e-11)


def test_memory_maps_and_feature_maps(tmp_path: Path) -> None:
    x, y = pair(widths=(24, 9))
    np.save(tmp_path / "x.npy", x.astype(np.float32).reshape(40, 2, 3, 4))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rounded = x.astype(np.float32).astype(np.float64)
    for found in (linear_cka(mapped, y), linear_cka(torch.from_numpy(rounded).float().reshape(40, 2, 3, 4), y)):
        assert found.value == pytest.approx(alignment(rounded, y, hsic), rel=1e-10)
    channels_last = torch.from_numpy(rounded).reshape(40, 2, 3, 4).to(memory_format=torch.channels_last)
    assert linear_cka(channels_last, y).value == pytest.approx(alignment(rounded, y, hsic), rel=1e-10)
    wide = torch.randn(10, 5, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = alignment(wide.reshape(10, -1).numpy(), y[:10], hsic)
    assert linear_cka(wide.to(memory_format=torch.channels_last), y[:10]).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_matrix_holds_every_pair(debiased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    layers = {"a": x, "b": y, "wide": pair(widths=(6, 300))[1]}
    found = cka_matrix(layers, debiased=debiased, split="test")
    expected = [
        [linear_cka(one, other, debiased=debiased).value for other in layers.values()] for one in layers.values()
    ]
    np.testing.assert_allclose(found.value.numpy(), expected, rtol=1e-11)
    assert found.rows == found.columns == found.names == ("a", "b", "wide")
    between = cka_matrix({"a": x}, layers, debiased=debiased)
    np.testing.assert_allclose(between.value.numpy(), expected[:1], rtol=1e-11)
    # Without room for Gram matrices they are computed anew.
    monkeypatch.setattr("logitlab.analysis.cka._KEPT", 0)
    np.testing.assert_allclose(cka_matrix(layers, debiased=debiased).value.numpy(), expected, rtol=1e-11)
    assert str(found).startswith("cka_matrix 3 x 3 from")
    assert found.to_json()["value"][0][0] == pytest.approx(1)


def test_minibatches_sum_before_the_quotient() -> None:
    x, y = pair(50)
    cuts = [slice(0, 12), slice(12, 16), slice(16, 50)]  # unequal batches
    sums = [
        sum(unbiased_hsic(a[cut] @ a[cut].T, b[cut] @ b[cut].T) for cut in cuts) for a, b in ((x, y), (x, x), (y, y))
    ]
    found = minibatch_cka((x[cut], y[cut]) for cut in cuts)
    assert found.value == pytest.approx(sums[0] / (sums[1] * sums[2]) ** 0.5, rel=1e-11)
    assert (found.n, found.details["batches"]) == (50, 3)
    # Batches of very different size of numbers share one scale.
    scaled = minibatch_cka([(x[:20] * 1e150, y[:20] * 1e-150), (x[20:] * 1e150, y[20:] * 1e-150)])
    assert scaled.value == pytest.approx(minibatch_cka([(x[:20], y[:20]), (x[20:], y[20:])]).value, rel=1e-10)


def test_one_batch_is_the_debiased_value() -> None:
    x, y = pair(30)
    assert minibatch_cka([(x, y)]).value == pytest.approx(linear_cka(x, y, debiased=True).value, rel=1e-12)


def test_what_cannot_be_compared() -> None:
    x, y = pair()
    with pytest.raises(InputError, match="same samples.*40 and 39 rows"):
        linear_cka(x, y[:39])
    with pytest.raises(InputError, match="same samples"):
        minibatch_cka([(x, y[:39])])
    with pytest.raises(InputError, match="at least 4 samples.*Got 3"):
        linear_cka(x[:3], y[:3], debiased=True)
    with pytest.raises(InputError, match="at least 4 samples.*Got 2 in 'x1 of batch 2'"):
        minibatch_cka([(x, y), (x[:2], y[:2])])
    with pytest.raises(InputError, match="at least one batch"):
        minibatch_cka([])
    with pytest.raises(InputError, match="at least one representation"):
        cka_matrix({})
    with pytest.raises(InputError, match=r"second\['c'\].*finite.*row 2"):
        cka_matrix({"a": x}, {"c": np.where(np.arange(40)[:, None] == 2, np.nan, y)})
    with pytest.raises(InputError, match=r"\[N, D\] or more dimensions"):
        linear_cka(x[:, 0], y)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("width", [3, 300])
def test_constant_representations_are_undefined(debiased: bool, width: int) -> None:
    with pytest.raises(UndefinedError, match="'x2' to differ"):
        linear_cka(pair()[0], np.full((40, width), 0.1), debiased=debiased)
    with pytest.raises(UndefinedError, match="differ within the batches|to differ"):
        minibatch_cka([(pair()[0], np.full((40, width), 0.1))])


def test_equal_distances_have_no_debiased_value() -> None:
    # Orthonormal rows: every off-diagonal product is alike, which the unbiased estimator calls no structure.
    with pytest.raises(UndefinedError, match="debiased norm"):
        linear_cka(np.eye(6), pair(6)[0], debiased=True)
