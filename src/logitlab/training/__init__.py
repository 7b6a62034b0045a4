"""One trial: recipe, loop, averages, and the record that is left."""

from .building import build_model
from .ema import WeightAverage
from .fitting import EpochRecord, Run, fit
from .loop import EpochStatistics, Trainer
from .optimizer import create_optimizer
from .progress import Progress
from .schedule import create_schedule
from .seeds import derive_seed
from .trial import execute
from .validation import ValidationStatistics, validate

__all__ = [
    "EpochRecord",
    "EpochStatistics",
    "Progress",
    "Run",
    "Trainer",
    "ValidationStatistics",
    "WeightAverage",
    "build_model",
    "create_optimizer",
    "create_schedule",
    "derive_seed",
    "execute",
    "fit",
    "validate",
]
