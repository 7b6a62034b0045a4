"""The head under test: built anew for each question, with batches to ask it about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .report import CheckFailed
from .traits import HeadTraits

#: From D and C to a head; a new one at each call.
Factory = Callable[[int, int], nn.Module]

# Small, and divided by the usual numbers of groups.
_FEATURES = 24
# None of them divides the number of features, so that a dimension of C is one of classes.
_CLASSES = (5, 7, 11)


class Case:
    """A factory, its traits, and what the checks ask of both.

    Args:
        factory: from D and C to a head.
        traits: of the heads that it builds.
        seed: of weights and batches.

    Attributes:
        in_features: D of the heads that are built.
        num_classes: C of the heads that are built, unless a check asks for another.
    """

    def __init__(self, factory: Factory, traits: HeadTraits, seed: int = 0) -> None:
        self.factory = factory
        self.traits = traits
        self.seed = seed
        self.in_features = in_features(traits)
        fitting = [number for number in _CLASSES if self.in_features % number and number >= traits.min_classes]
        self.num_classes = fitting[0] if fitting else traits.min_classes

    def head(
        self,
        *,
        training: bool = True,
        dtype: torch.dtype = torch.float64,
        num_classes: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Build a head; the same one for the same arguments. Its parameters are disturbed, so that no bias is zero."""
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone: torch.manual_seed queues a call for a GPU that nobody asked for.
            torch.default_generator.manual_seed(1000 * self.seed + seed)
            head = self.factory(self.in_features, self.num_classes if num_classes is None else num_classes)
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64).to(parameter))
        return head.to(dtype).train(training)

    def batch(
        self, *shape: int, dtype: torch.dtype = torch.float64, num_classes: int | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Features ``[*shape, D]`` and class indices ``[*shape]``."""
        generator = torch.Generator().manual_seed(1000 * self.seed + seed + 1)
        features = torch.randn(*shape, self.in_features, dtype=torch.float64, generator=generator)
        classes = self.num_classes if num_classes is None else num_classes
        return features.to(dtype), torch.randint(classes, shape, generator=generator)

    def modes(self, *, alone: bool = False) -> tuple[bool, ...]:
        """Training and evaluation; evaluation only where a training pass cannot be repeated.

        Args:
            alone: whether a sample is compared with itself in another batch.
        """
        repeats = not self.traits.stochastic and not (alone and self.traits.batch_dependent)
        return (True, False) if repeats else (False,)

    def frozen(self, head: Any, features: Tensor, target: Tensor) -> dict[str, Any]:
        """The option ``kappa=`` that holds the κ in force at its value; nothing where κ does not adapt.

        Logits are affine in κ: two other values of κ tell which one made them. The head's state may move.
        """
        if not self.traits.adaptive_kappa:
            return {}
        # With gradients on, for only then a rule that follows the batches moves.
        with torch.random.fork_rng(devices=[]):
            _, logits = head(features, target, return_logits=True)
        return {"kappa": self.kappa_of(head, features, logits.detach())}

    def kappa_of(self, head: Any, features: Tensor, logits: Tensor) -> Tensor:
        """The κ of each sample that makes these logits, ``[...]``."""
        with torch.no_grad():
            one = head(features, kappa=1.0)
            slope = head(features, kappa=2.0) - one
            kappa: Tensor = ((logits - one + slope) * slope).sum(-1) / slope.square().sum(-1).clamp_min(1e-30)
            return kappa


def in_features(traits: HeadTraits) -> int:
    """D of the heads that are built: the multiple that they need, next to 24."""
    return traits.feature_multiple * -(-_FEATURES // traits.feature_multiple)


def gradients(
    head: Any, features: Tensor, target: Tensor, *, autocast: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradients of its sum for the features and each parameter.

    Zero for a parameter that the loss does not depend on. The forward pass runs under autocast to a dtype, if one is
    given, and the backward pass outside, as torch asks for.
    """
    features = features.detach().clone().requires_grad_()
    with under_autocast(autocast):
        loss = head(features, target, **options)
    named = {"features": features, **{name: value for name, value in head.named_parameters() if value.requires_grad}}
    if not loss.requires_grad:
        raise CheckFailed("the loss of features that require a gradient has none")
    found = torch.autograd.grad(loss.sum(), list(named.values()), allow_unused=True)
    return loss.detach(), {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(named.items(), found)
    }


def under_autocast(dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Autocast on the CPU to a dtype; nothing for None."""
    return nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)


def same(found: Tensor, expected: Tensor, what: str, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    """Raise ``CheckFailed`` unless two tensors have one shape and equal values; both are compared in float64."""
    if found.shape != expected.shape:
        raise CheckFailed(f"{what}: expected shape {list(expected.shape)}, got {list(found.shape)}")
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if not torch.allclose(found, expected, rtol=rtol, atol=atol):
        # NaN is no number to be the largest.
        far = (found - expected).abs().nan_to_num(nan=float("inf"))
        raise CheckFailed(f"{what}: off by up to {far.max().item():.3g} (allowed: rtol {rtol:g}, atol {atol:g})")


def same_gradients(
    found: dict[str, Tensor], expected: dict[str, Tensor], what: str, rtol: float = 1e-9, atol: float = 1e-11
) -> None:
    """Compare gradients; ``rtol`` is of the largest entry of each tensor."""
    for name, value in expected.items():
        largest = value.abs().max().item() if value.numel() else 0.0
        same(found[name], value, f"{what}, the gradient for {name}", rtol=rtol, atol=atol + rtol * largest)


def finite(loss: Tensor, found: dict[str, Tensor], what: str) -> None:
    """Raise ``CheckFailed`` unless loss and gradients are finite."""
    if not loss.isfinite().all():
        raise CheckFailed(f"{what}: the loss is {loss[~loss.isfinite()].flatten()[0].item()}")
    for name, gradient in found.items():
        if not gradient.isfinite().all():
            bad = gradient[~gradient.isfinite()].flatten()
            raise CheckFailed(f"{what}: the gradient for {name} has {len(bad)} entries such as {bad[0].item()}")
