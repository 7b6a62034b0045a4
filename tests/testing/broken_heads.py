"""Heads with one planted fault each, and the check that must name it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import check_target, is_soft
from logitlab.testing import HeadTraits

from .broken_parts import (
    LengthMatters,
    NoMargin,
    RivalMarginHead,
    WeightsByNumber,
    missing_detach,
    nan_at_the_weight,
    raises_the_target,
)
from .users_head import UsersHead


class WrongSign(UsersHead):
    """Maximises the loss."""

    traits = HeadTraits()

    def forward(self, *arguments: Any, **options: Any) -> Any:
        found = super().forward(*arguments, **options)
        if isinstance(found, tuple):
            return -found[0], found[1]
        return found if len(arguments) < 2 else -found


class SumForMean(UsersHead):
    """Adds up where it should take the mean."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        return super().forward(features, target, "sum" if reduction == "mean" else reduction, return_logits)


class CastsItsWeight(UsersHead):
    """Gives its parameter the dtype of the features."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if features.is_floating_point():
            self.weight.data = self.weight.data.to(features.dtype)
        return super().forward(features, target, reduction, return_logits)


class MarginInLogits(UsersHead):
    """Gives logits with the margin beside the loss."""

    traits = HeadTraits()

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        found = super().forward(features, target, reduction, return_logits)
        if isinstance(found, tuple) and not is_soft(target):
            return found[0], found[1] - 0.3 * F.one_hot(target.clamp_min(0), self.num_classes)
        return found


class Waits(UsersHead):
    """Asks the GPU for a value at each step, in a way that compilers can follow."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        found = super().forward(features, target, reduction, return_logits)
        if not torch.compiler.is_compiling() and features.numel() and features.device.type != "meta":
            self.largest = features.detach().abs().max().item()
        return found


class HidesItsWeight(UsersHead):
    """Keeps a factor that is learned where no state dict finds it."""

    traits = HeadTraits()

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.factor = [torch.ones(()).normal_().exp()]

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        return super().forward(features * self.factor[0].to(features), target, reduction, return_logits)


class CountsTheIgnored(UsersHead):
    """Divides by all samples."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if target is None or reduction != "mean":
            return super().forward(features, target, reduction, return_logits)
        loss, logits = super().forward(features, target, "none", True)
        loss = loss.sum() / max(loss.numel(), 1)
        return (loss, logits) if return_logits else loss


class NanWhenEmpty(UsersHead):
    """torch's own mean of nothing."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if target is None or reduction != "mean" or features.numel():
            return super().forward(features, target, reduction, return_logits)
        loss, logits = super().forward(features, target, "none", True)
        return (loss.mean(), logits) if return_logits else loss.mean()


class WritesOverItsState(UsersHead):
    """Changes in place what the graph of the pass before still needs."""

    traits = HeadTraits()

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.register_buffer("factor", torch.ones(()))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if hasattr(self, "factor"):
            self.factor.fill_(1.0)

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if target is not None and self.training:
            self.factor.mul_(1.0)
        return super().forward(features * self.factor.to(features.dtype), target, reduction, return_logits)


class CountsInEvaluation(UsersHead):
    """Counts its passes, in whatever mode."""

    traits = HeadTraits()

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if hasattr(self, "passes"):
            self.passes.zero_()

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        self.passes += 1
        return super().forward(features, target, reduction, return_logits)


class TakesAnyTarget(UsersHead):
    """Clamps a class that does not exist."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if target is not None and target.dtype == torch.int64 and target.ndim:
            target = torch.where(target == -100, target, target.clamp(0, self.num_classes - 1))
        return super().forward(features, target, reduction, return_logits)


class CoarseInside(UsersHead):
    """Multiplies in bfloat16 what comes in half precision."""

    def logits(self, features: Tensor) -> Tensor:
        if features.dtype in (torch.bfloat16, torch.float16):
            return F.linear(features.bfloat16(), self.weight.bfloat16()).float()
        return super().logits(features)


class LooksAtTheBatch(UsersHead):
    """Takes the mean of the batch from the logits, and does not say so."""

    def logits(self, features: Tensor) -> Tensor:
        logits = super().logits(features)
        rows = logits.reshape(-1, self.num_classes)
        return logits - rows.mean(0) if len(rows) else logits


class FavoursTheFirst(UsersHead):
    """Knows the classes by their place."""

    def logits(self, features: Tensor) -> Tensor:
        logits = super().logits(features)
        return logits + torch.arange(self.num_classes, device=logits.device).to(logits) / 10


class Branches(UsersHead):
    """Decides by a value, on the CPU only: the graph breaks."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if features.device.type == "cpu" and target is not None and features.numel() and (features == 12345.0).any():
            return super().forward(features + 1, target, reduction, return_logits)
        return super().forward(features, target, reduction, return_logits)


class HardensSoftTargets(UsersHead):
    """Takes the likeliest class of a mixture."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        if target is not None and is_soft(target) and target.ndim and target.shape[-1] == self.num_classes:
            check_target(target, target, self.ignore_index)
            target = target.argmax(-1)
        return super().forward(features, target, reduction, return_logits)


class CannotBePickled(UsersHead):
    """Keeps a lambda."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.after = lambda features: features


class WrongBackward(torch.autograd.Function):
    """Twice the right gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return features.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


class WrongGradient(UsersHead):
    """A backward pass of one's own, with a slip."""

    def forward(self, features, target=None, reduction="mean", return_logits=False):
        return super().forward(WrongBackward.apply(features), target, reduction, return_logits)


#: The factory of each broken head, with the check that must name its fault.
PLANTED: dict[str, tuple[Any, str]] = {
    "a wrong sign": (WrongSign, "gradient_sign"),
    "a missing detach": (missing_detach, "kappa_detached"),
    "a sum for a mean": (SumForMean, "reduction"),
    "a cast parameter": (CastsItsWeight, "parameters_unchanged"),
    "a margin on a rival": (RivalMarginHead, "loss_of_logits"),
    "a margin in the logits": (MarginInLogits, "logits_know_no_target"),
    "no margin at all": (NoMargin, "loss_of_logits"),
    "a margin that raises": (raises_the_target, "loss_of_logits"),
    "acos at one": (nan_at_the_weight, "extreme_cosines"),
    "a host synchronisation": (Waits, "no_host_sync"),
    "a weight outside the state": (HidesItsWeight, "state_dict"),
    "ignored samples counted": (CountsTheIgnored, "ignore_index"),
    "class weights by number": (WeightsByNumber, "class_weight"),
    "NaN when empty": (NanWhenEmpty, "empty_batch"),
    "state written over": (WritesOverItsState, "two_forwards"),
    "state that moves in evaluation": (CountsInEvaluation, "evaluation_rests"),
    "any target taken": (TakesAnyTarget, "bad_targets"),
    "bfloat16 inside": (CoarseInside, "half_precision"),
    "a look at the batch": (LooksAtTheBatch, "one_by_one"),
    "classes by place": (FavoursTheFirst, "class_order"),
    "a graph break": (Branches, "compiled"),
    "soft targets hardened": (HardensSoftTargets, "soft_targets"),
    "a lambda inside": (CannotBePickled, "pickled"),
    "a wrong backward pass": (WrongGradient, "gradcheck"),
    "lengths that matter": (LengthMatters, "feature_length"),
}
