"""The rows of a preset as the engine lays them together, and W's recipe for ImageNet, typed from the paper once."""

from __future__ import annotations

from typing import Any, Final

from logitlab.config.study import StudyDefinition
from logitlab.config.study.rows import RowSpecification, unfold
from logitlab.config.training import TrainingConfig
from logitlab.studies.engine.making import TrialMaker

# W A.1, "ImageNet", and footnote 2.
IMAGENET: Final[dict[str, Any]] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "batch_size": 4096,
    "weight_decay": 8e-5,
    "scaled_weight_decay": None,
    "decay_norms_and_biases": False,
    "warmup_epochs": 10,
    "learning_rate": 1.6,
    "schedule": "exponential",
    "decay_factor": 0.975,
    "ema_decay": 0.9999,
    "zero_init_last": True,
    "augmentation": "resized_crop_flip",
}


def rows_of(definition: StudyDefinition) -> dict[str, RowSpecification]:
    """Label → row, in the order of the table."""
    rows = unfold(definition.heads, definition.grid, definition.seeds, definition.search)
    return {row.label: row for row in rows}


def recipes(definition: StudyDefinition) -> dict[str, TrainingConfig]:
    """Label → the whole recipe of a row."""
    maker = TrialMaker(definition, None)
    return {label: maker.recipe(row, row.axes) for label, row in rows_of(definition).items()}
