"""``blockwise_rival_terms`` of one process against the plain formulas: values, gradients, ways to be called."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any, get_args

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from logitlab.functional import KAPPA_CANDIDATES, KappaSearch, RivalTerms, plain_rival_terms
from logitlab.functional.blockwise import Placement, Ranks, blockwise_rival_terms, plain_split_terms
from logitlab.functional.blockwise import forward as forward_module
from logitlab.functional.blockwise import scores as scores_module
from logitlab.functional.rival_terms import Classifier

CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
DOUBLE, SINGLE, HALF = torch.float64, torch.float32, torch.bfloat16


class Case:
    """Inputs of the terms, of which all floating ones take gradients."""

    def __init__(
        self,
        samples: int,
        classes: int,
        size: int,
        dtype: torch.dtype = DOUBLE,
        kappa: Any = 9.0,
        bias: bool = False,
        classifier: Classifier = "cosine",
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=DOUBLE)

        wide = torch.promote_types(dtype, SINGLE)
        weight = normal(classes, size) * (0.5 + torch.rand(classes, 1, generator=generator, dtype=DOUBLE))
        self.target = torch.randint(classes, (samples,), generator=generator)
        self.features = (weight[self.target] + normal(samples, size)).to(dtype).requires_grad_()
        self.weight = weight.to(dtype).requires_grad_()
        self.kappa = None
        if kappa == "each":
            self.kappa = (0.5 + 30 * torch.rand(samples, generator=generator, dtype=DOUBLE)).to(wide).requires_grad_()
        elif kappa is not None:
            self.kappa = torch.tensor(kappa, dtype=wide, requires_grad=True)
        self.bias = normal(classes).to(wide).requires_grad_() if bias else None
        self.classifier: Classifier = classifier
        self.upstream = [normal(samples).to(wide) for _ in range(3)]
        for start, part in enumerate(self.upstream):
            part[start::4] = 0

    @property
    def inputs(self) -> list[Tensor]:
        return [part for part in (self.features, self.weight, self.kappa, self.bias) if part is not None]

    def blockwise(self, **options: Any) -> RivalTerms:
        return blockwise_rival_terms(
            self.features, self.weight, self.target, self.kappa, self.bias, self.classifier, **options
        )[0]

    def plain(self, dtype: torch.dtype = DOUBLE) -> RivalTerms:
        def cast(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.to(dtype)

        return plain_rival_terms(
            self.features.to(dtype),
            self.weight.to(dtype),
            self.target,
            cast(self.kappa),
            cast(self.bias),
            self.classifier,
        )

    def weighed(self, terms: RivalTerms) -> Tensor:
        return torch.stack([(part * by.to(part.dtype)).sum() for part, by in zip(terms, self.upstream)]).sum()

    def gradients(self, terms: RivalTerms, **options: Any) -> list[Tensor]:
        found = torch.autograd.grad(self.weighed(terms), self.inputs, allow_unused=True, **options)
        return [torch.zeros_like(leaf) if part is None else part for part, leaf in zip(found, self.inputs)]


def far(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm().clamp_min(1.0))


def agree(case: Case, tolerance: float, rounded: float | None = None) -> None:
    ours, plain = case.blockwise(), case.plain()
    wide = torch.promote_types(case.features.dtype, SINGLE)
    # κ z is off by κ times the rounding of a cosine, however it is computed: the formulas in the same precision tell.
    narrow = case.plain(wide)
    for found, expected, formula in zip(ours, plain, narrow, strict=True):
        assert found.dtype == wide
        assert far(found, expected) <= max(tolerance, 3 * far(formula, expected))
    every = [case.gradients(terms) for terms in (ours, plain, narrow)]
    for found, expected, formula, leaf in zip(*every, case.inputs, strict=True):
        assert found.dtype == leaf.dtype
        assert found.isfinite().all()
        assert far(found, expected) <= (rounded or max(tolerance, 3 * far(formula, expected)))


def use_blocks(monkeypatch: pytest.MonkeyPatch, size: int, keep: bool = True) -> None:
    monkeypatch.setattr(scores_module, "block_size", lambda samples, classes: min(size, classes))
    monkeypatch.setattr(forward_module, "keep_scores", lambda *operands: keep)


@pytest.fixture(params=["one block", "kept", "anew"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one block":
        use_blocks(monkeypatch, 4, request.param == "kept")


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("kappa", [None, 9.0, "each"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("block")
def test_terms_and_gradients_are_those_of_the_formulas(classifier: Classifier, kappa: Any, bias: bool) -> None:
    for shape in ((1, 2, 3), (7, 2, 4), (9, 21, 6), (30, 5, 2)):
        agree(Case(*shape, DOUBLE, kappa, bias, classifier), 1e-10)
        # A linear score of 100 is off by 1e-5 in float32, however it is computed.
        agree(Case(*shape, SINGLE, kappa, bias, classifier), 2e-6 if classifier == "cosine" else 2e-5)


def test_blocks_as_they_are_at_scale() -> None:
    case = Case(300, 1500, 8, SINGLE, "each", True)
    assert scores_module.block_size(300, 1500) < 500
    agree(case, 2e-6)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("kappa", [None, 9.0, "each"])
@pytest.mark.usefixtures("block")
def test_bfloat16_inputs_have_float32_terms(classifier: Classifier, kappa: Any) -> None:
    """The products of bfloat16 are exact in float32: only the gradients are rounded on their way."""
    for shape in ((7, 2, 4), (9, 300, 48)):
        agree(Case(*shape, HALF, kappa, True, classifier), 2e-6 if classifier == "cosine" else 2e-5, 2**-7)


@settings(max_examples=80, deadline=None)
@given(
    samples=st.integers(1, 9),
    classes=st.integers(2, 40),
    size=st.integers(1, 9),
    kappa=st.floats(1e-3, 1e4),
    bias=st.sampled_from(["none", "some", "masked"]),
    same=st.booleans(),
    classifier=st.sampled_from(CLASSIFIERS),
    block=st.integers(1, 41),
    seed=st.integers(0, 2**32),
)
@example(3, 2, 4, 1e4, "masked", False, "cosine", 1, 0)
@example(3, 9, 1, 1e4, "none", True, "cosine", 2, 0)
def test_any_shape_kappa_and_bias(
    samples: int, classes: int, size: int, kappa: float, bias: str, same: bool, classifier: Classifier, block: int,
    seed: int,
) -> None:  # fmt: skip
    case = Case(samples, classes, size, DOUBLE, kappa, bias != "none", classifier, seed)
    with torch.no_grad():
        if same:
            case.weight[classes // 2 :] = case.weight[0].clone()
        if case.bias is not None and bias == "masked" and classes > 2:
            # Some classes are masked, never all rivals of a sample.
            masked = torch.arange(classes) % 3 == 2
            case.target[masked[case.target]] = 0
            case.bias[masked] = -math.inf
    with pytest.MonkeyPatch.context() as patch:
        use_blocks(patch, block, bool(seed % 2))
        ours, plain = case.blockwise(), case.plain()
        # κ z of 1e4 is off by 1e-12, and its exponential by as much; a gradient of κ is a difference of such.
        allowed = 1e-10 * max(1.0, kappa)
        for found, expected in zip(ours, plain, strict=True):
            assert far(found, expected) <= allowed
        for found, expected in zip(case.gradients(ours), case.gradients(plain), strict=True):
            assert far(found, expected) <= allowed


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.usefixtures("block")
def test_rows_of_any_length(classifier: Classifier) -> None:
    for dtype in (DOUBLE, SINGLE):
        case = Case(9, 21, 6, dtype, 9.0, False, classifier)
        with torch.no_grad():
            case.features[2] = 0
            case.weight[4] = 0
            case.weight[case.target[1]] = 0
            if classifier == "cosine":
                # Shorter rows count as zero, in float32 sooner.
                case.features[3] *= 1e30
                case.features[4] *= 1e-30 if dtype == DOUBLE else 1e-16
            if classifier != "linear":
                case.weight[7] *= 1e15
                case.weight[8] *= 1e-13
        ours, plain = case.blockwise(), case.plain()
        for found, expected in zip(ours, plain, strict=True):
            assert far(found, expected) <= (1e-10 if dtype == DOUBLE else 2e-5)
        for found, expected in zip(case.gradients(ours), case.gradients(plain), strict=True):
            assert found.isfinite().all()
            found, expected = found.double(), expected.double()
            scale = expected.abs().amax(dim=-1, keepdim=True).clamp_min(1e-300) if expected.ndim == 2 else 1.0
            # Row by row, whose gradients are as much longer as the rows are shorter.
            off = ((found - expected) / scale).abs().max()
            assert off <= (1e-8 if dtype == DOUBLE else 1e-3)


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_a_row_of_the_weight_too_long_to_be_squared_is_not_taken_for_zero(dtype: torch.dtype) -> None:
    weight = torch.tensor([[3e19, 4e19], [1.0, 0.0], [0.0, 1.0]], dtype=dtype)
    features = torch.tensor([[1.0, 0.0]], dtype=dtype)
    terms, _ = blockwise_rival_terms(features, weight, torch.tensor([0]), torch.tensor(3.0))
    assert terms.target_score.isnan().all()
    terms, _ = blockwise_rival_terms(features, weight, torch.tensor([1]), torch.tensor(3.0))
    assert terms.rivals.isnan().all()


def test_what_is_no_number_is_not_hidden() -> None:
    for value in (math.nan, math.inf):
        for place in ("features", "weight"):
            case = Case(3, 5, 4, SINGLE)
            with torch.no_grad():
                getattr(case, place)[1, 2] = value
                case.target.copy_(torch.tensor([0, 2, 3]))
            terms = case.blockwise()
            broken = ~terms.rivals.isfinite() | ~terms.target_score.isfinite()
            assert broken.tolist() == ([False, True, False] if place == "features" else [True] * 3)


# --- autograd -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classifier", "kappa"), [("cosine", "each"), ("unit_weight", 4.0), ("linear", None)])
def test_finite_differences(classifier: Classifier, kappa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch, 3)
    case = Case(4, 7, 3, DOUBLE, kappa, True, classifier)

    def of(*inputs: Tensor) -> tuple[Tensor, ...]:
        features, weight, *rest = inputs
        scale = rest[0] if kappa is not None else None
        return tuple(blockwise_rival_terms(features, weight, case.target, scale, rest[-1], classifier)[0])

    assert torch.autograd.gradcheck(of, tuple(case.inputs), check_batched_grad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(of, tuple(case.inputs), fast_mode=True)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("dtype", [DOUBLE, HALF])
def test_second_derivatives(classifier: Classifier, dtype: torch.dtype) -> None:
    case = Case(5, 11, 4, dtype, "each", True, classifier)
    found = []
    for terms in (case.blockwise(), case.plain()):
        first = case.gradients(terms, create_graph=True)
        total = torch.stack([part.double().sin().sum() for part in first]).sum()
        found.append(torch.autograd.grad(total, case.inputs))
    for ours, expected in zip(*found, strict=True):
        assert far(ours, expected) <= (1e-9 if dtype == DOUBLE else 3e-2)


def test_second_derivatives_beside_a_search_hold_kappa_fixed() -> None:
    case = Case(5, 11, 4, DOUBLE, None)
    for multiplier in (1.0, 2.0):
        terms, chosen = blockwise_rival_terms(
            case.features, case.weight, case.target, search=KappaSearch(KAPPA_CANDIDATES, multiplier)
        )
        assert chosen is not None
        assert not chosen.kappa.requires_grad
        case.kappa = None
        exact = plain_rival_terms(case.features, case.weight, case.target, multiplier * chosen.kappa)
        found = []
        for of in (terms, exact):
            first = case.gradients(of, create_graph=True)
            found.append(torch.autograd.grad(torch.stack([part.sin().sum() for part in first]).sum(), case.inputs))
        for ours, expected in zip(*found, strict=True):
            assert far(ours, expected) <= 1e-9


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES), KappaSearch(KAPPA_CANDIDATES, 2.0)])
@pytest.mark.usefixtures("block")
def test_a_graph_that_is_kept_gives_the_same_again(search: KappaSearch | None) -> None:
    case = Case(9, 23, 6, SINGLE, None if search else "each")
    terms = case.blockwise(search=search)
    before = [part.detach().clone() for part in terms]
    first = case.gradients(terms, retain_graph=True)
    second = case.gradients(terms, retain_graph=True)
    third = case.gradients(terms)
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, first, third))
    assert all(map(torch.equal, before, terms))
    with pytest.raises(RuntimeError, match="second time|already been freed"):
        case.gradients(terms)


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES)])
@pytest.mark.usefixtures("block")
def test_two_forwards_before_one_backward(search: KappaSearch | None) -> None:
    case, other = Case(9, 23, 6, kappa=None), Case(9, 23, 6, kappa=None, seed=1)
    terms, more = case.blockwise(search=search), other.blockwise(search=search)
    apart = case.gradients(case.blockwise(search=search))
    other.gradients(more)
    for ours, expected in zip(case.gradients(terms), apart, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("frozen", ["features", "weight", "both", "all but the weight", "all but kappa"])
@pytest.mark.parametrize("search", [False, True])
def test_what_is_frozen_gets_no_gradient(frozen: str, search: bool) -> None:
    for classifier in CLASSIFIERS[:1] if search else CLASSIFIERS:
        case = Case(6, 13, 5, DOUBLE, None if search else "each", not search, classifier)
        names = {
            "features": ["features"],
            "weight": ["weight"],
            "both": ["features", "weight"],
            "all but the weight": ["features", "kappa", "bias"],
            "all but kappa": ["features", "weight", "bias"],
        }[frozen]
        plain = case.plain() if not search else None
        options = {"search": KappaSearch(KAPPA_CANDIDATES)} if search else {}
        whole = case.gradients(case.blockwise(**options)) if search else case.gradients(plain)
        expected = dict(zip([id(leaf) for leaf in case.inputs], whole))
        for name in names:
            part = getattr(case, name)
            if part is not None:
                part.requires_grad_(False)
        left = [leaf for leaf in case.inputs if leaf.requires_grad]
        if not left:
            assert not case.blockwise(**options).rivals.requires_grad
            continue
        found = torch.autograd.grad(case.weighed(case.blockwise(**options)), left)
        for leaf, gradient in zip(left, found, strict=True):
            assert far(gradient, expected[id(leaf)]) <= 1e-10


def test_terms_of_which_few_are_used() -> None:
    for name in RivalTerms._fields:
        for classifier in CLASSIFIERS:
            case = Case(6, 13, 5, DOUBLE, "each", True, classifier)
            found = [
                torch.autograd.grad(getattr(terms, name).sum(), case.inputs, allow_unused=True)
                for terms in (case.blockwise(), case.plain())
                if getattr(terms, name).requires_grad
            ]
            if len(found) == 2:
                for ours, expected, leaf in zip(*found, case.inputs, strict=True):
                    zero = torch.zeros_like(leaf)
                    assert far(zero if ours is None else ours, zero if expected is None else expected) <= 1e-10


@pytest.mark.parametrize("changed", ["features", "weight", "kappa", "bias"])
def test_an_input_that_changed_since_is_noticed(changed: str) -> None:
    case = Case(9, 23, 6, DOUBLE, "each", True)
    terms = case.blockwise()
    with torch.no_grad():
        getattr(case, changed).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        case.gradients(terms)


@pytest.mark.usefixtures("block")
def test_inputs_stay_as_they_are() -> None:
    case = Case(9, 23, 6, DOUBLE, "each", True)
    before = [part.detach().clone() for part in case.inputs]
    case.gradients(case.blockwise())
    assert all(map(torch.equal, before, case.inputs))


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES)])
def test_under_autocast_the_precision_stays(search: KappaSearch | None) -> None:
    case = Case(9, 23, 6, SINGLE, None if search else "each")
    expected = [*case.blockwise(search=search), *case.gradients(case.blockwise(search=search))]
    with torch.autocast("cpu", torch.bfloat16):
        found = [*case.blockwise(search=search), *case.gradients(case.blockwise(search=search))]
    assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES)])
@pytest.mark.usefixtures("block")
def test_memory_may_lie_in_any_order(search: KappaSearch | None) -> None:
    for classifier in CLASSIFIERS[:1] if search else CLASSIFIERS:
        case = Case(9, 23, 6, DOUBLE, None if search else "each", search is None, classifier)
        expected = [*case.blockwise(search=search), *case.gradients(case.blockwise(search=search))]
        for name in ("features", "weight"):
            part = getattr(case, name).detach()
            setattr(case, name, part.t().contiguous().t().requires_grad_())
            assert not getattr(case, name).is_contiguous()
        found = [*case.blockwise(search=search), *case.gradients(case.blockwise(search=search))]
        for ours, same in zip(found, expected, strict=True):
            assert far(ours, same) <= 1e-12


@pytest.mark.parametrize("search", [None, KappaSearch(KAPPA_CANDIDATES)])
def test_scores_are_freed_by_the_backward_pass(search: KappaSearch | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Tensor]] = []
    multiply = scores_module.multiply

    def watching(*operands: Any) -> Tensor:
        found = multiply(*operands)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(scores_module, "multiply", watching)
    case = Case(9, 23, 6, SINGLE, None if search else "each")
    terms = case.blockwise(search=search)
    assert kept[0]() is not None  # kept for the backward pass
    case.gradients(terms)
    gc.collect()
    assert all(one() is None for one in kept)
    # And with the terms, where no backward pass comes.
    kept.clear()
    terms = case.blockwise(search=search)
    del terms
    assert all(one() is None for one in kept)


# --- targets elsewhere, and the split version by autograd ---------------------------------------------------------


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("bias", [False, True])
def test_the_split_formulas_of_one_process(classifier: Classifier, bias: bool) -> None:
    case = Case(9, 23, 6, DOUBLE, "each", bias, classifier)
    placement = Placement(case.target, torch.zeros_like(case.target), 23)
    terms = plain_split_terms(case.features, case.weight, placement, case.kappa, case.bias, classifier, 1, Ranks())
    for ours, expected in zip(terms, case.plain(), strict=True):
        assert far(ours, expected) <= 1e-10
    for ours, expected in zip(case.gradients(terms), case.gradients(case.plain()), strict=True):
        assert far(ours, expected) <= 1e-10


def test_of_several_centers_the_nearest_speaks_for_its_class() -> None:
    case = Case(9, 24, 6, DOUBLE, "each", True)
    target = torch.randint(8, (9,))
    assert case.bias is not None
    bias = case.bias.detach()[:8].requires_grad_()
    placement = Placement(target, torch.zeros_like(target), 8)
    terms = plain_split_terms(case.features, case.weight, placement, case.kappa, bias, "cosine", 3, Ranks())
    unit = [part / part.norm(dim=1, keepdim=True) for part in (case.features, case.weight)]
    cosine = (unit[0] @ unit[1].T).view(9, 8, 3).amax(dim=2)
    assert case.kappa is not None
    logits = case.kappa.unsqueeze(1) * cosine + bias
    own = torch.arange(8) == target.unsqueeze(1)
    assert far(terms.rivals, logits.masked_fill(own, -math.inf).logsumexp(dim=1)) <= 1e-10
    assert far(terms.target_score, cosine[own]) <= 1e-10


@pytest.mark.usefixtures("block")
def test_a_sample_whose_target_is_elsewhere_has_all_classes_for_rivals() -> None:
    """A column of -1: what fills up a batch."""
    case = Case(5, 11, 4, DOUBLE, "each")
    column = case.target.clone()
    column[2] = -1
    owner = torch.where(column < 0, -1, 0)
    terms, _ = blockwise_rival_terms(case.features, case.weight, Placement(column, owner, 11), case.kappa)
    x, w = (part / part.norm(dim=1, keepdim=True) for part in (case.features, case.weight))
    assert case.kappa is not None
    whole = (case.kappa[2] * (x @ w.T)[2]).logsumexp(dim=0)
    assert far(terms.rivals[2], whole) <= 1e-12
    assert terms.target_score[2] == 0
    expected = case.plain()
    others = torch.tensor([0, 1, 3, 4])
    assert far(terms.rivals[others], expected.rivals[others]) <= 1e-12
    (gradient,) = torch.autograd.grad(terms.rivals[2], case.weight, retain_graph=True)
    assert far(gradient, torch.autograd.grad(whole, case.weight)[0]) <= 1e-12


def test_all_rivals_masked() -> None:
    """A sum over nothing: no loss, and no gradient that is not a number."""
    case = Case(3, 4, 3, SINGLE, 9.0, True)
    assert case.bias is not None
    with torch.no_grad():
        case.bias[1:] = -math.inf
    case.target.zero_()
    terms = case.blockwise()
    assert (terms.rivals == -math.inf).all()
    loss = torch.nn.functional.softplus(terms.rivals - 9 * terms.target_score).sum()
    assert loss == 0
    for gradient in torch.autograd.grad(loss, case.inputs):
        assert not gradient.any()
        assert gradient.isfinite().all()
