"""The fused step of group softmax against the plain formulas: values, gradients, and every way to be called."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from logitlab.config.errors import InputError
from logitlab.functional import (
    GroupKind,
    discriminative_grouping,
    fixed_grouping,
    fused_group_softmax_cross_entropy,
    group_logits,
    group_softmax_cross_entropy,
    reduce_loss,
)
from logitlab.functional import group_softmax_fused as module
from logitlab.functional import group_softmax_operators as operators
from logitlab.functional import group_softmax_products as products

KINDS: list[GroupKind] = ["I", "II"]


@pytest.fixture(params=[False, True], ids=["recomputed", "held"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(module, "worth_holding", lambda *_, **__: request.param)
    return bool(request.param)


@pytest.fixture(params=[False, True], ids=["masked", "summed"])
def summed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(products, "FEWEST_GROUPS", 1 if request.param else 10**9)
    monkeypatch.setattr(products, "FEWEST_MASKED", 0)
    return bool(request.param)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of five classes, and rows summed three columns and multiplied four columns at a time."""
    monkeypatch.setattr(operators, "BLOCK", 1)
    monkeypatch.setattr(operators, "FEWEST_CLASSES", 5)
    monkeypatch.setattr(products, "SUMMED_COLUMNS", 3)
    monkeypatch.setattr(products, "MULTIPLIED_COLUMNS", 4)


def case(
    batch: int, classes: int, features: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = 3 * torch.randn(batch, features, dtype=dtype) / features**0.5
    weight, bias = torch.randn(classes, features, dtype=dtype), torch.randn(classes, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), torch.randint(classes, (batch,))


def plain_loss(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    grouping: Tensor,
    groups: int,
    bias: Tensor | None = None,
    kind: GroupKind = "II",
    class_weight: Tensor | None = None,
) -> Tensor:
    return group_softmax_cross_entropy(group_logits(x, weight, grouping, groups, bias), target, kind, class_weight)


def agree(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).norm() <= tolerance * b.norm() + tolerance**2


SHAPES = [
    (1, 13, 12, 4),  # one sample, and blocks of five that do not fill the classes
    (7, 5, 12, 3),  # one full block
    (7, 1, 12, 3),  # no rival
    (7, 2, 12, 12),  # a feature a group
    (7, 23, 12, 1),  # one group
    (3, 11, 600, 300),  # more groups than a byte holds
    (0, 11, 12, 3),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("held", "summed", "small_blocks")
def test_losses_and_gradients_are_those_of_the_formulas(kind: GroupKind, shape: tuple[int, int, int, int]) -> None:
    *sizes, groups = shape
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-6)):
        x, weight, bias, target = case(*sizes, dtype=dtype)
        grouping = discriminative_grouping(x, weight, target, groups)
        class_weight = (0.5 + torch.rand(len(weight), dtype=dtype)).requires_grad_()
        upstream = torch.randn(len(x), dtype=dtype)
        upstream[::3] = 0
        inputs = (x, weight, bias, class_weight)
        found = []
        for loss_of in (fused_group_softmax_cross_entropy, plain_loss):
            loss = loss_of(x, weight, target, grouping, groups, bias, kind, class_weight)
            found.append((loss, *torch.autograd.grad(loss, inputs, upstream)))
        agree(*found, tolerance)


@settings(max_examples=60, deadline=None, database=None)
@given(
    batch=st.integers(1, 6),
    classes=st.integers(1, 17),
    groups=st.integers(1, 6),
    size=st.integers(1, 4),
    kind=st.sampled_from(KINDS),
    with_bias=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 40.0]),
    seed=st.integers(0, 2**16),
)
def _any_shape(
    batch: int, classes: int, groups: int, size: int, kind: GroupKind, with_bias: bool, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    x, weight, bias, target = case(batch, classes, groups * size)
    grouping = torch.randint(groups, x.shape)  # unequal and empty groups too
    given_bias = bias if with_bias else None
    inputs = (x, weight, bias) if with_bias else (x, weight)
    found = []
    for loss_of in (fused_group_softmax_cross_entropy, plain_loss):
        loss = loss_of(scale * x, weight, target, grouping, groups, given_bias, kind)
        found.append((loss, *torch.autograd.grad(loss.sum(), inputs)))
    agree(*found, 1e-9)


@pytest.mark.parametrize(("holds", "sums"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.usefixtures("small_blocks")
def test_any_shape(holds: bool, sums: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "worth_holding", lambda *_, **__: holds)
    monkeypatch.setattr(products, "FEWEST_GROUPS", 1 if sums else 10**9)
    monkeypatch.setattr(products, "FEWEST_MASKED", 0)
    _any_shape()


@pytest.mark.parametrize("kind", KINDS)
def test_real_sizes_in_float32(kind: GroupKind) -> None:
    # Several blocks by the library's own numbers, and the products that it chooses itself.
    for shape, groups in (((64, 3000, 128), 8), ((200, 700, 256), 8), ((96, 4000, 64), 2)):
        x, weight, bias, target = case(*shape, dtype=torch.float32)
        assert operators.spares_memory(x, shape[1], groups) == (shape[0] * groups * shape[1] > 2**20)
        grouping = discriminative_grouping(x, weight, target, groups)
        upstream = torch.rand(len(x))
        found = []
        for loss_of in (fused_group_softmax_cross_entropy, plain_loss):
            loss = loss_of(x, weight, target, grouping, groups, bias, kind)
            found.append((loss, *torch.autograd.grad(loss, (x, weight, bias), upstream)))
        agree(*found, 2e-6)


def test_products_are_the_same_whichever_way() -> None:
    x, weight, _, _ = case(40, 30, 64)
    grouping = torch.randint(8, x.shape, dtype=torch.uint8)
    gradient = torch.randn(40, 8, 30, dtype=torch.float64)
    x, weight = x.detach(), weight.detach()
    masked, sums = products.MaskedProducts(x, grouping, 8), products.RowSums(x, grouping, 8)
    torch.testing.assert_close(sums.logits(weight), masked.logits(weight))
    torch.testing.assert_close(sums.logits(weight), group_logits(x, weight, grouping, 8))
    torch.testing.assert_close(sums.to_weight(gradient), masked.to_weight(gradient))
    torch.testing.assert_close(sums.to_features(gradient, weight), masked.to_features(gradient, weight))
    # By index notation, which knows neither masks nor bags.
    inside = F.one_hot(grouping.long(), 8).double()
    torch.testing.assert_close(sums.to_weight(gradient), torch.einsum("ngc,nd,ndg->cd", gradient, x, inside))
    torch.testing.assert_close(
        sums.to_features(gradient, weight), torch.einsum("ngc,cd,ndg->nd", gradient, weight, inside)
    )


def test_which_products() -> None:
    def chosen(batch: int, features: int, groups: int, **options: Any) -> type:
        x = torch.zeros(batch, features, **options)
        return type(products.products_of_groups(x, torch.zeros(x.shape, dtype=torch.uint8), groups))

    assert chosen(256, 2048, 8) is chosen(128, 512, 8) is products.RowSums
    assert chosen(256, 2048, 2) is chosen(4, 512, 8) is products.MaskedProducts
    assert chosen(256, 2048, 8, dtype=torch.bfloat16) is products.MaskedProducts


def test_bags_are_numbered_in_few_bits() -> None:
    small = products.RowSums(torch.zeros(10, 4), torch.zeros(10, 4, dtype=torch.uint8), 8)
    assert small.bag.dtype == torch.int16
    large = products.RowSums(torch.zeros(5000, 1), torch.full((5000, 1), 7, dtype=torch.uint8), 8)
    assert large.bag.dtype == torch.int32
    assert large.bag[-1].item() == 39999


@pytest.mark.usefixtures("held", "summed", "small_blocks")
def test_a_small_loss_keeps_its_digits() -> None:
    # One group, logits 30 and 0: log(1 + e^-30); summed with the target it would be lost even in float64.
    x, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([[60.0, 0.0], [0.0, 0.0]])
    target, grouping = torch.tensor([0]), torch.tensor([[0, 0]])
    loss = fused_group_softmax_cross_entropy(x, weight, target, grouping, 1)
    assert loss.item() == pytest.approx(8.7565e-27, rel=1e-4)


@pytest.mark.usefixtures("held", "summed", "small_blocks")
def test_every_reduction_with_ignored_samples_absent_classes_and_expanded_gradients() -> None:
    x, weight, bias, _ = case(8, 13, 12)
    target = torch.tensor([0, 2, -100, 12, 5, 0, -100, 4])  # most classes are absent
    safe = target.clamp_min(0)
    class_weight = torch.linspace(0.5, 2, 13, dtype=torch.float64)
    grouping = discriminative_grouping(x, weight, safe, 3)
    for reduction, kind in itertools.product(("mean", "sum", "none"), KINDS):
        found = []
        for loss_of in (fused_group_softmax_cross_entropy, plain_loss):
            loss = loss_of(x, weight, safe, grouping, 3, bias, kind, class_weight)
            reduced = reduce_loss(loss, target, reduction, class_weight=class_weight)  # type: ignore[arg-type]
            upstream = torch.tensor(1.7, dtype=torch.float64).expand(reduced.shape)
            found.append((reduced, *torch.autograd.grad(reduced, (x, weight, bias), upstream)))
        agree(*found, 1e-9)
    loss = fused_group_softmax_cross_entropy(x, weight, safe, grouping, 3, bias)
    nothing = torch.autograd.grad(reduce_loss(loss, torch.full_like(target, -100)), (x, weight, bias))
    assert not any(gradient.any() for gradient in nothing)


@pytest.mark.usefixtures("held", "summed", "small_blocks")
def test_layouts_leading_dimensions_and_partial_gradients() -> None:
    wide, weight, bias, target = case(6, 13, 24)
    x = wide.detach()[:, ::2].requires_grad_()
    weight = weight.detach().t()[::2].t().requires_grad_()
    assert not x.is_contiguous()
    assert not weight.is_contiguous()
    grouping = fixed_grouping(x, 3)
    expected = plain_loss(x, weight, target, grouping, 3, bias)
    gradients = torch.autograd.grad(expected.sum(), (x, weight, bias), retain_graph=True)
    folded = fused_group_softmax_cross_entropy(
        x.view(2, 3, 12), weight, target.view(2, 3), grouping.view(2, 3, 12), 3, bias
    )
    agree((folded.view(6), *torch.autograd.grad(folded.sum(), (x, weight, bias))), (expected, *gradients), 1e-9)
    single = fused_group_softmax_cross_entropy(x[0], weight, target[0], grouping[0], 3, bias)
    torch.testing.assert_close(single, expected[0])
    for asked in itertools.product([False, True], repeat=3):
        inputs = [t.detach().requires_grad_(wanted) for t, wanted in zip((x, weight, bias), asked)]
        loss = fused_group_softmax_cross_entropy(inputs[0], inputs[1], target, grouping, 3, inputs[2])
        assert loss.requires_grad == any(asked)
        if any(asked):
            loss.sum().backward()  # type: ignore[no-untyped-call]
        for tensor, wanted, gradient in zip(inputs, asked, gradients):
            assert (tensor.grad is not None) == wanted
            if tensor.grad is not None:
                torch.testing.assert_close(tensor.grad, gradient)


@pytest.mark.usefixtures("held")
def test_the_graph_can_be_walked_twice() -> None:
    x, weight, bias, target = case(5, 13, 12)
    loss = fused_group_softmax_cross_entropy(x, weight, target, fixed_grouping(x, 3), 3, bias).sum()
    first = torch.autograd.grad(loss, (x, weight, bias), retain_graph=True)
    agree(torch.autograd.grad(loss, (x, weight, bias)), first, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("held", "small_blocks")
def test_second_derivatives_fall_back(kind: GroupKind) -> None:
    x, weight, bias, target = case(3, 7, 6)
    grouping = discriminative_grouping(x, weight, target, 3)

    def loss(*inputs: Tensor) -> Tensor:
        features, rows, *rest = inputs
        return fused_group_softmax_cross_entropy(features, rows, target, grouping, 3, *rest, kind=kind)

    for inputs in ((x, weight, bias), (x, weight)):
        assert torch.autograd.gradcheck(loss, inputs)
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
def test_batched_gradients_transforms_and_forward_mode_fall_back() -> None:
    x, weight, bias, target = case(4, 7, 6)
    grouping = fixed_grouping(x, 3).contiguous()
    loss = fused_group_softmax_cross_entropy(x, weight, target, grouping, 3, bias)
    each = torch.stack([torch.autograd.grad(loss[i], weight, retain_graph=True)[0] for i in range(4)])
    rows = torch.eye(4, dtype=torch.float64)
    batched = torch.autograd.grad(loss, weight, rows, retain_graph=True, is_grads_batched=True)[0]
    torch.testing.assert_close(batched, each)

    def of_weight(weight: Tensor, x: Tensor, target: Tensor, grouping: Tensor) -> Tensor:
        return fused_group_softmax_cross_entropy(x, weight, target, grouping, 3, bias.detach())

    per_sample = torch.func.vmap(torch.func.grad(of_weight), in_dims=(None, 0, 0, 0))
    torch.testing.assert_close(per_sample(weight.detach(), x.detach(), target, grouping), each)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        tangent = forward_ad.unpack_dual(of_weight(weight.detach(), dual, target, grouping)).tangent
    torch.testing.assert_close(tangent, torch.autograd.grad(loss.sum(), x)[0].sum(1))


@pytest.mark.usefixtures("summed")
@pytest.mark.parametrize("hold", [False, True])
def test_the_operators_keep_their_promises(hold: bool) -> None:
    x, weight, bias, target = case(4, 7, 6)
    grouping = fixed_grouping(x, 3).to(torch.uint8)
    # Without the dynamic check: it reads the shapes of outputs that no gradient reaches.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (x, weight, bias, target, grouping, 3, hold)
    torch.library.opcheck(operators.group_terms, arguments, test_utils=checks)
    rivals, own, kept = (tensor.detach() for tensor in operators.group_terms(*arguments))
    for asked in ((True, True, True), (False, True, False)):
        arguments = (torch.ones_like(own), own, rivals, kept, x.detach(), weight.detach(), None, target, grouping)
        torch.library.opcheck(operators._gradients, (*arguments, *asked), test_utils=checks)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_it_is_one_node(backend: str) -> None:
    x, weight, bias, target = case(4, 7, 6, torch.float32)
    torch.compiler.reset()
    ran: list[str] = []

    def step(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        return fused_group_softmax_cross_entropy(x, weight, target, fixed_grouping(x, 3), 3, bias, "I")

    def watch(graph: torch.fx.GraphModule, _: Any) -> Any:
        ran.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.compile(step, fullgraph=True, backend=watch)(x, weight, bias, target)
    assert sum("group_softmax_terms" in name for name in ran) == 1
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    found = []
    for run in (compiled, step):
        loss = run(x, weight, bias, target)
        found.append((loss, *torch.autograd.grad(loss, (x, weight, bias), torch.arange(4.0))))
    agree(*found, 2e-6)


def test_compiled_inside_a_transform_it_is_plain() -> None:
    x, weight, bias, target = case(4, 7, 6)
    grouping = fixed_grouping(x, 3).contiguous()

    def of_sample(x: Tensor, target: Tensor, grouping: Tensor) -> Tensor:
        return fused_group_softmax_cross_entropy(x, weight.detach(), target, grouping, 3, bias.detach())

    compiled = torch.compile(torch.func.vmap(of_sample), backend="aot_eager")
    torch.testing.assert_close(
        compiled(x.detach(), target, grouping), plain_loss(x, weight, target, grouping, 3, bias).detach()
    )


def test_checkpointing_and_autocast_change_nothing() -> None:
    x, weight, bias, target = case(6, 13, 12, torch.float32)
    grouping = fixed_grouping(x, 3)

    def step(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return fused_group_softmax_cross_entropy(x, weight, target, grouping, 3, bias)

    loss = step(x, weight, bias)
    expected = (loss, *torch.autograd.grad(loss.sum(), (x, weight, bias)))
    loss = torch.utils.checkpoint.checkpoint(step, x, weight, bias, use_reentrant=False)
    agree((loss, *torch.autograd.grad(loss.sum(), (x, weight, bias))), expected, 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step(x, weight, bias)
        agree((loss, *torch.autograd.grad(loss.sum(), (x, weight, bias))), expected, 1e-6)


@pytest.mark.parametrize("value", [0.0, 1e4, 1e30])
@pytest.mark.usefixtures("held", "summed")
def test_extremes_stay_finite(value: float) -> None:
    x = torch.full((3, 12), value, requires_grad=True)
    weight = torch.randn(13, 12).requires_grad_()
    loss = fused_group_softmax_cross_entropy(x, weight, torch.tensor([0, 1, 12]), fixed_grouping(x, 3), 3)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite().all()
    for tensor in (x, weight):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:.*Profiler clears events:UserWarning")  # of torch 2.11, for any profile
def test_no_more_is_held_than_a_block() -> None:
    # 8 groups of 12,000 classes for 32 samples: 12 MB as a whole; D < NG, so that nothing of it is kept.
    x, weight, bias, target = case(32, 12_000, 64, torch.float32)
    x, weight, bias = (tensor.detach().requires_grad_() for tensor in (x, weight, bias))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor
    ):
        loss = fused_group_softmax_cross_entropy(x, weight, target, fixed_grouping(x, 8), 8, bias)
    assert max(tensor.numel() for tensor in kept) == weight.numel()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss.sum().backward()  # type: ignore[no-untyped-call]
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    whole = 4 * 32 * 8 * 12_000
    assert peak <= 4 * weight.numel() + 2.6 * 4 * operators.BLOCK < 4 * weight.numel() + whole


def test_logits_are_held_where_they_are_small_and_needed() -> None:
    x, weight, bias, _ = case(4, 7, 12)
    assert module.worth_holding(x, weight, bias, groups=3)
    assert not module.worth_holding(x, weight, bias, groups=4)
    assert module.worth_holding(x.detach(), weight, None, groups=3)
    assert not module.worth_holding(x.detach(), weight.detach(), None, groups=3)
    with torch.no_grad():
        assert not module.worth_holding(x, weight, bias, groups=3)


def test_another_kind_is_refused() -> None:
    x, weight, _, target = case(2, 3, 4)
    with pytest.raises(InputError, match="kind 'I' or 'II'"):
        fused_group_softmax_cross_entropy(x, weight, target, fixed_grouping(x, 2), 2, kind="i")  # type: ignore[arg-type]
