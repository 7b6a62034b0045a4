"""The short ways of the CPU: that they are taken, and that nobody can tell by the numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from logitlab.functional import (
    autocast_off,
    cosine_similarity,
    cosine_with_units,
    normalize,
    reduce_loss,
    softmax_cross_entropy,
)
from logitlab.functional.at_hand import by_hand, gradient_of
from logitlab.functional.cosine import cosine_of_any
from logitlab.functional.cross_entropy import cross_entropy_of_index
from logitlab.functional.normalization import normalize_any, ordinary_lengths
from logitlab.functional.targets import look_at_target

#: How far a short way may be from the plain one, relative to the largest entry.
CLOSE = {torch.float32: 2e-6, torch.float64: 1e-12}

TARGET = torch.tensor([0, 4, 2, 2, 1, 3])


def short_cosine(features: Tensor, weight: Tensor) -> Tensor:
    return cosine_with_units(features, weight)[0]


def plain_cosine(features: Tensor, weight: Tensor) -> Tensor:
    return cosine_of_any(features, weight)[0]


def short_loss(logits: Tensor) -> Tensor:
    return softmax_cross_entropy(logits, TARGET)


def plain_loss(logits: Tensor) -> Tensor:
    return cross_entropy_of_index(logits, TARGET)


PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "normalize": (normalize, normalize_any, [(2, 6, 7)]),
    "cosine": (short_cosine, plain_cosine, [(2, 6, 7), (5, 7)]),
    "cross entropy": (short_loss, plain_loss, [(6, 5)]),
}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=CLOSE[expected.dtype] * float(expected.detach().abs().max().clamp_min(1e-30))
    )


def arguments_of(name: str, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> list[Tensor]:
    return [(scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in PAIRS[name][2]]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
def test_values_and_gradients_are_those_of_the_plain_formula(name: str, dtype: torch.dtype, scale: float) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name, dtype, scale)
    output, expected = short(*arguments), plain(*arguments)
    assert "Backward" in type(output.grad_fn).__name__
    assert type(output.grad_fn).__name__.startswith("_"), "the short way is taken"
    close(output, expected)
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(output, arguments, upstream)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, arguments, upstream), strict=True):
        close(gradient, wanted)


@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_of_every_order_follow(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name)
    assert torch.autograd.gradcheck(short, arguments)
    assert torch.autograd.gradgradcheck(short, arguments)
    third, along = [], [torch.randn_like(argument) for argument in arguments]
    for formula in (short, plain):
        found: Tensor = formula(*arguments).sigmoid().sum()
        for _ in range(3):
            gradients = torch.autograd.grad(found, arguments, create_graph=True)
            found = torch.stack([(one * other).sum() for one, other in zip(gradients, along, strict=True)]).sum()
        third.append(found.detach())
    close(third[0], third[1])


@pytest.mark.parametrize("name", PAIRS)
def test_a_batch_of_upstream_gradients(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name)
    upstream = torch.randn(3, *plain(*arguments).shape, dtype=torch.float64)
    actual = torch.autograd.grad(short(*arguments), arguments, upstream, is_grads_batched=True)
    expected = torch.autograd.grad(plain(*arguments), arguments, upstream, is_grads_batched=True)
    for one, other in zip(actual, expected, strict=True):
        close(one, other)


@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning")  # torch's own, on first use
@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", PAIRS)
def test_forward_mode_takes_the_plain_formula(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name)
    tangents = [torch.randn_like(argument) for argument in arguments]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(arguments, tangents, strict=True)]
        assert not by_hand(duals[0])
        actual, expected = (forward_ad.unpack_dual(formula(*duals)).tangent for formula in (short, plain))
    assert actual is not None
    close(actual, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_torch_func_and_compile(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name)
    numbers = tuple(range(len(arguments)))
    for one, other in zip(
        torch.func.jacrev(short, numbers)(*arguments), torch.func.jacrev(plain, numbers)(*arguments), strict=True
    ):
        close(one, other)
    compiled = torch.compile(short, fullgraph=True, backend="aot_eager")
    output, expected = compiled(*arguments), plain(*arguments)
    close(output, expected)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(output, arguments, upstream),
        torch.autograd.grad(expected, arguments, upstream),
        strict=True,
    ):
        close(one, other)


def test_per_sample_gradients_by_vmap() -> None:
    features, (weight,) = torch.randn(6, 7), [torch.randn(5, 7)]

    def loss(row: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        return softmax_cross_entropy(8 * cosine_similarity(row, weight), label)

    actual = torch.func.vmap(torch.func.grad(loss, 2), (0, 0, None))(features, TARGET, weight)
    for row, label, gradient in zip(features, TARGET, actual, strict=True):
        leaf = weight.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(row, label, leaf), leaf)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_who_watches_operations_sees_the_formula(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = [argument.detach() for argument in arguments_of(name)]
    if name != "cross entropy":  # its target is no argument here, so that there is none among the fakes
        with FakeTensorMode() as mode:
            fake = [mode.from_tensor(argument).requires_grad_() for argument in arguments]
            shape = short(*fake).shape
        assert shape == plain(*arguments).shape
    traced = make_fx(short)(*arguments)
    others = [argument.detach() for argument in arguments_of(name)]
    if name != "cross entropy":
        others[0] = others[0] * torch.tensor(0.0)  # what no branch of the trace may depend on
    close(traced(*others), plain(*others))


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_run_once(create_graph: bool) -> None:
    rows, calls = torch.randn(4, 3, requires_grad=True), []
    rows.register_hook(lambda gradient: calls.append(1) or 2 * gradient)  # type: ignore[func-returns-value]
    (gradient,) = torch.autograd.grad(normalize(rows)[:, 0].sum(), rows, create_graph=create_graph)
    assert calls == [1]
    other = rows.detach().requires_grad_()
    (expected,) = torch.autograd.grad(normalize_any(other)[:, 0].sum(), other)
    close(gradient.detach(), 2 * expected)


@pytest.mark.parametrize("name", PAIRS)
def test_backward_twice_and_checkpointed(name: str) -> None:
    short, _, _ = PAIRS[name]
    arguments = arguments_of(name)
    output = short(*arguments)
    upstream = torch.randn_like(output)
    first = torch.autograd.grad(output, arguments, upstream, retain_graph=True)
    second = torch.autograd.grad(output, arguments, upstream)
    again = torch.autograd.grad(checkpoint(short, *arguments, use_reentrant=False), arguments, upstream)
    for one, two, three in zip(first, second, again, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
        torch.testing.assert_close(one, three, rtol=0, atol=0)


@pytest.mark.parametrize("name", PAIRS)
def test_upstream_gradients_are_not_written_over(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name)
    output = short(*arguments)
    upstream = torch.randn_like(output)
    kept = upstream.clone()
    torch.autograd.grad(output, arguments, upstream, retain_graph=True)
    torch.testing.assert_close(upstream, kept, rtol=0, atol=0)
    # One number for all entries, as a sum sends it back, has no room to be written into.
    actual = torch.autograd.grad(output.sum(), arguments)
    for one, other in zip(actual, torch.autograd.grad(plain(*arguments).sum(), arguments), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", PAIRS)
def test_autocast_around_the_backward_pass_does_not_coarsen_it(name: str) -> None:
    short, plain, _ = PAIRS[name]
    arguments = arguments_of(name, torch.float32)
    upstream = torch.randn_like(plain(*arguments))
    expected = torch.autograd.grad(plain(*arguments), arguments, upstream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = torch.autograd.grad(short(*arguments), arguments, upstream)
    for one, other in zip(actual, expected, strict=True):
        close(one, other)


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 10, 16, 101, 127, 129, 131])
@pytest.mark.parametrize("shape", [(7,), (0, 7), (6, 7), (2, 3, 7)])
def test_cosines_of_any_number_of_classes_and_batch(num_classes: int, shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(num_classes, 7, dtype=torch.float64, requires_grad=True)
    expected = F.normalize(features, dim=-1) @ F.normalize(weight).T
    cosine = cosine_similarity(features, weight)
    assert cosine.is_contiguous()
    torch.testing.assert_close(cosine, expected, rtol=1e-12, atol=1e-14)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(cosine, (features, weight), upstream),
        torch.autograd.grad(expected, (features, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("which", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("reached", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("create_graph", [False, True])
def test_cosines_and_units_each_send_their_gradient(
    which: tuple[bool, bool], reached: tuple[int, ...], create_graph: bool
) -> None:
    features, weight = torch.randn(6, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    features.requires_grad_(which[0])
    weight.requires_grad_(which[1])
    wanted = [tensor for tensor in (features, weight) if tensor.requires_grad]
    found = []
    for formula in (cosine_with_units, cosine_of_any):
        outputs = formula(features, weight)
        assert [output.requires_grad for output in outputs] == [True, *which]
        reachable = [outputs[number] for number in reached if outputs[number].requires_grad]
        if not reachable:
            return
        total = torch.stack([(output * torch.arange(output.numel()).view_as(output)).sum() for output in reachable])
        found.append(torch.autograd.grad(total.sum(), wanted, create_graph=create_graph, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            close(one.detach(), other.detach())


def awkward() -> list[Tensor]:
    rows = torch.randn(6, 7)
    return [rows * scale for scale in (1e-30, 1e-13, 1e13, 3e37)] + [rows.index_fill(0, torch.tensor([2]), 0.0)]


@pytest.mark.parametrize("number", range(5))
def test_awkward_rows_take_the_robust_way(number: int) -> None:
    rows = awkward()[number].requires_grad_()
    weight = torch.randn(5, 7, requires_grad=True)
    assert ordinary_lengths(rows) is None
    for features, classes in ((rows, weight), (weight, rows)):
        cosine, one, other = cosine_with_units(features, classes)
        torch.testing.assert_close(cosine, cosine_of_any(features, classes)[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(one, normalize_any(features), rtol=0, atol=2e-7)
        torch.testing.assert_close(other, normalize_any(classes), rtol=0, atol=2e-7)
        for gradient in torch.autograd.grad(cosine.sum(), (features, classes)):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("length", [1e-12, 1e12])
@pytest.mark.parametrize("dimensions", [2, 4096])
def test_the_ends_of_the_ordinary_keep_their_digits(length: float, dimensions: int) -> None:
    rows = torch.randn(8, dimensions)
    rows[:, 0] *= 1e4  # one large entry among many small ones, whose squares nearly underflow
    rows = (
        rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True) * length * 1.001 ** -(length > 1)
    ).requires_grad_()
    rows = (rows.detach() * (1.01 if length < 1 else 0.99)).requires_grad_()
    assert ordinary_lengths(rows) is not None
    exact = rows.detach().double().requires_grad_()
    expected = normalize_any(exact)
    close(normalize(rows).detach(), expected.detach().float())
    upstream = torch.randn(8, dimensions)
    (gradient,) = torch.autograd.grad(normalize(rows), rows, upstream)
    (wanted,) = torch.autograd.grad(expected, exact, upstream.double())
    torch.testing.assert_close(gradient * length, (wanted * length).float(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", [torch.full((2, 3), torch.nan), torch.full((2, 3), torch.inf), torch.ones(0, 3)])
def test_what_has_no_length_is_not_ordinary(rows: Tensor) -> None:
    assert ordinary_lengths(rows) is None
    assert normalize(rows).shape == rows.shape


def test_no_graph_without_need() -> None:
    assert not normalize(torch.randn(3, 4)).requires_grad
    with torch.no_grad():
        assert not cosine_similarity(torch.randn(3, 4, requires_grad=True), torch.randn(2, 4)).requires_grad


def test_unit_vectors_that_need_no_gradient_say_so() -> None:
    _, unit_features, unit_weight = cosine_with_units(torch.randn(3, 4), torch.randn(2, 4, requires_grad=True))
    assert not unit_features.requires_grad
    assert unit_weight.requires_grad


def test_infinite_logits_are_as_in_the_plain_formula() -> None:
    rows = torch.tensor(
        [
            [1.0, -torch.inf, -torch.inf],
            [1.0, 2.0, -torch.inf],
            [-torch.inf, 1.0, 2.0],
            [torch.inf, 1.0, 2.0],
            [1.0, torch.inf, 2.0],
            [3e38, -3e38, 0.0],
            [-3e38, 3e38, 0.0],
            [torch.nan, 0.0, 0.0],
        ],
        requires_grad=True,
    )
    target = torch.zeros(8, dtype=torch.long)
    short, plain = softmax_cross_entropy(rows, target), cross_entropy_of_index(rows, target)
    torch.testing.assert_close(short, plain, equal_nan=True)
    (gradient,) = torch.autograd.grad(short.sum(), rows)
    (expected,) = torch.autograd.grad(plain.sum(), rows)
    finite = [0, 1, 3, 5, 6]
    torch.testing.assert_close(gradient[finite], expected[finite])


def test_a_tiny_gradient_keeps_its_digits() -> None:
    logits = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(softmax_cross_entropy(logits, torch.tensor([0])).sum(), logits)
    exact = F.softmax(logits.detach().double(), -1) - torch.tensor([[1.0, 0.0, 0.0]]).double()
    exact[0, 0] = -exact[0, 1:].sum()  # 1 - p would cancel in float64 too
    torch.testing.assert_close(gradient, exact.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("target", "ignore_index", "all_count"),
    [
        (torch.tensor([0, 2, 1]), -100, True),
        (torch.tensor([0, -100, 1]), -100, False),
        (torch.tensor([0, 2, 1]), 2, False),
        (torch.tensor([0, 1, 1]), 2, True),
        (torch.tensor([0, 2, 2]), 1, False),  # not known from the smallest and the largest alone
        (torch.tensor([0, 255, 1], dtype=torch.uint8), 255, False),
        (torch.tensor([], dtype=torch.long), -100, False),
        (torch.full((3, 3), 1 / 3), -100, True),
        (torch.zeros(0, 3), -100, False),
        (torch.empty(3, dtype=torch.long, device="meta"), -100, False),
    ],
)
def test_whether_all_samples_count(target: Tensor, ignore_index: int, all_count: bool) -> None:
    assert look_at_target(target, torch.zeros(len(target), 3), ignore_index)[1] is all_count


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_knowing_that_all_count_changes_no_number(reduction: str, weighted: bool, soft: bool) -> None:
    loss, weight = torch.rand(6, dtype=torch.float64), torch.rand(5, dtype=torch.float64) if weighted else None
    target = F.one_hot(TARGET, 5).double() if soft else TARGET
    plain = reduce_loss(loss, target, reduction, class_weight=weight)  # type: ignore[arg-type]
    short = reduce_loss(loss, target, reduction, class_weight=weight, all_count=True)  # type: ignore[arg-type]
    torch.testing.assert_close(short, plain, rtol=1e-15, atol=0)


def test_autocast_is_turned_off_only_where_it_is_on() -> None:
    def off() -> AbstractContextManager[object]:
        return autocast_off(torch.device("cpu"))

    assert isinstance(off(), nullcontext)
    with torch.autocast("cpu"):
        with off():
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")


def test_the_gradient_of_a_formula_skips_what_is_not_reached() -> None:
    one, other = torch.randn(3, requires_grad=True), torch.randn(3)
    found = gradient_of(lambda a, b: (a * b, a + b), (one, other), (None, torch.ones(3)))
    assert found[1] is None
    assert found[0] is not None
    assert found[0].tolist() == [1.0] * 3
