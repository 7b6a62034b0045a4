"""What a study is, validated; how its YAML is read. No torch."""

from .definition import (
    DependenceConfig,
    EntryConfig,
    StageConfig,
    StudyDefinition,
    seed_numbers,
)
from .execution import EXECUTORS, ExecutionConfig, SlurmConfig
from .report import AnalysisConfig, ClaimConfig, ColumnConfig, FigureConfig, PaperConfig
from .search import SearchAxisConfig, SearchConfig

__all__ = [
    "EXECUTORS",
    "AnalysisConfig",
    "ClaimConfig",
    "ColumnConfig",
    "DependenceConfig",
    "EntryConfig",
    "ExecutionConfig",
    "FigureConfig",
    "PaperConfig",
    "SearchAxisConfig",
    "SearchConfig",
    "SlurmConfig",
    "StageConfig",
    "StudyDefinition",
    "seed_numbers",
]
