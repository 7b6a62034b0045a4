"""The fast searches against the energies of all candidates in float64: by their regret, since candidates tie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from awkward_features import AWKWARD, CANDIDATE_SETS, make_awkward
from feature_families import FAMILIES, make_family
from hypothesis import event, example, given, settings, target
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from logitlab.config.errors import InputError
from logitlab.functional import (
    KAPPA_CANDIDATES,
    check_candidates,
    choose_kappa,
    least_squares_kappa,
    search_least_squares,
)
from logitlab.functional.class_chunks import MASKED, ClassChunks, lay_out, positions, split_cosine
from logitlab.functional.least_squares.certified import TOLERANCE, Found, Masked, search_certified
from logitlab.functional.least_squares.gram import EXHAUSTIVE_CLASSES, GRAM_CLASSES

#: The energy of a choice may be so much above the least one.
REGRET = 2e-6

#: Cosines in float32 are off by 1e-7 and logits by κ times that: up to here they keep the promise. Further out, where
#: no paper looks, the plain search loses as much on the border of two candidates (measured: 4.5e-6 at κ = 1000).
FARTHEST = 256.0

#: N, C, D: one sample, one class, two; blocks of 4096, 2048 and 256 classes, and what is a class more or less.
SHAPES = [
    (1, 1, 3),
    (1, 2, 2),
    (7, 2, 64),
    (33, 3, 2),
    (20, 17, 700),
    (16, 32, 9),
    (16, 33, 9),
    (300, 129, 9),
    (600, 255, 6),
    (600, 256, 6),
    (600, 257, 6),
    (600, 513, 6),
    (64, 2000, 48),
    (64, 2047, 5),
    (64, 2049, 5),
    (2, 4097, 7),
]


def energies(features: Tensor, weight: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES) -> np.ndarray:
    """T Eq. (10) for every candidate, in NumPy and float64, ``[N, K]``."""
    x, w = features.double().numpy(), weight.double().numpy()
    z = x @ w.T
    columns = []
    for kappa in candidates:
        a = np.exp(kappa * (z - z.max(axis=1, keepdims=True)))
        a /= a.sum(axis=1, keepdims=True)
        columns.append(0.5 * ((x - a @ w) ** 2).sum(axis=1))
    return np.stack(columns, axis=1)


def regret_of(energy: np.ndarray, kappa: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES) -> float:
    index = np.abs(kappa.double().numpy()[:, None] - np.array(candidates)).argmin(axis=1)
    np.testing.assert_allclose(np.array(candidates)[index], kappa.numpy(), rtol=1e-6)
    return float((energy[np.arange(len(index)), index] - energy.min(axis=1)).max())


def search_masked(
    features: Tensor, weight: Tensor, target: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES
) -> tuple[Found, ClassChunks]:
    """The certified search as the fused step uses it: raw weights, blocks of their own, the targets' cosines masked."""
    inverse_length = 1 / torch.linalg.vector_norm(weight, dim=1)
    storage = features.new_empty(len(features) * len(weight))
    chunks = lay_out(storage, weight, inverse_length)
    for chunk in chunks:
        torch.mm(features, chunk.weight.T, out=chunk.cosine)
        assert chunk.inverse_length is not None
        chunk.cosine.mul_(chunk.inverse_length)
    place = positions(target, len(weight))
    masked = Masked(storage[place], weight[target] * inverse_length[target].unsqueeze(1))
    storage[place] = MASKED
    return search_certified(chunks, features, features.new_tensor(candidates), masked), chunks


def on_the_border(features: Tensor, weight: Tensor, candidates: Sequence[float]) -> Tensor:
    """Features between two of the given ones, where two candidates tie to the rounding of float32."""

    def best(x: Tensor) -> Tensor:
        return torch.tensor(energies(x, weight, candidates).argmin(axis=1))

    here, there = features.double(), features.double().roll(1, 0)
    choice = best(here)
    differ = choice != best(there)
    here, there, choice = here[differ], there[differ], choice[differ]
    for _ in range(32):
        middle = normalize(here + there)
        same = (best(middle) == choice).unsqueeze(1)
        here, there = torch.where(same, middle, here), torch.where(same, there, middle)
    return normalize(here).to(features.dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_finds_the_minimum(family: str, shape: tuple[int, int, int]) -> None:
    features, weight, target = make_family(family, *shape)
    energy = energies(features, weight)
    for method in ("certified", "auto") + (("gram",) if shape[1] <= 600 else ()):
        kappa = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
        assert regret_of(energy, kappa) <= REGRET, method
    if shape[1] > 1:
        found, _ = search_masked(features, weight, target)
        assert regret_of(energy, torch.tensor(KAPPA_CANDIDATES)[found.candidate]) <= REGRET


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(40, 2, 3), (40, 12, 64), (300, 700, 20)])
def test_the_masked_search_returns_what_a_loss_goes_on_with(family: str, shape: tuple[int, int, int]) -> None:
    features, weight, target = make_family(family, *shape, seed=1)
    raw = weight * torch.logspace(-2, 2, len(weight)).unsqueeze(1)
    found, _ = search_masked(features, raw, target)
    unit = normalize(raw.double())
    cosine = features.double() @ unit.T
    cosine[torch.arange(len(target)), target] = -math.inf
    reference = cosine.amax(dim=1)
    torch.testing.assert_close(found.reference.double(), reference, rtol=0, atol=1e-6)
    kappa = torch.tensor(KAPPA_CANDIDATES)[found.candidate].double()
    # Relative to the reference that was found: what its rounding shifts, the loss shifts back.
    shares = torch.exp(kappa.unsqueeze(1) * (cosine - found.reference.double().unsqueeze(1)))
    # A cosine of float32 is off by 1e-7, and its exponential by κ times that.
    scale = 2e-6 + 1.5e-7 * kappa
    assert ((found.total.double() / shares.sum(dim=1) - 1).abs() <= scale).all()
    combination = shares @ unit
    off = torch.linalg.vector_norm(found.combination.double() - combination, dim=1)
    assert (off <= scale * shares.sum(dim=1)).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_returned_belongs_to_the_choice_in_float64(family: str, masked: bool) -> None:
    """In double precision without slack: rows whose second reconstruction won must have got that one."""
    features, weight, target = make_family(family, 400, 10, 24)
    features, weight = normalize(features.double()), normalize(weight.double())
    cosine = features @ weight.T
    if masked:
        found, _ = search_masked(features, weight, target)
        cosine[torch.arange(len(target)), target] = -math.inf
    else:
        found = search_certified(split_cosine(cosine, weight), features, cosine.new_tensor(KAPPA_CANDIDATES), None)
    kappa = torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64)[found.candidate]
    shares = torch.exp(kappa.unsqueeze(1) * (cosine - cosine.amax(dim=1, keepdim=True)))
    torch.testing.assert_close(found.total, shares.sum(dim=1), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.combination, shares @ weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_certified_means_that_one_reconstruction_was_enough(
    family: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, weight, target = make_family(family, 300, 10, 24)
    again = torch.zeros(300, dtype=torch.int64)
    weigh = ClassChunks.weigh
    sizes = []

    def counting(
        self: ClassChunks, kappa: Tensor, reference: Tensor, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        sizes.append(300 if rows is None else len(rows))
        if rows is not None:
            again[rows] += 1
        return weigh(self, kappa, reference, rows)

    monkeypatch.setattr(ClassChunks, "weigh", counting)
    if masked:
        found, _ = search_masked(features, weight, target)
    else:
        chunks = split_cosine(features @ weight.T, weight)
        found = search_certified(chunks, features, torch.tensor(KAPPA_CANDIDATES), None)
    assert torch.equal(found.certified, again == 0)
    assert 0 < found.certified.sum() < 300
    # The product of the certificate serves 300 rows at most.
    assert 0 < found.products - sum(sizes) / 300 <= 1 + 1e-6


@pytest.mark.parametrize(
    ("family", "share"),
    [("random", 0.74), ("post-ReLU", 0.68), ("trained", 0.95), ("hard", 0.79), ("hierarchical", 0.48)],
)
@pytest.mark.parametrize("method", ["gram", "certified"])
def test_both_certificates_spare_as_many_reconstructions(family: str, share: float, method: str) -> None:
    features, weight, _ = make_family(family, 400, 100, 64)
    found = choose_kappa(features, weight, method=method)  # type: ignore[arg-type]
    assert found.certified.float().mean() >= share


@pytest.mark.parametrize(
    ("family", "shape", "products", "share"),
    [
        ("trained", (256, 100, 512), 1.4, 0.97),
        ("random", (256, 1000, 128), 2.3, 0.83),
        ("hard", (256, 1000, 128), 2.0, 0.92),
        ("hierarchical", (256, 1000, 128), 2.2, 0.82),
        ("anisotropic", (256, 1000, 128), 3.1, 0.36),
    ],
)
def test_bounds_rule_out_as_much_as_they_should(
    family: str, shape: tuple[int, int, int], products: float, share: float
) -> None:
    """What looser bounds would cost is time alone: no other test sees it."""
    features, weight, target = make_family(family, *shape)
    chunks = split_cosine(features @ weight.T, weight)
    for found in (
        search_certified(chunks, features, torch.tensor(KAPPA_CANDIDATES), None),
        search_masked(features, weight, target)[0],
    ):
        assert found.products <= products
        assert found.certified.float().mean() >= share


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(AWKWARD)),
    num_classes=st.one_of(st.integers(1, 6), st.integers(7, 60)),
    dimension=st.one_of(st.integers(2, 5), st.integers(6, 40)),
    seed=st.integers(0, 2**32),
    candidates=st.one_of(
        st.sampled_from(sorted(CANDIDATE_SETS)).map(CANDIDATE_SETS.__getitem__),
        st.lists(st.floats(0.01, 1000), min_size=1, max_size=12, unique=True).map(sorted),
    ),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    border=st.booleans(),
)
@example("mirrored", 4, 8, 0, CANDIDATE_SETS["paper"], torch.float32, False)
@example("aligned", 2, 4, 52, CANDIDATE_SETS["powers of two"], torch.float32, False)
@example("mirrored", 20, 3, 0, [3.0, FARTHEST], torch.float32, True)
def test_no_features_make_a_choice_worse(
    name: str, num_classes: int, dimension: int, seed: int, candidates: list[float], dtype: torch.dtype, border: bool
) -> None:
    """Looks for a counter-example of the regret; on the border of two candidates it is the nearest."""
    features, weight = make_awkward(name, num_classes, dimension, seed, dtype)
    if border:
        features = on_the_border(features, weight, candidates)
    if not len(features):
        return
    event(name)
    energy = energies(features, weight, candidates)
    worst = 0.0
    for method in ("certified", "gram", "auto"):
        kappa = search_least_squares(features, weight, candidates, method=method)  # type: ignore[arg-type]
        worst = max(worst, regret_of(energy, kappa, candidates))
    if len(weight) > 1 and weight.any(dim=1).all():
        own = torch.arange(len(features)) % len(weight)
        found, _ = search_masked(features, weight, own, candidates)
        worst = max(worst, regret_of(energy, features.new_tensor(candidates)[found.candidate], candidates))
    target(worst)
    assert worst <= REGRET * (max(1.0, candidates[-1] / FARTHEST) if dtype == torch.float32 else 1.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(128, 5, 16), (128, 300, 24)])
def test_ties_cost_no_more_than_the_tolerance(family: str, shape: tuple[int, int, int]) -> None:
    features, weight, _ = make_family(family, *shape)
    features = on_the_border(features, weight, KAPPA_CANDIDATES)
    assert len(features) >= 8
    energy = energies(features, weight)
    for method in ("certified", "auto"):
        kappa = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
        assert regret_of(energy, kappa) <= TOLERANCE + 5e-7


def test_what_is_rebuilt_along_the_feature_leaves_no_direction_across_it() -> None:
    """Weights in mirrored pairs rebuild a multiple of the feature, whatever κ is: what is across is rounding alone."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        basis, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
        x, near, far = basis[0], basis[1], basis[2]
        rows = [0.6 * x + 0.8 * near, 0.6 * x - 0.8 * near, 0.4 * x + 0.84**0.5 * far, 0.4 * x - 0.84**0.5 * far]
        features, weight = normalize(x.float().unsqueeze(0)), normalize(torch.stack(rows).float())
        kappa = search_least_squares(features, weight, method="certified")
        assert regret_of(energies(features, weight), kappa) <= REGRET


def test_candidates_at_powers_of_two() -> None:
    """Where the sums are known a chord has no length: rounding must not make its slope infinite."""
    candidates = [2.0**power for power in range(-2, 9)]
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        weight = normalize(torch.randn(2, 3, generator=generator))
        features = normalize(
            2 * torch.rand(1, generator=generator) * weight[:1] + 0.7 * torch.randn(8, 3, generator=generator)
        )
        kappa = search_least_squares(features, weight, candidates, method="certified")
        assert regret_of(energies(features, weight, candidates), kappa, candidates) <= REGRET


@pytest.mark.parametrize(("method", "num_classes"), [("certified", 4), ("gram", 40)])
def test_a_zero_row_of_the_weight_has_nothing_across_the_feature(method: str, num_classes: int) -> None:
    weight = torch.eye(num_classes)
    weight[0] = 0
    features = normalize(-torch.rand(8, num_classes) * (weight.sum(dim=0) > 0))
    kappa = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
    assert regret_of(energies(features, weight), kappa) <= REGRET


@pytest.mark.parametrize("method", ["certified", "gram", "auto"])
def test_rows_of_nan_end_and_harm_no_other(method: str) -> None:
    features, weight, _ = make_family("anisotropic", 40, 300, 16)
    expected = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
    broken = features.clone()
    broken[3], broken[7, 2], broken[11] = math.nan, math.nan, math.inf
    found = search_least_squares(broken, weight, method=method)  # type: ignore[arg-type]
    fine = torch.ones(40, dtype=torch.bool)
    fine[[3, 7, 11]] = False
    assert torch.equal(found[fine], expected[fine])
    assert torch.isin(found, torch.tensor(KAPPA_CANDIDATES)).all()
    # A class of NaN is a NaN in every row.
    search_least_squares(features, torch.cat([weight, broken[3:4]]), method=method)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["certified", "gram", "auto"])
def test_half_precision_decides_in_float32(method: str, dtype: torch.dtype) -> None:
    features, weight, _ = make_family("hierarchical", 100, 140, 32)
    features, weight = features.to(dtype), weight.to(dtype)
    expected = choose_kappa(normalize(features.float()), normalize(weight.float()), method=method)  # type: ignore[arg-type]
    found = choose_kappa(features, weight, method=method)  # type: ignore[arg-type]
    assert found.kappa.dtype == torch.float32
    assert torch.equal(found.kappa, expected.kappa)
    assert torch.equal(found.certified, expected.certified)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(search_least_squares(features, weight, method=method), expected.kappa)  # type: ignore[arg-type]
    assert regret_of(energies(normalize(features.float()), normalize(weight.float())), found.kappa) <= REGRET


@pytest.mark.parametrize("method", ["certified", "gram", "auto"])
def test_double_precision_stays(method: str) -> None:
    features, weight, _ = make_family("hard", 100, 140, 32)
    features, weight = normalize(features.double()), normalize(weight.double())
    kappa = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
    assert kappa.dtype == torch.float64
    assert regret_of(energies(features, weight), kappa) <= TOLERANCE


@pytest.mark.parametrize("method", ["certified", "gram"])
def test_memory_and_leading_dimensions_do_not_matter(method: str) -> None:
    features, weight, _ = make_family("hierarchical", 24, 150, 16)
    expected = choose_kappa(features, weight, method=method)  # type: ignore[arg-type]
    strided = (weight @ features.T).T
    assert not strided.is_contiguous()
    found = choose_kappa(features, weight, cosine=strided, method=method)  # type: ignore[arg-type]
    assert torch.equal(found.kappa, expected.kappa)
    before = strided.clone()
    shaped = choose_kappa(features.view(2, 3, 4, 16), weight, cosine=strided.reshape(2, 3, 4, 150), method=method)  # type: ignore[arg-type]
    assert shaped.kappa.shape == shaped.certified.shape == (2, 3, 4)
    assert torch.equal(shaped.kappa.flatten(), expected.kappa)
    assert torch.equal(shaped.certified.flatten(), expected.certified)
    assert torch.equal(strided, before)
    alone = choose_kappa(features[0], weight, method=method)  # type: ignore[arg-type]
    assert alone.kappa.shape == ()
    assert alone.kappa == expected.kappa[0]


@pytest.mark.parametrize("method", ["plain", "certified", "gram", "auto"])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_no_samples_give_none(method: str, shape: tuple[int, ...]) -> None:
    for search in ("grid", "continuous", "surrogate"):
        found = choose_kappa(torch.zeros(*shape, 5), torch.eye(5), search=search, method=method)  # type: ignore[arg-type]
        assert found.kappa.shape == found.certified.shape == shape


def test_no_method_holds_a_gradient() -> None:
    features, weight = torch.randn(4, 3, requires_grad=True), torch.randn(150, 3, requires_grad=True)
    for method in ("certified", "gram", "auto"):
        assert not least_squares_kappa(features, weight, method=method).requires_grad  # type: ignore[arg-type]


def test_the_report_says_what_was_used() -> None:
    features, weight, _ = make_family("hierarchical", 200, GRAM_CLASSES + 1, 16)
    assert choose_kappa(features, weight[:GRAM_CLASSES]).method == "gram"
    assert choose_kappa(features, weight).method == "certified"
    assert choose_kappa(features, weight[:EXHAUSTIVE_CLASSES], method="gram").certified.all()
    assert 0 < choose_kappa(features, weight, method="gram").certified.float().mean() < 1
    assert choose_kappa(features, weight, method="plain").certified.all()
    share = choose_kappa(features, weight).certified.float().mean()
    assert 0 < share < 1
    surrogate = choose_kappa(features, weight, search="surrogate")
    assert surrogate.method == "surrogate"
    assert not surrogate.certified.any()
    with pytest.raises(InputError, match="'plain', 'gram' or 'certified'. Got 'fibonacci'"):
        choose_kappa(features, weight, method="fibonacci")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["plain", "gram", "auto", "certified"])
def test_equal_energies_go_to_the_smallest_candidate(method: str) -> None:
    # One class, and two that are the same: the softmax rebuilds the same whatever κ is. A zero feature sees no class.
    one, same, feature = torch.eye(2)[:1], torch.eye(2)[[0, 0]], torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    for features, weight in ((feature, one), (feature, same), (torch.zeros(2, 2), torch.eye(2))):
        kappa = search_least_squares(features, weight, method=method)  # type: ignore[arg-type]
        if method == "certified":  # What it guesses ties with all others, but for rounding.
            assert regret_of(energies(features, weight), kappa) <= 1e-15
        else:
            assert kappa.tolist() == pytest.approx([KAPPA_CANDIDATES[0]] * 2)


@pytest.mark.parametrize("method", ["plain", "gram", "certified", "auto"])
def test_one_candidate_is_taken(method: str) -> None:
    features, weight, _ = make_family("random", 20, 30, 8)
    found = choose_kappa(features, weight, [7.0], method=method)  # type: ignore[arg-type]
    assert (found.kappa == 7).all()
    assert found.certified.all()


def test_unsorted_candidates_are_refused_whatever_the_method() -> None:
    with pytest.raises(InputError, match="increasing order"):
        check_candidates([1.0, 3.0, 2.0])
    for method in ("certified", "gram", "auto"):
        with pytest.raises(InputError, match="increasing order"):
            least_squares_kappa(torch.randn(2, 3), torch.randn(4, 3), [3.0, 1.0], method=method)  # type: ignore[arg-type]
