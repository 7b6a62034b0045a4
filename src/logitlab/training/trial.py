"""One trial from configuration to record: the function that every executor delivers."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import torch

from logitlab.config.errors import DataError, TrialError
from logitlab.config.trial import TrialConfig
from logitlab.data import Augmentation, DataSet, Split, load_data, prepare_batch, split_data
from logitlab.evaluation import MEASURES, collect, collect_features, evaluate
from logitlab.heads import Classifier, canonical_parameters, create_head, list_heads
from logitlab.models import ModelDescription, create_backbone, save_checkpoint
from logitlab.records import Store

from .fitting import EpochRecord, Run, fit
from .progress import Progress
from .provenance import describe_environment, now
from .seeds import derive_seed, own_random_state
from .warming import warm_up

# Measured on the training images (W), and therefore no business of the validation part.
_OF_TRAINING_IMAGES = ("class_separation",)


def execute(
    trial: TrialConfig,
    root: Path,
    *,
    device: str = "cpu",
    data_root: str | Path | None = None,
    report: Callable[[Progress], Any] | None = None,
) -> None:
    """Run one trial and leave its checkpoint and record in ``root/trials/<identity>/``.

    A trial whose record is there is done: nothing happens. The record is written last, in one piece, so that
    its presence means done whatever happens before. A run that diverges leaves ``error.json`` instead, and
    this function returns as if all were well: other trials go on.

    On a CPU with one thread the ``result`` of the record is the same bit for bit each time.

    Args:
        trial: what to run.
        root: the folder of the study.
        device: a torch device.
        data_root: the folder that holds data sets; None for the default of
            :func:`~logitlab.data.load_data`.
        report: called after every epoch.

    Raises:
        DataError: the images are missing, cannot be read, or are not those that the trial was planned for.
        ConfigurationError: head, backbone and data do not fit each other.
    """
    store = Store(root)
    if store.is_done(trial.identity):
        return
    config = trial.model_dump(mode="json")
    started = now()
    attempt = store.next_attempt(trial.identity)
    data = _load(trial.data.name, trial.data.image_size, data_root, trial.data_fingerprint)
    # A worker loads images and modules once for many trials: the first of them shall not look slower than the rest.
    warm_up()
    clock = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, own_random_state(torch.device(device)):
        try:
            result = _run(trial, data, store.trial_folder(trial.identity), torch.device(device), report)
        except TrialError as fault:
            error = {"kind": type(fault).__name__, "message": str(fault), "attempt": attempt}
            store.write_error(trial.identity, config, error)
            return
    provenance = {
        **describe_environment(torch.device(device)),
        "started": started,
        "finished": now(),
        "seconds": time.perf_counter() - clock,
        "attempt": attempt,
        # A warning that comes at every step is said once.
        "warnings": list(dict.fromkeys(f"{entry.category.__name__}: {entry.message}" for entry in caught)),
    }
    store.write_record(trial.identity, config, result, provenance)


def _run(
    trial: TrialConfig,
    data: DataSet,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], Any] | None,
) -> dict[str, Any]:
    """Build, train, measure and save; return what the record compares."""
    split = split_data(data, trial.data)
    model = build_model(trial, channels=data.channels, image_size=data.image_size, num_classes=data.num_classes)

    def tell(epoch: EpochRecord) -> None:
        if report is not None:
            report(
                Progress(
                    identity=trial.identity,
                    epoch=epoch.epoch,
                    epochs=trial.training.epochs,
                    loss=epoch.loss,
                    accuracy=epoch.validation_accuracy,
                )
            )

    run = fit(
        model,
        split.train,
        split.validation,
        trial.training,
        seed=trial.seed,
        device=device,
        augmentation=cast(Augmentation, data.augmentation),
        name=trial.head.name,
        report=tell,
    )
    measures = _measure(run, split, trial, device)
    _save(folder, run, trial, data)
    return {
        **measures,
        "history": [asdict(epoch) for epoch in run.history],
        "selected_epoch": run.selected_epoch,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "link": run.model.head.link,
        "head_parameters": _resolved(trial),
        "images": {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
    }


def build_model(trial: TrialConfig, *, channels: int, image_size: int, num_classes: int) -> Classifier:
    """Build backbone and head as a trial starts with them, on the CPU.

    Each has a seed of its own, so that all heads of a seed start on the same backbone. torch's global
    generators are left at another place than before.

    Args:
        trial: names, parameters and seed. The module of a user's head is imported if the head is not known yet.
        channels: channels of an image.
        image_size: height and width of an image, in pixels.
        num_classes: C.

    Raises:
        ConfigurationError: a name or a parameter is wrong.
    """
    torch.manual_seed(derive_seed(trial.seed, "backbone"))
    backbone = create_backbone(
        trial.backbone.name,
        channels=channels,
        image_size=image_size,
        parameters=trial.backbone.parameters,
        zero_init_last=trial.training.zero_init_last,
    )
    if trial.head.module is not None and trial.head.name not in list_heads():
        importlib.import_module(trial.head.module)
    torch.manual_seed(derive_seed(trial.seed, "head"))
    head = create_head(trial.head.name, backbone.num_features, num_classes, **trial.head.parameters)
    return Classifier(backbone, head)


@lru_cache(maxsize=1)
def _load(name: str, image_size: int | None, root: str | Path | None, fingerprint: str) -> DataSet:
    """Keep the last data set: a worker runs many trials of one study.

    The fingerprint makes a folder that has changed since the last study be read again.
    """
    data = load_data(name, image_size=image_size, root=root)
    if data.fingerprint != fingerprint:
        raise DataError(
            f"The images of '{name}' are not those that the trial was planned for: their fingerprint is "
            f"{data.fingerprint[:12]}, not {fingerprint[:12]}. Plan the study again."
        )
    return data


def _measure(run: Run, split: Split, trial: TrialConfig, device: torch.device) -> dict[str, Any]:
    """Measure the finished model; the only place that looks at the test images, once."""
    options: dict[str, Any] = {
        "prepare": partial(prepare_batch, mean=run.pixel_mean, std=run.pixel_std),
        "device": device,
        "batch_size": trial.training.batch_size,
        "precision": trial.training.precision,
    }
    train = collect_features(run.model, split.train, **options)
    validation = evaluate(run.model, collect(run.model, split.validation, **options), train)
    return {
        "test": evaluate(run.model, collect(run.model, split.test, **options), train),
        "validation": {name: validation[name] for name in MEASURES if name not in _OF_TRAINING_IMAGES},
    }


def _save(folder: Path, run: Run, trial: TrialConfig, data: DataSet) -> None:
    description = ModelDescription(
        backbone=trial.backbone,
        head=trial.head,
        channels=data.channels,
        image_size=data.image_size,
        num_features=run.model.head.in_features,
        class_names=data.class_names,
        pixel_mean=tuple(run.pixel_mean.tolist()),
        pixel_std=tuple(run.pixel_std.tolist()),
        link=run.model.head.link,
    )
    save_checkpoint(folder, run.model, description)


def _resolved(trial: TrialConfig) -> dict[str, Any]:
    """What the head's name, preset and parameters come to; a user's head as it was asked for."""
    parameters = dict(trial.head.parameters)
    found = canonical_parameters(trial.head.name, parameters)
    return parameters if found is None else found
