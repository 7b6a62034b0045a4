"""What a user's own code says must never be passed over by the fused step; and inputs at which it once went wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import jvp

from logitlab.functional import search_least_squares
from logitlab.heads import CosineHead, Head
from logitlab.losses import SoftmaxCrossEntropy
from logitlab.temperature import Fixed, LeastSquares

N, C, D = 6, 300, 16


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(N, D), torch.randint(C, (N,))


class HundredMore:
    def _loss(self, *arguments: Any) -> Tensor:
        return super()._loss(*arguments) + 100  # type: ignore[misc]


class MixedHead(HundredMore, Head):
    pass


class Doubled:
    def per_sample(self, *arguments: Any) -> Tensor:
        return 2 * super().per_sample(*arguments)  # type: ignore[misc]


class MixedLoss(Doubled, SoftmaxCrossEntropy):
    pass


class OtherFixed(Fixed):
    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        return 3 * super().forward(*arguments, **options)


class OtherLeastSquares(LeastSquares):
    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        return 3 * super().forward(*arguments, **options)


class OtherKappaStar(LeastSquares):
    def kappa_star(self, *arguments: Any) -> Tensor:
        return 3 * super().kappa_star(*arguments)


def plainly(head: Head, features: Tensor, target: Tensor) -> Tensor:
    other = copy.deepcopy(head)
    other.fused = False
    loss = other(features, target)
    assert isinstance(loss, Tensor)
    return loss


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        lambda: MixedHead(D, C, classifier="cosine", kappa=9.0, fused=True),
        lambda: CosineHead(D, C, kappa=9.0, loss=MixedLoss(), fused=True),
        lambda: CosineHead(D, C, temperature=OtherFixed(kappa=9.0), fused=True),
        lambda: CosineHead(D, C, temperature=OtherLeastSquares(), fused=True),
        lambda: CosineHead(D, C, temperature=OtherKappaStar(), inference_kappa="per_sample", fused=True),
    ],
    ids=["mixin", "loss", "fixed", "least_squares", "kappa_star"],
)
def test_a_formula_of_the_users_own_is_asked(head: Any, training: bool) -> None:
    torch.manual_seed(0)
    head = head().train(training)
    features, target = batch()
    assert head.path(features, target).name == "plain"
    expected = plainly(head, features, target)
    torch.testing.assert_close(head(features, target), expected)
    ordinary = CosineHead(D, C, kappa=9.0) if head.temperature is None else None
    assert ordinary is None or not torch.allclose(ordinary(features, target), expected)


def test_hooks_and_patches_are_asked() -> None:
    features, target = batch()
    for part in ("temperature", "loss_function"):
        head = CosineHead(D, C, kappa=9.0, fused=True)
        before = head(features, target)
        getattr(head, part).register_forward_hook(lambda module, given, output: 2 * output)
        assert head.path(features, target).name == "plain"
        assert not torch.allclose(head(features, target), before)
    head = CosineHead(D, C, kappa=9.0, fused=True)
    head._loss = lambda *arguments: torch.tensor(5.0)  # type: ignore[method-assign]
    assert head(features, target) == 5


@pytest.mark.parametrize("masked", [slice(0, 4096), slice(4096, 8192)])
def test_classes_masked_by_a_bias(masked: slice) -> None:
    # A block of classes that are all masked has no largest logit.
    torch.manual_seed(0)
    features, target = torch.randn(8, 16, requires_grad=True), torch.arange(8) + 8192
    head = CosineHead(16, 8200, kappa=16.0, bias=True, fused=True)
    assert head.bias is not None
    with torch.no_grad():
        head.bias[masked] = -torch.inf
    assert head.path(features, target).fused
    found = torch.autograd.grad(head(features, target), (features, head.weight, head.bias))
    head.fused = False
    expected = torch.autograd.grad(head(features, target), (features, head.weight, head.bias))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_gradients_keep_their_digits_at_large_logits(scale: float) -> None:
    torch.manual_seed(0)
    weight = torch.randn(C, D)
    weight[1:101] = weight[1]
    features, target = scale * weight[1:2].clone(), torch.tensor([0])
    head = Head(D, C, bias=False, fused=True)
    head.weight.data = weight
    (found,) = torch.autograd.grad(head(features, target), head.weight)
    double = weight.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(features.double() @ double.t(), target)
    (expected,) = torch.autograd.grad(loss, double)
    assert (found - expected).norm() / expected.norm() < 5e-6


def test_a_kappa_that_is_not_positive_goes_the_plain_way() -> None:
    features, target = batch()
    head = CosineHead(D, C, kappa=9.0, fused=True)
    for value in (-3.0, 0.0):
        kappa = torch.tensor(value, requires_grad=True)
        assert head.path(features, target, kappa=kappa).name == "plain"
        assert head(features, target, kappa=kappa).isfinite()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, about itself
def test_forward_mode_inside_a_compiled_function() -> None:
    features, target = batch()
    head = CosineHead(D, C, kappa=9.0, fused=True)

    def slope(direction: Tensor) -> Tensor:
        found: Tensor = jvp(lambda x: head(x, target), (features,), (direction,))[1]
        return found

    expected = slope(torch.ones_like(features))
    assert expected != 0
    compiled = torch.compile(slope, backend="eager")
    torch.testing.assert_close(compiled(torch.ones_like(features)), expected)


def test_an_exported_loss_speaks_of_torch_alone() -> None:
    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = CosineHead(D, C, kappa=9.0, fused=True)

        def forward(self, features: Tensor, target: Tensor) -> Tensor:
            loss = self.head(features, target)
            assert isinstance(loss, Tensor)
            return loss

    program = torch.export.export(Step(), batch())
    assert "logitlab" not in str(program.graph)


def test_fake_tensors_leave_nothing_behind() -> None:
    features, weight = torch.randn(3, 8), torch.randn(5, 8)
    candidates = [0.123, 4.56]
    with FakeTensorMode() as mode:
        search_least_squares(mode.from_tensor(features), mode.from_tensor(weight), candidates, method="plain")
    assert type(search_least_squares(features, weight, candidates, method="gram")) is Tensor


def test_heads_that_build_themselves_have_a_path() -> None:
    library = pytest.importorskip("pytorch_metric_learning.losses")
    from logitlab.heads import MetricLearningHead

    head = MetricLearningHead(D, C, library.CosFaceLoss(C, D))
    for each in (head, copy.deepcopy(head)):
        assert each.path(*batch()).name == "plain"
        assert each.fused == "auto"
