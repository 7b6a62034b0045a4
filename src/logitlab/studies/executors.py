"""Executors deliver trials to the one function that runs them, and events to whoever watches."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..config.errors import DataError
from ..config.trial import TrialConfig
from ..records import Store

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
    ) -> None:
        """Leave a record or a failure in ``root``; return without a value."""


@dataclass(frozen=True)
class Job:
    """What every trial of a study shares; it travels to the workers.

    Attributes:
        function: runs one trial.
        root: the folder of the records.
        device: a torch device, for instance ``"cuda:0"``.
        data_root: the folder that holds data sets; None for the default.
        plugins: modules or files to import first; they register the user's heads.
    """

    function: TrialFunction
    root: Path
    device: str = "cpu"
    data_root: str | None = None
    plugins: tuple[str, ...] = ()


class Listener(Protocol):
    """Receives the events of an executor."""

    def trial_started(self, trial: TrialConfig) -> None:
        """A worker took the trial up."""

    def epoch(self, progress: Progress) -> None:
        """A running trial finished an epoch."""

    def trial_ended(self, trial: TrialConfig) -> None:
        """The trial left a record or a failure in the store."""


def run_serial(job: Job, trials: Sequence[TrialConfig], listener: Listener) -> None:
    """Run the trials one after another in this process.

    Raises:
        LogitLabError: a fault that concerns every trial, for instance an image that cannot be read.
    """
    with one_thread(job.device):
        for trial in trials:
            listener.trial_started(trial)
            run_trial(job, trial, listener.epoch)
            listener.trial_ended(trial)


def run_trial(job: Job, trial: TrialConfig, report: Report) -> None:
    """Run one trial; whatever goes wrong inside it is recorded as its failure, and the others go on.

    Raises:
        DataError: an image cannot be read; the other trials would meet it as well.
        OSError: the disk takes no record, not even that of a failure.
    """
    try:
        job.function(trial, job.root, device=job.device, data_root=job.data_root, report=report)
    except DataError:
        raise
    except Exception as fault:  # a user's head or backbone may raise anything
        note_failure(job, trial, type(fault).__name__, _one_line(fault), traceback.format_exc())


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
