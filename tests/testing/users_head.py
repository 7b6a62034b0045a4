"""What a user may write: a head of some twenty lines, without any class of the library's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from logitlab.config.errors import InputError
from logitlab.functional import (
    at_least_float32,
    autocast_off,
    check_target,
    is_soft,
    reduce_loss,
    softmax_cross_entropy,
)
from logitlab.testing import HeadTraits


class UsersHead(nn.Module):
    """A correct head of a user: normalised features, a linear layer, cross-entropy."""

    traits = HeadTraits(cross_entropy=True)

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features, self.num_classes, self.ignore_index = in_features, num_classes, -100
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1)

    def logits(self, features: Tensor) -> Tensor:
        dtype = at_least_float32(features, self.weight)
        return F.linear(features.to(dtype), self.weight.to(dtype))

    def forward(self, features: Tensor, target: Tensor | None = None, reduction="mean", return_logits=False) -> Any:
        if features.shape[-1:] != self.weight.shape[1:] or not features.is_floating_point():
            raise InputError(f"Expected floating features [..., {self.in_features}]. Got {list(features.shape)}.")
        with autocast_off(features.device):
            logits = self.logits(features)
            if target is None:
                return logits
            target = check_target(target, logits, self.ignore_index)
            safe = target if is_soft(target) else target.clamp_min(0)
            loss = reduce_loss(softmax_cross_entropy(logits, safe), target, reduction)
        return (loss, logits) if return_logits else loss
