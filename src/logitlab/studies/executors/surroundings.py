"""How many trials run at a time, and on how many threads: the same bits in every executor."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def usable_cores() -> int:
    """Return how many cores this process may use: affinity masks and the quotas of containers included."""
    import joblib  # type: ignore[import-untyped]  # comes with scikit-learn

    return int(joblib.cpu_count())


def worker_count(device: str, workers: int | None, trials: int | None = None, processes: int = 1) -> int:
    """Return how many trials run at a time: one a CPU core, one in all on an accelerator.

    Args:
        device: the torch device.
        workers: the user's wish; None for the rule above.
        trials: how many trials there are to run; None where nobody knows yet.
        processes: that train one trial together.
    """
    if workers is None:
        workers = usable_cores() // processes if device == "cpu" else 1
    return max(1, workers if trials is None else min(workers, trials))


def thread_variables(device: str) -> dict[str, str]:
    """Return the variables that keep a fresh process at one thread; torch reads them when it is imported.

    NumPy's libraries obey as well.
    """
    return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if device == "cpu" else {}


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


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment; a process that is started meanwhile ignores it from its first instruction."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cut_off_signal() -> signal.Signals | None:
    """Return the signal that Slurm, as submitit asks it to, sends before it ends a job; None where there is none."""
    found = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
    return found if isinstance(found, signal.Signals) else None


def search_path() -> str:
    """Return where this process finds modules, for the variable PYTHONPATH of another one."""
    return os.pathsep.join(dict.fromkeys(str(Path(place).resolve()) for place in sys.path))
