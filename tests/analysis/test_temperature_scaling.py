"""Temperatures against SciPy's root finder and minimiser, a fine grid, and logits whose temperature is known."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.metrics import log_loss

from logitlab.analysis import (
    UndefinedError,
    arrays,
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihood,
    temperature_fit,
    temperature_scaling,
)
from logitlab.config.errors import InputError
from logitlab.functional import normalized_sigmoid

LINKS = ("softmax", "sigmoid")


def probabilities(logits: np.ndarray, link: str, temperature: float = 1.0) -> np.ndarray:
    z = logits / temperature
    return special.softmax(z if link == "softmax" else special.log_expit(z), axis=1)


def loss(logits: np.ndarray, y: np.ndarray, link: str, temperature: float) -> float:
    z = logits / temperature
    logarithm = special.log_softmax(z if link == "softmax" else special.log_expit(z), axis=1)
    return -float(logarithm[np.arange(len(y)), y].mean())


def random_case(seed: int, scale: float = 1.0, n: int = 300, c: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n, c))
    # Unbalanced: the first class is favoured.
    z[:, 0] += 1
    y = np.array([generator.choice(c, p=row) for row in special.softmax(z, axis=1)])
    return scale * z, y


# Log probabilities.


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_log_probabilities_equal_scipy(temperature: float) -> None:
    z, _ = random_case(0, 3)
    for link in LINKS:
        found = log_probabilities(z, link=link, temperature=temperature)
        expected = np.log(probabilities(z, link, temperature))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)
        assert (found.dtype, found.device.type) == (torch.float64, "cpu")


def test_sigmoids_are_those_of_the_heads() -> None:
    z = torch.from_numpy(random_case(1, 4)[0])
    for name in ("sigmoid", "normalized_sigmoid"):
        torch.testing.assert_close(log_probabilities(z, link=name).exp(), normalized_sigmoid(z), rtol=1e-13, atol=0)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    "z", [[3.0, 3.0, -1.0], [-3.0, -1.0, -1.0], [0.0, -1.0, -2.0], [0.5, 2.0, 0.0], [-math.inf, 1.0, 0.0]]
)
def test_limits_of_the_temperature(link: str, z: list[float]) -> None:
    for limit, near in ((0.0, 1e-3), (math.inf, 1e9)):
        found = log_probabilities([z], link=link, temperature=limit).exp()
        expected = log_probabilities([z], link=link, temperature=near).exp()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
        assert float(found.sum()) == pytest.approx(1, abs=1e-15)


def test_extremes_are_finite() -> None:
    z = [[1e300, -1e300, 0.0], [-800.0, -801.0, -900.0]]
    for link in LINKS:
        for temperature in (1e-3, 1.0, 1e3):
            found = log_probabilities(z, link=link, temperature=temperature)
            assert not found.isnan().any()
            assert found.exp().sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_log_probabilities_refuse() -> None:
    with pytest.raises(InputError, match="'none': squared error"):
        log_probabilities([[1.0, 2.0]], link="none")
    with pytest.raises(InputError, match="Got 'probit'"):
        log_probabilities([[1.0, 2.0]], link="probit")  # type: ignore[arg-type]
    for bad in (-1.0, math.nan):
        with pytest.raises(InputError, match="'temperature' of at least 0"):
            log_probabilities([[1.0, 2.0]], temperature=bad)
    for row in ([math.inf, 0.0], [-math.inf, -math.inf]):
        with pytest.raises(InputError, match="row 1"):
            log_probabilities([[0.0, 1.0], row])
    with pytest.raises(InputError, match="without NaN"):
        log_probabilities([[math.nan, 0.0]])


# Fitting.


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1.0, 40.0, 1e8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_softmax_equals_the_root_that_scipy_finds(scale: float, seed: int) -> None:
    z, y = random_case(seed, scale)

    def slope(logarithm: float) -> float:
        beta = math.exp(logarithm) / scale
        own = z[np.arange(len(y)), y]
        return float((((special.softmax(beta * z, axis=1) * z).sum(axis=1) - own) / scale).mean())

    expected = scale / math.exp(optimize.brentq(slope, -6, 6, xtol=1e-15, rtol=1e-15))
    found = fit_temperature(z, y, split="validation")
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.nll_after == pytest.approx(loss(z, y, "softmax", expected), abs=1e-12)
    assert found.nll_before == pytest.approx(loss(z, y, "softmax", 1.0), rel=1e-12)
    assert found.converged
    assert abs(found.gradient) < 1e-10
    assert (found.n, found.split, found.warnings) == (300, "validation", ())
    assert found.iterations <= 15


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_minimize_scalar(link: str, seed: int) -> None:
    z, y = random_case(seed, 3)
    best = optimize.minimize_scalar(lambda t: loss(z, y, link, math.exp(t)), bounds=(-4, 6), options={"xatol": 1e-9})
    found = fit_temperature(z, y, link=link)
    # A minimiser that sees values alone knows its argument to the root of their rounding.
    assert found.value == pytest.approx(math.exp(best.x), rel=1e-6)
    assert found.nll_after == pytest.approx(best.fun, abs=1e-12)
    assert found.nll_after <= best.fun + 1e-15


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 3.9784, 250.0])
@pytest.mark.parametrize("link", LINKS)
def test_logits_made_by_a_temperature_give_it_back(temperature: float, link: str) -> None:
    # Labels in the very proportions of the probabilities: no other T can do better than their entropy.
    tenths = [[5, 3, 2], [1, 8, 1], [4, 2, 4]]
    p = np.repeat(np.array(tenths) / 10, 10, axis=0)
    y = np.concatenate([np.repeat(np.arange(3), row) for row in tenths])
    # Of sigmoids any multiple below one is normalised away.
    z = temperature * (np.log(p) if link == "softmax" else special.logit(0.9 * p))
    found = fit_temperature(z, y, link=link)
    assert found.value == pytest.approx(temperature, rel=1e-9)
    entropy = -float((p * np.log(p)).sum(axis=1).mean())
    assert found.nll_after == pytest.approx(entropy, abs=1e-13)


def sigmoid_losses(logits: np.ndarray, y: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    logarithm = special.log_softmax(special.log_expit(logits / temperatures[:, None, None]), axis=2)
    return -logarithm[:, np.arange(len(y)), y].mean(axis=1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    offset=st.sampled_from([-20.0, -3.0, 0.0, 3.0]),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    samples=st.integers(2, 12),
)
def test_sigmoid_is_never_above_a_fine_grid(seed: int, offset: float, scale: float, samples: int) -> None:
    # Few samples of several sizes with labels drawn at will: then the likelihood has several minima at times.
    generator = np.random.default_rng(seed)
    z = scale * (generator.normal(size=(samples, 3)) * generator.choice([0.01, 0.1, 1, 10], size=(samples, 1)) + offset)
    y = generator.integers(0, 3, size=samples)
    found = fit_temperature(z, y, link="sigmoid")
    assert found.nll_after <= sigmoid_losses(z, y, np.logspace(-6, 6, 1000) * scale).min() + 1e-10
    if math.isfinite(found.value) and found.value > 0:
        assert found.nll_after == pytest.approx(loss(z, y, "sigmoid", found.value), abs=1e-12)
        assert found.converged


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0, 1000.0])
@pytest.mark.parametrize(
    ("z", "y"),
    [
        # The colder one is lower,
        ([[0.1, 0.0, 0.0], [-0.6, 0.5, 0.4], [13.3, -16.8, 2.1]], [1, 1, 0]),
        # or the warmer one.
        ([[0.0, -0.1, 1.5], [4.3, 3.0, 21.1], [-0.2, -0.1, 0.0]], [1, 2, 2]),
    ],
)
def test_the_lower_of_two_minima_wins(z: list[list[float]] | np.ndarray, y: list[int], scale: float) -> None:
    z = scale * np.array(z)
    grid = np.logspace(-2, 2, 4001) * scale
    losses = sigmoid_losses(z, np.array(y), grid)
    inner = losses[1:-1]
    minima = ((inner < losses[:-2]) & (inner < losses[2:])).nonzero()[0] + 1
    assert len(minima) == 2
    found = fit_temperature(z, y, link="sigmoid")
    assert found.value == pytest.approx(grid[losses.argmin()], rel=0.002)
    assert losses.min() - 1e-6 < found.nll_after <= losses.min()


def test_a_scan_of_some_rows_is_checked_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = random_case(14, 3)
    whole = fit_temperature(z, y, link="sigmoid").value
    monkeypatch.setattr(temperature_fit, "_SCAN_ELEMENTS", 300)
    # 116 rows a chunk: no multiple of the six that one row of the sample stands for.
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 700)
    assert fit_temperature(z, y, link="sigmoid").value == pytest.approx(whole, rel=1e-11)
    # Every sixth row, those of the sample, pulls far away from the rest.
    y[::6] = z[::6].argmin(axis=1)
    some = fit_temperature(z, y, link="sigmoid")
    monkeypatch.undo()
    assert some.value == pytest.approx(fit_temperature(z, y, link="sigmoid").value, rel=1e-11)


@pytest.mark.parametrize("chunk", [6, 42, 78, 100_000])
def test_the_sample_of_a_scan_is_every_so_many_th_row(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = random_case(16, n=101)
    # 606 logits over 150: every fifth row.
    monkeypatch.setattr(temperature_fit, "_SCAN_ELEMENTS", 150)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", chunk)
    likelihood = temperature_fit._Likelihood(arrays.Rows(z, "logits"), torch.from_numpy(y), True, 1.0)
    sample = likelihood.sample()
    assert sample is not None
    assert sample.at(0.7).loss == pytest.approx(loss(z[::5], y[::5], "sigmoid", 1 / 0.7), rel=1e-12)
    assert len(sample._rows) == 21


def test_the_unit_of_the_logits_is_the_unit_of_the_temperature() -> None:
    z, y = random_case(5)
    for link in LINKS:
        one = fit_temperature(z, y, link=link)
        many = fit_temperature(1024 * z, y, link=link)
        assert many.value == pytest.approx(1024 * one.value, rel=1e-12)


def test_an_offset_of_each_row_changes_nothing_in_softmax() -> None:
    z, y = random_case(6)
    offset = np.random.default_rng(0).normal(size=(len(z), 1)) * 1000
    assert fit_temperature(z + offset, y).value == pytest.approx(fit_temperature(z, y).value, rel=1e-9)


def test_repeated_samples_change_nothing() -> None:
    z, y = random_case(7)
    twice = fit_temperature(np.r_[z, z], np.r_[y, y])
    assert twice.value == pytest.approx(fit_temperature(z, y).value, rel=1e-12)


@pytest.mark.parametrize("link", LINKS)
def test_a_fit_that_stops_early_says_so(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temperature_fit, "_MAX_STEPS", 0)
    z, y = random_case(5, 3)
    found = fit_temperature(z, y, link=link)
    assert (found.converged, found.iterations) == (False, 0)
    assert "Not converged after 0 steps" in found.warnings[0]
    # By log T, where it stopped.
    t, step = found.value, 1e-4
    slope = (loss(z, y, link, t * math.exp(step)) - loss(z, y, link, t * math.exp(-step))) / (2 * step)
    assert abs(slope) > 1e-3
    assert found.gradient == pytest.approx(slope, rel=1e-6)


def test_one_mistake_among_many_far_away() -> None:
    # Nearly separable: the minimum lies where the slope is 1e-12 and a plain Newton step goes astray.
    z = np.array([[5.0, 0.0]] * 1000 + [[1e-9, 0.0]])
    y = np.array([0] * 1000 + [1])
    found = fit_temperature(z, y)
    assert found.converged
    # 5000 / (1 + e^(5β)) = 1e-9 / (1 + e^(-1e-9 β)), to first order 5000 e^(-5β) = 5e-10.
    assert found.value == pytest.approx(5 / math.log(5000 / 0.5e-9), rel=1e-6)


@pytest.mark.parametrize("link", LINKS)
def test_separable_labels_have_no_temperature(link: str) -> None:
    z = np.array([[1.0, -1.0, -2.0], [-0.5, 0.1, -3.0], [2.0, -1.0, -1.0]])
    found = fit_temperature(z, [0, 1, 0], link=link)
    assert (found.value, found.nll_after, found.iterations, found.converged) == (0, 0, 0, True)
    assert "T = 0 is a limit" in found.warnings[0]


def test_a_tie_at_the_top_costs_its_logarithm() -> None:
    found = fit_temperature([[1.0, 1.0, 0.0], [3.0, 0.0, 0.0]], [0, 0])
    assert (found.value, found.nll_after) == (0, pytest.approx(math.log(2) / 2))


@pytest.mark.parametrize("link", LINKS)
def test_labels_against_the_logits_have_no_temperature(link: str) -> None:
    found = fit_temperature([[-0.5, -1.5, -2.5], [-1.0, -2.0, -2.0]], [2, 1], link=link)
    assert (found.value, found.nll_after) == (math.inf, pytest.approx(math.log(3), abs=1e-15))
    assert "T = infinity is a limit" in found.warnings[0]
    assert found.to_json()["value"] is None
    json.dumps(found.to_json())


def test_positive_sigmoids_may_prefer_the_cold() -> None:
    # All logits above zero become one: the normalised sigmoids are level at T = 0 as they are at T = infinity.
    found = fit_temperature([[1.0, 2.0, -1.0], [1.0, 2.0, -1.0]], [0, 1], link="sigmoid")
    assert (found.value, found.nll_after) == (0, pytest.approx(math.log(2), abs=1e-12))


def test_masked_classes_are_not_there() -> None:
    z, y = random_case(8, 2)
    wide = np.insert(z, 3, -math.inf, axis=1)
    for link in LINKS:
        found = fit_temperature(wide, y + (y >= 3), link=link)
        assert found.value == pytest.approx(fit_temperature(z, y, link=link).value, rel=1e-12)
        assert found.nll_after == pytest.approx(fit_temperature(z, y, link=link).nll_after, rel=1e-12)


def test_chunks_and_containers_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    z, y = random_case(9)
    np.save(tmp_path / "logits.npy", z)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    for link in LINKS:
        whole = fit_temperature(z, y, link=link).value
        assert fit_temperature(torch.from_numpy(z), torch.from_numpy(y), link=link).value == whole
        assert fit_temperature(z.tolist(), y.tolist(), link=link).value == whole
        with monkeypatch.context() as patch:
            patch.setattr(arrays, "_CHUNK_ELEMENTS", 500)
            assert fit_temperature(mapped, y, link=link).value == pytest.approx(whole, rel=1e-11)


def test_fit_refuses() -> None:
    with pytest.raises(UndefinedError, match="differ within a row"):
        fit_temperature([[1.0, 1.0], [2.0, 2.0]], [0, 1])
    with pytest.raises(UndefinedError, match="differ within a row"):
        fit_temperature([[1.0], [2.0]], [0, 0])
    with pytest.raises(InputError, match="'none'"):
        fit_temperature([[1.0, 2.0]], [0], link="none")
    with pytest.raises(InputError, match=r"mask \(-inf\)"):
        fit_temperature([[1.0, -math.inf], [1.0, 2.0]], [1, 0])
    with pytest.raises(InputError, match="row 1"):
        fit_temperature([[1.0, 2.0], [math.nan, 0.0]], [0, 0])
    with pytest.raises(InputError, match="row 0"):
        fit_temperature([[math.inf, 2.0]], [0])
    with pytest.raises(InputError, match="0 to 1"):
        fit_temperature([[1.0, 2.0]], [2])
    with pytest.raises(InputError, match=r"\[1\]"):
        fit_temperature([[1.0, 2.0]], [0, 1])
    with pytest.raises(InputError, match="not empty"):
        fit_temperature(np.zeros((0, 2)), [])


def test_probabilities_in_the_place_of_logits_are_told() -> None:
    z, y = random_case(15)
    p = probabilities(z, "softmax")
    found = fit_temperature(p.astype(np.float32), y)
    assert "seem to be probabilities" in found.warnings[0]
    assert found.warnings == temperature_scaling(p.astype(np.float32), y).warnings
    # One row, or one class of it, that is none will do.
    p[200] = [0.5, 0.6, -0.1, 0.0, 0.0, 0.0]
    assert fit_temperature(p, y).warnings == fit_temperature(np.log(probabilities(z, "softmax")), y).warnings == ()


def test_a_fit_prints_and_goes_to_json() -> None:
    found = fit_temperature([[2 * math.log(3), 0.0]] * 4, [0, 0, 0, 1], split="validation")
    assert str(found) == (
        "temperature 2, nats 0.6547 to 0.5623 (least NLL of softmax of logits / T, Newton on 1/T; validation, n = 4)"
    )
    assert found.to_json()["value"] == pytest.approx(2, rel=1e-12)


# Scaling.


@pytest.mark.parametrize("link", LINKS)
def test_scaling_on_the_same_images(link: str) -> None:
    z, y = random_case(10, 5)
    found = temperature_scaling(z, y, link=link, bins=10, split="test")
    fit = fit_temperature(z, y, link=link)
    assert found.temperature == found.value == fit.value
    for when, temperature in (("before", 1.0), ("after", fit.value)):
        p = probabilities(z, link, temperature)
        assert getattr(found, f"nll_{when}") == pytest.approx(log_loss(y, p, labels=list(range(6))), rel=1e-12)
        assert getattr(found, f"ece_{when}") == pytest.approx(expected_calibration_error(p, y, 10).value, abs=1e-12)
    assert found.nll_after < found.nll_before
    assert (found.n, found.fitted_on, found.split) == (300, 300, "test")
    assert "same images" in found.convention
    assert "10 bins" in found.convention
    assert ("sigmoid" in found.convention) == (link == "sigmoid")
    written = json.loads(json.dumps(found.to_json()))
    assert written["value"] == written["temperature"] == fit.value


@pytest.mark.parametrize("link", LINKS)
def test_scaling_with_a_split_of_its_own(link: str) -> None:
    z, y = random_case(11, 5)
    other, other_y = random_case(12, 5, n=80)
    found = temperature_scaling(z, y, fit_logits=other, fit_y=other_y, link=link)
    assert found.value == fit_temperature(other, other_y, link=link).value
    p = log_probabilities(z, link=link, temperature=found.value)
    assert found.nll_after == pytest.approx(negative_log_likelihood(p, y, log_probabilities=True).value, rel=1e-13)
    assert (found.n, found.fitted_on) == (300, 80)
    assert "images of their own" in found.convention


def test_scaling_to_a_limit_is_said() -> None:
    separable, y = [[2.0, 0.0], [0.0, 1.0]], [0, 1]
    found = temperature_scaling(separable, y)
    assert (found.value, found.nll_after, found.ece_after) == (0, 0, 0)
    assert "T = 0" in found.warnings[0]
    # Where the fit was perfect and the test is not, certainty is infinitely wrong.
    found = temperature_scaling([[2.0, 0.0]] * 4, [0, 0, 0, 1], fit_logits=separable, fit_y=y)
    assert (found.nll_after, found.ece_after) == (math.inf, 0.25)
    assert (found.to_json()["value"], found.to_json()["nll_after"]) == (0, None)
    found = temperature_scaling([[2.0, 0.0]] * 4, [1, 1, 1, 0])
    assert (found.value, found.nll_after) == (math.inf, pytest.approx(math.log(2)))
    assert found.ece_after == pytest.approx(0.25)


def test_scaling_refuses() -> None:
    z, y = random_case(13)
    for options in ({"fit_logits": z}, {"fit_y": y}):
        with pytest.raises(InputError, match="together"):
            temperature_scaling(z, y, **options)
    with pytest.raises(InputError, match="of 6 classes as 'logits'. Got 5"):
        temperature_scaling(z, y, fit_logits=z[:, :5], fit_y=y)
    with pytest.raises(InputError, match="'bins'"):
        temperature_scaling(z, y, bins=0)
    with pytest.raises(InputError, match="'none'"):
        temperature_scaling(z, y, link="none")
    with pytest.raises(InputError, match="row 0"):
        temperature_scaling([[math.nan, 0.0]], [0])
