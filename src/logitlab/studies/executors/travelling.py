"""A job that is run on another machine, or in a process that another program starts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ...config.errors import LogitLabError
from ...records.claims import ProcessName
from ..agenda import Task
from ..plugins import import_plugins
from .job import Job, run_trial
from .run_folder import Poster, RunFolder
from .surroundings import cut_off_signal, one_thread

_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Journey:
    """All that a process elsewhere needs to run trials as the runner would.

    Attributes:
        job: what all trials share; the folder of the records is absolute.
        run: of the run.
        folder: where the runner works; relative paths of data sets mean this place.
        runner: the runner's process, where this one shall not outlive it; None where it may.
    """

    job: Job
    run: RunFolder
    folder: str
    runner: ProcessName | None = None

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


class CutOffError(SystemExit):
    """The time of this job is over, and nobody begins it again by itself."""


@contextmanager
def leaving_when_told() -> Iterator[None]:
    """Answer SIGTERM, and Slurm's word that time is over, by SystemExit; and ignore Ctrl-C.

    So claims are given back and children end, and no trial takes it for a fault of its own. Ctrl-C reaches every
    process of a terminal; the runner alone decides.

    Raises:
        CutOffError: inside, when time is over and submitit did not put the job into the queue again.
        SystemExit: inside, when it did, or on SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    limit = cut_off_signal()
    numbers = [signal.SIGTERM, signal.SIGINT, *([] if limit is None else [limit])]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if limit is not None:
        signal.signal(limit, partial(_leave_in_time, before[limit]))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)


def _leave_in_time(queue_again: Any, number: int, frame: FrameType | None) -> Any:
    # Once is enough: what is given back now is not to be interrupted.
    signal.signal(number, signal.SIG_IGN)
    if callable(queue_again):
        # submitit's own answer leaves where it could, and else raises what a trial would take for its own failure.
        with suppress(Exception):
            queue_again(number, frame)
    raise CutOffError(128 + number)


def _leave_with(runner: ProcessName) -> None:
    """Leave no orphan when the runner is killed in a way that it cannot answer."""
    while runner.may_run():
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
