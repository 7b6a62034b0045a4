"""The executor ``process``: spawned workers, each reused for many trials.

The standard library's ``ProcessPoolExecutor`` gives up every pending trial when one worker dies. Here a worker
that dies (memory, a crash in native code) costs the one trial that it held: a pipe a worker says which.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType, ModuleType
from typing import Any

from ..config.errors import LogitLabError, TrialError
from ..config.trial import TrialConfig
from ..records import Store
from ..records.claims import take_claim
from .agenda import Agenda, Task
from .executors import Job, Listener, environment, note_failure, run_trial
from .interruption import interruptible
from .plugins import import_plugins

_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.2


@dataclass
class _Worker:
    """A process with the parent's end of its pipe, and the trial that it holds."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None
    ready: bool = False


def run_in_processes(job: Job, trials: Sequence[TrialConfig], listener: Listener, workers: int) -> None:
    """Run the trials in ``workers`` processes; returns when all of them have ended, and the processes too.

    Trials that another runner holds come last. The first Ctrl-C lets the running trials finish; the second one, and
    SIGTERM, end them at once.

    Raises:
        LogitLabError: a fault that concerns every trial, or workers that cannot start.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial; the workers are gone before it leaves here.
    """
    agenda = Agenda(trials, Store(job.root), listener.trial_ended, listener.notice, job.ood)
    pool: list[_Worker] = []
    # Taken from the agenda, and waiting for a worker that is starting.
    at_hand: deque[Task] = deque()
    # A signal only leaves a mark: raised in the middle of this bookkeeping it could be lost, or a worker with it.
    with interruptible(listener.notice, at_once=False) as interruption:
        try:
            while agenda or at_hand or _busy(pool):
                interruption.check()
                if interruption.draining and not _busy(pool):
                    raise KeyboardInterrupt
                if not interruption.draining:
                    _employ(pool, at_hand, agenda, job, workers)
                # Signals, and trials of other runners that end without a word: look up now and then.
                for ready in wait([worker.pipe for worker in pool], _LOOK_SECONDS):
                    worker = next(worker for worker in pool if worker.pipe is ready)
                    if not _receive(worker, agenda, listener):
                        pool.remove(worker)
                        _bury(worker, job, agenda, listener)
        finally:
            _end(pool)


def _busy(pool: list[_Worker]) -> bool:
    return any(worker.task is not None for worker in pool)


def _employ(pool: list[_Worker], at_hand: deque[Task], agenda: Agenda, job: Job, workers: int) -> None:
    """Give every idle worker a trial, and start workers while there are trials for them."""
    idle = [worker for worker in pool if worker.task is None]
    while len(at_hand) < len(idle) + workers - len(pool) and (task := agenda.take()) is not None:
        at_hand.append(task)
    for worker in idle:
        if worker.ready and at_hand:
            worker.task = at_hand.popleft()
            # A worker that died this very moment is found by the next wait.
            with suppress(OSError):
                worker.pipe.send(worker.task)
    starting = sum(not worker.ready for worker in pool)
    pool.extend(_start(job) for _ in range(min(len(at_hand) - starting, workers - len(pool))))


def _start(job: Job) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs), name="logitlab-worker")
    # Read by torch when it is imported there; NumPy's libraries obey as well.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if job.device == "cpu" else {}
    with environment(**threads), _main_hidden(), _interrupts_ignored():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _receive(worker: _Worker, agenda: Agenda, listener: Listener) -> bool:
    """Take one message of a worker; False when the worker is gone."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        return False
    if kind == "fault":
        raise value
    if kind == "ready":
        worker.ready = True
        return True
    if kind == "epoch":
        listener.epoch(value)
        return True
    assert worker.task is not None
    if kind == "started":
        listener.trial_started(worker.task.trial)
        return True
    task, worker.task = worker.task, None
    if kind == "ended":
        listener.trial_ended(task.trial)
    else:  # "held": another runner was faster
        agenda.put_back(task)
    return True


def _bury(worker: _Worker, job: Job, agenda: Agenda, listener: Listener) -> None:
    """Record the trial of a worker that died as failed."""
    _join(worker)
    how = _cause_of_death(worker.process.exitcode)
    if not worker.ready:
        raise LogitLabError(f"A worker process {how} before its first trial. Take the executor 'serial' to see why.")
    if worker.task is None:
        return
    trial, store = worker.task.trial, Store(job.root)
    claim = take_claim(store.trial_folder(trial.identity))
    if claim is None:  # another runner saw it die and took the trial over
        agenda.put_back(worker.task)
        return
    with claim:
        # It may have died between its record and its word that it ended.
        if not worker.task.ended(store):
            message = f"Its worker process {how}. Take fewer workers or a smaller batch_size if memory ran out."
            note_failure(job, trial, "WorkerDied", message)
    listener.trial_ended(trial)


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _end(pool: list[_Worker]) -> None:
    """End every worker: idle ones see their pipe close, busy ones get SIGTERM, stubborn ones SIGKILL."""
    with _interrupts_ignored():
        for worker in pool:
            busy = worker.task is not None or not worker.ready
            worker.pipe.close()
            if busy:
                worker.process.terminate()
        for worker in pool:
            _join(worker)


def _join(worker: _Worker) -> None:
    """Wait for the end of a worker, and bring it about where it does not come."""
    worker.process.join(_GRACE_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _work(job: Job, pipe: Connection) -> None:
    """Run trials until the pipe closes: what a worker process does."""
    # Ctrl-C reaches every process of the terminal; the parent alone decides, and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        import_plugins(job.plugins)
        _send(pipe, "ready", None)
        while True:
            ended = run_trial(
                job,
                _next_task(pipe),
                lambda: _send(pipe, "started", None),
                lambda progress: _send(pipe, "epoch", progress),
            )
            _send(pipe, "ended" if ended else "held", None)
    except LogitLabError as fault:
        _send(pipe, "fault", fault)
    except OSError as fault:
        # Subclasses of other libraries may not survive the journey; number and words make the class anew.
        words = str(fault) if fault.errno is None else fault.strerror
        _send(pipe, "fault", OSError(fault.errno, words) if fault.errno is not None else OSError(words))
    except Exception as fault:
        # The exception itself may not survive the journey; its words do.
        _send(pipe, "fault", TrialError(f"{type(fault).__name__}: {fault}"))


def _send(pipe: Connection, kind: str, value: Any) -> None:
    try:
        pipe.send((kind, value))
    except OSError:  # the parent is gone, and with it the reason to go on
        raise SystemExit(1) from None


def _next_task(pipe: Connection) -> Task:
    try:
        task: Task = pipe.recv()
    except (EOFError, OSError):  # the parent needs this worker no more
        raise SystemExit(0) from None
    return task


def _leave(number: int, frame: FrameType | None) -> Any:
    """Leave by an exception, so that the children of a data loader end with their worker."""
    raise SystemExit(128 + number)


def _die_with_parent() -> None:
    """Leave no orphan when the parent is killed in a way that it cannot answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep spawned processes from running the user's script again, so that it needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment; a process that is started meanwhile ignores it from its first instruction."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
