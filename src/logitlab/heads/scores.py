"""What a head computes before its loss, and what a margin makes of the target's logit."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import is_soft, length, normalize
from logitlab.margins import Margin


class Scores(NamedTuple):
    """What a forward pass computes before the loss.

    Attributes:
        logits: without a margin, ``[..., C]``.
        features: after dropout, ``[..., D]``.
        cosine: ``[..., C]``; None for a linear classifier.
        kappa: that scales the cosines, a scalar or ``[..., 1]``.
    """

    logits: Tensor
    features: Tensor
    cosine: Tensor | None = None
    kappa: Tensor | None = None


class Linear(Protocol):
    """What of a head is asked for here; see ``Head``."""

    num_classes: int
    centers: int
    ignore_index: int

    @property
    def classifier(self) -> str:
        """``"linear"``, ``"cosine"`` or ``"unit_weight"``."""

    @property
    def weight(self) -> Tensor:
        """``[C * centers, D]``."""

    @property
    def bias(self) -> Tensor | None:
        """``[C]``."""


def logits_of_target(head: Linear, margin: Margin, scores: Scores, target: Tensor) -> Tensor:
    """The logit of each sample's target under a margin: length times φ(cos θ_y), plus the bias.

    The length is κ for cosines, ‖x‖ for a weight of unit rows and ‖x‖‖w_y‖ for Wx.

    Args:
        head: with the margin.
        margin: its own.
        scores: of the forward pass.
        target: class indices ``[...]``, or probabilities ``[..., C]``; checked.

    Returns:
        Shape ``[...]``; for probabilities the logit of every class were it the target, ``[..., C]``.
    """
    dtype, device = scores.logits.dtype, target.device
    if is_soft(target):
        classes = torch.arange(head.num_classes, device=device).expand(scores.logits.shape)
        scale, cosine = _of_every_class(head, scores)
    else:
        # An ignored sample needs some class to index with; its loss is dropped later.
        classes = torch.where(target == head.ignore_index, 0, target)
        scale, cosine = _of_one_class(head, scores, classes)
    logits: Tensor = scale * margin(cosine, classes)
    if head.bias is None:
        return logits
    return logits + _rows(head.bias.to(dtype), classes)


@torch.no_grad()
def own_rows(head: Linear, features: Tensor, target: Tensor) -> Tensor:
    """The row of the weight that speaks for each sample's class: the class itself, or its nearest centre.

    Args:
        head: with one centre a class or several.
        features: shape ``[N, D]``.
        target: class indices in [0, C), shape ``[N]``.

    Returns:
        Indices into ``head.weight``, shape ``[N]``.
    """
    if head.centers == 1:
        return target
    centers = head.weight.detach().to(features.device).reshape(head.num_classes, head.centers, -1)
    cosines = [(normalize(features) * normalize(centers[:, k])[target]).sum(dim=-1) for k in range(head.centers)]
    return target * head.centers + torch.stack(cosines).argmax(dim=0)


def _of_every_class(head: Linear, scores: Scores) -> tuple[Tensor, Tensor]:
    if scores.cosine is not None and scores.kappa is not None:
        return scores.kappa, scores.cosine
    weight = head.weight.to(scores.logits.dtype)
    scale = length(scores.features).unsqueeze(-1)
    cosine = F.linear(normalize(scores.features), normalize(weight))
    return (scale * length(weight) if head.classifier == "linear" else scale), cosine


def _of_one_class(head: Linear, scores: Scores, classes: Tensor) -> tuple[Tensor, Tensor]:
    if scores.cosine is not None and scores.kappa is not None:
        cosine = scores.cosine.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
        return scores.kappa.squeeze(-1) if scores.kappa.ndim else scores.kappa, cosine
    # Rows of the targets alone, [..., D]: no second product with all classes.
    weight = _rows(head.weight.to(scores.logits.dtype), classes)
    scale = length(scores.features)
    cosine = (normalize(scores.features) * normalize(weight)).sum(dim=-1)
    return (scale * length(weight) if head.classifier == "linear" else scale), cosine


def _rows(values: Tensor, classes: Tensor) -> Tensor:
    """``values[classes]``; written so that torch.func can map over a single class index."""
    return values.index_select(0, classes.reshape(-1)).reshape(*classes.shape, *values.shape[1:])
