"""Stateless losses over logits; those that wrap another compose freely: penalty around smoothing around sigmoid."""

from .base import Link, Loss
from .focal import FocalLoss
from .label_smoothing import LabelSmoothing
from .logit_adjustment import LogitAdjustment
from .logit_penalty import LogitPenalty
from .sigmoid import SigmoidCrossEntropy
from .softmax import SoftmaxCrossEntropy
from .squared_error import SquaredError

__all__ = [
    "FocalLoss",
    "LabelSmoothing",
    "Link",
    "LogitAdjustment",
    "LogitPenalty",
    "Loss",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "SquaredError",
]
