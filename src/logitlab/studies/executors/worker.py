"""What a worker process of the executor ``process`` does: trials, one after another, until its pipe closes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NamedTuple, cast

from ...config.errors import LogitLabError, TrialError
from ..agenda import Task
from ..plugins import import_plugins
from .job import Job, run_trial
from .memory import peak_memory
from .run_folder import fault_of, written_fault


class Message(NamedTuple):
    """What a worker says.

    Attributes:
        kind: ``"ready"``, ``"started"``, ``"epoch"``, ``"ended"``, ``"held"`` (another runner was faster) or
            ``"fault"`` (every trial would meet it).
        value: the progress, or the fault.
        memory: the most that the worker has held so far, in bytes; 0 where nobody asked.
    """

    kind: str
    value: Any = None
    memory: int = 0


def work(job: Job, pipe: Connection) -> None:
    """Run trials until the pipe closes."""
    # Ctrl-C reaches every process of the terminal; the parent alone decides, and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        import_plugins(job.plugins)
        _send(pipe, Message("ready"))
        while True:
            ended = run_trial(
                job,
                _next_task(pipe),
                lambda: _send(pipe, Message("started")),
                lambda progress: _send(pipe, Message("epoch", progress, peak_memory())),
            )
            _send(pipe, Message("ended" if ended else "held", memory=peak_memory()))
    except Exception as fault:
        _send(pipe, Message("fault", portable(fault)))


def portable(fault: Exception) -> Exception:
    """Return the fault as it survives the journey to another process."""
    if isinstance(fault, LogitLabError):
        try:
            return cast(LogitLabError, pickle.loads(pickle.dumps(fault)))
        except Exception:  # a user's own kind of fault, that cannot be made from its words alone
            return fault_of(written_fault(fault))
    if isinstance(fault, OSError):
        # Subclasses of other libraries may not survive; number and words make the class anew.
        words = str(fault) if fault.errno is None else fault.strerror
        return OSError(fault.errno, words) if fault.errno is not None else OSError(words)
    # The exception itself may not survive; its words do.
    return TrialError(f"{type(fault).__name__}: {fault}")


def _send(pipe: Connection, message: Message) -> None:
    try:
        pipe.send(message)
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
