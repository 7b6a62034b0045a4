"""Run a function on several gloo processes at once, which start in milliseconds and serve one function after another.

Each rank is a fork of the server of ``preloaded.py``.

The tests of a whole file, and of several files, use the same processes:

    def gathered(rank: int, values: Tensor) -> Tensor:
        mine = values.chunk(3)[rank]
        ...
        return everything

    def test_all_ranks_see_everything() -> None:
        for found in run_ranks(gathered, 3, values):
            torch.testing.assert_close(found, expected)
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import importlib.util
import multiprocessing.process
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from preloaded import forget_the_server, leave, server, start

#: Seconds in which a rank that failed may still be followed by the one that made it fail.
_FOLLOW_UP = 0.3


class RankError(RuntimeError):
    """A rank failed; the message holds its traceback.

    Attributes:
        rank: the first that failed.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any, timeout: float = 120.0) -> list[Any]:
    """Call ``function(rank, *arguments)`` on every rank of a gloo group and return each rank's result.

    The processes stay for the next call with the same ``world_size``, with the same default group, one thread, and
    torch's seed at 0 again. After a failure they are killed and the next call starts others. A function that leaves
    its process changed (its environment, an attribute of a module) belongs in a ``RankProcesses`` of its own.

    Args:
        function: of a module or a test's file; nothing within a function.
        world_size: number of ranks.
        *arguments: the same for every rank; they and the results are pickled (tensors are copied).
        timeout: seconds for all of it but the start.

    Returns:
        The results in the order of the ranks.

    Raises:
        RankError: the first failure, with the traceback of its rank; the other ranks are killed.
        TimeoutError: not every rank has answered; it shows where each of the others stands.
    """
    processes = _LIVING.get(world_size)
    if processes is None:
        processes = _LIVING[world_size] = RankProcesses(world_size)
    try:
        return processes.run(function, *arguments, timeout=timeout)
    finally:
        if processes.closed:
            del _LIVING[world_size]


class RankProcesses:
    """Gloo processes that wait for functions; ``with`` ends them.

    Attributes:
        world_size: number of ranks.
        closed: whether they have ended; after a failure they have.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        context = server()
        pipes = [context.Pipe() for _ in range(world_size)]
        self._connections: list[Connection] = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(
                target=_serve,
                args=(rank, world_size, self._folder.name, theirs, dict(os.environ)),
                daemon=True,
                name=f"rank {rank} of {world_size}",
            )
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(self._processes, pipes):
            start(process)
            # They stay between tests, some of which ask whether they leave a child of their own.
            multiprocessing.process._children.discard(process)
            # Otherwise nobody would see the end of a rank that dies.
            theirs.close()
        # The first start of all is that of the server, which takes long where the machine is busy.
        self._answers(300.0)

    def __enter__(self) -> RankProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float = 120.0) -> list[Any]:
        """As ``run_ranks``."""
        if self.closed:
            raise RuntimeError("These ranks have ended. Start others.")
        module, file = function.__module__, getattr(sys.modules.get(function.__module__), "__file__", None)
        job = pickle.dumps((module, file, pickle.dumps((function, arguments))))
        for connection in self._connections:
            # A rank that has died in between is found when it should answer.
            with contextlib.suppress(BrokenPipeError):
                connection.send_bytes(job)
        return self._answers(timeout)

    def close(self, *, failed: bool = False) -> None:
        """End the ranks; kill them if one of them has failed."""
        if self.closed:
            return
        self.closed = True
        for connection in self._connections:
            connection.close()
        # They leave by themselves, with what coverage measured, unless something went wrong.
        deadline = time.monotonic() + (0.0 if failed else 5.0)
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
            process.close()
        self._folder.cleanup()

    def _answers(self, timeout: float) -> list[Any]:
        try:
            return self._all_answers(time.monotonic() + timeout, timeout)
        except BaseException:
            self.close(failed=True)
            raise

    def _all_answers(self, deadline: float, timeout: float) -> list[Any]:
        results: dict[int, Any] = {}
        # By the moment of the failure: one rank's failure soon is every rank's.
        failures: list[tuple[float, int, str, BaseException | None]] = []
        waiting = dict(zip(self._connections, range(self.world_size)))
        while waiting and time.monotonic() < deadline:
            for ready in wait(list(waiting), max(0.0, deadline - time.monotonic())):
                assert isinstance(ready, Connection)
                rank = waiting.pop(ready)
                try:
                    done, moment, answer, error = pickle.loads(ready.recv_bytes())
                except EOFError:
                    self._processes[rank].join()
                    # It died before any other could notice.
                    failures.append((0.0, rank, f"ended with exit code {self._processes[rank].exitcode}", None))
                    continue
                if done:
                    results[rank] = pickle.loads(answer)
                else:
                    failures.append((moment, rank, f"failed:\n{answer}", pickle.loads(error) if error else None))
            if failures:
                deadline = min(deadline, time.monotonic() + _FOLLOW_UP)
        if failures:
            _, rank, message, error = min(failures, key=lambda failure: failure[:2])
            raise RankError(rank, f"Rank {rank} of {self.world_size} {message}") from error
        if waiting:
            raise TimeoutError(self._where(sorted(waiting.values()), timeout))
        return [results[rank] for rank in range(self.world_size)]

    def _where(self, ranks: list[int], timeout: float) -> str:
        lines = [f"{len(ranks)} of {self.world_size} ranks gave no answer in {timeout:g} s."]
        for rank in ranks:
            os.kill(self._processes[rank].pid or 0, signal.SIGUSR1)
        time.sleep(0.2)
        for rank in ranks:
            lines += [f"Rank {rank}:", Path(self._folder.name, f"{rank}.txt").read_text(encoding="utf-8")]
        return "\n".join(lines)


#: By their number, those that ``run_ranks`` started.
_LIVING: dict[int, RankProcesses] = {}


@atexit.register
def end_ranks() -> None:
    """End those that ``run_ranks`` started; coverage is asked for what they measured before the last test has ended."""
    while _LIVING:
        _LIVING.popitem()[1].close()


def _serve(rank: int, world_size: int, folder: str, parent: Connection, environment: dict[str, str]) -> None:
    forget_the_server(environment)
    torch.set_num_threads(1)
    with Path(folder, f"{rank}.txt").open("w", encoding="utf-8") as stack:
        faulthandler.register(signal.SIGUSR1, file=stack)
        torch.distributed.init_process_group(
            "gloo", f"file://{folder}/meet", rank=rank, world_size=world_size, timeout=timedelta(hours=1)
        )
        parent.send_bytes(pickle.dumps((True, time.monotonic(), pickle.dumps(None), None)))
        # The end of this process's parent is the end of the connection.
        with contextlib.suppress(EOFError):
            while True:
                parent.send_bytes(_answer(rank, parent.recv_bytes()))
        leave(0)


def _answer(rank: int, job: bytes) -> bytes:
    torch.manual_seed(0)
    try:
        module, file, payload = pickle.loads(job)
        _load(module, file)
        function, arguments = pickle.loads(payload)
        answer = pickle.dumps(function(rank, *arguments))
    except BaseException as error:
        moment = time.monotonic()
        try:
            sent = pickle.dumps(error)
            pickle.loads(sent)
        except Exception:
            sent = None
        return pickle.dumps((False, moment, traceback.format_exc(), sent))
    return pickle.dumps((True, time.monotonic(), answer, None))


def _load(name: str, file: str | None) -> None:
    """Import a module; a test's file under the name that pytest gave it."""
    if name in sys.modules:
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        spec = None if file is None else importlib.util.spec_from_file_location(name, file)
        # What is missing is not the module, but what it imports.
        if spec is None or spec.loader is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
