"""Grids of trials: compare heads on one data set, or run a whole study, on a laptop or a cluster."""

from __future__ import annotations

from .analyze import DEFAULT_ANALYSIS_FOLDER, AnalysisReport, analyze
from .compare import compare
from .comparison import Comparison
from .components import nearest_preset
from .defaults import DEFAULT_FOLDER, DEFAULT_HEADS, DEFAULT_SEEDS
from .progress import Reporter, Silent
from .results import gather_results
from .run_study import run
from .study_outcome import StudyOutcome
from .study_source import define
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
    "StudyOutcome",
    "TrainedModel",
    "analyze",
    "compare",
    "define",
    "gather_results",
    "nearest_preset",
    "run",
    "train",
]
