"""Means over seeds and the tests that say which differences between heads are shown. No torch."""

from __future__ import annotations

from .comparison import BestComparison, Correction, Test, compare_to_best, holm
from .paired import (
    BootstrapDifference,
    McNemar,
    PairedDifference,
    bootstrap_difference,
    mcnemar,
    paired_difference,
)
from .rejection import Rejection, check_share, short_threshold, threshold_for_precision, wilson_interval
from .summary import Estimate, mean_and_error, present

__all__ = [
    "BestComparison",
    "BootstrapDifference",
    "Correction",
    "Estimate",
    "McNemar",
    "PairedDifference",
    "Rejection",
    "Test",
    "bootstrap_difference",
    "check_share",
    "compare_to_best",
    "holm",
    "mcnemar",
    "mean_and_error",
    "paired_difference",
    "present",
    "short_threshold",
    "threshold_for_precision",
    "wilson_interval",
]
