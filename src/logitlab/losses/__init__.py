"""Stateless losses over logits; those that wrap another compose freely: penalty around smoothing around sigmoid."""

from .base import Link, Loss
from .label_smoothing import LabelSmoothing
from .logit_penalty import LogitPenalty
from .sigmoid import SigmoidCrossEntropy
from .softmax import SoftmaxCrossEntropy
from .squared_error import SquaredError

__all__ = [
    "LabelSmoothing",
    "Link",
    "LogitPenalty",
    "Loss",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "SquaredError",
]
