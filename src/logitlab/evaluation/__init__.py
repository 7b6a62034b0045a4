"""A trained model and data → one cached pass of features and logits → every measurement."""

from __future__ import annotations

from .collecting import Features, ImageSource, Outputs, collect, collect_features
from .measuring import MEASURES, evaluate, log_probabilities, measure

__all__ = [
    "MEASURES",
    "Features",
    "ImageSource",
    "Outputs",
    "collect",
    "collect_features",
    "evaluate",
    "log_probabilities",
    "measure",
]
