"""Heads of the library with one broken part each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.heads import Head
from logitlab.losses import SoftmaxCrossEntropy
from logitlab.margins import AdditiveAngularMargin, AdditiveCosineMargin, Margin
from logitlab.temperature import Fixed, LeastSquares
from logitlab.testing import HeadTraits


class Undetached(LeastSquares):
    """κ with a gradient."""

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        kappa = super().forward(cosine, unit_features, unit_weight, per_sample=per_sample)
        return kappa * (1 + cosine.amax(-1) - cosine.amax(-1).detach()) if per_sample else kappa

    def fresh(self) -> LeastSquares:
        return Undetached()


def missing_detach(in_features: int, num_classes: int) -> Head:
    return Head(in_features, num_classes, classifier="cosine", temperature=Undetached())


class MarginOnARival(SoftmaxCrossEntropy):
    """Lowers the hardest rival with the target."""

    soft_targets = False

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        rivals = logits.scatter(-1, target.unsqueeze(-1), -torch.inf)
        hardest = F.one_hot(rivals.argmax(-1), logits.shape[-1]).to(logits)
        return super().per_sample(logits - 2 * hardest, target, class_weight)


class RivalMarginHead(Head):
    """See ``MarginOnARival``."""

    traits = HeadTraits(margin=True, cross_entropy=True, takes_kappa=True, soft_targets=False, scale_free=True)

    def __init__(self, in_features: int, num_classes: int) -> None:
        margin = AdditiveCosineMargin(0.3)
        super().__init__(in_features, num_classes, classifier="cosine", kappa=8, margin=margin, loss=MarginOnARival())


class ByArcCosine(Margin):
    """ArcFace as the textbooks have it."""

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        return (cosine.acos() + 0.2).cos()


def nan_at_the_weight(in_features: int, num_classes: int) -> Head:
    return Head(in_features, num_classes, classifier="cosine", kappa=10, margin=ByArcCosine())


class WeightsByNumber(Head):
    """Divides weighted losses by the number of samples."""

    def forward(self, features, target=None, **options):
        if self.class_weight is None or target is None or options.get("reduction", "mean") != "mean":
            return super().forward(features, target, **options)
        return super().forward(features, target, **{**options, "reduction": "sum"}) / target.numel()


class LengthMatters(Head):
    """Says that lengths do not matter, and they do."""

    traits = HeadTraits(scale_free=True, cross_entropy=True)


class NoMargin(Head):
    """Says it has a margin, and has none."""

    traits = HeadTraits(margin=True, cross_entropy=True, takes_kappa=True, scale_free=True)

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, classifier="cosine", temperature=Fixed(8.0))


class ShiftedMargin(AdditiveAngularMargin):
    """Raises the target's logit."""

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        return cosine + 0.2


def raises_the_target(in_features: int, num_classes: int) -> Head:
    return Head(in_features, num_classes, classifier="cosine", kappa=8, margin=ShiftedMargin())
