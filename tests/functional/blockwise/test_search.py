"""The search for κ* of the blockwise step against the energies of all candidates in float64: by its regret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from awkward_features import AWKWARD, CANDIDATE_SETS, make_awkward
from feature_families import FAMILIES, make_family
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ranks import run_ranks
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from logitlab.functional import KAPPA_CANDIDATES, KappaSearch, RivalTerms, choose_kappa, plain_rival_terms, rival_terms
from logitlab.functional.blockwise import Placement, Ranks, blockwise_rival_terms
from logitlab.functional.blockwise import forward as forward_module
from logitlab.functional.blockwise import ranks as ranks_module
from logitlab.functional.blockwise import scores as scores_module
from logitlab.functional.blockwise import search as search_module
from logitlab.functional.least_squares.search import Chosen

needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

DOUBLE, SINGLE, HALF = torch.float64, torch.float32, torch.bfloat16

#: The energy of a choice may be so much above the least one; with candidates beyond 256 in float32 so much.
REGRET, FAR_REGRET = 2e-6, 5e-6

SHAPES = [(1, 2, 2), (7, 2, 64), (33, 3, 2), (16, 32, 9), (120, 129, 9), (200, 257, 6), (64, 2049, 5), (64, 1000, 48)]


def unit(rows: Tensor) -> Tensor:
    return normalize(rows.detach().double(), eps=1e-100)


def energies(features: Tensor, weight: Tensor, kappas: Sequence[float] | Tensor = KAPPA_CANDIDATES) -> Tensor:
    """T Eq. (10) in float64: of every candidate, ``[N, K]``; of a tensor's one κ a sample, ``[N]``."""
    x, w = unit(features), unit(weight)
    cosine = x @ w.T

    def one(kappa: float | Tensor) -> Tensor:
        return 0.5 * (x - (kappa * cosine).softmax(dim=1) @ w).square().sum(dim=1)

    if isinstance(kappas, Tensor):
        return one(kappas.double().unsqueeze(1))
    return torch.stack([one(kappa) for kappa in kappas], dim=1)


def find(
    features: Tensor, weight: Tensor, target: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES, **options: Any
) -> tuple[RivalTerms, Chosen]:
    surrogate = options.pop("surrogate", False)
    search = KappaSearch(tuple(candidates), options.pop("multiplier", 1.0), surrogate)
    terms, chosen = blockwise_rival_terms(features, weight, target, search=search, **options)
    assert chosen is not None
    return terms, chosen


def regret(features: Tensor, weight: Tensor, kappa: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES) -> float:
    """How much above the least energy; κ is one of the candidates."""
    assert float((kappa.double().unsqueeze(1) / torch.tensor(candidates).double() - 1).abs().amin(dim=1).max()) <= 1e-6
    return float((energies(features, weight, kappa) - energies(features, weight, candidates).amin(dim=1)).max())


def lengthen(weight: Tensor) -> Tensor:
    """The same directions at lengths of their own."""
    return weight * torch.logspace(-2, 2, len(weight), dtype=weight.dtype).unsqueeze(1)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_minimum_is_found(family: str, shape: tuple[int, int, int]) -> None:
    features, weight, target = make_family(family, *shape)
    for dtype in (SINGLE, DOUBLE, HALF):
        x, w = (3 * features).to(dtype), lengthen(weight).to(dtype)
        terms, chosen = find(x, w, target)
        assert chosen.method == "certified"
        assert chosen.kappa.dtype == terms.rivals.dtype == torch.promote_types(dtype, SINGLE)
        assert regret(x, w, chosen.kappa) <= REGRET


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(AWKWARD)),
    num_classes=st.one_of(st.integers(2, 6), st.integers(7, 60)),
    dimension=st.one_of(st.integers(2, 5), st.integers(6, 40)),
    seed=st.integers(0, 2**32),
    candidates=st.one_of(
        st.sampled_from(sorted(CANDIDATE_SETS)).map(CANDIDATE_SETS.__getitem__),
        st.lists(st.floats(0.01, 1000), min_size=1, max_size=12, unique=True).map(sorted),
    ),
    dtype=st.sampled_from([SINGLE, DOUBLE, HALF]),
    block=st.integers(1, 61),
)
@example("mirrored", 4, 8, 0, CANDIDATE_SETS["paper"], SINGLE, 60)
@example("on_a_weight", 4, 8, 0, CANDIDATE_SETS["to 1000"], HALF, 2)
@example("with_zero_rows", 9, 3, 1, CANDIDATE_SETS["paper"], DOUBLE, 1)
def test_no_features_make_a_choice_worse(
    name: str, num_classes: int, dimension: int, seed: int, candidates: list[float], dtype: torch.dtype, block: int
) -> None:
    features, weight = (part.to(dtype) for part in make_awkward(name, num_classes, dimension, seed, DOUBLE))
    if len(weight) < 2:
        return
    target = torch.arange(len(features)) % len(weight)
    with blocks_of(block, bool(seed % 2)):
        _, chosen = find(features, weight, target, candidates)
    allowed = REGRET if dtype == DOUBLE or candidates[-1] <= 256 else FAR_REGRET
    assert regret(features, weight, chosen.kappa, candidates) <= allowed


@contextmanager
def blocks_of(size: int, keep: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "block_size", lambda samples, classes: min(size, classes))
        patch.setattr(forward_module, "keep_scores", lambda *operands: keep)
        yield


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("multiplier", [1.0, 2.5])
@pytest.mark.parametrize("bias", [False, True])
def test_terms_and_gradients_are_those_at_the_choice(family: str, multiplier: float, bias: bool) -> None:
    """Of rows whose second reconstruction won as well."""
    features, weight, target = make_family(family, 200, 12, 24)
    x, w = (3 * features).double().requires_grad_(), lengthen(weight).double().requires_grad_()
    b = torch.randn(12, dtype=DOUBLE) if bias else None
    upstream = torch.randn(2, 200, dtype=DOUBLE)
    for size, keep in ((12, True), (5, True), (5, False)):
        with blocks_of(size, keep):
            terms, chosen = find(x, w, target, multiplier=multiplier, bias=b)
            expected = plain_rival_terms(x, w, target, multiplier * chosen.kappa, b)
            found = []
            for one in (terms, expected):
                torch.testing.assert_close(one.rivals, expected.rivals, rtol=1e-10, atol=1e-10)
                torch.testing.assert_close(one.target_score, expected.target_score, rtol=1e-10, atol=1e-10)
                total = (upstream[0] * one.rivals + upstream[1] * one.target_score).sum()
                found.append(torch.autograd.grad(total, (x, w)))
        for ours, theirs in zip(*found, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) <= 1e-10
        assert 0 < chosen.certified.sum() < 200


@pytest.mark.parametrize("family", FAMILIES)
def test_certified_means_that_one_reconstruction_was_enough(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, weight, target = make_family(family, 200, 10, 24)
    again = torch.zeros(200, dtype=torch.bool)
    rebuild = search_module.rebuild

    def watching(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        if arguments[4] is not None:
            again[arguments[4]] = True
        return rebuild(*arguments, **options)

    monkeypatch.setattr(search_module, "rebuild", watching)
    _, chosen = find(features, weight, target)
    assert torch.equal(chosen.certified, ~again)
    assert 0 < again.sum() < 200


@pytest.mark.parametrize(
    ("family", "shape", "share"),
    [("trained", (256, 100, 512), 0.97), ("random", (256, 1000, 128), 0.83), ("hard", (256, 1000, 128), 0.92),
     ("hierarchical", (256, 1000, 128), 0.82), ("anisotropic", (256, 1000, 128), 0.36)],
)  # fmt: skip
def test_bounds_rule_out_as_much_as_they_should(family: str, shape: tuple[int, int, int], share: float) -> None:
    features, weight, target = make_family(family, *shape)
    assert find(features, weight, target)[1].certified.float().mean() >= share
    # A direction in bfloat16 rules out nearly as much.
    assert find(features.bfloat16(), weight.bfloat16(), target)[1].certified.float().mean() >= 0.7 * share


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_change_nothing(family: str, dtype: torch.dtype) -> None:
    """A block of the target alone has no rival, whose score must not spoil the sums of the others."""
    features, weight, target = make_family(family, 80, 30, 16)
    x, w = features.to(dtype), weight.to(dtype)
    _, expected = find(x, w, target)
    for size in (1, 7):
        with blocks_of(size, True):
            _, chosen = find(x, w, target)
        same = chosen.certified == expected.certified
        assert same.all() if dtype == DOUBLE else same.float().mean() >= 0.95
        gap = energies(x, w, chosen.kappa) - energies(x, w, expected.kappa)
        assert float(gap.abs().max()) <= REGRET


def test_one_candidate_and_two() -> None:
    features, weight, target = make_family("random", 20, 30, 8)
    for dtype in (SINGLE, HALF):
        _, chosen = find(features.to(dtype), weight.to(dtype), target, [7.0])
        assert (chosen.kappa == 7).all()
        assert chosen.certified.all()
        _, chosen = find(features.to(dtype), weight.to(dtype), target, [0.2, 31.0])
        assert regret(features.to(dtype), weight.to(dtype), chosen.kappa, [0.2, 31.0]) <= REGRET


@pytest.mark.parametrize("family", FAMILIES)
def test_the_surrogate_is_that_of_the_other_fused_step(family: str) -> None:
    features, weight, target = make_family(family, 60, 300, 24)
    features, weight = features.double(), weight.double()
    for size in (300, 40):
        with blocks_of(size, True):
            terms, chosen = find(features, weight, target, surrogate=True)
        assert chosen.method == "surrogate"
        assert not chosen.certified.any()
        search = KappaSearch(KAPPA_CANDIDATES, 1.0, True)
        _, expected = rival_terms(features, weight, target, search=search)
        assert expected is not None
        torch.testing.assert_close(chosen.kappa, expected.kappa, rtol=1e-6, atol=0)
        exact = plain_rival_terms(normalize(features), normalize(weight), target, chosen.kappa)
        torch.testing.assert_close(terms.rivals, exact.rivals, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refined_kappa_is_no_worse_than_the_candidates(family: str) -> None:
    features, weight, target = make_family(family, 60, 40, 24)
    for dtype in (SINGLE, DOUBLE, HALF):
        x, w = features.to(dtype), weight.to(dtype)
        terms, chosen = find(x, w, target, refine=True)
        found, grid = energies(x, w, chosen.kappa), energies(x, w).amin(dim=1)
        assert float((found - grid).max()) <= REGRET
        assert float((grid - found).max()) > 1e-5
        expected = choose_kappa(unit(x), unit(w), search="continuous").kappa
        assert float((found - energies(x, w, expected)).max()) <= REGRET
        exact = plain_rival_terms(unit(x), unit(w), target, chosen.kappa.double())
        assert float((terms.rivals.detach().double() - exact.rivals).abs().max()) <= (
            1e-10 if dtype == DOUBLE else 1e-4
        )


# --- without a look at values -------------------------------------------------------------------------------------


class NoLook(TorchDispatchMode):
    """Refuses whatever would wait for a GPU."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "item", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        assert name not in self.FORBIDDEN, f"{name} looks at values"
        if name in ("index", "index_put", "index_put_"):
            for index in args[1]:
                assert index is None or index.dtype != torch.bool, "a mask as an index looks at values"
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_looks() -> None:
    values = torch.tensor([1.0, 0.0])
    with NoLook():
        for look in (values[0].item, values.nonzero, lambda: values[values > 0], lambda: bool(values[0] > 0)):
            with pytest.raises(AssertionError, match="looks at values"):
                look()


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: values are not at hand."""
    for module in (search_module, ranks_module):
        monkeypatch.setattr(module, "values_at_hand", lambda tensor: False)
    # Batches as small as these are exhausted; what is tested here serves larger ones.
    monkeypatch.setattr(search_module, "EXHAUSTIVE", 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE, HALF])
def test_a_small_batch_is_exact_without_a_look(
    family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "values_at_hand", lambda tensor: False)
    monkeypatch.setattr(ranks_module, "values_at_hand", lambda tensor: False)
    for shape in ((1, 2, 2), (64, 23, 8), (64, 100, 64), (32, 1000, 48)):
        features, weight, target = make_family(family, *shape)
        x, w = features.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        with NoLook():
            terms, chosen = find(x, w, target)
            torch.autograd.grad(terms.rivals.sum() - terms.target_score.sum(), (x, w))
        assert chosen.certified.all()
        assert regret(x, w, chosen.kappa) <= (REGRET if dtype != HALF else 5 * REGRET)


def proposed(features: Tensor, weight: Tensor, target: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """κ of the first proposal."""
    kappas: list[Tensor] = []
    rebuild = search_module.rebuild

    def watching(scores: Any, column: Tensor, kappa: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
        kappas.append(kappa)
        return rebuild(scores, column, kappa, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(search_module, "rebuild", watching)
        find(features, weight, target)
    return kappas[0]


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE, HALF])
def test_no_value_is_looked_at(family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((1, 2, 2), (5, 7, 3), (100, 40, 16), (64, 1000, 48)):
        features, weight, target = make_family(family, *shape)
        x, w = features.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        with NoLook():
            terms, chosen = find(x, w, target)
            torch.autograd.grad(terms.rivals.sum() - terms.target_score.sum(), (x, w))
        # What it calls certified is so, and nothing is worse than the first proposal.
        energy, least = energies(x, w, chosen.kappa), energies(x, w).amin(dim=1)
        assert float((energy - least)[chosen.certified].clamp_min(0).sum()) <= REGRET * len(x)
        assert not chosen.certified.any() or float((energy - least)[chosen.certified].max()) <= REGRET
        first = energies(x, w, proposed(x.detach(), w.detach(), target, monkeypatch))
        assert float((energy - first).max()) <= REGRET
        exact = plain_rival_terms(unit(x), unit(w), target, chosen.kappa.double())
        assert float((terms.rivals.detach().double() - exact.rivals).abs().max()) <= (
            1e-10 if dtype == DOUBLE else 1e-4
        )


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(("family", "share"), [("trained", 0.97), ("random", 0.6), ("hard", 0.8)])
def test_most_rows_are_decided_even_so(family: str, share: float) -> None:
    features, weight, target = make_family(family, 256, 1000, 128)
    _, chosen = find(features, weight, target)
    assert chosen.certified.float().mean() >= share
    gap = energies(features, weight, chosen.kappa) - energies(features, weight).amin(dim=1)
    assert (gap <= REGRET).float().mean() >= 0.97


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize("options", [{"refine": True}, {"surrogate": True}, {"multiplier": 2.0}, {"bias": True}])
def test_other_searches_look_at_no_value(options: dict[str, Any]) -> None:
    features, weight, target = make_family("hard", 40, 60, 16)
    if "bias" in options:
        options = {"bias": torch.randn(60)}
    x, w = features.requires_grad_(), weight.requires_grad_()
    with NoLook():
        terms, _ = find(x, w, target, **options)
        torch.autograd.grad(terms.rivals.sum(), (x, w))


def split(rank: int, features: Tensor, weight: Tensor, target: Tensor, at_hand: bool) -> tuple[Any, ...]:
    """The search on ranks of which each has a part of the classes."""
    ranks = Ranks(torch.distributed.group.WORLD)
    sizes = [len(part) for part in weight.tensor_split(ranks.size)]
    start = sum(sizes[:rank])
    owner = torch.bucketize(target, torch.tensor(sizes).cumsum(0), right=True)
    placement = Placement(torch.where(owner == rank, target - start, -1), owner, len(weight))
    kept = search_module.values_at_hand, ranks_module.values_at_hand
    if not at_hand:
        search_module.values_at_hand = ranks_module.values_at_hand = lambda tensor: False
    try:
        x = features.chunk(ranks.size)[rank].requires_grad_()
        w = weight.split(sizes)[rank].clone().requires_grad_()
        search = KappaSearch(KAPPA_CANDIDATES)
        terms, chosen = blockwise_rival_terms(x, w, placement, search=search, ranks=ranks)
        gradients = torch.autograd.grad(terms.rivals.sum() - terms.target_score.sum(), (x, w))
    finally:
        search_module.values_at_hand, ranks_module.values_at_hand = kept
    assert chosen is not None
    return terms.rivals.detach(), chosen.kappa, chosen.certified, *gradients


@needs_ranks
@pytest.mark.parametrize("at_hand", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_search_together(family: str, at_hand: bool) -> None:
    for shape, dtype in (((60, 7, 3), DOUBLE), ((60, 200, 16), SINGLE), ((60, 200, 16), HALF), ((6, 3, 4), DOUBLE)):
        features, weight, target = make_family(family, *shape, seed=2)
        x, w = features.to(dtype), lengthen(weight).to(dtype)
        for size in (2, 3):
            parts = run_ranks(split, size, x, w, target, at_hand)
            rivals, kappa, certified, dx = (torch.cat([part[index] for part in parts]) for index in range(4))
            sure = certified if not at_hand else torch.ones_like(certified)
            gap = energies(x, w, kappa) - energies(x, w).amin(dim=1)
            assert not sure.any() or float(gap[sure].max()) <= REGRET
            exact_x, exact_w = x.double().requires_grad_(), w.double().requires_grad_()
            exact = plain_rival_terms(exact_x, exact_w, target, kappa.double())
            assert float((rivals - exact.rivals.detach()).abs().max()) <= (1e-10 if dtype == DOUBLE else 1e-4)
            expected = torch.autograd.grad(exact.rivals.sum() - exact.target_score.sum(), (exact_x, exact_w))
            allowed = {DOUBLE: 1e-10, SINGLE: 2e-5, HALF: 2e-2}[dtype]
            for found, one in zip((dx, torch.cat([part[4] for part in parts])), expected, strict=True):
                assert float((found.double() - one).norm() / one.norm()) <= allowed
