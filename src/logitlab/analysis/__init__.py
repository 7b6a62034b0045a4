"""Arrays in, numbers out: what a trained head is worth. NumPy or torch; torch alone is needed to import."""

from __future__ import annotations

from .accuracy import accuracy
from .angles import class_angle
from .calibration import expected_calibration_error, negative_log_likelihood
from .confidence import misclassification_ap
from .measurement import Measurement, UndefinedError
from .ood import ood_ap
from .per_class import balanced_accuracy, per_class_accuracy
from .separation import Distance, class_separation

__all__ = [
    "Distance",
    "Measurement",
    "UndefinedError",
    "accuracy",
    "balanced_accuracy",
    "class_angle",
    "class_separation",
    "expected_calibration_error",
    "misclassification_ap",
    "negative_log_likelihood",
    "ood_ap",
    "per_class_accuracy",
]
