"""Executors deliver trials to the one function that runs them, and events to whoever watches.

Each of them hands ``execute(trial, root)`` to a process that imports what a trial needs and runs it on one thread, so
that all give the same results, bit for bit on a CPU.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ...config.study import ExecutionConfig
from ..agenda import Agenda
from .job import WORKER_DIED, Job, Listener, Report, TrialFunction, note_failure, run_trial
from .process import run_in_processes
from .serial import run_serial
from .surroundings import environment, one_thread, usable_cores, worker_count
from .torchrun import together

__all__ = [
    "WORKER_DIED",
    "Job",
    "Listener",
    "Report",
    "TrialFunction",
    "deliver",
    "environment",
    "executor_name",
    "note_failure",
    "one_thread",
    "run_in_processes",
    "run_serial",
    "run_trial",
    "usable_cores",
    "worker_count",
]


def executor_name(execution: ExecutionConfig) -> str:
    """Return which executor is meant: where none is named, ``"ray"`` where RAY_ADDRESS is set, else ``"process"``."""
    if execution.executor is not None:
        return execution.executor
    return "ray" if os.environ.get("RAY_ADDRESS") else "process"


def deliver(job: Job, agenda: Agenda, listener: Listener, execution: ExecutionConfig) -> None:
    """Run the trials of an agenda, and those that are added to it meanwhile.

    The first Ctrl-C lets the running trials finish; the second one, and SIGTERM, end them at once. Whatever the end, no
    process is left that was started here.

    Args:
        job: what all trials share.
        agenda: the trials.
        listener: receives the events.
        execution: how they are delivered.

    Raises:
        LogitLabError: a fault that concerns every trial, or workers that cannot start.
        ConfigurationError: the executor needs a package that is not installed.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    name = executor_name(execution)
    job = together(job, execution.processes_per_trial)
    if name == "serial":
        run_serial(job, agenda, listener)
    elif name == "process":
        if job.cache is None and os.environ.get("LOGITLAB_CACHE"):
            # Few processes decode small sets as fast as they map them; the user says where it pays.
            from ...data.prepared import cache_folder

            job = replace(job, cache=cache_folder())
        workers = worker_count(job.device, execution.workers, processes=execution.processes_per_trial)
        run_in_processes(job, agenda, listener, workers, execution.attempts)
    elif name == "ray":
        from .ray_cluster import run_on_ray

        run_on_ray(job, agenda, listener, execution)
    else:
        from .slurm import run_on_slurm

        run_on_slurm(job, agenda, listener, execution)
