"""Jobs of submitit: what they are asked for, how they ended, and the end of those on this machine."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from ...config.errors import ConfigurationError
from ...config.study import ExecutionConfig
from .job import Job

#: Below the folder of the records: what the jobs print, and what submitit hands to them.
LOG_FOLDER: Final = "slurm"

_GRACE_SECONDS: Final = 5.0


def import_submitit() -> Any:
    """Return the module.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import submitit
    except ModuleNotFoundError as fault:
        raise ConfigurationError(
            "The executor 'slurm' needs submitit. Install it with: pip install 'logitlab[slurm]'"
        ) from fault
    return submitit


def make_executor(submitit: Any, cluster: str, job: Job, execution: ExecutionConfig) -> Any:
    """Return submitit's executor with what the study asks of the cluster.

    Raises:
        ConfigurationError: submitit refuses it.
    """
    wishes = execution.slurm
    gpus = execution.gpus_per_trial
    if gpus is None:
        gpus = execution.processes_per_trial if job.device.startswith("cuda") else 0
    parameters: dict[str, Any] = {
        "name": "logitlab",
        "timeout_min": wishes.timeout_minutes,
        "nodes": 1,
        "tasks_per_node": 1,
        # Slurm gives a job whatever it likes where this is left out.
        "cpus_per_task": max(wishes.cpus_per_task, execution.processes_per_trial),
        "gpus_per_node": math.ceil(gpus),
        **({} if wishes.memory_gb is None else {"mem_gb": wishes.memory_gb}),
        **({} if wishes.partition is None else {"slurm_partition": wishes.partition}),
        **wishes.parameters,
    }
    try:
        executor = submitit.AutoExecutor(folder=job.root / LOG_FOLDER, cluster=cluster)
        executor.update_parameters(**parameters)
    except (NameError, TypeError, ValueError, RuntimeError) as fault:
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise ConfigurationError(f"submitit cannot use these parameters of 'slurm': {reason}") from fault
    return executor


def has_failed(job: Any) -> bool:
    """Whether a job that is over has left no result, or an error."""
    try:
        return job.exception() is not None
    except Exception:  # submitit finds no result, or one that it cannot read
        return True


def state_of(job: Any) -> str:
    """Return what Slurm says of a job, as far as submitit knows."""
    return str(job.state)


def last_words(job: Any) -> str:
    """Return the last line that a job printed as an error, as a sentence."""
    with suppress(OSError, UnicodeDecodeError):
        lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
        if lines:
            return lines[-1].rstrip(".") + "."
    return f"{state_of(job)}, and nothing was printed."


def end_here(controllers: Iterable[int]) -> None:
    """End submitit's processes on this machine with all that they have started: politely, and then not."""
    import psutil  # type: ignore[import-untyped]

    found: list[psutil.Process] = []
    for number in controllers:
        with suppress(psutil.Error):
            controller = psutil.Process(number)
            found += [*controller.children(recursive=True), controller]
            # It hands the signal on.
            os.kill(number, signal.SIGTERM)
    _, left = psutil.wait_procs(found, timeout=_GRACE_SECONDS)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_GRACE_SECONDS)
