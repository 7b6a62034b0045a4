"""Confidence scores against SciPy, brute force over the candidates of κ, and closed forms."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats

from logitlab.analysis import (
    arrays,
    confidence_scores,
    energy,
    feature_norm,
    feature_scores,
    kappa_star,
    max_logit,
    max_probability,
    max_scaled_logit,
    negative_entropy,
    projection_residual,
)
from logitlab.config.errors import InputError
from logitlab.functional import least_squares_kappa

NAMES = [
    "max_logit",
    "max_scaled_logit",
    "max_probability",
    "negative_entropy",
    "energy",
    "feature_norm",
    "projection_residual",
    "kappa_star",
]


def random_case(seed: int, n: int = 40, d: int = 12, c: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(c, d))
    # Some near a weight, some anywhere: κ* of both sizes.
    x = 3 * weight[generator.integers(0, c, n)] * generator.random((n, 1)) + generator.normal(size=(n, d))
    return x, weight


def least_squares(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The twenty candidates of TS Eq. (30) one by one, a sample at a time."""
    kappa, residual = np.zeros(len(x)), np.zeros(len(x))
    unit_weight = np.array([row / math.sqrt((row**2).sum()) for row in weight])
    for index, row in enumerate(x):
        unit = row / math.sqrt((row**2).sum())
        energies = []
        for candidate in np.exp(np.linspace(-2, 5, 20)):
            a = special.softmax(candidate * (unit_weight @ unit))
            energies.append(0.5 * ((unit - sum(a_c * w for a_c, w in zip(a, unit_weight))) ** 2).sum())
        residual[index] = min(energies)
        kappa[index] = np.exp(np.linspace(-2, 5, 20))[int(np.argmin(energies))]
    return kappa, residual


def test_logit_scores_equal_numpy_and_scipy() -> None:
    z = np.random.default_rng(0).normal(size=(50, 9)) * 5
    np.testing.assert_array_equal(max_logit(z), z.max(axis=1))
    for temperature in (0.1, 1.0, 30.0):
        expected = temperature * special.logsumexp(z / temperature, axis=1)
        np.testing.assert_allclose(energy(z, temperature), expected, rtol=1e-13)
    p = special.softmax(z, axis=1)
    np.testing.assert_array_equal(max_probability(p), p.max(axis=1))
    np.testing.assert_allclose(negative_entropy(p), -stats.entropy(p, axis=1), rtol=1e-12, atol=1e-15)
    kappa = np.random.default_rng(1).random(50) + 0.5
    np.testing.assert_allclose(max_scaled_logit(z, kappa), (kappa[:, None] * z).max(axis=1), rtol=1e-15)
    for number in (7, 7.0, torch.tensor(7.0), np.float32(7.0)):
        np.testing.assert_allclose(max_scaled_logit(z, number), 7 * z.max(axis=1), rtol=1e-15)
    np.testing.assert_allclose(feature_norm(z), np.sqrt((z**2).sum(axis=1)), rtol=1e-15)


def test_energy_of_extremes() -> None:
    z = torch.tensor([[1000.0, 999.0], [-1000.0, -1000.0], [-math.inf, 3.0]])
    assert energy(z).tolist() == pytest.approx([1000 + math.log1p(math.exp(-1)), -1000 + math.log(2), 3])
    # Towards zero it becomes the largest logit, of which nothing overflows.
    assert energy(z, 1e-300).tolist() == [1000, -1000, 3]
    assert energy(z).tolist() == pytest.approx(torch.logsumexp(z.double(), dim=1).tolist(), rel=1e-15)


def test_certainty_has_no_entropy() -> None:
    assert negative_entropy([[0.0, 1.0], [0.25, 0.75]]).tolist() == pytest.approx([0, -stats.entropy([0.25, 0.75])])
    assert negative_entropy(np.full((1, 8), 1 / 8)).tolist() == pytest.approx([-math.log(8)])


@pytest.mark.parametrize(("n", "d", "c"), [(40, 12, 7), (30, 3, 25), (5, 40, 2)])
def test_least_squares_equals_brute_force(n: int, d: int, c: int) -> None:
    x, weight = random_case(n, n, d, c)
    kappa, residual = least_squares(x, weight)
    np.testing.assert_allclose(projection_residual(x, weight), -residual, rtol=0, atol=1e-13)
    np.testing.assert_allclose(kappa_star(x, weight), -kappa, rtol=1e-12)
    # Samples that end at different candidates, or the test says nothing of the choice.
    assert len(set(kappa)) > 1
    expected = least_squares_kappa(torch.from_numpy(x), torch.from_numpy(weight))
    np.testing.assert_array_equal(kappa_star(x, weight), -expected)


def test_lengths_do_not_matter_to_least_squares() -> None:
    x, weight = random_case(3)
    lengths = np.random.default_rng(0).random((len(x), 1)) * 100
    np.testing.assert_allclose(projection_residual(lengths * x, 5 * weight), projection_residual(x, weight), atol=1e-13)


def test_nearer_to_the_hull_is_surer() -> None:
    found = projection_residual([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], np.eye(3)[:2])
    # On a weight nothing remains; across both ½(1 + ½), their mean being the best there is.
    assert found.tolist() == pytest.approx([0, -0.75 + 0.5, -0.75], abs=0.06)
    assert found[0] > found[1] > found[2]
    assert found[2].item() == pytest.approx(-0.75, abs=1e-15)


def test_a_zero_feature_is_rebuilt_by_the_mean_of_the_weights() -> None:
    weight = np.eye(4)
    assert projection_residual(np.zeros((1, 4)), weight).tolist() == pytest.approx([-0.5 * 4 / 16], abs=1e-15)
    assert feature_norm(np.zeros((1, 4))).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_memory_maps_and_chunks(dtype: type, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    x, weight = random_case(4)
    x = (10 * x).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    logits = x.astype(np.float64) @ weight.T
    whole = confidence_scores(x.astype(np.float64), logits, weight)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 30)
    monkeypatch.setattr(feature_scores, "_COSINE_ELEMENTS", 10)
    parts = confidence_scores(mapped, logits, weight)
    for name in NAMES:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12, atol=1e-13)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_memory_map_is_never_held_as_a_whole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Small results kept among freed chunks would make the process grow by the map's 80 MiB in float64."""
    np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(20_000, 512))[:] = 1.5
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    feature_norm(mapped[:2000])
    before = anonymous_memory()
    norms = feature_norm(mapped)
    assert anonymous_memory() - before < 40 * 2**20
    assert norms.tolist() == pytest.approx([1.5 * math.sqrt(512)] * 20_000, rel=1e-14)


def anonymous_memory() -> int:
    """Bytes of this process that are its own: mapped pages do not count."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def test_all_scores_at_once() -> None:
    x, weight = random_case(5)
    logits = x @ weight.T
    found = confidence_scores(x, logits, weight)
    assert list(found) == NAMES
    for score in found.values():
        assert (score.shape, score.dtype, score.device.type) == ((40,), torch.float64, "cpu")
    p = special.softmax(logits, axis=1)
    expected = {
        "max_logit": max_logit(logits),
        "max_scaled_logit": max_logit(logits),
        "max_probability": max_probability(p),
        "negative_entropy": negative_entropy(p),
        "energy": energy(logits),
        "feature_norm": feature_norm(x),
        "projection_residual": projection_residual(x, weight),
        "kappa_star": kappa_star(x, weight),
    }
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-13)


def test_of_a_cosine_head_the_cosine_is_given() -> None:
    cosines = np.array([[0.1, 0.5], [0.9, 0.2]])
    found = confidence_scores(np.eye(2), 16 * cosines, np.eye(2), max_logit=cosines.max(axis=1))
    assert found["max_logit"].tolist() == [0.5, 0.9]
    assert found["max_scaled_logit"].tolist() == [8, 0.9 * 16]


def test_the_link_decides_on_probabilities() -> None:
    x, weight = random_case(6)
    logits = x @ weight.T
    sigmoid = special.expit(logits)
    p = sigmoid / sigmoid.sum(axis=1, keepdims=True)
    for link in ("sigmoid", "normalized_sigmoid"):
        found = confidence_scores(x, logits, weight, link=link)
        np.testing.assert_allclose(found["max_probability"], p.max(axis=1), rtol=1e-12)
        np.testing.assert_allclose(found["negative_entropy"], -stats.entropy(p, axis=1), rtol=1e-12)
    none = confidence_scores(x, logits, weight, link="none")
    assert list(none) == [name for name in NAMES if name not in ("max_probability", "negative_entropy")]
    with pytest.raises(InputError, match="Got 'probit'"):
        confidence_scores(x, logits, weight, link="probit")  # type: ignore[arg-type]


def test_underflown_probabilities_have_an_entropy() -> None:
    found = confidence_scores(np.ones((1, 2)), [[0.0, -2000.0, -math.inf]], np.eye(2))
    assert (found["max_probability"].item(), found["negative_entropy"].item()) == (1, 0)


def test_mahalanobis_is_asked_for() -> None:
    class Fit:
        def score(self, x: np.ndarray) -> torch.Tensor:
            return torch.full((len(x),), -3.0, dtype=torch.float64)

        def norm_score(self, x: np.ndarray) -> torch.Tensor:
            return torch.full((len(x),), -2.0, dtype=torch.float64)

    x, weight = random_case(7)
    found = confidence_scores(x, x @ weight.T, weight, mahalanobis=Fit())  # type: ignore[arg-type]
    assert list(found) == [*NAMES, "mahalanobis", "norm_mahalanobis"]
    assert (found["mahalanobis"][0], found["norm_mahalanobis"][0]) == (-3, -2)


def test_nonsense_is_refused() -> None:
    for function in (max_logit, energy):
        for bad in ([[math.nan, 0.0]], [[math.inf, 0.0]], [[-math.inf, -math.inf]]):
            with pytest.raises(InputError, match="row 0"):
                function(bad)
        with pytest.raises(InputError, match="not empty"):
            function(np.zeros((0, 3)))
    for function in (max_probability, negative_entropy):
        with pytest.raises(InputError, match="whose sum is 3"):
            function([[1.0, 2.0]])
        with pytest.raises(InputError, match="negative"):
            function([[2.0, -1.0]])
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="'temperature' positive"):
            energy([[1.0, 2.0]], temperature)
    for kappa in (0.0, -1.0, math.nan, [1.0, 0.0]):
        with pytest.raises(InputError, match="'kappa'"):
            max_scaled_logit([[1.0, 2.0], [0.0, 1.0]], kappa)
    with pytest.raises(InputError, match=r"of shape \[2\]. Got \[3\]"):
        max_scaled_logit([[1.0, 2.0], [0.0, 1.0]], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="finite values"):
        feature_norm([[math.inf, 0.0]])
    for function in (projection_residual, kappa_star):
        with pytest.raises(InputError, match=r"'weight' of shape \[C, 2\]"):
            function([[1.0, 0.0]], np.eye(3))
        with pytest.raises(InputError, match="row 1"):
            function([[1.0, 0.0], [math.nan, 0.0]], np.eye(2))
    with pytest.raises(InputError, match="'logits' of 2 rows"):
        confidence_scores(np.eye(2), np.eye(3), np.eye(2))
    with pytest.raises(InputError, match=r"'max_logit' of shape \[2\]"):
        confidence_scores(np.eye(2), np.eye(2), np.eye(2), max_logit=[1.0])
