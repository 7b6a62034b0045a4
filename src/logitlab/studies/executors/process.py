"""The executor ``process``: spawned workers, each reused for many trials.

The standard library's ``ProcessPoolExecutor`` gives up every pending trial when one worker dies. Here a worker
that dies (memory, a crash in native code) costs one attempt of the one trial that it held: a pipe a worker says which.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType

from ...config.errors import LogitLabError
from ...config.trial import TrialConfig
from ..agenda import Agenda, Task
from ..interruption import interruptible
from .job import Job, Listener, as_agenda, bury
from .memory import MemoryGauge
from .surroundings import environment, interrupts_ignored, thread_variables
from .worker import Message, work

_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.2


@dataclass(eq=False)
class _Worker:
    """A process with the parent's end of its pipe, and the trial that it holds."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None
    ready: bool = False


def run_in_processes(
    job: Job,
    trials: Agenda | Iterable[TrialConfig],
    listener: Listener,
    workers: int,
    attempts: int = 3,
    memory: MemoryGauge | None = None,
) -> None:
    """Run the trials in processes; returns when all of them have ended, and the processes too.

    Trials that another runner holds come last. The first Ctrl-C lets the running trials finish; the second one, and
    SIGTERM, end them at once.

    Args:
        job: what all trials share.
        trials: an agenda, to which trials may be added, or the trials themselves.
        listener: receives the events.
        workers: trials at a time, at most; fewer where memory holds fewer, and one fewer from then on when a worker was
            killed by SIGKILL, as the system does when memory runs out.
        attempts: how often a trial is begun whose process dies, in all.
        memory: how many workers fit; None for this machine's.

    Raises:
        LogitLabError: a fault that concerns every trial, or workers that cannot start.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial; the workers are gone before it leaves here.
    """
    pool = _Pool(job, as_agenda(job, trials, listener), listener, workers, attempts, memory or MemoryGauge())
    # A signal only leaves a mark: raised in the middle of this bookkeeping it could be lost, or a worker with it.
    with interruptible(listener.notice, at_once=False) as interruption:
        try:
            while pool.has_work():
                interruption.check()
                if interruption.draining and not pool.is_busy():
                    raise KeyboardInterrupt
                if not interruption.draining:
                    pool.employ()
                pool.listen()
        finally:
            pool.end()


class _Pool:
    """The workers of one study."""

    def __init__(
        self, job: Job, agenda: Agenda, listener: Listener, most: int, attempts: int, memory: MemoryGauge
    ) -> None:
        self._job = job
        self._agenda = agenda
        self._listener = listener
        self._most = most
        self._attempts = attempts
        self._memory = memory
        self._workers: list[_Worker] = []
        # They were told to go, and are waited for at the end.
        self._leaving: list[_Worker] = []
        # Taken from the agenda, and waiting for a worker that is starting.
        self._at_hand: deque[Task] = deque()
        self._still_born = 0
        self._told = self._most

    def has_work(self) -> bool:
        """Whether any trial waits or runs."""
        return bool(self._agenda or self._at_hand) or self.is_busy()

    def is_busy(self) -> bool:
        """Whether any trial runs."""
        return any(worker.task is not None for worker in self._workers)

    def employ(self) -> None:
        """Give every idle worker a trial, and start workers while there are trials for them and room."""
        idle = [worker for worker in self._workers if worker.task is None]
        if not self._at_hand and not self._agenda:
            return
        allowed = self._allowed()
        while len(idle) > max(0, allowed - (len(self._workers) - len(idle))):
            self._dismiss(idle.pop())
        free = max(0, allowed - len(self._workers))
        while len(self._at_hand) < len(idle) + free and (task := self._agenda.take()) is not None:
            self._at_hand.append(task)
        for worker in idle:
            if worker.ready and self._at_hand:
                worker.task = self._at_hand.popleft()
                # A worker that died this very moment is found by the next wait.
                with suppress(OSError):
                    worker.pipe.send(worker.task)
        starting = sum(not worker.ready for worker in self._workers)
        self._workers.extend(_start(self._job) for _ in range(min(len(self._at_hand) - starting, free)))

    def listen(self) -> None:
        """Wait for messages, and take in those that have come."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        # Signals, and trials of other runners that end without a word: look up now and then.
        for ready in wait(list(by_pipe), _LOOK_SECONDS):
            assert isinstance(ready, Connection)
            worker = by_pipe[ready]
            if not self._receive(worker):
                self._workers.remove(worker)
                self._bury(worker)
        # A child that the trial left behind may hold the other end of the pipe open: then its end never shows.
        for worker in [worker for worker in self._workers if worker.process.exitcode is not None]:
            while worker.pipe.poll() and self._receive(worker):
                pass
            self._workers.remove(worker)
            self._bury(worker)

    def end(self) -> None:
        """End every worker: idle ones see their pipe close, busy ones get SIGTERM, stubborn ones SIGKILL."""
        with interrupts_ignored():
            for worker in self._workers:
                busy = worker.task is not None or not worker.ready
                worker.pipe.close()
                if busy:
                    worker.process.terminate()
            for worker in [*self._workers, *self._leaving]:
                _join(worker)

    def _allowed(self) -> int:
        """Return how many workers there may be now."""
        if self._most == 1:
            return 1
        fitting = self._memory.fitting(worker.process.pid or 0 for worker in self._workers)
        # More than there are trials for are never started, and need no room.
        wanted = min(self._most, len(self._agenda) + len(self._at_hand) + len(self._workers))
        if fitting < min(wanted, self._told):
            self._told = fitting
            self._listener.notice(
                f"Memory decides how many trials run at a time: {fitting}, not {wanted}. {self._memory.why()}."
            )
        return min(self._most, fitting)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        self._leaving.append(worker)

    def _receive(self, worker: _Worker) -> bool:
        """Take one message of a worker; False when the worker is gone."""
        try:
            message: Message = worker.pipe.recv()
        except (EOFError, OSError):
            return False
        self._memory.learn(message.memory)
        if message.kind == "fault":
            raise message.value
        if message.kind == "ready":
            worker.ready = True
            self._still_born = 0
            return True
        if message.kind == "epoch":
            self._listener.epoch(message.value)
            return True
        assert worker.task is not None
        if message.kind == "started":
            self._listener.trial_started(worker.task.trial)
            return True
        task, worker.task = worker.task, None
        if message.kind == "ended":
            self._listener.trial_ended(task.trial)
        else:  # "held": another runner was faster
            self._agenda.put_back(task)
        return True

    def _bury(self, worker: _Worker) -> None:
        """See to the trial of a worker that died, and to how many may live."""
        _join(worker)
        code = worker.process.exitcode
        how = _cause_of_death(code)
        if not worker.ready:
            self._still_born += 1
            # Killed from outside while it started: nothing says that the next one will be.
            if code is None or code >= 0 or self._still_born >= self._attempts:
                raise LogitLabError(
                    f"A worker process {how} before its first trial. Take the executor 'serial' to see why."
                )
        if code == -getattr(signal, "SIGKILL", 9) and self._most > 1:
            # So does the system end whom memory has run out for.
            self._most = max(1, min(self._most, len(self._workers) + 1) - 1)
            self._listener.notice(
                f"A worker process {how}, perhaps because memory ran out: from now on {self._most} "
                f"{'trial runs' if self._most == 1 else 'trials run'} at a time."
            )
        if worker.task is not None:
            place = socket.gethostname(), worker.process.pid or 0
            bury(self._job, worker.task, how, self._attempts, self._agenda, self._listener, place)


def _start(job: Job) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(job, theirs), name="logitlab-worker")
    with environment(**thread_variables(job.device)), _main_hidden(), interrupts_ignored():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _join(worker: _Worker) -> None:
    """Wait for the end of a worker, and bring it about where it does not come."""
    worker.process.join(_GRACE_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep spawned processes from running the user's script again, so that it needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
