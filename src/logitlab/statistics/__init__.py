"""Means over seeds and the tests that say which differences between heads are shown. No torch."""

from __future__ import annotations

from .comparison import BestComparison, Correction, Test, compare_to_best, holm
from .rejection import Rejection, check_share, short_threshold, threshold_for_precision, wilson_interval
from .summary import Estimate, mean_and_error, present

__all__ = [
    "BestComparison",
    "Correction",
    "Estimate",
    "Rejection",
    "Test",
    "check_share",
    "compare_to_best",
    "holm",
    "mean_and_error",
    "present",
    "short_threshold",
    "threshold_for_precision",
    "wilson_interval",
]
