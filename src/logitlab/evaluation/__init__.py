"""A trained model and data → one cached pass of features and logits → every measurement."""

from __future__ import annotations

from .collecting import (
    Confidence,
    Features,
    ImageSource,
    Outputs,
    collect,
    collect_confidence,
    collect_features,
)
from .corruption import corruption_errors
from .measuring import MEASURES, evaluate, log_probabilities, measure
from .ood import ood_measures
from .outputs import largest_probability, output_arrays

__all__ = [
    "MEASURES",
    "Confidence",
    "Features",
    "ImageSource",
    "Outputs",
    "collect",
    "collect_confidence",
    "collect_features",
    "corruption_errors",
    "evaluate",
    "largest_probability",
    "log_probabilities",
    "measure",
    "ood_measures",
    "output_arrays",
]
