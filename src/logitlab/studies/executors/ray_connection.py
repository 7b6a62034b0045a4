"""The connection to Ray: the cluster that RAY_ADDRESS names, or one made for this study."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from ...config.errors import ConfigurationError, LogitLabError
from ...config.study import ExecutionConfig
from ..interruption import Interruption
from .job import Job
from .surroundings import environment, thread_variables, worker_count

# The least that Ray accepts, about: no images travel through its store.
_STORE_BYTES: Final = 100 * 2**20
_SECONDS_TO_CONNECT: Final = 10.0
_SECONDS_OF_A_TRY: Final = 2.0


def import_ray() -> Any:
    """Return the module.

    Raises:
        ConfigurationError: it is not installed.
    """
    # Before it is imported: it would start every worker by 'uv run' anew, and report its use to its makers.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Trials on the CPU need not be kept from GPUs; Ray warns that it will stop doing so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as fault:
        raise ConfigurationError(
            "The executor 'ray' needs Ray. Install it with: pip install 'logitlab[ray]'"
        ) from fault
    return ray


@contextmanager
def cluster(ray: Any, job: Job, execution: ExecutionConfig, interruption: Interruption) -> Iterator[None]:
    """Connect to the cluster that is meant, or make one; leave it, or end it, afterwards.

    Args:
        ray: the module.
        job: what all trials share.
        execution: how many of them run at a time.
        interruption: ends the wait for a cluster that does not answer.

    Raises:
        LogitLabError: it cannot be reached, or does not start.
        KeyboardInterrupt: the user ended the study meanwhile.
    """
    if ray.is_initialized():  # the caller's own
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        workers = worker_count(job.device, execution.workers, processes=execution.processes_per_trial)
        options |= {
            "num_cpus": workers * execution.processes_per_trial,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "address": "local",
        }
    # One of its own starts in seconds, and is not to be left half made.
    hurry: AbstractContextManager[None] = nullcontext()
    if address is not None:
        find(address, interruption)
        hurry = interruption.raising()
    try:
        # Ray answers SIGTERM in its own way; the study's is put back.
        with environment(**thread_variables(job.device)), _signals_kept(), hurry:
            ray.init(**options)
    except KeyboardInterrupt:
        ray.shutdown()
        raise
    except Exception as fault:
        ray.shutdown()
        place = "start a cluster on this machine" if address is None else f"reach the cluster at '{address}'"
        first = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise LogitLabError(f"Ray cannot {place}: {first}") from fault
    try:
        yield
    finally:
        with _signals_kept():
            ray.shutdown()


def find(address: str, interruption: Interruption) -> None:
    """See that somebody listens at an address of Ray, who would else try for minutes, deaf to Ctrl-C.

    Args:
        address: ``"host:port"``, with ``"ray://"`` before it or not; what is none of these is left to Ray.
        interruption: asked again and again.

    Raises:
        LogitLabError: nobody does.
        KeyboardInterrupt: the user ended the study meanwhile.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 2**16) or "/" in host:
        return
    end = time.monotonic() + _SECONDS_TO_CONNECT
    while True:
        with interruption.raising():
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_OF_A_TRY).close()
            except OSError as fault:
                # Silence may be a slow network; a refusal is an answer.
                if isinstance(fault, TimeoutError) and time.monotonic() < end:
                    continue
                reason = "it does not answer" if isinstance(fault, TimeoutError) else (fault.strerror or str(fault))
                raise LogitLabError(
                    f"Ray cannot reach the cluster at '{address}': {reason}. RAY_ADDRESS names it; start it with 'ray "
                    "start --head', or unset the variable for a cluster on this machine."
                ) from fault
            return


@contextmanager
def _signals_kept() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
