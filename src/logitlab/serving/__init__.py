"""A trained model at work: answers about images, and the threshold below which an answer is rejected."""

from __future__ import annotations

from .answers import Prediction, Threshold
from .checkpoint import find_checkpoint, record_beside
from .listing import list_images
from .predictor import Predictor
from .rows import write_predictions

__all__ = [
    "Prediction",
    "Predictor",
    "Threshold",
    "find_checkpoint",
    "list_images",
    "record_beside",
    "write_predictions",
]
