"""Grids of trials: compare heads on one data set, in one process or many."""

from __future__ import annotations

from .analyze import DEFAULT_ANALYSIS_FOLDER, AnalysisReport, analyze
from .compare import DEFAULT_FOLDER, DEFAULT_HEADS, DEFAULT_SEEDS, compare
from .comparison import Comparison
from .components import nearest_preset
from .progress import Reporter, Silent
from .train import TrainedModel, train

__all__ = [
    "DEFAULT_ANALYSIS_FOLDER",
    "DEFAULT_FOLDER",
    "DEFAULT_HEADS",
    "DEFAULT_SEEDS",
    "AnalysisReport",
    "Comparison",
    "Reporter",
    "Silent",
    "TrainedModel",
    "analyze",
    "compare",
    "nearest_preset",
    "train",
]
