"""The executor ``slurm``: a few jobs of an array share the pending trials, sent out by submitit.

Every job goes through the whole list, beginning at a place of its own; claims keep two of them from one trial, and a
job whose own part is done helps the others. A job that the cluster cuts off is followed by another one, in which its
trial goes on from its last epoch.
"""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ...config.errors import LogitLabError
from ...config.study import ExecutionConfig
from ...config.trial import TrialConfig
from ...records import Store
from ...records.claims import this_process
from ..agenda import Agenda, Task
from ..interruption import interruptible
from .job import Job, Listener, bury
from .run_folder import Inbox, RunFolder, hand_on
from .slurm_job import Begun, mark_of, who_began, work_through
from .submitit_jobs import end_here, has_failed, import_submitit, last_words, make_executor, state_of
from .surroundings import environment, interrupts_ignored, search_path, thread_variables, worker_count
from .travelling import prepare_journey

_LOOK_SECONDS: Final = 0.5
# What Slurm says of a job that was cut off: its trial did not bring that about.
_CUT_OFF: Final = ("TIMEOUT", "PREEMPTED", "REQUEUED", "NODE_FAIL", "BOOT_FAIL", "SUSPENDED")


def run_on_slurm(job: Job, agenda: Agenda, listener: Listener, execution: ExecutionConfig) -> None:
    """Run the trials in jobs of Slurm, or in processes of this machine (``cluster="local"``).

    No more than ``array_tasks`` jobs (``workers``, where that is less) are there at a time; on this machine no more
    than it has cores. A job that dies costs an attempt of the trial that it ran; one that is cut off by the cluster
    while its trial gets on costs nothing. The first Ctrl-C lets the running trials finish and takes jobs that wait out
    of the queue; the second one, and SIGTERM, cancel all.

    Args:
        job: what all trials share.
        agenda: the trials.
        listener: receives the events.
        execution: how they are delivered.

    Raises:
        ConfigurationError: submitit is not installed, or refuses the parameters.
        LogitLabError: a fault that concerns every trial, or jobs that cannot start.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    submitit = import_submitit()
    run = RunFolder.make(job.root)
    # A signal only leaves a mark: raised in the middle of this bookkeeping it could be lost, or a job with it.
    with interruptible(listener.notice, at_once=False) as interruption:
        try:
            fleet = _Fleet(submitit, job, run, agenda, listener, execution)
            try:
                while fleet.has_work():
                    interruption.check()
                    if interruption.draining:
                        fleet.drain()
                        if not fleet.batches:
                            raise KeyboardInterrupt
                    else:
                        fleet.submit()
                    fleet.listen()
            finally:
                fleet.end()
        finally:
            run.remove()


@dataclass(eq=False)
class _Batch:
    """Jobs that share a list of trials.

    Attributes:
        jobs: label → job of submitit.
        tasks: identity → trial, of those that have not ended.
        file: of the list.
        started: identity → the job that began it last.
        moved: identities of trials of which an epoch was told.
        left: identities of trials whose job was told to go in the middle of them.
        silent: whether none of the jobs has said anything.
    """

    jobs: dict[str, Any]
    tasks: dict[str, Task]
    file: Path
    started: dict[str, Begun] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    silent: bool = True

    def begun(self, identity: str) -> Begun | None:
        """Return the job that began a trial last; its mark tells where its word was lost."""
        return self.started.get(identity) or who_began(mark_of(self.file, identity))


class _Fleet:
    """The jobs of one study.

    Attributes:
        batches: those that have not ended.
    """

    def __init__(
        self, submitit: Any, job: Job, run: RunFolder, agenda: Agenda, listener: Listener, execution: ExecutionConfig
    ) -> None:
        self.batches: list[_Batch] = []
        self._job = job
        self._run = run
        self._store = Store(job.root)
        self._agenda = agenda
        self._listener = listener
        self._execution = execution
        self._inbox = Inbox(run)
        self._sent = 0
        cluster = execution.slurm.cluster or ("slurm" if shutil.which("sbatch") else "local")
        self._local = cluster == "local"
        # What the cluster runs goes on without this process, and the next runner waits for it.
        self._journey = replace(prepare_journey(job, run), runner=this_process() if self._local else None)
        self._most = execution.slurm.array_tasks
        if self._local:
            # submitit's own processes would all start at once, however many there are.
            local = worker_count(job.device, execution.workers, processes=execution.processes_per_trial)
            self._most = min(self._most, local)
        elif execution.workers is not None:
            self._most = min(self._most, execution.workers)
        self._executor = make_executor(submitit, cluster, self._journey.job, execution)

    def has_work(self) -> bool:
        """Whether any trial waits or runs."""
        return bool(self._agenda) or bool(self.batches)

    def submit(self) -> None:
        """Send jobs out for the trials that nobody holds."""
        room = self._most - sum(not job.done() for batch in self.batches for job in batch.jobs.values())
        if room <= 0 or not self._agenda:
            return
        tasks = []
        while (task := self._agenda.take()) is not None:
            tasks.append(task)
        if not tasks:
            return
        count = min(room, len(tasks))
        labels = [f"job {self._sent + number}" for number in range(count)]
        self._sent += count
        # Once for all jobs: each of them knows the whole list.
        file = self._run.path / f"{labels[0]}.tasks"
        file.write_bytes(pickle.dumps(tasks))
        variables = {**thread_variables(self._job.device), "PYTHONPATH": search_path()}
        with environment(**variables), interrupts_ignored(), self._executor.batch():
            sent = [
                self._executor.submit(work_through, self._journey, file, number * len(tasks) // count, label)
                for number, label in enumerate(labels)
            ]
        self.batches.append(_Batch(dict(zip(labels, sent)), {task.trial.identity: task for task in tasks}, file))

    def drain(self) -> None:
        """Let no further trial begin; jobs that wait in the queue leave it."""
        self._run.stop()
        for batch in self.batches:
            for job in batch.jobs.values():
                if not self._local and job.state == "PENDING":
                    job.cancel(check=False)

    def listen(self) -> None:
        """Wait a moment, and take in what has come."""
        time.sleep(_LOOK_SECONDS)
        # Whoever has ended by now has said all.
        over = [batch for batch in self.batches if all(job.done() for job in batch.jobs.values())]
        self._read()
        for batch in self.batches[:]:
            if batch in over:
                self.batches.remove(batch)
                self._close(batch)
            elif not batch.tasks and not self._local:
                # Jobs that still wait in the queue may wait for days, and would find nothing to do.
                self.batches.remove(batch)
                self._cancel(job for job in batch.jobs.values() if not job.done())

    def end(self) -> None:
        """Cancel every job that runs, and wait for the end of those on this machine."""
        self._run.stop()
        running = [job for batch in self.batches for job in batch.jobs.values() if not job.done()]
        if not self._local:
            self._cancel(running)
            return
        end_here(int(job.job_id) for job in running)
        for job in running:
            job.done()

    def _cancel(self, jobs: Iterable[Any]) -> None:
        for job in jobs:
            with suppress(Exception):
                job.cancel(check=False)

    def _read(self) -> None:
        for news in self._inbox.news():
            hand_on(news, self._trial, self._listener)
            for batch in self.batches:
                if news.label in batch.jobs:
                    batch.silent = False
                if news.identity not in batch.tasks:
                    continue
                if news.kind == "started":
                    batch.started[news.identity] = Begun(news.label, (news.host, news.pid))
                    batch.moved.discard(news.identity)
                    batch.left.discard(news.identity)
                elif news.kind == "epoch":
                    batch.moved.add(news.identity)
                elif news.kind == "left":
                    batch.left.add(news.identity)
                elif news.kind == "ended":
                    self._listener.trial_ended(batch.tasks.pop(news.identity).trial)

    def _trial(self, identity: str) -> TrialConfig | None:
        return next((batch.tasks[identity].trial for batch in self.batches if identity in batch.tasks), None)

    def _close(self, batch: _Batch) -> None:
        """See to the trials that the jobs of a batch have left.

        Raises:
            LogitLabError: the jobs could not even begin.
        """
        failed = {label: job for label, job in batch.jobs.items() if has_failed(job)}
        if batch.silent and failed and batch.tasks:
            # Nobody cancelled them here, for then nobody listens any more.
            job = next(iter(failed.values()))
            raise LogitLabError(
                f"The jobs of Slurm end before their first trial: {last_words(job)} See '{self._executor.folder}'."
            )
        for identity, task in batch.tasks.items():
            if task.ended(self._store):
                self._listener.trial_ended(task.trial)
                continue
            begun = batch.begun(identity)
            left = identity in batch.left
            if begun is None or (begun.label not in failed and not left):
                self._agenda.put_back(task)
                continue
            job = batch.jobs[begun.label]
            # Who cancels a job by hand does not want it to come back for ever.
            cut_off = state_of(job).startswith(_CUT_OFF) or (left and not state_of(job).startswith("CANCELLED"))
            if cut_off and identity in batch.moved:
                what = f"told job {job.job_id} to leave" if left else f"ended job {job.job_id} ({state_of(job)})"
                self._listener.notice(f"Slurm {what}; its trial goes on from its last epoch in another one.")
                self._agenda.put_back(task)
            else:
                how = f"(job {job.job_id}, {state_of(job)}) " + (
                    "was told to leave before the first epoch was over" if left else "died"
                )
                attempts = self._execution.attempts
                bury(self._job, task, how, attempts, self._agenda, self._listener, begun.place)
