"""A job that is run on another machine, or in a process that another program starts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ...config.errors import LogitLabError
from ..agenda import Task
from ..plugins import import_plugins
from .job import Job, run_trial
from .run_folder import Poster, RunFolder, runs
from .surroundings import one_thread

_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Journey:
    """All that a process elsewhere needs to run trials as the runner would.

    Attributes:
        job: what all trials share; the folder of the records is absolute.
        run: of the run.
        folder: where the runner works; relative paths of data sets mean this place.
        runner: number of the runner's process, where this one shall not outlive it; None where it may.
    """

    job: Job
    run: RunFolder
    folder: str
    runner: int | None = None

    def arrive(self) -> Job:
        """Prepare this process; return the job as it stands here.

        Raises:
            LogitLabError: this machine does not see the folder of the records.
            ConfigurationError: a plugin cannot be imported here.
        """
        if not self.run.is_seen():
            raise LogitLabError(unseen(self.job.root, [os.uname().nodename if hasattr(os, "uname") else "a machine"]))
        if self.runner is not None:
            threading.Thread(target=_leave_with, args=(self.runner,), daemon=True).start()
        with suppress(OSError):
            os.chdir(self.folder)
        import_plugins(self.job.plugins)
        if self.job.cache is not None:
            return self.job
        from ...data.prepared import cache_folder

        # This machine's own folder: which one, nobody knows but here.
        return replace(self.job, cache=cache_folder())


def prepare_journey(job: Job, run: RunFolder) -> Journey:
    """Make paths and variables of this process part of the job."""
    data_root = job.data_root or os.environ.get("LOGITLAB_DATA") or None
    absolute = None if data_root is None else str(Path(data_root).expanduser().resolve())
    return Journey(replace(job, root=job.root.resolve(), data_root=absolute), run, str(Path.cwd()))


def run_and_tell(job: Job, task: Task, poster: Poster) -> bool:
    """Run one trial and tell the runner of it; True when it has ended, False when another process holds it.

    Raises:
        DataError: an image cannot be read; the other trials would meet it as well.
        OSError: the disk takes no record.
    """
    identity = task.trial.identity
    with one_thread(job.device):
        ended = run_trial(job, task, lambda: poster.say("started", identity), poster.epoch)
    poster.say("ended" if ended else "held", identity)
    return ended


def unseen(root: Path, machines: list[str]) -> str:
    """Say that machines do not see the store."""
    names = ", ".join(f"'{name}'" for name in machines)
    return (
        f"The folder of the records, '{root}', is not the same on {names}. Give a folder that all machines of the "
        "cluster share, for instance on NFS (out)."
    )


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Answer SIGTERM by an exception, so that claims are given back and children end; and ignore Ctrl-C.

    Ctrl-C reaches every process of a terminal; the runner alone decides.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)


def _leave_with(runner: int) -> None:
    """Leave no orphan when the runner is killed in a way that it cannot answer."""
    while runs(runner):
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
