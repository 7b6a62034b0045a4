"""What the certified search rests on: its sums, the surrogate energy, and the two bounds, beside NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from awkward_features import AWKWARD, CANDIDATE_SETS, make_awkward
from feature_families import FAMILIES, make_family
from hypothesis import given, settings, target
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from logitlab.functional import KAPPA_CANDIDATES
from logitlab.functional.class_chunks import MASKED, ClassChunks, split_cosine
from logitlab.functional.least_squares.bounds import energy_bound
from logitlab.functional.least_squares.certified import Masked, _projection_bound, propose
from logitlab.functional.least_squares.power_sums import LEVELS, PowerSums, power_sums
from logitlab.functional.least_squares.surrogate import Surrogate

#: What rounding adds to a bound. Of float32 also what κ makes of cosines that are off by 1e-7, where the energy rests
#: on a difference of two: measured 3e-6 at κ = 256, 1.4e-5 at 1000, for weights that lie in a plane with the feature.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}
ROUNDING_BY_KAPPA = {torch.float64: 0.0, torch.float32: 2e-8}
NODES = [2.0**level for level in range(LEVELS)]


def shares(cosine: np.ndarray, kappa: float) -> np.ndarray:
    weights = np.exp(kappa * (cosine - cosine.max(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def energies(features: Tensor, weight: Tensor, candidates: list[float]) -> np.ndarray:
    x, w = features.double().numpy(), weight.double().numpy()
    return np.stack([0.5 * ((x - shares(x @ w.T, kappa) @ w) ** 2).sum(axis=1) for kappa in candidates], axis=1)


def surrogate_energies(cosine: np.ndarray, candidates: list[float]) -> np.ndarray:
    r"""½[(1 - ā)² + Σ a²(1 - z²)], as the page of ``surrogate`` has it."""
    columns = []
    for kappa in candidates:
        a = shares(cosine, kappa)
        columns.append(0.5 * ((1 - (a * cosine).sum(axis=1)) ** 2 + (a**2 * (1 - cosine**2)).sum(axis=1)))
    return np.stack(columns, axis=1)


def summed(
    features: Tensor, weight: Tensor, left_out: Tensor | None = None
) -> tuple[PowerSums, Tensor, ClassChunks, Masked | None]:
    """The sums of a batch, the classes beside the rest, the blocks, and the masked class where ``left_out`` says it."""
    cosine = features @ weight.T
    masked = None
    if left_out is not None:
        masked = Masked(cosine.gather(1, left_out.unsqueeze(1)).squeeze(1), weight[left_out])
        cosine.scatter_(1, left_out.unsqueeze(1), MASKED)
    chunks = split_cosine(cosine, weight)
    reference, nearest = chunks.largest()
    sums = power_sums(chunks, nearest, reference, masked is not None)
    alone = [reference] if masked is None else [reference, masked.cosine]
    return sums, torch.stack(alone, dim=1).double(), chunks, masked


def in_float64(family: str, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    features, weight, own = make_family(family, *shape)
    return normalize(features.double()), normalize(weight.double()), own


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 3, 3), (600, 300, 8), (3, 4500, 6)])
def test_sums_are_those_of_the_rest(shape: tuple[int, int, int], with_mask: bool) -> None:
    features, weight, own = in_float64("hierarchical", *shape)
    sums, alone, _, _ = summed(features, weight, own if with_mask else None)
    cosine = (features @ weight.T).numpy()
    rows = np.arange(len(cosine))
    stays = np.ones_like(cosine, dtype=bool)
    if with_mask:
        stays[rows, own.numpy()] = False
    nearest = np.where(stays, cosine, -2).argmax(axis=1)
    reference = cosine[rows, nearest]
    stays[rows, nearest] = False
    np.testing.assert_allclose(sums.reference.numpy(), reference, rtol=1e-14)
    np.testing.assert_allclose(alone[:, 0].numpy(), reference, rtol=1e-14)
    assert sums.number == shape[1] - 1 - with_mask
    for level, kappa in enumerate(NODES):
        weights = np.exp(kappa * (cosine - reference[:, None])) * stays
        for power in range(3):
            expected = (weights * cosine**power).sum(axis=1)
            np.testing.assert_allclose(sums.sums[power, level].numpy(), expected, rtol=1e-11, atol=1e-14)


def test_sums_of_float32_are_as_right_as_the_bounds_take_them_to_be() -> None:
    features, weight, _ = make_family("anisotropic", 64, 3000, 16)
    cosine = features @ weight.T
    sums, _, _, _ = summed(features, weight)
    exact = cosine.double()
    largest, nearest = exact.max(dim=1, keepdim=True)
    for level, kappa in enumerate(NODES):
        weights = torch.exp(kappa * (exact - largest)).scatter_(1, nearest, 0)
        total = weights.sum(dim=1)
        known = total > 1e-25
        assert ((sums.sums[0, level] / total - 1).abs()[known] < 1e-4).all()
        assert known.any()


def test_a_class_that_outweighs_all_others_does_not_hide_them() -> None:
    weight = torch.eye(3)
    features = normalize(torch.tensor([[1.0, 0.5, 0.4]]))
    sums, _, _, _ = summed(features, weight)
    near, middle, far = features[0].double().tolist()
    at_128 = np.exp(128 * (middle - near)) + np.exp(128 * (far - near))
    assert at_128 < 1e-23  # beside 1 it would be nothing
    assert sums.sums[0, 6].item() == pytest.approx(np.exp(64 * (middle - near)) + np.exp(64 * (far - near)), rel=1e-4)
    assert sums.sums[0, 7].item() == pytest.approx(at_128, rel=1e-4)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(50, 3, 8), (50, 100, 64)])
def test_the_surrogate_is_its_formula_where_the_sums_are_known(
    family: str, shape: tuple[int, int, int], with_mask: bool
) -> None:
    features, weight, own = in_float64(family, *shape)
    sums, alone, _, _ = summed(features, weight, own if with_mask else None)
    known = NODES[:-1]  # it needs the sums at 2κ
    found = Surrogate(sums, alone).energy(torch.tensor(known, dtype=torch.float64))
    expected = surrogate_energies((features @ weight.T).numpy(), known)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_the_surrogate_of_two_classes_is_its_formula_everywhere() -> None:
    features, weight, own = in_float64("random", 50, 2, 5)
    kappas = np.geomspace(0.01, 128, 60).tolist()
    expected = surrogate_energies((features @ weight.T).numpy(), kappas)
    for left_out in (None, own):
        sums, alone, _, _ = summed(features, weight, left_out)
        found = Surrogate(sums, alone).energy(torch.tensor(kappas, dtype=torch.float64))
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "shape", "low", "high", "tolerance"),
    [
        # Measured: below κ = 1, 5e-2 of three classes, 6e-3 of more; above, 1e-6 at first and 5e-3 at worst.
        ("anisotropic", (200, 3, 5), 0.05, 1.0, 0.08),
        ("hierarchical", (200, 100, 64), 0.05, 1.0, 8e-3),
        ("hierarchical", (200, 100, 64), 1.0, 2.0, 1e-6),
        ("random", (200, 100, 2048), 0.05, 1.0, 1e-4),
        ("random", (200, 100, 2048), 1.0, 64.0, 3e-5),
        ("post-ReLU", (200, 1000, 256), 1.0, 32.0, 1e-4),
        ("trained", (200, 100, 64), 2.0, 128.0, 2e-3),
        ("hard", (200, 1000, 256), 2.0, 128.0, 5e-3),
    ],
)
def test_the_surrogate_is_near_its_formula_between(
    family: str, shape: tuple[int, int, int], low: float, high: float, tolerance: float
) -> None:
    features, weight, _ = in_float64(family, *shape)
    sums, alone, _, _ = summed(features, weight)
    kappas = np.geomspace(low, high, 50).tolist()
    found = Surrogate(sums, alone).energy(torch.tensor(kappas, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, surrogate_energies((features @ weight.T).numpy(), kappas), rtol=0, atol=tolerance)


def test_below_its_levels_the_surrogate_goes_on_by_the_second_degree() -> None:
    features, weight, _ = in_float64("hard", 40, 30, 12)
    sums, alone, _, _ = summed(features, weight)
    kappas = torch.tensor([0.05, 0.3, 0.9], dtype=torch.float64)
    found, slope, curvature = Surrogate(sums, alone)._interpolate(kappas.expand(40, -1))
    rest = np.sort((features @ weight.T).numpy(), axis=1)
    rest = rest[:, :-1] - rest[:, -1:]
    at_one = np.exp(rest)
    total = at_one.sum(axis=1, keepdims=True)
    mean = (at_one * rest).sum(axis=1, keepdims=True) / total
    variance = (at_one * rest**2).sum(axis=1, keepdims=True) / total - mean**2
    step = kappas.numpy() - 1
    np.testing.assert_allclose(found.numpy(), np.log(total) + step * mean + 0.5 * step**2 * variance, rtol=1e-10)
    np.testing.assert_allclose(slope.numpy(), np.minimum(mean + step * variance, 0), rtol=1e-10)
    np.testing.assert_allclose(curvature.numpy(), np.broadcast_to(variance, slope.shape), rtol=1e-10)


def test_the_surrogate_of_what_lies_past_its_levels_is_finite() -> None:
    features, weight, own = make_family("trained", 50, 100, 64)
    for left_out in (None, own):
        sums, alone, _, _ = summed(features, weight, left_out)
        found = Surrogate(sums, alone).energy(torch.tensor([200.0, 1e3, 1e5]))
        assert found.isfinite().all()
        # There the nearest class is all there is.
        top = (features @ weight.T).double().amax(dim=1)
        torch.testing.assert_close(found[:, -1], 1 - top, rtol=0, atol=1e-4)


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_least_surrogate_energy_lies_beside_its_best_candidate(with_mask: bool) -> None:
    features, weight, own = in_float64("anisotropic", 100, 2, 6)  # of two classes the surrogate is its formula
    _, _, chunks, masked = summed(features, weight, own if with_mask else None)
    kappa, reference = propose(chunks, torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64), masked)
    torch.testing.assert_close(reference, chunks.largest()[0])
    cosine = (features @ weight.T).numpy()
    best = surrogate_energies(cosine, list(KAPPA_CANDIDATES)).argmin(axis=1)
    step = 7 / 19
    assert (np.abs(np.log(kappa.numpy()) + 2 - step * best) <= step + 1e-9).all()
    at_kappa = np.array([surrogate_energies(row[None], [k])[0, 0] for row, k in zip(cosine, kappa.tolist())])
    for row, at, index in zip(cosine, at_kappa, best):
        fine = np.exp(np.clip(-2 + step * (index + np.linspace(-1, 1, 401)), -2, 5)).tolist()
        assert at - surrogate_energies(row[None], fine).min() <= 1e-6


@settings(max_examples=250, deadline=None)
@given(
    name=st.sampled_from(sorted(AWKWARD)),
    num_classes=st.one_of(st.integers(2, 4), st.integers(5, 60)),
    dimension=st.one_of(st.integers(2, 5), st.integers(6, 40)),
    seed=st.integers(0, 2**32),
    candidates=st.one_of(
        st.sampled_from(sorted(CANDIDATE_SETS)).map(CANDIDATE_SETS.__getitem__),
        st.lists(st.floats(0.01, 1000), min_size=1, max_size=12, unique=True).map(sorted),
    ),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    with_mask=st.booleans(),
)
def test_no_energy_is_below_its_bounds(
    name: str,
    num_classes: int,
    dimension: int,
    seed: int,
    candidates: list[float],
    dtype: torch.dtype,
    with_mask: bool,
) -> None:
    """The claim of the proof, for every sample and candidate: looks for a counter-example."""
    features, weight = make_awkward(name, num_classes, dimension, seed, dtype)
    features = features[features.any(dim=1)]  # energies of zero features are all equal: nothing to prove
    if len(weight) < 2:
        return
    own = torch.arange(len(features)) % len(weight)
    sums, alone, chunks, masked = summed(features, weight, own if with_mask else None)
    values = torch.tensor(candidates, dtype=dtype)
    exact = energies(features, weight, values.double().tolist())
    bound = energy_bound(sums, alone, values).numpy()
    worst = float((bound - exact).max())
    assert worst <= ROUNDING[dtype]
    assert (bound > -1e-6).all()
    # Any direction across the feature gives a bound.
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    across = noise - (noise * features).sum(dim=1, keepdim=True) * features
    across = normalize(normalize(across) - (normalize(across) * features).sum(dim=1, keepdim=True) * features)
    across -= (across * features).sum(dim=1, keepdim=True) * features
    everything = torch.ones(exact.shape, dtype=torch.bool)
    rows = torch.arange(len(features))
    projected = _projection_bound(chunks, values, alone[:, 0].to(dtype), masked, across, rows, everything)
    slack = ROUNDING_BY_KAPPA[dtype] * values.double().numpy()
    worst = max(worst, float((projected.numpy() - exact - slack).max()))
    target(worst)
    assert worst <= ROUNDING[dtype]


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(40, 3, 5), (40, 300, 16)])
def test_the_bound_is_what_its_formula_says_where_the_sums_are_known(
    family: str, shape: tuple[int, int, int], with_mask: bool
) -> None:
    """There ā and a are exact; between, they are no looser than at the neighbours: ā grows with κ, and so does a."""
    features, weight, own = in_float64(family, *shape)
    cosine = (features @ weight.T).numpy()
    top = cosine.max(axis=1)

    def formula(kappa_of_mean: float, kappa_of_nearest: float) -> np.ndarray:
        mean = (shares(cosine, kappa_of_mean) * cosine).sum(axis=1)
        nearest = shares(cosine, kappa_of_nearest).max(axis=1)
        across = np.maximum(nearest * np.sqrt(1 - top**2) - (1 - nearest), 0)
        return 0.5 * ((1 - mean) ** 2 + across**2)

    inside = [kappa * factor for kappa in NODES[:-1] for factor in (1.01, 1.3, 1.9)]
    values = torch.tensor([0.01, 0.5, *sorted([*NODES, *inside]), 300.0, 1000.0], dtype=torch.float64)
    sums, alone, _, _ = summed(features, weight, own if with_mask else None)
    bound = energy_bound(sums, alone, values).numpy()
    # The room for rounding moves a and ā by 1e-4 at most.
    for column, kappa in enumerate(values.tolist()):
        if kappa > 256:
            across = np.maximum((1 + np.sqrt(1 - top**2)) * shares(cosine, 256).max(axis=1) - 1, 0)
            np.testing.assert_allclose(bound[:, column], 0.5 * ((1 - top) ** 2 + across**2), rtol=0, atol=3e-4)
        elif kappa in NODES:
            np.testing.assert_allclose(bound[:, column], formula(kappa, kappa), rtol=0, atol=3e-4)
        else:
            right = min(node for node in NODES if node > kappa)
            left = right / 2 if right > 1 else 0.0
            assert (bound[:, column] >= formula(right, left) - 3e-4).all()
            assert (bound[:, column] <= formula(kappa, kappa) + 1e-12).all()


def test_the_bound_of_two_classes_is_what_its_formula_says_everywhere() -> None:
    """The logarithm of one exponential is its own chord and its own tangent."""
    features, weight, own = in_float64("random", 60, 2, 7)
    cosine = (features @ weight.T).numpy()
    kappas = np.geomspace(0.02, 250, 60)
    top = cosine.max(axis=1)
    for left_out in (None, own):
        sums, alone, _, _ = summed(features, weight, left_out)
        bound = energy_bound(sums, alone, torch.tensor(kappas)).numpy()
        for column, kappa in enumerate(kappas):
            a = shares(cosine, kappa)
            across = np.maximum(a.max(axis=1) * np.sqrt(1 - top**2) - (1 - a.max(axis=1)), 0)
            expected = 0.5 * ((1 - (a * cosine).sum(axis=1)) ** 2 + across**2)
            np.testing.assert_allclose(bound[:, column], expected, rtol=0, atol=3e-4)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(30, 2, 5), (600, 300, 16)])
def test_the_projection_is_exact_where_it_was_taken(family: str, shape: tuple[int, int, int], with_mask: bool) -> None:
    features, weight, own = in_float64(family, *shape)
    _, _, chunks, masked = summed(features, weight, own if with_mask else None)
    cosine = (features @ weight.T).numpy()
    taken = np.arange(len(features)) % len(KAPPA_CANDIDATES)
    rebuilt = np.stack([shares(z[None], KAPPA_CANDIDATES[k])[0] @ weight.numpy() for z, k in zip(cosine, taken)])
    x = features.numpy()
    across = rebuilt - (rebuilt * x).sum(axis=1, keepdims=True) * x
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    # Some samples are asked about, at different numbers of candidates, among them the one where b was taken.
    asked = torch.rand(len(features), len(KAPPA_CANDIDATES), dtype=torch.float64) < 0.3
    asked[torch.arange(len(features)), torch.tensor(taken)] = True
    asked[::7] = False
    rows = asked.any(dim=1).nonzero().squeeze(1)
    values = torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64)
    found = _projection_bound(
        chunks, values, chunks.largest()[0], masked, torch.tensor(across)[rows], rows, asked
    ).numpy()
    exact = energies(features, weight, list(KAPPA_CANDIDATES))
    here = rows.numpy()
    np.testing.assert_allclose(found[here, taken[here]], exact[here, taken[here]], rtol=0, atol=1e-12)
    assert (found[asked.numpy()] <= exact[asked.numpy()] + 1e-12).all()
    assert (found[~asked.numpy()] == 0).all()
    # The formula at the other candidates.
    along = across @ weight.numpy().T
    for column, kappa in enumerate(KAPPA_CANDIDATES):
        a = shares(cosine, kappa)
        formula = 0.5 * ((1 - (a * cosine).sum(axis=1)) ** 2 + (a * along).sum(axis=1) ** 2)
        wanted = asked[:, column].numpy()
        np.testing.assert_allclose(found[wanted, column], formula[wanted], rtol=0, atol=1e-12)
