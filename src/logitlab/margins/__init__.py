"""Margins: what lowers the target's logit in training, so that classes keep a distance."""

from .additive import AdditiveAngularMargin, AdditiveCosineMargin
from .annealing import Annealing, follow_optimizer
from .base import Margin
from .label_distribution import LabelDistributionMargin
from .multiplicative import MultiplicativeAngularMargin

__all__ = [
    "AdditiveAngularMargin",
    "AdditiveCosineMargin",
    "Annealing",
    "LabelDistributionMargin",
    "Margin",
    "MultiplicativeAngularMargin",
    "follow_optimizer",
]
