"""The rivals and the target by blocks of classes: values and gradients against a mask, and every way to be called."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from logitlab.functional import (
    KAPPA_CANDIDATES,
    KappaSearch,
    RivalTerms,
    plain_rival_terms,
    projection_energy,
    rival_terms,
)
from logitlab.functional import class_chunks as chunks_module
from logitlab.functional import rival_operator as operator_module
from logitlab.functional.least_squares import gram
from logitlab.functional.rival_operator import rival_gradients_operator, rival_terms_operator
from logitlab.functional.rival_terms import Classifier

# The function of this name hides its module in the package.
rival_module = sys.modules["logitlab.functional.rival_terms"]

CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
DOUBLE, SINGLE = torch.float64, torch.float32
TOLERANCE = {DOUBLE: 1e-10, SINGLE: 2e-6}


class Case(NamedTuple):
    """What the terms are made of."""

    features: Tensor
    weight: Tensor
    target: Tensor
    kappa: Tensor | None = None
    bias: Tensor | None = None
    classifier: Classifier = "cosine"

    def leaves(self, dtype: torch.dtype | None = None) -> Case:
        """The same with tensors of their own that take gradients."""
        parts = {
            name: value.detach().to(dtype or value.dtype).clone(memory_format=torch.preserve_format).requires_grad_()
            for name, value in self._asdict().items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        return self._replace(**parts)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Those that take gradients."""
        parts = (self.features, self.weight, self.kappa, self.bias)
        return tuple(part for part in parts if part is not None and part.requires_grad)


def make(
    samples: int = 7,
    classes: int = 23,
    size: int = 6,
    dtype: torch.dtype = DOUBLE,
    kappa: Any = 9.0,
    bias: bool = False,
    classifier: Classifier = "cosine",
) -> Case:
    """A case in which the target is mostly near; κ "each" for one a sample."""
    weight = torch.randn(classes, size, dtype=dtype) * (0.5 + torch.rand(classes, 1, dtype=dtype))
    target = torch.randint(classes, (samples,))
    features = weight[target] + torch.randn(samples, size, dtype=dtype)
    if isinstance(kappa, str):
        kappa = 1 + 15 * torch.rand(samples, dtype=dtype)
    elif kappa is not None:
        kappa = torch.tensor(kappa, dtype=dtype)
    return Case(features, weight, target, kappa, torch.randn(classes, dtype=dtype) if bias else None, classifier)


def upstream_of(samples: int, dtype: torch.dtype = DOUBLE) -> RivalTerms:
    """A gradient for each term of each sample: of any sign, some of them zero."""
    parts = [torch.randn(samples, dtype=dtype) for _ in RivalTerms._fields]
    for start, part in enumerate(parts):
        part[start::4] = 0
    return RivalTerms(*parts)


def unit(rows: Tensor) -> Tensor:
    """Rows over their length, zero rows as they are: the oracle's own, in float64, without care for overflow."""
    zero = (rows == 0).all(dim=1, keepdim=True)
    return torch.where(zero, 0.0, rows / torch.where(zero, 1.0, rows).norm(dim=1, keepdim=True))


def oracle(case: Case) -> RivalTerms:
    """The definition with an explicit mask, in float64 by autograd; nothing of the library."""
    x, w = case.features.double(), case.weight.double()
    scores = (unit(x) if case.classifier == "cosine" else x) @ (w if case.classifier == "linear" else unit(w)).T
    logits = scores if case.kappa is None else case.kappa.double().reshape(-1, 1) * scores
    logits = logits if case.bias is None else logits + case.bias.double()
    own = torch.arange(len(w)) == case.target.unsqueeze(1)
    rows = w[case.target]
    length = torch.where((rows == 0).all(dim=1), 0.0, torch.where(rows == 0, 1e-300, rows).norm(dim=1))
    return RivalTerms(
        logits.masked_fill(own, -math.inf).logsumexp(dim=1),
        scores[own],
        length if case.classifier == "linear" else torch.ones(len(x), dtype=DOUBLE),
    )


def fused(case: Case) -> RivalTerms:
    return rival_terms(*case)[0]


def plain(case: Case) -> RivalTerms:
    return plain_rival_terms(*case)


def weighed(terms: RivalTerms, upstream: RivalTerms) -> Tensor:
    return torch.stack([(part * by.to(part.dtype)).sum() for part, by in zip(terms, upstream)]).sum()


def gradients(
    function: Callable[[Case], RivalTerms], case: Case, upstream: RivalTerms
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Terms, and the gradients of all inputs."""
    terms = function(case)
    found = torch.autograd.grad(weighed(terms, upstream), case.inputs, allow_unused=True)
    return tuple(terms), tuple(
        torch.zeros_like(leaf) if part is None else part for part, leaf in zip(found, case.inputs)
    )


def distance(ours: Tensor, expected: Tensor) -> float:
    """How far apart as one vector: relative to the second, or absolute where that is shorter than one."""
    assert ours.shape == expected.shape
    ours, expected = ours.detach().double(), expected.detach().double()
    return float((ours - expected).norm() / expected.norm().clamp_min(1.0))


def agree(case: Case, upstream: RivalTerms | None = None) -> None:
    """The fast version is the mask's and the plain one's, in terms and gradients."""
    dtype = case.features.dtype
    upstream = upstream_of(len(case.target), dtype) if upstream is None else upstream
    found = [
        sum(gradients(function, case.leaves(other), upstream), ())
        for function, other in ((fused, dtype), (plain, dtype), (oracle, DOUBLE))
    ]
    for index, (ours, formula, exact) in enumerate(zip(*found, strict=True)):
        allowed = TOLERANCE[dtype]
        if dtype == SINGLE:
            # κz = 16 in float32 is off by 1e-6, and a logit of 100 by 1e-5, however they are computed; the gradient of
            # κ is a difference.
            wide = case.classifier != "cosine" or (case.kappa is not None and index == 5)
            allowed = max(5 * allowed if wide else allowed, 3 * distance(formula, exact))
        assert distance(ours, exact) <= allowed
        assert distance(ours, formula) <= 2 * allowed
        assert ours.dtype == dtype
        assert ours.isfinite().all()


def use_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Blocks of so many classes; the search by Gram matrices takes its classes in one block and goes no higher."""
    monkeypatch.setattr(chunks_module, "BLOCK", 1)
    monkeypatch.setattr(chunks_module, "_FEWEST", size)
    for module in (rival_module, operator_module):
        monkeypatch.setattr(module, "GRAM_CLASSES", min(size, gram.GRAM_CLASSES))


@pytest.fixture(params=[5, 256], ids=["blocks", "block"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    use_blocks(monkeypatch, request.param)
    return int(request.param)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("kappa", [None, 9.0, "each"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("block")
def test_terms_and_gradients_are_those_of_a_mask(classifier: Classifier, kappa: Any, bias: bool) -> None:
    for (samples, classes, size), dtype in itertools.product(SHAPES, (DOUBLE, SINGLE)):
        agree(make(samples, classes, size, dtype, kappa, bias, classifier))


SHAPES = [
    (1, 2, 3),  # one sample, one rival
    (7, 2, 4),
    (1, 23, 6),  # blocks of five, the last of three
    (9, 21, 6),  # the last block has one class
    (4, 25, 3),  # more classes than numbers in a feature, full blocks
    (30, 6, 2),  # many samples a class
]


def test_many_blocks_as_they_are_at_scale() -> None:
    case = make(300, 1500, 8, SINGLE, "each", True)
    assert len(chunks_module.lay_out(torch.empty(300 * 1500), case.weight, None).chunks) == 4
    agree(case)


def test_few_classes_stand_in_one_block() -> None:
    # The search by Gram matrices reads the storage as the matrix of cosines.
    assert chunks_module._FEWEST >= gram.GRAM_CLASSES
    for samples in (1, 100, 10**6):
        assert chunks_module.block_size(samples, gram.GRAM_CLASSES) == gram.GRAM_CLASSES


@pytest.mark.usefixtures("block")
def test_places_of_the_targets() -> None:
    scores = torch.randn(13, 22)
    target = torch.randint(22, (13,))
    target[:2] = torch.tensor([0, 21])
    storage = torch.empty(scores.numel())
    chunks = chunks_module.lay_out(storage, torch.empty(22, 1), None)
    for chunk in chunks:
        chunk.cosine.copy_(scores[:, chunk.start : chunk.start + chunk.cosine.shape[1]])
    assert torch.equal(storage[chunks_module.positions(target, 22)], scores[torch.arange(13), target])
    found = torch.full((13,), -1)
    for chunk, (rows, columns) in zip(chunks, chunks.places(target), strict=True):
        found[rows] = chunk.start + columns
    assert torch.equal(found, target)


# --- a search inside ----------------------------------------------------------------------------------------------


def searched(
    case: Case, search: KappaSearch, upstream: RivalTerms
) -> tuple[Tensor, str, tuple[Tensor, ...], tuple[Tensor, ...]]:
    terms, chosen = rival_terms(*case, search=search)
    assert chosen is not None
    assert not chosen.kappa.requires_grad
    found = torch.autograd.grad(weighed(terms, upstream), case.inputs)
    return chosen.kappa, chosen.method, tuple(terms), found


@pytest.mark.parametrize("method", ["certified", "gram", "surrogate"])
@pytest.mark.parametrize("multiplier", [1.0, 2.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
def test_with_a_search_the_gradients_are_those_of_its_kappa(
    method: str, multiplier: float, bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_blocks(monkeypatch, 256 if method == "gram" else 5)
    search = KappaSearch(KAPPA_CANDIDATES, multiplier, method == "surrogate")
    for samples, classes, size in ((1, 23, 6), (40, 61, 9), (12, 6, 10)):
        case = make(samples, classes, size, dtype, None, bias)
        upstream = upstream_of(samples, dtype)
        kappa, used, terms, ours = searched(case.leaves(), search, upstream)
        assert used == method
        given = case._replace(kappa=kappa * multiplier)
        exact = given.leaves(DOUBLE)
        exact = exact._replace(kappa=given.kappa)
        expected_terms, expected = gradients(oracle, exact, upstream)
        # Scaled by κ up to 297: where that meets 6e-8, so does the plain formula.
        tolerance = 1e-10 if dtype == DOUBLE else 2e-6 * max(1.0, float(kappa.max()) * multiplier / 30)
        for a, b in zip((*terms, *ours), (*expected_terms, *expected), strict=True):
            assert distance(a, b) <= tolerance
        if method != "surrogate":
            features, weight = unit(case.features.double()), unit(case.weight.double())
            energies = torch.stack([projection_energy(features, weight, value) for value in KAPPA_CANDIDATES])
            found = projection_energy(features, weight, kappa.double())
            assert (found - energies.amin(dim=0)).max() <= 2e-6
            assert set(kappa.tolist()) <= set(torch.tensor(KAPPA_CANDIDATES, dtype=dtype).tolist())


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
@pytest.mark.parametrize("surrogate", [False, True])
def test_a_large_bias_beside_a_search_overflows_nowhere(
    multiplier: float, surrogate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_blocks(monkeypatch, 5)
    case = make(12, 61, 9, SINGLE, None, True)
    for bias in (torch.full((61,), 500.0), torch.full((61,), -500.0), 300 * torch.randn(61)):
        here = case._replace(bias=bias).leaves()
        terms, chosen = rival_terms(*here, search=KappaSearch(KAPPA_CANDIDATES, multiplier, surrogate))
        assert chosen is not None
        expected = oracle(here._replace(kappa=chosen.kappa * multiplier))
        assert distance(terms.rivals, expected.rivals) <= 2e-6


@pytest.mark.parametrize("method", ["certified", "gram", "surrogate"])
def test_a_search_of_two_classes_and_of_awkward_rows(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch, 256 if method == "gram" else 1)
    search = KappaSearch(KAPPA_CANDIDATES, 1.0, method == "surrogate")
    case = make(8, 2, 3, SINGLE, None).leaves()
    kappa, _, terms, ours = searched(case, search, upstream_of(8, SINGLE))
    exact = case._replace(kappa=kappa)
    _, expected = gradients(plain, exact, upstream_of(8, SINGLE)._replace())
    assert all(part.isfinite().all() for part in (*terms, *ours, *expected))
    case = make(9, 12, 3, SINGLE, None)
    case.features[0], case.weight[3], case.weight[5] = 0, 0, case.weight[6]
    case.features[4] = case.weight[7]
    case.features[5], case.features[6], case.weight[8] = case.features[5] * 1e30, 1e-30, case.weight[8] * 1e30
    upstream = upstream_of(9, SINGLE)
    leaves = case.leaves()
    kappa, used, terms, ours = searched(leaves, search, upstream)
    assert used == method
    leaves = case.leaves()
    expected_terms, expected = gradients(plain, leaves._replace(kappa=kappa), upstream)
    for a, b in zip(terms, expected_terms, strict=True):
        assert distance(a, b) <= 1e-5
    for a, b, leaf in zip(ours, expected, leaves.inputs, strict=True):
        length = leaf.detach().double().norm(dim=1, keepdim=True)
        assert distance(a * length, b * length) <= 1e-5


# --- upstream gradients and inputs of every kind ------------------------------------------------------------------


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_any_gradient_of_the_terms(classifier: Classifier) -> None:
    case = make(8, 21, 6, bias=True, kappa="each", classifier=classifier)
    zero, one = torch.zeros(8, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE).expand(8)
    ramp = torch.linspace(-2, 2, 16, dtype=DOUBLE)[::2]  # of either sign, and not contiguous
    for parts in (
        (one, zero, zero),
        (zero, one, zero),
        (zero, zero, one),
        (ramp, -ramp, ramp.flip(0)),
        (one, -one, one),
    ):
        agree(case, RivalTerms(*parts))
    leaves = case.leaves()
    found = torch.autograd.grad(weighed(fused(leaves), RivalTerms(zero, zero, zero)), leaves.inputs)
    assert all(part.count_nonzero() == 0 for part in found)


def test_expanded_gradients_reach_the_formulas_as_they_are() -> None:
    case = make(8, 21, 6, kappa="each").leaves()
    one = torch.ones((), dtype=DOUBLE).expand(8)
    found = torch.autograd.grad(list(fused(case))[:2], case.inputs, [one, -2 * one])
    expected = torch.autograd.grad(list(oracle(case))[:2], case.inputs, [one, -2 * one])
    for a, b in zip(found, expected, strict=True):
        assert distance(a, b) <= 1e-10


@pytest.mark.parametrize("wanted", ["features", "weight", "kappa", "bias"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_the_gradient_of_one_input_alone(wanted: str, classifier: Classifier) -> None:
    case = make(7, 23, 6, bias=True, kappa="each", classifier=classifier)
    upstream = upstream_of(7)
    alone = case._replace(**{wanted: getattr(case.leaves(), wanted)})
    terms = fused(alone)
    weighed(terms, upstream).backward()
    every = case.leaves()
    weighed(oracle(every), upstream).backward()
    assert distance(getattr(alone, wanted).grad, getattr(every, wanted).grad) <= 1e-10
    assert fused(case).rivals.grad_fn is None


def test_the_gradient_of_one_input_alone_beside_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch, 5)
    upstream = upstream_of(7)
    for wanted, bias in (("features", False), ("weight", False), ("features", True), ("bias", True)):
        case = make(7, 23, 6, bias=bias, kappa=None)
        alone = case._replace(**{wanted: getattr(case.leaves(), wanted)})
        terms, chosen = rival_terms(*alone, search=KappaSearch(KAPPA_CANDIDATES))
        assert chosen is not None
        weighed(terms, upstream).backward()
        every = case.leaves()._replace(kappa=chosen.kappa)
        weighed(oracle(every), upstream).backward()
        assert distance(getattr(alone, wanted).grad, getattr(every, wanted).grad) <= 1e-10


def test_a_scalar_kappa_has_a_scalar_gradient() -> None:
    case = make(7, 23, 6, kappa=4.0).leaves()
    assert case.kappa is not None
    weighed(fused(case), upstream_of(7)).backward()
    assert case.kappa.grad is not None
    assert case.kappa.grad.shape == ()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_tensors_that_are_not_contiguous(classifier: Classifier) -> None:
    case = make(7, 23, 6, kappa="each", bias=True, classifier=classifier)
    wide = torch.randn(7, 12, dtype=DOUBLE)
    wide[:, ::2] = case.features
    layouts = [
        {"features": case.features.T.contiguous().T, "weight": case.weight.T.contiguous().T},
        {"features": wide[:, ::2]},
        {"features": case.features[:1].expand(7, 6), "weight": case.weight[:1].expand(23, 6)},
    ]
    for layout in layouts:
        changed = case._replace(**layout)
        leaves = changed.leaves()
        upstream = upstream_of(7)
        inputs = [part.requires_grad_() for part in (changed.features.detach(), changed.weight.detach())]
        terms = fused(leaves._replace(features=inputs[0], weight=inputs[1]))
        found = torch.autograd.grad(weighed(terms, upstream), inputs)
        _, expected = gradients(oracle, leaves, upstream)
        for a, b in zip(found, expected):
            assert distance(a, b) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, SINGLE])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_a_weight_in_another_precision(dtype: torch.dtype, classifier: Classifier) -> None:
    wide = DOUBLE if dtype == SINGLE else SINGLE
    case = make(7, 23, 6, wide, "each", True, classifier)
    case = case._replace(weight=case.weight.to(dtype))
    upstream = upstream_of(7, wide)
    terms, ours = gradients(fused, case.leaves(), upstream)
    expected_terms, expected = gradients(oracle, case.leaves(DOUBLE), upstream)
    for a, b in zip(terms, expected_terms):
        assert a.dtype == wide
        assert distance(a, b) <= TOLERANCE[wide]
    for a, b, leaf in zip(ours, expected, case.leaves().inputs):
        assert a.dtype == leaf.dtype
        assert distance(a, b) <= max(5 * TOLERANCE[wide], torch.finfo(a.dtype).eps)


def test_a_weight_in_another_precision_beside_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, surrogate, dtype in itertools.product((5, 256), (False, True), (torch.float16, torch.bfloat16)):
        use_blocks(monkeypatch, size)
        case = make(9, 31, 8, SINGLE, None)
        case = case._replace(weight=case.weight.to(dtype))
        upstream = upstream_of(9, SINGLE)
        kappa, _, terms, ours = searched(case.leaves(), KappaSearch(KAPPA_CANDIDATES, 1.0, surrogate), upstream)
        exact = case.leaves(DOUBLE)._replace(kappa=kappa)
        expected_terms, expected = gradients(oracle, exact, upstream)
        assert ours[1].dtype == dtype
        for a, b in zip((*terms, *ours), (*expected_terms, *expected), strict=True):
            assert distance(a, b) <= max(1e-5, torch.finfo(a.dtype).eps)


# --- rows and scales at the edge ----------------------------------------------------------------------------------


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_zero_rows_have_zero_cosines_and_zero_gradients(classifier: Classifier) -> None:
    for dtype in (DOUBLE, SINGLE):
        case = make(9, 23, 6, dtype, "each", True, classifier)
        case.features[2] = 0
        case.weight[4] = 0
        case.weight[22] = 0
        case.target[:3] = torch.tensor([4, 22, 1])
        upstream = upstream_of(9, dtype)
        terms, ours = gradients(fused, case.leaves(), upstream)
        for function, other in ((oracle, DOUBLE), (plain, None)):
            expected_terms, expected = gradients(function, case.leaves(other), upstream)
            for a, b in zip((*terms, *ours), (*expected_terms, *expected), strict=True):
                assert a.isfinite().all()
                assert distance(a, b) <= TOLERANCE[dtype]
        if classifier != "linear":
            assert not ours[1][4].any()
            assert not terms[1][:2].any()
        if classifier == "cosine":
            assert not ours[0][2].any()


@pytest.mark.parametrize("wanted", ["both", "features", "weight"])
@pytest.mark.usefixtures("block")
def test_rows_of_any_length(wanted: str) -> None:
    """Lengths whose squares overflow or vanish: gradients go with their inverse."""
    case = make(9, 23, 6, SINGLE, "each", True)
    lengths = torch.tensor([1e-15, 1e-12, 1e-3, 1.0, 1e5, 1e10, 1e15, 1e20, 1e30])
    if wanted != "weight":
        case = case._replace(features=case.features * lengths.unsqueeze(1))
    if wanted != "features":
        case = case._replace(weight=case.weight * lengths.repeat(3)[:23].unsqueeze(1))
    upstream = upstream_of(9, SINGLE)
    terms, ours = gradients(fused, case.leaves(), upstream)
    expected_terms, expected = gradients(oracle, case.leaves(DOUBLE), upstream)
    for a, b in zip(terms, expected_terms, strict=True):
        assert distance(a, b) <= 2e-6
    for a, b, leaf in zip(ours, expected, case.leaves().inputs, strict=True):
        # As the gradient of the unit row is: each row counts alike.
        length = leaf.detach().double().norm(dim=1, keepdim=True) if leaf.ndim == 2 else 1.0
        assert distance(a.double() * length, b * length) <= 3e-6


@pytest.mark.usefixtures("block")
def test_rows_too_short_to_have_a_direction_are_zero_rows() -> None:
    case = make(6, 23, 6, SINGLE)
    short = case._replace(features=case.features.clone(), weight=case.weight.clone())
    zeroed = case._replace(features=case.features.clone(), weight=case.weight.clone())
    for which, value in ((short, 1e-30), (zeroed, 0.0)):
        which.features[1] = value
        which.weight[3] = value
    upstream = upstream_of(6, SINGLE)
    assert all(map(torch.equal, *(sum(gradients(fused, which.leaves(), upstream), ()) for which in (short, zeroed))))
    for a, b in zip(*(sum(gradients(f, short.leaves(), upstream), ()) for f in (fused, plain)), strict=True):
        assert distance(a, b) <= 2e-6


@pytest.mark.parametrize("kappa", [1e-3, 0.1, 148.0, 300.0])
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
@pytest.mark.usefixtures("block")
def test_small_and_large_kappas(kappa: float, dtype: torch.dtype) -> None:
    case = make(9, 23, 6, dtype, kappa)
    # The gradient that a loss has: h = -κ p_rivals, g = p_rivals.
    share = torch.rand(9, dtype=dtype)
    upstream = RivalTerms(share, -kappa * share, 0 * share)
    terms, ours = gradients(fused, case.leaves(), upstream)
    expected_terms, expected = gradients(oracle, case.leaves(DOUBLE), upstream)
    plain_terms, by_formula = gradients(plain, case.leaves(), upstream)
    for a, b, c in zip((*terms, *ours), (*expected_terms, *expected), (*plain_terms, *by_formula), strict=True):
        # κz in float32 is off by κ * 6e-8, however it is computed.
        assert distance(a, b) <= max(TOLERANCE[dtype], 4 * distance(c, b))


def test_a_target_on_its_weight_with_rivals_far_away_keeps_its_digits() -> None:
    for dtype in (DOUBLE, SINGLE):
        weight = torch.eye(5, dtype=dtype)
        weight[1:, 0] = -3.0
        case = Case(weight[:1] * 2, weight, torch.tensor([0]), torch.tensor(148.0, dtype=dtype))
        terms = fused(case)
        # One minus a probability would be zero here; the gap itself is not.
        expected = math.log(4) + 148 * (-3 / math.sqrt(10))
        assert terms.target_score.item() == pytest.approx(1, rel=1e-6)
        assert terms.rivals.item() == pytest.approx(expected, rel=1e-6)
        gap = (terms.rivals - case.kappa * terms.target_score).double()
        assert torch.nn.functional.softplus(gap).item() > 0
        leaves = case.leaves()
        _, ours = gradients(fused, leaves, RivalTerms(*torch.ones(3, 1, dtype=dtype)))
        _, exact = gradients(oracle, case.leaves(DOUBLE), RivalTerms(*torch.ones(3, 1, dtype=DOUBLE)))
        for a, b in zip(ours, exact, strict=True):
            assert distance(a, b) <= 1e-4 if dtype == SINGLE else 1e-10


@pytest.mark.usefixtures("block")
def test_classes_that_are_the_same() -> None:
    case = make(12, 23, 6, kappa=20.0)
    case.weight[5:20] = case.weight[4]
    case.target[:6] = torch.arange(4, 10)
    case.features[0] = case.weight[4]
    agree(case)
    terms, chosen = rival_terms(*case._replace(kappa=None), search=KappaSearch(KAPPA_CANDIDATES))
    assert chosen is not None
    for a, b in zip(terms, oracle(case._replace(kappa=chosen.kappa)), strict=True):
        assert distance(a, b) <= 1e-10


# --- autograd -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("kappa", [None, 4.0, "each"])
def test_finite_differences(classifier: Classifier, kappa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch, 3)
    case = make(4, 7, 3, kappa=kappa, bias=True, classifier=classifier).leaves()

    def of(*inputs: Tensor) -> tuple[Tensor, ...]:
        features, weight, *rest = inputs
        scale = rest[0] if kappa is not None else None
        return tuple(fused(case._replace(features=features, weight=weight, kappa=scale, bias=rest[-1])))

    assert torch.autograd.gradcheck(of, case.inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(of, case.inputs)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_second_derivatives_are_those_of_the_mask(classifier: Classifier) -> None:
    case = make(5, 11, 4, kappa="each", bias=True, classifier=classifier)
    upstream = upstream_of(5)
    found = []
    for function in (fused, oracle):
        leaves = case.leaves()
        first = torch.autograd.grad(weighed(function(leaves), upstream), leaves.inputs, create_graph=True)
        total = torch.stack([part.sin().sum() for part in first]).sum()
        found.append(torch.autograd.grad(total, leaves.inputs))
    for a, b in zip(*found, strict=True):
        assert distance(a, b) <= 1e-9


def test_second_derivatives_beside_a_search_hold_kappa_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch, 5)
    case = make(5, 11, 4, kappa=None)
    upstream = upstream_of(5)
    for multiplier in (1.0, 2.0):
        leaves = case.leaves()
        terms, chosen = rival_terms(*leaves, search=KappaSearch(KAPPA_CANDIDATES, multiplier))
        assert chosen is not None
        exact = case.leaves()
        found = []
        for values, of in ((leaves, terms), (exact, oracle(exact._replace(kappa=multiplier * chosen.kappa)))):
            first = torch.autograd.grad(weighed(of, upstream), values.inputs, create_graph=True)
            found.append(torch.autograd.grad(torch.stack([part.sin().sum() for part in first]).sum(), values.inputs))
        for a, b in zip(*found, strict=True):
            assert distance(a, b) <= 1e-9


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES)])
def test_many_gradients_at_once(search: KappaSearch | None) -> None:
    case = make(5, 11, 4, kappa=None if search else "each").leaves()
    terms, _ = rival_terms(*case, search=search)
    directions = torch.randn(3, 5, dtype=DOUBLE)
    found = torch.autograd.grad(terms.rivals, case.inputs, directions, is_grads_batched=True, retain_graph=True)
    for row, direction in enumerate(directions):
        expected = torch.autograd.grad(terms.rivals, case.inputs, direction, retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            assert distance(a[row], b) <= 1e-10


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES), KappaSearch(KAPPA_CANDIDATES, 2.0)])
@pytest.mark.usefixtures("block")
def test_a_graph_that_is_kept_gives_the_same_again(search: KappaSearch | None) -> None:
    case = make(9, 23, 6, SINGLE, None if search else "each").leaves()
    terms, _ = rival_terms(*case, search=search)
    loss = weighed(terms, upstream_of(9, SINGLE))
    before = [part.clone() for part in terms]
    first = torch.autograd.grad(loss, case.inputs, retain_graph=True)
    second = torch.autograd.grad(loss, case.inputs)
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, before, terms))


@pytest.mark.usefixtures("block")
def test_two_forwards_before_one_backward() -> None:
    case, upstream = make(9, 23, 6, kappa="each"), upstream_of(9)
    leaves, expected = case.leaves(), case.leaves()
    for values, function in ((leaves, fused), (expected, oracle)):
        other = values._replace(features=values.features.flip(0).sin())
        (weighed(function(values), upstream) * weighed(function(other), upstream)).backward()
    for a, b in zip(leaves.inputs, expected.inputs, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert distance(a.grad, b.grad) <= 1e-10


@pytest.mark.parametrize("changed", ["features", "weight", "kappa", "bias"])
def test_an_input_that_changed_since_is_noticed(changed: str) -> None:
    case = make(9, 23, 6, kappa="each", bias=True).leaves()
    loss = weighed(fused(case), upstream_of(9))
    with torch.no_grad():
        getattr(case, changed).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inputs_stay_as_they_are() -> None:
    case = make(9, 23, 6, bias=True, kappa="each")
    before = [part.clone() for part in case[:5]]
    gradients(
        fused,
        case._replace(**{name: getattr(case, name).requires_grad_() for name in ("features", "weight")}),
        upstream_of(9),
    )
    assert all(map(torch.equal, before, case[:5]))


def test_under_autocast_the_precision_stays() -> None:
    case, upstream = make(9, 23, 6, SINGLE, "each"), upstream_of(9, SINGLE)
    expected = sum(gradients(fused, case.leaves(), upstream), ())
    with torch.autocast("cpu", torch.bfloat16):
        found = sum(gradients(fused, case.leaves(), upstream), ())
    assert all(map(torch.equal, expected, found))


@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning", "ignore:.*jit.script:DeprecationWarning")
def test_forward_mode_is_refused_in_words() -> None:
    case = make(4, 7, 3, kappa=None)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward"):
        fused(case._replace(features=forward_ad.make_dual(case.features, torch.ones_like(case.features))))


# --- memory -------------------------------------------------------------------------------------------------------


def peak_of(function: Callable[[], Any]) -> int:
    """Bytes that torch held at once beyond those at the start."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        function()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize("kind", ["fixed", "linear", "certified"])
def test_memory_is_the_gradient_of_the_weight_and_the_scores(kind: str) -> None:
    samples, classes, size = 32, 30_000, 64
    classifier: Classifier = "linear" if kind == "linear" else "cosine"
    case = make(samples, classes, size, SINGLE, None if kind == "certified" else 9.0, classifier=classifier).leaves()
    search = KappaSearch(KAPPA_CANDIDATES) if kind == "certified" else None

    def step() -> None:
        terms, _ = rival_terms(*case, search=search)
        found = torch.autograd.grad(terms.rivals.sum() - terms.target_score.sum(), case.inputs)
        assert found[1].shape == case.weight.shape

    step()
    scratch = 4 * 3 * max(chunks_module.BLOCK, samples * chunks_module._FEWEST)
    lengths = 3 * 4 * classes
    assert peak_of(step) <= 1.05 * 4 * (classes * size + samples * classes) + scratch + lengths


# --- torch.compile ------------------------------------------------------------------------------------------------


def operator_arguments(case: Case, search: KappaSearch | None) -> tuple[Any, ...]:
    candidates = [] if search is None else list(search.candidates)
    multiplier, surrogate = (1.0, False) if search is None else (search.multiplier, search.surrogate)
    return (*case[:5], case.classifier, candidates, multiplier, surrogate)


#: More classes than the search by Gram matrices takes.
MANY = gram.GRAM_CLASSES + 44

SEARCHES = {
    "none": None,
    "certified": KappaSearch(KAPPA_CANDIDATES),
    "doubled": KappaSearch(KAPPA_CANDIDATES, 2.0),
    "surrogate": KappaSearch(KAPPA_CANDIDATES, 1.0, True),
}


def operator_cases() -> Iterator[tuple[str, Case, KappaSearch | None]]:
    for classifier in CLASSIFIERS:
        yield classifier, make(5, MANY, 4, SINGLE, "each", True, classifier), None
    yield "no kappa", make(5, MANY, 4, SINGLE, None), None
    yield "transposed", make(5, MANY, 4, SINGLE)._replace(features=torch.randn(4, 5).T), None
    linear = make(5, MANY, 4, SINGLE, None, True, "linear")
    yield "transposed, linear", linear._replace(features=torch.randn(4, 5).T, weight=torch.randn(4, MANY).T), None
    extreme = make(5, MANY, 4, SINGLE)
    extreme.weight[0] = 0
    extreme.features[0] = 0
    yield "zero rows", extreme, None
    half = make(5, MANY, 4, SINGLE)
    yield "half", half._replace(weight=half.weight.half()), None
    for name, search in SEARCHES.items():
        if search is not None:
            yield name, make(5, MANY, 4, SINGLE, None, name == "surrogate"), search
    yield "gram", make(5, 20, 4, SINGLE, None), SEARCHES["certified"]
    yield "certified, zero rows", extreme._replace(kappa=None), SEARCHES["certified"]
    certified = make(5, MANY, 4, SINGLE, None)._replace(features=torch.randn(4, 5).T)
    yield "certified, transposed", certified, SEARCHES["certified"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # from within opcheck
@pytest.mark.parametrize("name", [name for name, *_ in operator_cases()])
def test_operators_keep_the_rules_of_torch(name: str) -> None:
    case, search = next((case, search) for other, case, search in operator_cases() if other == name)
    if search is None:
        leaves = case._replace(
            features=case.features.requires_grad_(),
            weight=case.weight.requires_grad_(),
            kappa=None if case.kappa is None else case.kappa.requires_grad_(),
        )
    else:
        leaves = case._replace(features=case.features.requires_grad_(), weight=case.weight.requires_grad_())
    torch.library.opcheck(rival_terms_operator, operator_arguments(leaves, search))
    # Not through autograd: gradients of gradients are refused.
    case = Case(*(part.detach() if isinstance(part, Tensor) else part for part in case))
    outputs = rival_terms_operator(*operator_arguments(case, search))
    kappa = case.kappa if search is None else outputs[3] * search.multiplier
    wanted = [True, True, search is None and kappa is not None, case.bias is not None]
    arguments = (case.features, case.weight, case.target, kappa, case.bias, list(outputs[5:]), list(outputs[:3]))
    upstream = list(upstream_of(len(case.target), SINGLE))
    for asked in (wanted, [True, False, False, False], [False, True, False, False]):
        torch.library.opcheck(rival_gradients_operator, (*arguments, upstream, asked))


@pytest.mark.parametrize("search", list(SEARCHES))
@pytest.mark.usefixtures("block")
def test_operators_compute_what_the_function_does(search: str) -> None:
    for classifier in CLASSIFIERS if search == "none" else CLASSIFIERS[:1]:
        case = make(9, 23, 6, DOUBLE, "each" if search == "none" else None, search == "none", classifier)
        upstream = upstream_of(9)
        ours, expected = case.leaves(), case.leaves()
        found, chosen = operator_module.compiled_rival_terms(*ours, search=SEARCHES[search])
        terms, known = rival_terms(*expected, search=SEARCHES[search])
        if known is not None:
            assert chosen is not None
            assert torch.equal(chosen.kappa, known.kappa)
            assert torch.equal(chosen.certified, known.certified)
            assert chosen.method == known.method
            assert not chosen.kappa.requires_grad
        for a, b in zip(found, terms, strict=True):
            assert torch.equal(a, b)
        for of in (found, terms):
            weighed(of, upstream).backward()
        for a, b in zip(ours.inputs, expected.inputs, strict=True):
            assert a.grad is not None
            assert b.grad is not None
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


def test_the_operator_takes_one_kappa_for_all_samples() -> None:
    ours, expected = make(9, 23, 6, kappa=3.0).leaves(), make(9, 23, 6, kappa=3.0)
    expected = Case(*(part.detach() if isinstance(part, Tensor) else part for part in ours)).leaves()
    found, _ = operator_module.compiled_rival_terms(*ours, search=None)
    upstream = upstream_of(9)
    weighed(found, upstream).backward()
    weighed(oracle(expected), upstream).backward()
    assert ours.kappa is not None
    assert expected.kappa is not None
    assert ours.kappa.grad is not None
    assert expected.kappa.grad is not None
    torch.testing.assert_close(ours.kappa.grad, expected.kappa.grad)


def test_compiled_second_derivatives_are_refused_in_words() -> None:
    case = make(5, 11, 4, SINGLE).leaves()

    def of(features: Tensor, weight: Tensor) -> Tensor:
        return fused(case._replace(features=features, weight=weight)).rivals.sum()

    torch._dynamo.reset()
    loss = torch.compile(of, backend="aot_eager", fullgraph=True)(case.features, case.weight)
    (first,) = torch.autograd.grad(loss, case.features, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward|second"):
        first.sum().backward()
