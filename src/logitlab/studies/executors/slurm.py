"""The executor ``slurm``: a few jobs of an array share the pending trials, sent out by submitit.

Every job goes through the whole list, beginning at a place of its own; claims keep two of them from one trial, and a
job whose own part is done helps the others. A job that the cluster cuts off is followed by another one, in which its
trial goes on from its last epoch.
"""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ...config.errors import ConfigurationError, LogitLabError
from ...config.study import ExecutionConfig
from ...config.trial import TrialConfig
from ...records import Store
from ..agenda import Agenda, Task
from ..interruption import interruptible
from .job import Job, Listener, bury
from .run_folder import Inbox, RunFolder, hand_on
from .surroundings import environment, interrupts_ignored, search_path, thread_variables, worker_count
from .travelling import Journey, leaving_on_sigterm, prepare_journey, run_and_tell

#: Below the folder of the records: what the jobs print, and what submitit hands to them.
LOG_FOLDER: Final = "slurm"

_LOOK_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 5.0
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
    submitit = _import_submitit()
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
        started: identity → label of the job that began it last.
        moved: identities of trials of which an epoch was told.
        silent: whether none of the jobs has said anything.
    """

    jobs: dict[str, Any]
    tasks: dict[str, Task]
    started: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    silent: bool = True


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
        self._journey = replace(prepare_journey(job, run), runner=os.getpid() if self._local else None)
        self._most = execution.slurm.array_tasks
        if self._local:
            # submitit's own processes would all start at once, however many there are.
            local = worker_count(job.device, execution.workers, processes=execution.processes_per_trial)
            self._most = min(self._most, local)
        elif execution.workers is not None:
            self._most = min(self._most, execution.workers)
        self._executor = _executor(submitit, cluster, self._journey.job, execution)

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
        self.batches.append(_Batch(dict(zip(labels, sent)), {task.trial.identity: task for task in tasks}))

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
        for batch in over:
            self.batches.remove(batch)
            self._close(batch)

    def end(self) -> None:
        """Cancel every job that runs, and wait for the end of those on this machine."""
        self._run.stop()
        running = [job for batch in self.batches for job in batch.jobs.values() if not job.done()]
        if not self._local:
            for job in running:
                with suppress(Exception):
                    job.cancel(check=False)
            return
        _end_here(int(job.job_id) for job in running)
        for job in running:
            job.done()

    def _read(self) -> None:
        for news in self._inbox.news():
            hand_on(news, self._trial, self._listener)
            for batch in self.batches:
                if news.label in batch.jobs:
                    batch.silent = False
                if news.identity not in batch.tasks:
                    continue
                if news.kind == "started":
                    batch.started[news.identity] = news.label
                    batch.moved.discard(news.identity)
                elif news.kind == "epoch":
                    batch.moved.add(news.identity)
                elif news.kind == "ended":
                    self._listener.trial_ended(batch.tasks.pop(news.identity).trial)

    def _trial(self, identity: str) -> TrialConfig | None:
        return next((batch.tasks[identity].trial for batch in self.batches if identity in batch.tasks), None)

    def _close(self, batch: _Batch) -> None:
        """See to the trials that the jobs of a batch have left.

        Raises:
            LogitLabError: the jobs could not even begin.
        """
        failed = {label: job for label, job in batch.jobs.items() if _failed(job)}
        if batch.silent and failed and batch.tasks:
            # Nobody cancelled them here, for then nobody listens any more.
            job = next(iter(failed.values()))
            raise LogitLabError(
                f"The jobs of Slurm end before their first trial: {_last_words(job)} See '{self._executor.folder}'."
            )
        for identity, task in batch.tasks.items():
            if task.ended(self._store):
                self._listener.trial_ended(task.trial)
                continue
            label = batch.started.get(identity)
            if label is None or label not in failed:
                self._agenda.put_back(task)
            elif identity in batch.moved and _state(batch.jobs[label]).startswith(_CUT_OFF):
                self._listener.notice(
                    f"Slurm ended job {batch.jobs[label].job_id} ({_state(batch.jobs[label])}); its trial goes on from "
                    "its last epoch in another one."
                )
                self._agenda.put_back(task)
            else:
                how = f"(job {batch.jobs[label].job_id}, {_state(batch.jobs[label])}) died"
                bury(self._job, task, how, self._execution.attempts, self._agenda, self._listener)


def work_through(journey: Journey, tasks: Path, start: int, label: str) -> None:
    """Run the trials of a list that nobody else runs: what a job does.

    Args:
        journey: what the runner sent.
        tasks: file of the list.
        start: where in it this job begins.
        label: what the runner calls it.

    Raises:
        DataError: an image cannot be read; the other trials would meet it as well.
        OSError: the disk takes no record.
        LogitLabError: this machine does not see the folder of the records, or cannot import a plugin.
    """
    poster = journey.run.poster(label)
    with leaving_on_sigterm():
        try:
            job = journey.arrive()
            everything: list[Task] = pickle.loads(tasks.read_bytes())
            agenda = Agenda((), Store(job.root), lambda trial: None, lambda text: None)
            agenda.adopt([*everything[start:], *everything[:start]])
            # What others hold at the end is theirs: the runner sees to it, and this job makes room.
            while not journey.run.is_stopped() and (task := agenda.take()) is not None:
                # What a job that died has begun is the runner's to count: it might kill one job after another.
                begun = tasks.with_suffix(f".{task.trial.identity}")
                if not begun.exists():
                    begun.touch()
                    if not run_and_tell(job, task, poster):
                        begun.unlink(missing_ok=True)
        except Exception as fault:
            poster.fault(fault)
            raise


def _import_submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as fault:
        raise ConfigurationError(
            "The executor 'slurm' needs submitit. Install it with: pip install 'logitlab[slurm]'"
        ) from fault
    return submitit


def _executor(submitit: Any, cluster: str, job: Job, execution: ExecutionConfig) -> Any:
    """Return submitit's executor with what the study asks of the cluster.

    Raises:
        ConfigurationError: submitit refuses it.
    """
    wishes = execution.slurm
    gpus = execution.gpus_per_trial
    if gpus is None:
        gpus = execution.processes_per_trial if job.device.startswith("cuda") else 0
    parameters: dict[str, Any] = {
        "name": "logitlab",
        "timeout_min": wishes.timeout_minutes,
        "nodes": 1,
        "tasks_per_node": 1,
        # Slurm gives a job whatever it likes where this is left out.
        "cpus_per_task": max(wishes.cpus_per_task, execution.processes_per_trial),
        "gpus_per_node": math.ceil(gpus),
        **({} if wishes.memory_gb is None else {"mem_gb": wishes.memory_gb}),
        **({} if wishes.partition is None else {"slurm_partition": wishes.partition}),
        **wishes.parameters,
    }
    try:
        executor = submitit.AutoExecutor(folder=job.root / LOG_FOLDER, cluster=cluster)
        executor.update_parameters(**parameters)
    except (NameError, TypeError, ValueError, RuntimeError) as fault:
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise ConfigurationError(f"submitit cannot use these parameters of 'slurm': {reason}") from fault
    return executor


def _failed(job: Any) -> bool:
    """Whether a job that is over has left no result, or an error."""
    try:
        return job.exception() is not None
    except Exception:  # submitit finds no result, or one that it cannot read
        return True


def _state(job: Any) -> str:
    return str(job.state)


def _last_words(job: Any) -> str:
    """Return the last line that a job printed as an error, as a sentence."""
    with suppress(OSError, UnicodeDecodeError):
        lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
        if lines:
            return lines[-1].rstrip(".") + "."
    return f"{_state(job)}, and nothing was printed."


def _end_here(controllers: Iterable[int]) -> None:
    """End submitit's processes on this machine with all that they have started: politely, and then not."""
    import psutil  # type: ignore[import-untyped]

    found: list[psutil.Process] = []
    for number in controllers:
        with suppress(psutil.Error):
            controller = psutil.Process(number)
            found += [*controller.children(recursive=True), controller]
            # It hands the signal on.
            os.kill(number, signal.SIGTERM)
    _, left = psutil.wait_procs(found, timeout=_GRACE_SECONDS)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_GRACE_SECONDS)
