"""A trial that several processes train: the function that starts them with torchrun, inside any executor.

The claim stays with the process that the executor knows. The processes that torchrun starts (``trial_process.py``) end
when it does, whatever ends it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ...config.errors import DataError, TrialError
from ...config.trial import TrialConfig
from ...records import OodSource
from ...records.claims import ProcessName, this_process
from ...records.study import StageSource
from ..agenda import Task
from .job import Job, Report, TrialFunction
from .run_folder import Inbox, RunFolder, fault_of, progress_of
from .surroundings import cut_off_signal, search_path, thread_variables

REQUEST_FILE: Final = "request.pickle"

_LOOK_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 2.0
# What torchrun told this process, if it is one of several itself, is not what it tells its own.
_FOREIGN: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Request:
    """What the processes of one trial need.

    Attributes:
        job: with the function that the first of them calls.
        task: the trial, with what is to be measured afterwards.
        run: where they write what happens.
        parent: the process that waits for them.
    """

    job: Job
    task: Task
    run: RunFolder
    parent: ProcessName


@dataclass(frozen=True)
class Together:
    """A trial function whose trials are trained by several processes.

    Attributes:
        function: what the first of them calls, as one process would.
        processes: how many.
        plugins: modules or files that they import first.
    """

    function: TrialFunction
    processes: int
    plugins: tuple[str, ...] = ()

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
        """Run one trial; see `TrialFunction`.

        Raises:
            DataError: an image cannot be read.
            OSError: the disk takes no record.
            TrialError: a process failed; the message says how.
        """
        from ...data.prepared import kept_in

        sources, steps = tuple(ood), tuple(stages)
        job = Job(self.function, root, device, data_root, self.plugins, sources, steps, kept_in())
        with tempfile.TemporaryDirectory(prefix="logitlab-", ignore_cleanup_errors=True) as folder:
            run = RunFolder(Path(folder))
            request = Request(job, Task(trial, 0, sources, steps), run, this_process())
            (run.path / REQUEST_FILE).write_bytes(pickle.dumps(request))
            self._run(run, device, report)

    def _run(self, run: RunFolder, device: str, report: Report | None) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command += [str(self.processes), "-m", f"{__package__}.trial_process", str(run.path)]
        inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        inherited |= {**thread_variables(device), "PYTHONPATH": search_path()}
        inbox, faults = Inbox(run), []
        with (run.path / "errors").open("w+b") as errors:
            # A session of its own: Ctrl-C reaches all processes of a terminal, and torchrun would end the trial.
            with _cut_off_unheard():
                process = subprocess.Popen(command, env=inherited, stdout=errors, stderr=errors, start_new_session=True)
            try:
                code: int | None = None
                while code is None:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(_LOOK_SECONDS)
                    for news in inbox.news():
                        if news.kind == "fault":
                            faults.append(news.values)
                        elif news.kind == "epoch" and report is not None:
                            report(progress_of(news.values))
            finally:
                _end(process)
            errors.seek(0)
            printed = errors.read().decode(errors="replace")
        if code:
            raise _fault(faults, code, printed)


def together(job: Job, processes: int) -> Job:
    """Return the job with trials that so many processes train; the same job for one."""
    if processes == 1:
        return job
    return replace(job, function=Together(job.function, processes, job.plugins))


@contextmanager
def _cut_off_unheard() -> Iterator[None]:
    """Let processes that are started inside never hear the signal by which Slurm announces the end of a job.

    Slurm sends it to all of them, and it would kill them; the process that holds the claim alone answers it.
    """
    number = cut_off_signal()
    if number is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun, which ends its processes; where it does not, they see that it is gone."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _fault(faults: list[Any], code: int, printed: str) -> Exception:
    """Return what went wrong: the first process's own words where it left some."""
    for values in faults:
        fault = fault_of(values)
        if isinstance(fault, (DataError, OSError)):
            return fault
        if not values["own"]:
            return TrialError(f"{values['class']}: {values['words']}")
        return TrialError(values["words"])
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    # The words of an exception stand last before torchrun's own summary.
    own = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception")) and ": " in line]
    last = (own or lines or ["nothing was printed"])[-1].rstrip(".")
    return TrialError(f"The processes that trained this trial together ended with exit code {code}: {last}.")
