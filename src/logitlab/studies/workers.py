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
from .executors import Job, Listener, environment, note_failure, run_trial
from .plugins import import_plugins

_GRACE_SECONDS = 3.0


@dataclass
class _Worker:
    """A process with the parent's end of its pipe, and the trial that it holds."""

    process: SpawnProcess
    pipe: Connection
    trial: TrialConfig | None = None
    ready: bool = False


def run_in_processes(job: Job, trials: Sequence[TrialConfig], listener: Listener, workers: int) -> None:
    """Run the trials in ``workers`` processes; returns when all of them have ended, and the processes too.

    Raises:
        LogitLabError: a fault that concerns every trial, or workers that cannot start.
        KeyboardInterrupt: the user pressed Ctrl-C; the workers are gone before it leaves here.
    """
    pending = deque(trials)
    pool: list[_Worker] = []
    try:
        while pending or any(worker.trial is not None for worker in pool):
            while len(pool) < workers and sum(not worker.trial for worker in pool) < len(pending):
                pool.append(_start(job))
            for ready in wait([worker.pipe for worker in pool]):
                worker = next(worker for worker in pool if worker.pipe is ready)
                if not _receive(worker, listener):
                    pool.remove(worker)
                    _bury(worker, job, listener)
                elif worker.ready and worker.trial is None and pending:
                    worker.trial = pending.popleft()
                    listener.trial_started(worker.trial)
                    # A worker that died this very moment is found by the next wait.
                    with suppress(OSError):
                        worker.pipe.send(worker.trial)
    finally:
        _end(pool)


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


def _receive(worker: _Worker, listener: Listener) -> bool:
    """Take one message of a worker; False when the worker is gone."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        return False
    if kind == "fault":
        raise value
    if kind == "epoch":
        listener.epoch(value)
    else:  # "ready": the worker is up, or has ended a trial
        worker.ready = True
        if worker.trial is not None:
            trial, worker.trial = worker.trial, None
            listener.trial_ended(trial)
    return True


def _bury(worker: _Worker, job: Job, listener: Listener) -> None:
    """Record the trial of a worker that died as failed."""
    worker.process.join()
    how = _cause_of_death(worker.process.exitcode)
    if not worker.ready:
        raise LogitLabError(f"A worker process {how} before its first trial. Take the executor 'serial' to see why.")
    if worker.trial is not None:
        message = f"Its worker process {how}. Take fewer workers or a smaller batch_size if memory ran out."
        note_failure(job, worker.trial, "WorkerDied", message)
        listener.trial_ended(worker.trial)


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _end(pool: list[_Worker]) -> None:
    """End every worker: idle ones see their pipe close, busy ones get SIGTERM, stubborn ones SIGKILL."""
    with _interrupts_ignored():
        for worker in pool:
            busy = worker.trial is not None or not worker.ready
            worker.pipe.close()
            if busy:
                worker.process.terminate()
        for worker in pool:
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
            run_trial(job, _next_trial(pipe), lambda progress: _send(pipe, "epoch", progress))
            _send(pipe, "ready", None)
    except LogitLabError as fault:
        _send(pipe, "fault", fault)
    except Exception as fault:
        # The exception itself may not survive the journey; its words do.
        _send(pipe, "fault", TrialError(f"{type(fault).__name__}: {fault}"))


def _send(pipe: Connection, kind: str, value: Any) -> None:
    try:
        pipe.send((kind, value))
    except OSError:  # the parent is gone, and with it the reason to go on
        raise SystemExit(1) from None


def _next_trial(pipe: Connection) -> TrialConfig:
    try:
        trial: TrialConfig = pipe.recv()
    except (EOFError, OSError):  # the parent needs this worker no more
        raise SystemExit(0) from None
    return trial


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
