"""The stage ``fine_tune``: the whole network, trained on from where the trial left it, on other images (T Table 4b)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from logitlab.config.specification import parse_specification
from logitlab.data import Augmentation, DataSet, Images, split_data
from logitlab.data.channels import match_channels
from logitlab.evaluation import collect, collect_features, evaluate
from logitlab.heads import Classifier, create_head
from logitlab.models import load_checkpoint
from logitlab.models.checkpoint import read_description
from logitlab.records.stages import STAGES_FOLDER
from logitlab.records.study import StageSource

from ..fitting import fit
from ..frozen import preparation
from ..seeds import derive_seed
from ..snapshot import Snapshot
from .context import StageContext
from .options import FineTuneOptions
from .validated import planned_sets, validated


class ModelImages:
    """Images of another data set as a trained model takes them; see `logitlab.data.Images`.

    They are normalised with the mean and the deviation that the model was trained with, not with their own.

    Args:
        images: of the size of the model.
        channels: of the model.
        pixel_mean: ``[channels]`` that the model was trained with.
        pixel_std: ``[channels]``, likewise.
    """

    def __init__(self, images: Images, channels: int, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        self.labels = images.labels
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std
        self._images = images
        self._channels = channels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> ModelImages:
        """Return the images at ``indices``, in that order."""
        return ModelImages(self._images.select(indices), self._channels, self.pixel_mean, self.pixel_std)

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        for pixels, labels in self._images.batches(indices, batch_size, device):
            yield match_channels(pixels, self._channels), labels


def fine_tune(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Train the trial's backbone on with a new head, once for each data set, and measure it on its test part.

    A snapshot is kept after every epoch: a stage that was killed goes on from it.

    Returns:
        set → every measure of a trial on its test images; and ``mean``: the mean accuracy over the sets.
    """
    options = validated(FineTuneOptions, source)
    sets = planned_sets(context, source, options.data, read_description(context.folder).image_size)
    found = {data.name: _tune(context, data, options, place) for place, data in enumerate(sets)}
    return {**found, "mean": {"accuracy": sum(each["accuracy"] or 0.0 for each in found.values()) / len(found)}}


def _tune(context: StageContext, data: DataSet, options: FineTuneOptions, place: int) -> dict[str, float | None]:
    recipe = options.recipe
    trained, description = load_checkpoint(context.folder)
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    split = split_data(data, options.split(data.name))
    train, validation, test = (
        ModelImages(images, description.channels, mean, std) for images in (split.train, split.validation, split.test)
    )
    seed = derive_seed(context.seed, data.fingerprint)
    torch.manual_seed(derive_seed(seed, "head"))
    head = parse_specification(options.head)
    model = Classifier(
        trained.backbone, create_head(head.name, description.num_features, data.num_classes, **head.parameters)
    )
    path = context.folder / STAGES_FOLDER / f"{context.identity}-{place}.snapshot"
    run = fit(
        model,
        train,
        validation,
        recipe,
        seed=seed,
        device=context.device,
        augmentation=cast(Augmentation, data.augmentation),
        name=options.head,
        snapshot=Snapshot(path, f"{context.trial.identity} {context.identity} {data.fingerprint}"),
    )
    how: dict[str, Any] = {
        "prepare": preparation(train, run.pixel_mean, run.pixel_std),
        "device": context.device,
        "batch_size": recipe.batch_size,
        "precision": recipe.precision,
    }
    return evaluate(run.model, collect(run.model, test, **how), collect_features(run.model, train, **how))
