"""What a stage is given: the trial with its record, its model, its images and its passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from logitlab.config.errors import ConfigurationError
from logitlab.config.names import unknown_name
from logitlab.config.trial import TrialConfig
from logitlab.data import DataSet, Split, split_data
from logitlab.evaluation.measurements import ModelOutputs, outputs_of
from logitlab.evaluation.subjects import Subject, Surroundings, open_subject
from logitlab.heads import Classifier
from logitlab.models import load_checkpoint

from ..images import load_planned

PARTS = ("test", "validation", "train")


@dataclass(frozen=True)
class StageContext:
    """A trained model with all that a stage may ask for.

    Attributes:
        name: of the stage.
        identity: of the stage.
        options: of the stage, defaults included.
        trial: what was trained.
        record: of the trial: ``config``, ``result``, ``provenance``.
        folder: of the trial.
        seed: for whatever the stage draws: of the trial's seed and the stage, not of the head, so that heads are
            compared on the same draws. The global generators of torch, NumPy and Python are seeded with it.
        device: where models run.
        data_root: the folder that holds data sets.
        passes: the folder of passes, which go when all stages of the trial are done.
        notes: sentences that a stage adds, for the warnings of its record.
    """

    name: str
    identity: str
    options: Mapping[str, Any]
    trial: TrialConfig
    record: Mapping[str, Any]
    folder: Path
    seed: int
    device: torch.device
    data_root: str | None
    passes: Path = field(repr=False)
    notes: list[str] = field(default_factory=list, repr=False)

    def load_model(self) -> Classifier:
        """Build the trained model anew, on the device and in evaluation mode."""
        return load_checkpoint(self.folder)[0].to(self.device).to(memory_format=torch.channels_last)

    def data(self) -> Split:
        """Return the images of the trial, split as in its training: ``train``, ``validation``, ``test``."""
        return self._split

    def outputs(self, part: str = "test", limit: int | None = None) -> ModelOutputs:
        """Return what the model says of a part of the trial's images; a pass that was made serves all stages.

        Args:
            part: ``"test"``, ``"validation"`` or ``"train"``.
            limit: look at no more images than these; a choice that is always the same.
        """
        return outputs_of(self.subject(part, limit))

    def subject(
        self, part: str = "test", limit: int | None = None, *, layered: frozenset[str] = frozenset()
    ) -> Subject:
        """Return the model as analyses look at it.

        Args:
            part: what they measure.
            limit: images of a part, at most.
            layered: parts whose passes keep the outputs of layers as well.

        Raises:
            ConfigurationError: there is no such part.
        """
        if part not in PARTS:
            raise ConfigurationError(unknown_name("part", str(part), PARTS))
        around = Surroundings(
            data=self.trial.data.name,
            part=part,
            root=self.passes,
            data_root=self.data_root,
            device=str(self.device),
            layers=("auto",),
            layered=layered,
            pooling="mean",
            limit=limit,
            tell=lambda _: None,
        )
        found = open_subject(self.folder, around)
        return _TrialSubject(
            label=self.trial.head.name,
            folder=self.folder,
            description=found.description,
            config=found.config,
            identity=found.identity,
            around=around,
            loaded=self._loaded,
        )

    @cached_property
    def _split(self) -> Split:
        return split_data(self._loaded, self.trial.data)

    @cached_property
    def _loaded(self) -> DataSet:
        """The data set of the trial, which the worker has kept if it has just trained; its fingerprint is checked."""
        return load_planned(
            self.trial.data.name, self.trial.data.image_size, self.data_root, self.trial.data_fingerprint
        )


@dataclass
class _TrialSubject(Subject):
    """A subject that looks at the images of its trial without loading them again."""

    loaded: DataSet | None = None

    def data(self) -> DataSet:
        """Return the data set of the trial."""
        return super().data() if self.loaded is None else self.loaded
