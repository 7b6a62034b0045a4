"""Run a study: every fault first, then its trials, then its report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.errors import LogitLabError
from ..config.study import ExecutionConfig, StudyDefinition
from ..config.study.salvage import StudyFaultsError
from ..config.torchrun import refuse_torchrun
from ..config.trial import TrialConfig
from ..config.validation import validate
from ..records import Store
from ..records.study import StudyPlan, study_folder, write_definition, write_plan
from .analysis_of_study import AnalysisPlan, analyse_trials
from .compare import trial_function
from .defaults import DEFAULT_FOLDER
from .engine import StudyEngine
from .faults import Faults
from .plan_study import StudyParts, plan_study
from .progress import Reporter, Silent
from .results import results_of
from .running import Work, run_trials, trials_at_a_time
from .study_outcome import StudyOutcome
from .study_source import Source, define


def run(
    study: Source,
    *,
    scale: str | None = None,
    executor: str | None = None,
    out: str | Path = DEFAULT_FOLDER,
    workers: int | None = None,
    device: str | None = None,
    data_root: str | Path | None = None,
    plugins: Sequence[str] = (),
    gpus_per_trial: float | None = None,
    processes_per_trial: int | None = None,
    slurm: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    report: bool = True,
    tensorboard: bool = False,
    progress: Reporter | None = None,
) -> StudyOutcome:
    """Run the trials of a study that are not done, measure them, each and together, and write its report.

    Trials whose record lies in ``out`` are not run again, whichever study they were run for, so the same call
    continues a study that was interrupted. Trials that failed for a reason of their own (a loss that is no longer
    finite) stay failed; those whose process or machine died are tried again.

    Args:
        study: name of a preset (``logitlab study list``), a YAML file, what such a file holds as plain values, or a
            definition.
        scale: which of its scales; None for its default.
        executor: ``"process"``, ``"serial"``, ``"ray"`` or ``"slurm"``; None for the study's own, else ``"ray"`` where
            RAY_ADDRESS is set and ``"process"`` otherwise.
        out: the folder of trials and studies.
        workers: trials at a time; None for the executor's rule.
        device: a torch device; None for a GPU where there is one.
        data_root: the folder that holds data sets; None for ``$LOGITLAB_DATA``.
        plugins: modules or files of your own, beside those that the study names.
        gpus_per_trial: share of a GPU that Ray and Slurm reserve for a trial.
        processes_per_trial: above 1, torchrun trains each trial with so many processes.
        slurm: fields of :class:`~logitlab.config.study.SlurmConfig`.
        retry_failed: try all failed trials again.
        report: write ``report.html`` and ``table.md`` in the folder of the study.
        tensorboard: log every epoch in ``out/tensorboard``.
        progress: receives the events; None for silence.

    Returns:
        the results, with the table, the verdicts on the claims, and the page.

    Raises:
        ConfigurationError: every fault of the study and the arguments, before any trial starts.
        DataError: an image of a streamed folder cannot be read.
        LogitLabError: the records cannot be written, or no worker can start.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    refuse_torchrun("study run")
    began = time.monotonic()
    root = Path(out)
    reporter = progress or Silent()
    try:
        reporter.prepare()
        faults = Faults()
        try:
            definition = define(study, scale)
        except StudyFaultsError as fault:
            if fault.rest is None:
                raise
            # Heads, data and stages are looked at all the same; the faults are raised with theirs.
            faults.add(*fault.faults)
            definition = fault.rest
        execution = definition.execution
        with faults:
            execution = _execution(
                definition.execution,
                {
                    "executor": executor,
                    "workers": workers,
                    "device": device,
                    "gpus_per_trial": gpus_per_trial,
                    "processes_per_trial": processes_per_trial,
                },
                slurm,
            )
        own = tuple(dict.fromkeys([*definition.plugins, *map(str, plugins)]))
        definition = definition.model_copy(update={"plugins": own})
        parts = plan_study(definition, execution, root, None if data_root is None else str(data_root), faults)
        store = Store(root)
        engine = StudyEngine(
            definition,
            parts.rows,
            parts.maker,
            store,
            ood=parts.ood,
            stages=parts.stages,
            retry_failed=retry_failed,
            tell=reporter.notice,
        )
        folder = study_folder(root, definition.folder_name)
        run_engine(engine, definition, parts, execution, root, folder, reporter, tensorboard=tensorboard)
        if parts.analysis is not None:
            _analyse(parts.analysis, engine.plan(), parts, store, folder, reporter, again=retry_failed)
        if report:
            reporter.reporting()
        results = results_of(store, definition, engine.plan(), folder)
        reasons = {(row.label, seed) for row in results.rows for seed in row.failures}
        failed = tuple(
            failure
            for planned in results.plan.trials
            if planned.role == "final" and (planned.row, planned.seed) in reasons
            # A record may stand while a stage after it has failed.
            if (failure := store.failure(planned.identity)) is not None
        )
        outcome = StudyOutcome(results, root, folder, failed, time.monotonic() - began)
        page = _write_report(outcome, reporter) if report else None
    finally:
        reporter.stop()
    return replace(outcome, report=page, seconds=time.monotonic() - began)


def run_engine(
    engine: StudyEngine,
    definition: StudyDefinition,
    parts: StudyParts,
    execution: ExecutionConfig,
    root: Path,
    folder: Path,
    reporter: Reporter,
    *,
    tensorboard: bool = False,
) -> None:
    """Run what an engine asks for, and keep the plan of the study up to date; errors as of :func:`run`."""
    work = Work(
        trial_function(tensorboard),
        root,
        parts.device,
        execution,
        parts.data_root,
        parts.plugins,
        parts.homeless,
        parts.ood,
        parts.stages,
    )
    first = engine.start()
    count = trials_at_a_time(execution, parts.device, max(1, len(first)))

    def keep() -> None:
        write_plan(folder, engine.plan(count))

    def more(trial: TrialConfig) -> Sequence[TrialConfig]:
        new = engine.ended(trial)
        if new:
            keep()
        return new

    try:
        write_definition(folder, definition)
        keep()
    except OSError as fault:
        if first:
            raise LogitLabError(
                f"Cannot write the study in '{folder}': {fault.strerror or fault}. Give another folder, or make room."
            ) from fault
        # A finished study can be looked at where nothing can be written.
    waiting = set(engine.trials) - {trial.identity for trial in first}
    kept = [engine.trials[identity] for identity in engine.trials if identity in waiting]
    failed = [trial for trial in kept if not Store(root).is_done(trial.identity)]
    if failed:
        reporter.notice(
            f"{len(failed)} {'trial has' if len(failed) == 1 else 'trials have'} failed before, and stay so; "
            f"'logitlab study retry {root}' tries them again."
        )
    try:
        run_trials(work, first, reporter, kept=kept, more=more)
    finally:
        with suppress(OSError):
            keep()


def _analyse(
    analysis: AnalysisPlan,
    plan: StudyPlan,
    parts: StudyParts,
    store: Store,
    folder: Path,
    reporter: Reporter,
    *,
    again: bool,
) -> None:
    """Measure the models together; a study that is done is not lost because they cannot be measured."""
    try:
        analyse_trials(
            analysis,
            plan,
            store,
            folder,
            device=parts.device,
            data_root=parts.data_root,
            again=again,
            tell=reporter.notice,
        )
    except OSError as fault:
        reporter.notice(f"The analysis cannot be written in '{folder}': {fault.strerror or fault}.")
    except LogitLabError as fault:
        reporter.notice(f"The models cannot be analysed: {fault}")


def _execution(base: ExecutionConfig, given: Mapping[str, Any], slurm: Mapping[str, Any] | None) -> ExecutionConfig:
    """Lay what the caller says over what the study says.

    Raises:
        ConfigurationError: a value is out of its range, or an unknown option of Slurm.
    """
    values = base.model_dump()
    values |= {name: value for name, value in given.items() if value is not None}
    if slurm:
        values["slurm"] = {**values["slurm"], **slurm}
    return validate(ExecutionConfig, values, "execution")


def _write_report(outcome: StudyOutcome, reporter: Reporter) -> Path | None:
    """Write page and table; a study that is done is not lost because they cannot be written."""
    try:
        return outcome.write_report()
    except OSError as fault:
        reporter.notice(f"The report cannot be written in '{outcome.folder}': {fault.strerror or fault}.")
    except LogitLabError as fault:
        reporter.notice(f"The report cannot be written: {fault}")
    return None
