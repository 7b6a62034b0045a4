"""Images of another world, measured on the trained model of a finished trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from logitlab.config.errors import DataError, RecordError
from logitlab.config.trial import TrialConfig
from logitlab.data import OodSet, load_data, load_ood, prepare_batch, split_data
from logitlab.evaluation import collect, collect_confidence, ood_measures, output_arrays
from logitlab.heads import Classifier, import_head
from logitlab.models import load_checkpoint
from logitlab.records import OodRecord, OodSource, Store, has_ood, read_outputs, write_ood, write_outputs
from logitlab.records.files import remove_leftovers
from logitlab.records.ood import OOD_FOLDER

from .seeds import own_random_state

if TYPE_CHECKING:
    import numpy


def measure_ood(
    trial: TrialConfig,
    root: Path,
    ood: Sequence[OodSource],
    *,
    device: str = "cpu",
    data_root: str | Path | None = None,
) -> None:
    """Measure the model of a finished trial on every set that it has not been measured on; nothing is trained.

    What is compared with them are the outputs that the trial left; where they are missing (trials of an older
    version) or damaged, they are made again from the checkpoint.

    Args:
        trial: whose record is there.
        root: the folder of the study.
        ood: the sets.
        device: a torch device.
        data_root: the folder that holds data sets; None for the default.

    Raises:
        RecordError: the checkpoint is missing or damaged.
        DataError: images are missing, cannot be read, or are not those that the study was planned for.
        TrialError: features or logits are not finite.
    """
    folder = Store(root).trial_folder(trial.identity)
    missing = [source for source in ood if not has_ood(folder, source.fingerprint)]
    if not missing:
        return
    place = torch.device(device)
    import_head(trial.head.name, trial.head.parameters, trial.head.module)
    # Building a model draws from torch's global generator.
    with own_random_state(place):
        model, description = load_checkpoint(folder)
    model.to(place).to(memory_format=torch.channels_last)
    options: dict[str, Any] = {
        "prepare": partial(
            prepare_batch, mean=torch.tensor(description.pixel_mean), std=torch.tensor(description.pixel_std)
        ),
        "device": place,
        "batch_size": trial.training.batch_size,
        "precision": trial.training.precision,
    }
    # What a process left that was killed while it wrote.
    remove_leftovers(folder / OOD_FOLDER)
    outputs: dict[str, numpy.ndarray] | None = None
    for source in missing:
        found = _load(source, description.channels, description.image_size, data_root)
        if outputs is None:
            outputs = _outputs(trial, folder, model, options, data_root)
        strange = collect_confidence(model, found.images, **options)
        record = OodRecord(
            name=source.title,
            fingerprint=found.fingerprint,
            images=len(found.images),
            measures=ood_measures(outputs, strange),
        )
        scores = {"max_logit": strange.max_logit.numpy(), "feature_norm": strange.feature_norm.numpy()}
        write_ood(folder, record, scores)


@lru_cache(maxsize=8)
def _load(source: OodSource, channels: int, image_size: int, root: str | Path | None) -> OodSet:
    """Keep the sets: a worker measures many trials of one study."""
    found = load_ood(source.name, channels=channels, image_size=image_size, root=root)
    if found.fingerprint != source.fingerprint:
        raise DataError(
            f"The images of the OOD set '{source.name}' are not those that the study was planned for. Plan it again."
        )
    return found


def _outputs(
    trial: TrialConfig, folder: Path, model: Classifier, options: dict[str, Any], data_root: str | Path | None
) -> dict[str, numpy.ndarray]:
    """Read the outputs of the trial, or make them again."""
    try:
        return read_outputs(folder)
    except RecordError:
        data = load_data(trial.data.name, image_size=trial.data.image_size, root=data_root)
        split = split_data(data, trial.data)
        test, validation = (collect(model, images, **options) for images in (split.test, split.validation))
        outputs = output_arrays(model.head, test, validation, split.test)
        write_outputs(folder, outputs)
        return outputs
