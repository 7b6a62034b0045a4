"""A checkpoint measured on data, as its trial was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logitlab.analysis import Measurement
from logitlab.config.errors import DataError
from logitlab.config.names import printable, unknown_name
from logitlab.config.trial import DataConfig
from logitlab.data import DataSet, Images, load_data, load_ood, prepare_batch, split_data
from logitlab.data.channels import match_channels
from logitlab.heads import Classifier
from logitlab.models import ModelDescription, load_checkpoint
from logitlab.records import OodSource, distinct_sources
from logitlab.serving import find_checkpoint, record_beside

from .collecting import Outputs, collect, collect_confidence, collect_features
from .measuring import MEASURES, measure
from .ood import ood_measures
from .table import measures_text

PARTS = ("test", "validation", "train", "all")


@dataclass(frozen=True)
class CheckpointMeasures:
    """What a model measures on a part of a data set.

    Attributes:
        folder: of the checkpoint.
        head: its head as it is written on a command line.
        data: name of the data set.
        fingerprint: of its images and labels.
        part: which images.
        images: how many.
        same_data: whether the model was trained on this data set; None where no record says so.
        measures: a number each, with the convention it was computed by; None where it is undefined.
        ood: name of an out-of-distribution set → its measures; see :func:`~logitlab.evaluation.ood_measures`.
    """

    folder: Path
    head: str
    data: str
    fingerprint: str
    part: str
    images: int
    same_data: bool | None
    measures: dict[str, Measurement | None]
    ood: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "checkpoint": printable(str(self.folder)),
            "head": self.head,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "part": self.part,
            "images": self.images,
            "same_data": self.same_data,
            "measures": {
                name: None if found is None else found.to_json()["value"] for name, found in self.measures.items()
            },
            "ood": self.ood,
        }

    def to_json_text(self) -> str:
        """Return :meth:`to_json` as text."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """Return a line a measure: name, value, convention."""
        defined = {name: found for name, found in self.measures.items() if found is not None}
        flattered = self.part in ("train", "all") and self.same_data
        remark = "The model was trained on these images, or some of them: the numbers flatter it."
        return measures_text(
            f"{self.head} on {self.data}: {self.images} images ({self.part})",
            {name: None if found is None else found.value for name, found in self.measures.items()},
            ood=self.ood,
            where={
                name: f"{found.split}, n = {found.n}"
                for name, found in defined.items()
                if (found.split, found.n) != (self.part, self.images)
            },
            warnings={name: found.warnings for name, found in defined.items()},
            remarks=[remark] if flattered else (),
        )


def evaluate_checkpoint(
    checkpoint: Path | str,
    data: str | Path,
    *,
    part: str = "test",
    image_size: int | None = None,
    ood: Sequence[str] = (),
    data_root: str | Path | None = None,
    device: str = "cpu",
) -> CheckpointMeasures:
    """Measure a checkpoint on a part of a data set.

    Where the record of its trial lies beside it, images are resized, split and put through the network as in that
    trial: on the data of the trial the test part gives the record's numbers again.

    Args:
        checkpoint: a folder with ``model.safetensors`` and ``model.json``, or that of a study with one trial.
        data: as in ``load_data``; the classes must be those of the checkpoint.
        part: ``"test"``, ``"validation"``, ``"train"``, or ``"all"`` of them.
        image_size: side to which images are resized; None for what the trial did.
        ood: out-of-distribution sets, as ``load_ood`` takes them.
        data_root: the folder that holds data sets.
        device: a torch device.

    Raises:
        RecordError: there is no checkpoint, or it is damaged.
        DataError: the data cannot be read, or is of another size or other classes than the checkpoint.
    """
    from logitlab.config.specification import Specification

    if part not in PARTS:
        raise DataError(unknown_name("part", part, PARTS))
    folder = find_checkpoint(checkpoint)
    model, description = load_checkpoint(folder)
    record = record_beside(folder)
    config = {} if record is None else record["config"]
    source = DataConfig.model_validate({**config.get("data", {}), "name": str(data)})
    loaded = load_data(str(data), image_size=image_size or source.image_size, root=data_root)
    check_fit(description, loaded, folder)
    shape = {"channels": description.channels, "image_size": description.image_size}
    strange: dict[str, Images] = {}
    sources = []
    for name in ood:
        found_set = load_ood(name, root=data_root, **shape)
        strange.setdefault(found_set.fingerprint, found_set.images)
        sources.append(OodSource(name, found_set.name, found_set.fingerprint))
    split = split_data(loaded, source)
    options = _options(model, description, config.get("training", {}), device)
    if part == "all":
        outputs = _joined([collect(model, images, **options) for images in _all_of(loaded)])
    else:
        outputs = collect(model, getattr(split, part), **options)
    train = outputs if part in ("train", "all") else collect_features(model, split.train, **options)
    found = measure(model, outputs, train)
    test = {
        "labels": outputs.labels.numpy(),
        "predicted": outputs.logits.argmax(dim=1).numpy(),
        "max_logit": outputs.max_logit.numpy(),
        "feature_norm": outputs.features.norm(dim=1).numpy(),
    }
    return CheckpointMeasures(
        folder=folder,
        head=str(Specification(description.head.name, description.head.parameters)),
        data=loaded.name,
        fingerprint=loaded.fingerprint,
        part=part,
        images=len(outputs.labels),
        same_data=None if record is None else config.get("data_fingerprint") == loaded.fingerprint,
        measures={name: _located(found.get(name), part) for name in MEASURES},
        ood={
            each.title: ood_measures(test, collect_confidence(model, strange[each.fingerprint], **options))
            for each in distinct_sources(sources)
        },
    )


def check_fit(description: ModelDescription, data: DataSet, folder: Path) -> None:
    """See that data has the classes and the size of a checkpoint.

    Raises:
        DataError: it has not; what differs first is named.
    """
    expected, given = description.class_names, data.class_names
    if len(expected) != len(given):
        raise DataError(
            f"The checkpoint '{folder}' has {len(expected)} classes, '{data.name}' has {len(given)}. "
            "Give data with the classes that it was trained on."
        )
    for index, (ours, theirs) in enumerate(zip(expected, given)):
        if ours != theirs:
            raise DataError(
                f"The classes differ: number {index} is '{ours}' in the checkpoint '{folder}' and '{theirs}' in "
                f"'{data.name}'. Give data with the classes that it was trained on, under the same names."
            )
    side = description.image_size
    if data.image_size != side:
        raise DataError(
            f"The checkpoint '{folder}' takes images of {side}x{side} pixels, those of '{data.name}' are "
            f"{data.image_size}x{data.image_size}; pass --image-size {side} (image_size={side}) to resize them."
        )


def _all_of(data: DataSet) -> list[Images]:
    return [images for images in (data.train, data.validation, data.test) if images is not None]


def _joined(parts: list[Outputs]) -> Outputs:
    columns = zip(*([getattr(part, entry.name) for entry in fields(part)] for part in parts))
    return Outputs(*(torch.cat(column) for column in columns))


def _located(found: Measurement | None, part: str) -> Measurement | None:
    """Name the part that was measured; class separation is on training images whatever the part."""
    if found is None or (found.split == "train" and part != "all"):
        return found
    return replace(found, split=part)


def _options(model: Classifier, description: ModelDescription, recipe: dict[str, Any], device: str) -> dict[str, Any]:
    """Put images through the network as the trial did."""
    normalise = partial(
        prepare_batch, mean=torch.tensor(description.pixel_mean), std=torch.tensor(description.pixel_std)
    )

    def prepare(pixels: Tensor) -> Tensor:
        return normalise(match_channels(pixels, description.channels))

    model.to(device)
    return {
        "prepare": prepare,
        "device": device,
        "batch_size": recipe.get("batch_size", 64),
        "precision": recipe.get("precision", "float32"),
    }
