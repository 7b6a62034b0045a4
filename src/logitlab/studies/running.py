"""Run the trials of a study that are not done, and tell whoever watches; what a comparison and a study share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.errors import LogitLabError
from ..config.study import ExecutionConfig
from ..config.trial import TrialConfig
from ..records import OodSource, Store
from ..records.claims import take_claim
from ..records.stages import has_stage
from ..records.study import StageSource
from .agenda import Agenda
from .executors import Job, TrialFunction, deliver, executor_name, usable_cores, worker_count
from .ood import missing_ood, tell_ood
from .progress import Reporter

if TYPE_CHECKING:
    from ..training import Progress


@dataclass(frozen=True)
class Work:
    """What the trials of a study share.

    Attributes:
        function: runs one trial.
        folder: of the records.
        device: the torch device.
        execution: how trials are delivered.
        data_root: the folder that holds data sets; None for the default.
        plugins: what a worker imports before its first trial.
        homeless: names of heads, stages and data sets whose module no other process can import.
        ood: out-of-distribution sets that every trial of the table is measured on.
        stages: what is done with every model of the table.
    """

    function: TrialFunction
    folder: Path
    device: str = "cpu"
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    homeless: tuple[str, ...] = ()
    ood: tuple[OodSource, ...] = ()
    stages: tuple[StageSource, ...] = ()


def run_trials(
    work: Work,
    trials: Sequence[TrialConfig],
    reporter: Reporter,
    *,
    kept: Sequence[TrialConfig] = (),
    more: Callable[[TrialConfig], Sequence[TrialConfig]] | None = None,
) -> None:
    """Run the trials that have no record yet, and measure the others on what they lack.

    Trials that another runner holds are waited for.

    Ctrl-C lets the running trials finish; a second one, and SIGTERM, end them at once. Both kinds of end leave a
    snapshot from which the same call resumes.

    Args:
        work: what they share.
        trials: in the order in which they are run.
        reporter: receives the events.
        kept: trials of the study that are not run: they are done, or have failed before.
        more: called with each trial that has ended; returns the trials that are known, and to be run, by that.

    Raises:
        LogitLabError: a fault that concerns every trial; a folder that takes no records is one, found before the
            first trial.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    folder, store = work.folder, Store(work.folder)
    # What no other process can import runs in this one.
    execution = work.execution.model_copy(update={"executor": "serial"}) if work.homeless else work.execution
    job = Job(work.function, folder, work.device, work.data_root, work.plugins, work.ood, work.stages)
    try:
        pending = [trial for trial in trials if not store.is_done(trial.identity)]
        relay = _Relay(store, reporter, work, trials)
        trained = [trial for trial in trials if trial.identity in relay.lacking]
        refusal = None
        if pending or trained:
            try:
                store.prove_writable()
            except OSError as fault:
                if pending:
                    raise
                # A finished study can be looked at where nothing can be written.
                trained, refusal = [], fault.strerror or str(fault)
        count = trials_at_a_time(execution, work.device, len(pending) + len(trained))
        reporter.start([*trials, *kept], pending, count)
        if refusal is not None:
            lacking = "OOD sets are not measured" if not work.stages else "stages are not run"
            reporter.notice(f"Nothing can be written in '{folder}' ({refusal}), so {lacking}.")
        waiting = {trial.identity for trial in pending}
        for trial in (*trials, *kept):
            # What a process left that was killed right after the record; a folder that is read-only may keep it.
            if trial.identity not in waiting:
                with suppress(OSError):
                    _tidy(store, trial.identity)
        for trial in pending:
            damage = store.damage(trial.identity)
            if damage is not None:
                reporter.notice(f"{damage} The trial runs again.")
        if work.homeless and executor_name(work.execution) != "serial" and pending:
            names = ", ".join(f"'{name}'" for name in work.homeless)
            reporter.notice(
                f"No other process can import {names}, so the trials run one after another in this one. "
                "Move it to a module of its own to run them side by side."
            )
        if pending or trained:
            agenda = Agenda(
                [*pending, *trained], store, relay.trial_ended, relay.notice, ood=work.ood, stages=work.stages
            )
            relay.grow = _growing(agenda, more, reporter)
            deliver(job, agenda, relay, execution)
    except OSError as fault:
        reason = fault.strerror or fault
        raise LogitLabError(
            f"Cannot write the records in '{folder}': {reason}. Give another folder, or make room. Finished trials are "
            "kept, and the same call continues."
        ) from fault


def trials_at_a_time(execution: ExecutionConfig, device: str, trials: int) -> int:
    """Return how many trials run at a time, as far as this process can know it."""
    name = executor_name(execution)
    if name == "serial":
        return 1
    if name == "process":
        return min(worker_count(device, execution.workers, processes=execution.processes_per_trial), max(1, trials))
    if name == "slurm":
        return min(execution.slurm.array_tasks, max(1, trials))
    return min(execution.workers or usable_cores(), max(1, trials))


def _tidy(store: Store, identity: str) -> None:
    """Remove what a killed process left beside the record of a finished trial, its claim included."""
    if not store.is_done(identity):
        return
    store.sweep(identity)
    folder = store.trial_folder(identity)
    if any(folder.glob("claim.*.json")) and (claim := take_claim(folder)) is not None:
        claim.release(done=True)


def _growing(
    agenda: Agenda, more: Callable[[TrialConfig], Sequence[TrialConfig]] | None, reporter: Reporter
) -> Callable[[TrialConfig], None] | None:
    if more is None:
        return None

    def grow(trial: TrialConfig) -> None:
        new = more(trial)
        if new:
            reporter.planned(new)
            agenda.add(new)

    return grow


class _Relay:
    """Hands the events of an executor to a reporter, with what each ended trial left in the store.

    Attributes:
        lacking: for each trial that was done before, by identity, the OOD sets that it is still to be measured on; none
            of them where only stages are left. To the reporter such a trial is a sentence and not a trial that runs.
        grow: called with each trial that has ended.
    """

    def __init__(self, store: Store, reporter: Reporter, work: Work, trials: Sequence[TrialConfig]) -> None:
        self._store = store
        self._reporter = reporter
        self._work = work
        self.grow: Callable[[TrialConfig], None] | None = None
        self.lacking: dict[str, tuple[OodSource, ...]] = {}
        for trial in trials:
            if not trial.measure_test or not (work.ood or work.stages) or not store.is_done(trial.identity):
                continue
            missing = missing_ood(store, trial, work.ood)
            if missing or self._stages_left(trial):
                self.lacking[trial.identity] = missing

    def notice(self, text: str) -> None:
        self._reporter.notice(text)

    def trial_started(self, trial: TrialConfig) -> None:
        if trial.identity not in self.lacking:
            self._reporter.trial_started(trial)

    def epoch(self, progress: Progress) -> None:
        if progress.identity not in self.lacking:
            self._reporter.epoch(progress)

    def trial_ended(self, trial: TrialConfig) -> None:
        lacked = self.lacking.get(trial.identity)
        if lacked is None:
            for record in self._store.records([trial.identity]):
                self._reporter.trial_ended(trial, record)
                if "error" not in record and trial.measure_test:
                    missing = missing_ood(self._store, trial, self._work.ood)
                    if missing:
                        self._reporter.notice(tell_ood(self._store, trial, missing))
                    self._tell_stages(trial)
        else:
            if lacked:
                self._reporter.notice(tell_ood(self._store, trial, lacked))
            self._tell_stages(trial)
        if self.grow is not None:
            self.grow(trial)

    def _stages_left(self, trial: TrialConfig) -> list[StageSource]:
        folder = self._store.trial_folder(trial.identity)
        return [stage for stage in self._work.stages if not has_stage(folder, stage.identity)]

    def _tell_stages(self, trial: TrialConfig) -> None:
        """Say of a trial that is done that a stage of it failed."""
        left = self._stages_left(trial)
        failure = self._store.failure(trial.identity) if left else None
        if failure is not None:
            reason = " ".join(str(failure["error"].get("message")).split())
            names = ", ".join(f"'{stage.name}'" for stage in left)
            self._reporter.notice(f"{trial.head.name}, seed {trial.seed}: without {names}: {reason}")
