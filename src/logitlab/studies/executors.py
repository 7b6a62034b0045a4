"""Executors deliver trials to the one function that runs them, and events to whoever watches."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..config.errors import DataError
from ..config.torchrun import torchrun_launch
from ..config.trial import TrialConfig
from ..records import OodSource, Store
from ..records.claims import take_claim
from .agenda import POLL_SECONDS, Agenda, Task
from .interruption import interruptible

if TYPE_CHECKING:
    from ..training import Progress

Report = Callable[["Progress"], None]


class TrialFunction(Protocol):
    """Runs one trial and leaves its record; importable in a fresh process. ``training.execute`` is the one."""

    def __call__(
        self,
        trial: TrialConfig,
        root: Path,
        *,
        device: str = "cpu",
        data_root: str | None = None,
        report: Report | None = None,
        ood: Sequence[OodSource] = (),
    ) -> None:
        """Leave a record or a failure in ``root``, and beside a record what ``ood`` asks for."""


@dataclass(frozen=True)
class Job:
    """What every trial of a study shares; it travels to the workers.

    Attributes:
        function: runs one trial.
        root: the folder of the records.
        device: a torch device, for instance ``"cuda:0"``.
        data_root: the folder that holds data sets; None for the default.
        plugins: modules or files to import first; they register the user's heads.
        ood: out-of-distribution sets that every trial is measured on; no part of its identity.
    """

    function: TrialFunction
    root: Path
    device: str = "cpu"
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    ood: tuple[OodSource, ...] = ()


class Listener(Protocol):
    """Receives the events of an executor."""

    def notice(self, text: str) -> None:
        """Something that the user should know, one sentence."""

    def trial_started(self, trial: TrialConfig) -> None:
        """A worker took the trial up."""

    def epoch(self, progress: Progress) -> None:
        """A running trial finished an epoch, or goes on after one that an earlier attempt finished."""

    def trial_ended(self, trial: TrialConfig) -> None:
        """The trial left a record or a failure in the store; one that another runner ran did not start here."""


class ClaimLostError(Exception):
    """This process was suspended for so long that another one took its trial over."""


def run_serial(job: Job, trials: Sequence[TrialConfig], listener: Listener) -> None:
    """Run the trials one after another in this process; wait at the end for those that another runner holds.

    The first Ctrl-C lets the running trial finish; the second one, and SIGTERM, end it at once. Under torchrun the
    first one does.

    Raises:
        LogitLabError: a fault that concerns every trial, for instance an image that cannot be read.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    agenda = Agenda(trials, Store(job.root), listener.trial_ended, listener.notice, job.ood)
    # torchrun ends its processes soon after a Ctrl-C, and gives a trial no time to finish.
    drain = torchrun_launch() is None
    with one_thread(job.device), interruptible(listener.notice, drain) as interruption:
        while len(agenda):
            interruption.check()
            if interruption.draining:
                raise KeyboardInterrupt
            task = agenda.take()
            if task is None:
                if len(agenda):
                    time.sleep(POLL_SECONDS)
                continue
            if run_trial(job, task, partial(listener.trial_started, task.trial), listener.epoch):
                listener.trial_ended(task.trial)
            else:
                agenda.put_back(task)


def run_trial(job: Job, task: Task, started: Callable[[], None], report: Report) -> bool:
    """Run one trial, unless another process holds it; whatever goes wrong inside it is recorded as its failure.

    Args:
        job: what all trials share.
        task: the trial.
        started: called when the trial is claimed.
        report: called after every epoch.

    Returns:
        whether the trial has ended, here or elsewhere; False when another process holds it.

    Raises:
        DataError: an image cannot be read; the other trials would meet it as well.
        OSError: the disk takes no record, not even that of a failure.
    """
    trial, store = task.trial, Store(job.root)
    claim = take_claim(store.trial_folder(trial.identity))
    if claim is None:
        return False

    def watch(progress: Progress) -> None:
        if claim.is_lost():
            raise ClaimLostError
        report(progress)

    with claim:
        # The claim may have become free because the trial ended.
        if task.ended(store):
            return True
        store.sweep(trial.identity)
        started()
        try:
            job.function(trial, job.root, device=job.device, data_root=job.data_root, report=watch, ood=job.ood)
        except DataError:
            raise
        except ClaimLostError:
            return False
        except Exception as fault:  # a user's head or backbone may raise anything
            _raise_if_the_disk_refuses(fault)
            note_failure(job, trial, type(fault).__name__, _one_line(fault), traceback.format_exc())
    return True


def _raise_if_the_disk_refuses(fault: Exception) -> None:
    """A disk that is full or read-only is no fault of a trial: the others would meet it as well.

    Raises:
        OSError: that is what happened. Libraries in native code say so in words alone.
    """
    for code in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
        if getattr(fault, "errno", None) == code or os.strerror(code) in str(fault):
            raise OSError(code, os.strerror(code)) from fault


def note_failure(job: Job, trial: TrialConfig, kind: str, message: str, details: str | None = None) -> None:
    """Write down that a trial failed for a reason that it could not write down itself."""
    error: dict[str, Any] = {"kind": kind, "message": message}
    if details is not None:
        error["traceback"] = details
    Store(job.root).write_error(trial.identity, trial.model_dump(mode="json"), error)


def _one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split()) or type(fault).__name__
    if "out of memory" in text.lower():
        text = f"{text} Take a smaller batch_size."
    return text


def worker_count(device: str, workers: int | None, trials: int) -> int:
    """Return how many trials run at a time: one a CPU core, one in all on an accelerator.

    Args:
        device: the torch device.
        workers: the user's wish; None for the rule above.
        trials: how many trials there are to run.
    """
    if workers is None:
        import joblib  # type: ignore[import-untyped]  # comes with scikit-learn; knows affinity masks and the quotas of containers

        workers = joblib.cpu_count() if device == "cpu" else 1
    return max(1, min(workers, trials))


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Let torch use one thread on the CPU, as every worker does, so that each executor gives the same bits."""
    import torch

    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the processes that are started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
