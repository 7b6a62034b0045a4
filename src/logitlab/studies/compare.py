"""Compare classifier heads on one data set: the main job of the laboratory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import LogitLabError
from ..config.specification import Specification
from ..config.study import ExecutionConfig
from ..config.torchrun import refuse_torchrun
from ..records import Store
from .analyze import analyze_study
from .comparison import Comparison
from .defaults import DEFAULT_FOLDER, DEFAULT_HEADS, DEFAULT_SEEDS
from .executors import TrialFunction
from .faults import Faults
from .keeping import keep_plan
from .measuring import choose_measures
from .ood import attach_ood, choose_ood
from .plan import Plan, plan_comparison
from .progress import Reporter, Silent
from .running import Work, run_trials

if TYPE_CHECKING:
    from ..records.analysis import Analysis


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
            CPU, one trial at a time on a GPU; ``"serial"`` runs them here; ``"ray"`` and ``"slurm"`` on a cluster.
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
        function = trial_function(tensorboard)
        keep_plan(plan, folder, plugins)
        execution = ExecutionConfig.model_validate({"executor": executor, "workers": workers})
        run_plan(plan, function, folder, root, execution, reporter)
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
    execution: ExecutionConfig,
    reporter: Reporter,
) -> None:
    """Run the trials of a plan; arguments and errors as of :func:`~logitlab.studies.running.run_trials`."""
    work = Work(function, folder, plan.device, execution, data_root, plan.plugins, plan.homeless, plan.ood)
    run_trials(work, plan.trials, reporter)
