"""What every executor delivers: one trial, claimed, run, and its failure written down."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...config.errors import DataError
from ...config.trial import TrialConfig
from ...records import OodSource, Store
from ...records.beside import LACKS, first_lacking
from ...records.claims import holder, take_claim
from ...records.study import StageSource
from ..agenda import Agenda, Task

if TYPE_CHECKING:
    from ...training import Progress

#: The kind of the failure of a trial whose processes died, one after another: the environment's fault, perhaps.
WORKER_DIED: Final = "WorkerDied"

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
        stages: Sequence[StageSource] = (),
    ) -> None:
        """Leave a record or a failure in ``root``, and beside a record what ``ood`` and ``stages`` ask for.

        ``stages`` is given where there are some; a function without that parameter serves studies without stages.
        """


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
        stages: what is done with every trained model; likewise.
        cache: a folder of this machine that keeps decoded images; None for reading them anew in every process.
    """

    function: TrialFunction
    root: Path
    device: str = "cpu"
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    ood: tuple[OodSource, ...] = ()
    stages: tuple[StageSource, ...] = ()
    cache: Path | None = None


class Listener(Protocol):
    """Receives the events of an executor, all of them in the runner's process and thread."""

    def notice(self, text: str) -> None:
        """Something that the user should know, one sentence."""

    def trial_started(self, trial: TrialConfig) -> None:
        """A worker took the trial up."""

    def epoch(self, progress: Progress) -> None:
        """A running trial finished an epoch, or goes on after one that an earlier attempt finished."""

    def trial_ended(self, trial: TrialConfig) -> None:
        """The trial left a record or a failure in the store; one that another runner ran did not start here.

        Trials that come to be known by its end may be added to the agenda here.
        """


class ClaimLostError(Exception):
    """This process was suspended for so long that another one took its trial over."""


def as_agenda(job: Job, trials: Agenda | Iterable[TrialConfig], listener: Listener) -> Agenda:
    """Return the agenda itself, or one of these trials."""
    if isinstance(trials, Agenda):
        return trials
    return Agenda(trials, Store(job.root), listener.trial_ended, listener.notice, job.ood, job.stages)


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

    options: dict[str, Any] = {"device": job.device, "data_root": job.data_root, "report": watch, "ood": task.ood}
    if task.stages:
        options["stages"] = task.stages
    with claim:
        # The claim may have become free because the trial ended.
        if task.ended(store):
            return True
        store.sweep(trial.identity)
        started()
        try:
            with images_kept(job.cache):
                job.function(trial, job.root, **options)
        except DataError:
            raise
        except ClaimLostError:
            return False
        except Exception as fault:  # a user's head or backbone may raise anything
            _raise_if_the_disk_refuses(fault)
            note_failure(job, trial, type(fault).__name__, _one_line(fault), traceback.format_exc())
    return True


def note_failure(job: Job, trial: TrialConfig, kind: str, message: str, details: str | None = None) -> None:
    """Write down that a trial failed for a reason that it could not write down itself."""
    error: dict[str, Any] = {"kind": kind, "message": message}
    if details is not None:
        error["traceback"] = details
    store = Store(job.root)
    if trial.measure_test and store.is_done(trial.identity):
        lacks = first_lacking(store.trial_folder(trial.identity), job.ood, job.stages)
        if lacks is not None:
            # Of what this study asks of the model; another one may ask for something else.
            error[LACKS] = lacks
    store.write_error(trial.identity, trial.model_dump(mode="json"), error)


def bury(
    job: Job,
    task: Task,
    how: str,
    attempts: int,
    agenda: Agenda,
    listener: Listener,
    place: tuple[str, int] | None = None,
) -> None:
    """See to a trial whose process died: it is tried again, or its failure is noted.

    Args:
        job: what all trials share.
        task: the trial, no longer in the agenda.
        how: what befell the process, such as ``"was killed by signal 9 (SIGKILL)"``.
        attempts: how often a trial is begun that ends so, in all.
        agenda: takes the trial back.
        listener: hears of it.
        place: host and number of the process that died: its claim holds nobody up. None where nobody heard them: then
            any claim is taken for its own, for a trial that kills its process would else be tried for ever.
    """
    trial, store = task.trial, Store(job.root)
    if task.deaths + 1 < attempts:
        # It may have died between its record and its word that it ended.
        if task.ended(store):
            listener.trial_ended(trial)
            return
        listener.notice(
            f"A worker process {how} with the trial {name_of(trial)}, which is tried again (attempt {task.deaths + 2} "
            f"of {attempts}). Take fewer workers or a smaller batch_size if memory ran out."
        )
        agenda.try_again(task)
        return
    folder = store.trial_folder(trial.identity)
    claim = take_claim(folder)
    if claim is None:
        found = holder(folder)
        if found is None or (place is not None and (found.host, found.pid) != place):
            # Another runner saw it die and took the trial over.
            agenda.put_back(task)
            return
    with claim or nullcontext():
        if not task.ended(store):
            tries = "" if attempts == 1 else f" That was attempt {attempts} of {attempts}."
            message = f"Its worker process {how}.{tries} Take fewer workers or a smaller batch_size if memory ran out."
            note_failure(job, trial, WORKER_DIED, message)
    listener.trial_ended(trial)


def name_of(trial: TrialConfig) -> str:
    """Call a trial by its head and seed, for a sentence."""
    return f"'{trial.head.name}', seed {trial.seed} ({trial.identity})"


def images_kept(cache: Path | None) -> AbstractContextManager[None]:
    """Let trials that run inside keep decoded images in a folder of this machine; None for nowhere."""
    if cache is None:
        return nullcontext()
    from ...data.prepared import prepared_in

    return prepared_in(cache)


def _raise_if_the_disk_refuses(fault: Exception) -> None:
    """A disk that is full, broken, gone or read-only is no fault of a trial: the others would meet it as well.

    Raises:
        OSError: that is what happened. Libraries in native code say so in words alone.
    """
    for code in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ESTALE, errno.EIO):
        if getattr(fault, "errno", None) == code or os.strerror(code) in str(fault):
            raise OSError(code, os.strerror(code)) from fault


def _one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split()) or type(fault).__name__
    if "out of memory" in text.lower():
        text = f"{text} Take a smaller batch_size."
    return text
