"""One trial from configuration to record: the function that every executor delivers."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from logitlab.analysis import per_class_accuracy
from logitlab.config.errors import TrialError
from logitlab.config.trial import TrialConfig
from logitlab.data import Augmentation, DataSet, Images, Split, split_data
from logitlab.evaluation import MEASURES, collect, collect_features, evaluate, output_arrays
from logitlab.heads import Classifier, canonical_parameters
from logitlab.models import ModelDescription, save_checkpoint
from logitlab.records import SNAPSHOT_FILE, OodSource, Store, write_outputs
from logitlab.records.stages import forget_stages
from logitlab.records.study import StageSource

from .building import build_model
from .distributed import current_ranks
from .fitting import EpochRecord, Run, fit
from .frozen import frozen_split, preparation
from .images import load_planned
from .ood import measure_ood
from .progress import Progress
from .provenance import describe_environment, now
from .seeds import own_random_state
from .snapshot import Snapshot
from .stages import run_stages
from .tensorboard import EpochLog
from .warming import warm_up

if TYPE_CHECKING:
    import numpy

# Measured on the training images (W), and therefore no business of the validation part.
OF_TRAINING_IMAGES = ("class_separation",)


def execute(
    trial: TrialConfig,
    root: Path,
    *,
    device: str = "cpu",
    data_root: str | Path | None = None,
    report: Callable[[Progress], Any] | None = None,
    tensorboard: bool = False,
    ood: Sequence[OodSource] = (),
    stages: Sequence[StageSource] = (),
) -> None:
    """Run one trial and leave its checkpoint and record in ``root/trials/<identity>/``.

    A trial whose record is there is done: it is measured on what it lacks of ``ood``, the stages run that it lacks,
    and no more happens. A trial that leaves the test images alone (``measure_test=False``) has neither.

    The record is written last, in one piece, so that its presence means done whatever happens before. A run that
    diverges leaves ``error.json`` instead, and this function returns as if all were well: other trials go on.

    After every epoch a snapshot is kept in the trial's folder until the record is there; a trial that was killed goes
    on from it. On a CPU with one thread the ``result`` of the record is the same bit for bit each time.

    Args:
        trial: what to run.
        root: the folder of the study.
        device: a torch device.
        data_root: the folder that holds data sets; None for the default of
            :func:`~logitlab.data.load_data`.
        report: called after every epoch.
        tensorboard: log every epoch below ``root/tensorboard``.
        ood: out-of-distribution sets to measure the trained model on; no part of the trial's identity.
        stages: what is done with the trained model, from :func:`~logitlab.training.stages.plan_stage`; likewise.

    Raises:
        DataError: the images are missing, cannot be read, or are not those that the trial was planned for.
        ConfigurationError: head, backbone and data do not fit each other.
        TrialError: a stage fails; the message names it, and the record of the training stays.
    """
    store = Store(root)
    if store.is_done(trial.identity):
        _go_on(trial, root, ood, stages, device, data_root)
        return
    config = trial.model_dump(mode="json")
    started = now()
    attempt = store.next_attempt(trial.identity)
    # Another torch, or a GPU, may give another model than the one that was measured.
    store.forget_measures(trial.identity)
    forget_stages(store.trial_folder(trial.identity))
    data = load_planned(trial.data.name, trial.data.image_size, data_root, trial.data_fingerprint)
    # A worker loads images and modules once for many trials: the first of them shall not look slower than the rest.
    warm_up()
    clock = time.perf_counter()
    snapshot = Snapshot(store.trial_folder(trial.identity) / SNAPSHOT_FILE, trial.identity)
    with warnings.catch_warnings(record=True) as caught, own_random_state(torch.device(device)), ExitStack() as stack:
        log = stack.enter_context(EpochLog(root, trial)) if tensorboard else None
        try:
            result = _run(trial, data, store.trial_folder(trial.identity), torch.device(device), report, snapshot, log)
        except TrialError as fault:
            error = {"kind": type(fault).__name__, "message": str(fault), "attempt": attempt}
            store.write_error(trial.identity, config, error)
            # It would go on to the same end.
            snapshot.discard()
            return
    provenance = {
        **describe_environment(torch.device(device)),
        "started": started,
        "finished": now(),
        # Those of the epochs that earlier attempts left included.
        "seconds": snapshot.seconds + time.perf_counter() - clock,
        "attempt": attempt,
        "resumed_epochs": snapshot.resumed_epochs,
        "processes": 1 if (ranks := current_ranks()) is None else ranks.size,
        # A warning that comes at every step is said once.
        "warnings": list(dict.fromkeys(f"{entry.category.__name__}: {entry.message}" for entry in caught)),
    }
    store.write_record(trial.identity, config, result, provenance)
    snapshot.discard()
    _go_on(trial, root, ood, stages, device, data_root)


def _go_on(
    trial: TrialConfig,
    root: Path,
    ood: Sequence[OodSource],
    stages: Sequence[StageSource],
    device: str,
    data_root: str | Path | None,
) -> None:
    """Do what is to be done with the model of a finished trial and has not been done."""
    if not trial.measure_test:
        return
    measure_ood(trial, root, ood, device=device, data_root=data_root)
    run_stages(trial, root, stages, device=device, data_root=data_root)
    # What an earlier attempt left that failed after its training; a folder that is read-only may keep it.
    with suppress(OSError):
        (Store(root).trial_folder(trial.identity) / "error.json").unlink(missing_ok=True)


def _run(
    trial: TrialConfig,
    data: DataSet,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], Any] | None,
    snapshot: Snapshot,
    log: Callable[[EpochRecord], Any] | None,
) -> dict[str, Any]:
    """Build, train, measure and save; return what the record compares."""
    ranks = current_ranks()
    if ranks is not None:
        ranks.call()

    def tell(epoch: EpochRecord) -> None:
        if log is not None:
            log(epoch)
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

    run, seen, split, backbone = _train(trial, data, folder, device, snapshot, tell)
    measures, outputs = _measure(run, seen, split.test if trial.measure_test else None, trial, device)
    if trial.training.freeze_backbone:
        run = replace(run, model=Classifier(backbone.to(device), run.model.head).eval())
    _save(folder, run, trial, data)
    if outputs is not None:
        write_outputs(folder, outputs)
    return {
        **measures,
        "history": [asdict(epoch) for epoch in run.history],
        "selected_epoch": run.selected_epoch,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "link": run.model.head.link,
        "head_parameters": _resolved(trial),
        "images": {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
    }


def _train(
    trial: TrialConfig,
    data: DataSet,
    folder: Path,
    device: torch.device,
    snapshot: Snapshot,
    report: Callable[[EpochRecord], Any] | None,
) -> tuple[Run, Split, Split, torch.nn.Module]:
    """Build and train.

    Returns:
        the run, what it saw (the images, or the features of a frozen backbone), the images, and the backbone.
    """
    split = split_data(data, trial.data)
    model = build_model(trial, channels=data.channels, image_size=data.image_size, num_classes=data.num_classes)
    seen, trained = split, model
    if trial.training.freeze_backbone:
        # Below the study's own folder: all its trials share the features.
        seen = frozen_split(trial, split, model.backbone, folder.parents[1], device)
        trained = Classifier(torch.nn.Identity(), model.head)
    run = fit(
        trained,
        seen.train,
        seen.validation,
        trial.training,
        seed=trial.seed,
        device=device,
        augmentation=cast(Augmentation, data.augmentation),
        name=trial.head.name,
        report=report,
        snapshot=snapshot,
    )
    return run, seen, split, model.backbone


def assist(trial: TrialConfig, root: Path, *, device: str = "cpu", data_root: str | Path | None = None) -> None:
    """Train a trial together with the process that executes it; leave nothing behind.

    A run that diverges ends here as it ends there.

    Args:
        trial: as the leader has it.
        root: the folder of the study, the same one; a run that was killed is resumed from it.
        device: a torch device of this process alone.
        data_root: the folder that holds data sets.

    Raises:
        DataError: the images are missing, cannot be read, or are not those that the trial was planned for.
    """
    data = load_planned(trial.data.name, trial.data.image_size, data_root, trial.data_fingerprint)
    folder = Store(root).trial_folder(trial.identity)
    with own_random_state(torch.device(device)), suppress(TrialError):
        _train(trial, data, folder, torch.device(device), Snapshot(folder / SNAPSHOT_FILE, trial.identity), None)


def _measure(
    run: Run, split: Split, images: Images | None, trial: TrialConfig, device: torch.device
) -> tuple[dict[str, Any], dict[str, numpy.ndarray] | None]:
    """Measure the finished model; the only place that looks at the test images, once.

    Args:
        run: of the model that training saw.
        split: what training saw: the images, or the features of a frozen backbone.
        images: the test images; None leaves the test part alone.
        trial: says how.
        device: where the model lives.

    Returns:
        what the record compares, and the arrays that stand beside it: none where the test part is left alone.
    """
    options: dict[str, Any] = {
        "prepare": preparation(split.train, run.pixel_mean, run.pixel_std),
        "device": device,
        "batch_size": trial.training.batch_size,
        "precision": trial.training.precision,
    }
    train = collect_features(run.model, split.train, **options)
    of_validation = collect(run.model, split.validation, **options)
    found = evaluate(run.model, of_validation, train)
    validation = {name: found[name] for name in MEASURES if name not in OF_TRAINING_IMAGES}
    if images is None:
        return {"test": {}, "validation": validation}, None
    of_test = collect(run.model, split.test, **options)
    measures = {
        "test": evaluate(run.model, of_test, train),
        "validation": validation,
        # A class without test images has no accuracy.
        "per_class_accuracy": [
            None if math.isnan(share) else share
            for share in per_class_accuracy(of_test.logits, of_test.labels).tolist()
        ],
    }
    return measures, output_arrays(run.model.head, of_test, of_validation, images)


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
