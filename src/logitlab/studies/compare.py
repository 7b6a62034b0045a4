"""Compare classifier heads on one data set: the main job of the laboratory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import LogitLabError
from ..config.specification import Specification
from ..config.torchrun import refuse_torchrun
from ..config.trial import TrialConfig
from ..records import Store
from .analyze import analyze_study
from .comparison import Comparison
from .executors import Job, TrialFunction, run_serial, worker_count
from .faults import Faults
from .measuring import choose_measures
from .ood import attach_ood, choose_ood, missing_ood, tell_ood
from .plan import Plan, plan_comparison
from .progress import Reporter, Silent

if TYPE_CHECKING:
    from ..records.analysis import Analysis
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
    ood: Sequence[str] | str | None = None,
    measure: Sequence[str] | str = (),
    progress: Reporter | None = None,
    tensorboard: bool = False,
    report: bool = True,
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
        ood: out-of-distribution sets to measure every trained model on: ``"noise"``, ``"patches"``, ``"notmnist"``,
            ``"dtd"``, any data set or folder of images; see :func:`~logitlab.data.load_ood`. None takes patches and
            noise for ``digits`` and nothing otherwise. Models of finished trials are measured without training.
        measure: measures of :func:`~logitlab.analyze` for every trained model beside those of the table: ``"all"``,
            ``"basic"`` or names. They are taken after the last trial, on the test images, and shown in the report.
        progress: receives the events of the study; None for silence.
        tensorboard: log every epoch of the trials that run in ``out/tensorboard``.
        report: write ``out/report.html``, one page with pictures.
        **training: fields of :class:`~logitlab.config.training.TrainingConfig`, for instance ``epochs=30``.

    Returns:
        the table, the recommendations and the records.

    Raises:
        ConfigurationError: every fault of the arguments and the data, before any trial starts.
        DataError: an image of a streamed folder cannot be read.
    """
    refuse_torchrun("compare")
    began = time.monotonic()
    folder = Path(out)
    root = None if data_root is None else str(data_root)
    reporter = progress or Silent()
    try:
        reporter.prepare()
        faults = Faults()
        measures: tuple[str, ...] = ()
        plan: Plan | None = None
        with faults:
            measures = choose_measures(measure) if measure else ()
        with faults:
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
                ood=choose_ood(ood, str(data)),
            )
        faults.raise_all()
        assert plan is not None
        run_plan(plan, trial_function(tensorboard), folder, root, executor, workers, reporter)
        analysis = _analyse(plan, measures, folder, str(data), root, reporter) if measures else None
        if report:
            reporter.reporting()
        store = Store(folder)
        # A head may have been written otherwise when its record was made; the table says what was asked for now.
        records = [
            attach_ood(store, {**record, "config": trial.model_dump(mode="json")}, plan.ood)
            for trial in plan.trials
            for record in store.records([trial.identity])
        ]
        comparison = Comparison(tuple(records), folder, time.monotonic() - began, analysis=analysis)
        page = _write_report(comparison, reporter) if report else None
    finally:
        reporter.stop()
    return replace(comparison, report=page, seconds=time.monotonic() - began)


def _analyse(
    plan: Plan, measures: Sequence[str], folder: Path, data: str, root: str | None, reporter: Reporter
) -> Analysis | None:
    """Measure the trained models; a study that is done is not lost because they cannot be measured."""
    identities = [trial.identity for trial in plan.trials]
    ood = [source.name for source in plan.ood]
    try:
        return analyze_study(
            folder, identities, data, measures, ood=ood, device=plan.device, data_root=root, tell=reporter.notice
        )
    except OSError as fault:
        reporter.notice(f"The measures cannot be written in '{folder}': {fault.strerror or fault}.")
    except LogitLabError as fault:
        reporter.notice(f"The models cannot be measured: {fault}")
    return None


def _write_report(comparison: Comparison, reporter: Reporter) -> Path | None:
    """Write the page of pictures; a study that is done is not lost because its page cannot be written."""
    try:
        return comparison.write_report()
    except OSError as fault:
        reporter.notice(f"The report cannot be written in '{comparison.folder}': {fault.strerror or fault}.")
    except LogitLabError as fault:
        reporter.notice(f"The report cannot be written: {fault}")
    return None


def trial_function(tensorboard: bool = False) -> TrialFunction:
    """Return the function that runs one trial, for every executor.

    Args:
        tensorboard: whether it logs every epoch; no part of the trial's identity.

    Raises:
        ConfigurationError: TensorBoard is asked for and not installed.
    """
    from ..training import execute

    if not tensorboard:
        return execute
    from ..training.tensorboard import check_tensorboard

    check_tensorboard()
    return partial(execute, tensorboard=True)


def run_plan(
    plan: Plan,
    function: TrialFunction,
    folder: Path,
    data_root: str | None,
    executor: str,
    workers: int | None,
    reporter: Reporter,
) -> None:
    """Run the trials of a plan that have no record yet, and measure the others on the OOD sets that they lack.

    Trials that another runner holds are waited for.

    Ctrl-C lets the running trials finish; a second one, and SIGTERM, end them at once. Both kinds of end leave a
    snapshot from which the same call resumes.

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
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    store = Store(folder)
    here = executor == "serial" or bool(plan.homeless)
    job = Job(function, folder, plan.device, data_root, plan.plugins, plan.ood)
    try:
        pending = [trial for trial in plan.trials if not store.is_done(trial.identity)]
        listener = _Relay(store, reporter, plan)
        trained = [trial for trial in plan.trials if trial.identity in listener.lacking]
        refusal = None
        if pending or trained:
            try:
                store.prove_writable()
            except OSError as fault:
                if pending:
                    raise
                # A finished study can be looked at where nothing can be written.
                trained, refusal = [], fault.strerror or str(fault)
        count = 1 if here else worker_count(plan.device, workers, len(pending) + len(trained))
        reporter.start(plan.trials, pending, count)
        if refusal is not None:
            reporter.notice(f"Nothing can be written in '{folder}' ({refusal}), so OOD sets are not measured.")
        waiting = {trial.identity for trial in pending}
        for trial in plan.trials:
            # What a process left that was killed right after the record; a folder that is read-only may keep it.
            if trial.identity not in waiting:
                with suppress(OSError):
                    store.sweep(trial.identity)
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
        if here:
            run_serial(job, [*pending, *trained], listener)
        elif pending or trained:
            from .workers import run_in_processes

            run_in_processes(job, [*pending, *trained], listener, count)
    except OSError as fault:
        reason = fault.strerror or fault
        raise LogitLabError(
            f"Cannot write the records in '{folder}': {reason}. Give another folder, or make room. Finished trials are "
            "kept, and the same call continues."
        ) from fault


class _Relay:
    """Hands the events of an executor to a reporter, with what each ended trial left in the store.

    Attributes:
        lacking: for each trial that was done before, by identity, the OOD sets that it is still to be measured on.
            To the reporter such a trial is a sentence and not a trial that runs.
    """

    def __init__(self, store: Store, reporter: Reporter, plan: Plan) -> None:
        self._store = store
        self._reporter = reporter
        self._ood = plan.ood
        self.lacking = {
            trial.identity: missing
            for trial in plan.trials
            if (missing := missing_ood(store, trial, plan.ood)) and store.is_done(trial.identity)
        }

    def notice(self, text: str) -> None:
        self._reporter.notice(text)

    def trial_started(self, trial: TrialConfig) -> None:
        if trial.identity not in self.lacking:
            self._reporter.trial_started(trial)

    def epoch(self, progress: Progress) -> None:
        self._reporter.epoch(progress)

    def trial_ended(self, trial: TrialConfig) -> None:
        lacked = self.lacking.get(trial.identity)
        if lacked is not None:
            self._reporter.notice(tell_ood(self._store, trial, lacked))
            return
        for record in self._store.records([trial.identity]):
            self._reporter.trial_ended(trial, record)
            if "error" not in record and (missing := missing_ood(self._store, trial, self._ood)):
                self._reporter.notice(tell_ood(self._store, trial, missing))
