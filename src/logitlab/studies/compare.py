"""Compare classifier heads on one data set: the main job of the laboratory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import LogitLabError
from ..config.specification import Specification
from ..config.trial import TrialConfig
from ..records import Store
from .comparison import Comparison
from .executors import Job, TrialFunction, run_serial, worker_count
from .plan import Plan, plan_comparison
from .progress import Reporter, Silent

if TYPE_CHECKING:
    from ..training import Progress

#: The heads that are compared when none is named.
DEFAULT_HEADS = ("softmax", "label_smoothing", "logit_norm", "sigmoid", "cosine", "cosine_ls", "cosine_2ls")
DEFAULT_FOLDER = "logitlab-runs"
DEFAULT_SEEDS = 3


def compare(
    data: str | Path = "digits",
    *,
    heads: Sequence[str | Specification] | None = None,
    backbone: str | Specification = "small_cnn",
    seeds: int | Sequence[int] = DEFAULT_SEEDS,
    out: str | Path = DEFAULT_FOLDER,
    executor: str = "process",
    workers: int | None = None,
    device: str | None = None,
    data_root: str | Path | None = None,
    plugins: Sequence[str] = (),
    image_size: int | None = None,
    train_limit: int | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    progress: Reporter | None = None,
    **training: Any,
) -> Comparison:
    """Train every head with every seed, measure each once on the test images, and say which serves what.

    With one seed every head starts from the same backbone and sees the same images in the same order with the
    same augmentation. Trials whose record lies in ``out`` are not run again, so the same call continues a
    study that was interrupted; failed trials are tried again.

    Args:
        data: ``"digits"``, ``"fashion-mnist"``, ``"cifar10"``, a torchvision set, a folder with a sub-folder a
            class, or ``"npz:FILE"``.
        heads: names with their parameters, such as ``["softmax", "cosine:kappa=20"]``; None for
            ``DEFAULT_HEADS``. ``preset=auto`` takes W's setting with the nearest number of classes.
        backbone: the network below the heads: ``"mlp"``, ``"small_cnn"``, ``"resnet_cifar:depth=20"`` or any
            timm model (``"resnet50:pretrained=true"``).
        seeds: how many (0, 1, ...), or which.
        out: the folder of records and trained models.
        executor: ``"process"`` runs trials side by side in processes of their own, one torch thread each on a
            CPU, one trial at a time on a GPU; ``"serial"`` runs them here.
        workers: how many trials at a time; None for one a CPU core.
        device: a torch device; None for a GPU where there is one.
        data_root: the folder that holds data sets; None for ``$LOGITLAB_DATA``.
        plugins: modules (``"my_heads"``) or files (``"my_heads.py"``) that register heads of your own. Heads
            registered in modules that are imported already need none.
        image_size: side to which images are resized, in pixels.
        train_limit: at most this many training images, class-balanced.
        validation_fraction: share of the training images that is held out.
        split_seed: seed of that choice, the same for every trial.
        progress: receives the events of the study; None for silence.
        **training: fields of :class:`~logitlab.config.training.TrainingConfig`, for instance ``epochs=30``.

    Returns:
        the table, the recommendations and the records.

    Raises:
        ConfigurationError: every fault of the arguments and the data, before any trial starts.
        DataError: an image of a streamed folder cannot be read.
    """
    began = time.monotonic()
    folder = Path(out)
    root = None if data_root is None else str(data_root)
    reporter = progress or Silent()
    try:
        reporter.prepare()
        plan = plan_comparison(
            data={
                "name": str(data),
                "image_size": image_size,
                "train_limit": train_limit,
                "validation_fraction": validation_fraction,
                "split_seed": split_seed,
            },
            heads=DEFAULT_HEADS if heads is None else heads,
            backbone=backbone,
            training=training,
            seeds=seeds,
            out=folder,
            executor=executor,
            workers=workers,
            device=device,
            data_root=root,
            plugins=plugins,
            options=[name for name in compare.__annotations__ if name not in ("training", "return")],
        )
        from ..training import execute

        run_plan(plan, execute, folder, root, executor, workers, reporter)
    finally:
        reporter.stop()
    store = Store(folder)
    # A head may have been written otherwise when its record was made; the table says what was asked for now.
    records = [
        {**record, "config": trial.model_dump(mode="json")}
        for trial in plan.trials
        for record in store.records([trial.identity])
    ]
    return Comparison(tuple(records), folder, time.monotonic() - began)


def run_plan(
    plan: Plan,
    function: TrialFunction,
    folder: Path,
    data_root: str | None,
    executor: str,
    workers: int | None,
    reporter: Reporter,
) -> None:
    """Run the trials of a plan that have no record yet.

    Args:
        plan: the trials.
        function: runs one trial.
        folder: of the records.
        data_root: the folder that holds data sets.
        executor: ``"process"`` or ``"serial"``.
        workers: trials at a time; None for the executor's rule.
        reporter: receives the events.

    Raises:
        LogitLabError: a fault that concerns every trial; a folder that takes no records is one, found before the
            first trial.
    """
    store = Store(folder)
    here = executor == "serial" or bool(plan.homeless)
    job = Job(function, folder, plan.device, data_root, plan.plugins)
    try:
        pending = [trial for trial in plan.trials if not store.is_done(trial.identity)]
        if pending:
            store.prove_writable()
        count = 1 if here else worker_count(plan.device, workers, len(pending))
        reporter.start(plan.trials, pending, count)
        for trial in pending:
            damage = store.damage(trial.identity)
            if damage is not None:
                reporter.notice(f"{damage} The trial runs again.")
        if plan.homeless and executor != "serial" and pending:
            names = ", ".join(f"'{name}'" for name in plan.homeless)
            reporter.notice(
                f"No other process can import {names}, so the trials run one after another in this one. "
                "Move it to a module of its own to run them side by side."
            )
        listener = _Relay(store, reporter)
        if here:
            run_serial(job, pending, listener)
        elif pending:
            from .workers import run_in_processes

            run_in_processes(job, pending, listener, count)
    except OSError as fault:
        reason = fault.strerror or fault
        raise LogitLabError(
            f"Cannot write the records in '{folder}': {reason}. Give another folder, or make room."
        ) from fault


class _Relay:
    """Hands the events of an executor to a reporter, with what each ended trial left in the store."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self._store = store
        self._reporter = reporter

    def trial_started(self, trial: TrialConfig) -> None:
        self._reporter.trial_started(trial)

    def epoch(self, progress: Progress) -> None:
        self._reporter.epoch(progress)

    def trial_ended(self, trial: TrialConfig) -> None:
        for record in self._store.records([trial.identity]):
            self._reporter.trial_ended(trial, record)
