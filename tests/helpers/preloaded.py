"""Processes that start in milliseconds: forks of a server that has imported torch, the library and the command.

A fresh Python imports them for seven seconds. The server has run nothing, so that a fork of it behaves like a fresh
process, whatever the tests' own process has done. Each process of pytest starts one server, when it first needs one.

What a process imports, how long that takes and which threads torch starts with: that only a fresh process can tell.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Any
from weakref import WeakSet

import torch

#: What the server imports; anything else its forks import themselves.
PRELOADED = (
    "torch",
    "torch._dynamo",
    "torch.distributed",
    "torch.nn.parallel",
    "torchvision.transforms.v2",
    "sklearn.datasets",
    "sklearn.metrics",
    "pytest",
    "logitlab.cli.app",
    "logitlab.evaluation",
    "logitlab.studies.compare",
    "logitlab.studies.train",
    "logitlab.studies.executors.process",
    "logitlab.testing",
    "logitlab.training.trial",
)


def server() -> ForkServerContext:
    """The context (as of ``multiprocessing``) whose processes are forks of the server.

    They find modules where this process does. Their environment is the server's.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def start(process: ForkServerProcess) -> None:
    """Start a process of the server, without running this process's program there once more."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main


def run_python(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[Any] | None = None,
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run([sys.executable, *arguments], capture_output=True, text=True)``.

    Args:
        *arguments: of Python: ``-c CODE``, ``-m MODULE`` or a script, and what follows.
        env: the environment; None for this process's.
        cwd: the folder; None for this process's.
        stdout: an open file to print into.
        timeout: seconds, after which it is killed and ``subprocess.TimeoutExpired`` raised.
    """
    with Python(*arguments, env=env, cwd=cwd, stdout=stdout) as process:
        output, errors = process.communicate(timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), output.decode(), errors.decode())


class Python:
    """As ``subprocess.Popen([sys.executable, *arguments])``; what it prints is kept in files. ``with`` kills it.

    Attributes:
        args: the command.
        pid: number of the process.
        returncode: None while it runs; minus the signal that ended it.
    """

    def __init__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: IO[Any] | None = None,
    ) -> None:
        words = [str(argument) for argument in arguments]
        self.args = [sys.executable, *words]
        self.returncode: int | None = None
        self._files = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115 - closed with this
        files = [_Descriptor(file.fileno()) for file in (stdout or self._files[0], self._files[1])]
        environment = dict(os.environ if env is None else env)
        self._process = server().Process(target=_be_python, args=(words, environment, str(cwd or Path.cwd()), *files))
        start(self._process)
        self.pid = self._process.pid
        _RUNNING.add(self._process)

    def __enter__(self) -> Python:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self.returncode is None:
            self._process.join(timeout)
            if self.poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Wait for its end; what it printed, and its errors."""
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        output, errors = (file.read() for file in self._files)
        self.kill()
        return output, errors

    def kill(self) -> None:
        """``kill -9``, where it still runs."""
        if self.poll() is None:
            self._process.kill()
            self.wait()
        for file in self._files:
            file.close()


class ForkedWorkers:
    """Stands for ``multiprocessing`` in ``logitlab.studies.executors.process``: its workers are forks of the server.

    Args:
        diary: a folder where each worker leaves an empty file, "RUNNER.WORKER", the numbers of the two processes.
    """

    parent_process = staticmethod(multiprocessing.parent_process)

    def __init__(self, diary: Path | None = None) -> None:
        self.diary = diary

    def get_context(self, method: str) -> ForkedWorkers:
        assert method == "spawn"
        return self

    def Pipe(self) -> Any:
        return server().Pipe()

    def Process(self, **options: Any) -> ForkServerProcess:
        server()
        return _Worker(self.diary, **options)


class _Worker(ForkServerProcess):
    def __init__(self, diary: Path | None, **options: Any) -> None:
        super().__init__(**options)
        self.diary = diary
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        self.environment = dict(os.environ)
        super().start()
        if self.diary is not None:
            (self.diary / f"{os.getpid()}.{self.pid}").touch()

    def run(self) -> None:
        _take_environment(self.environment)
        super().run()


_RUNNING: WeakSet[ForkServerProcess] = WeakSet()


@atexit.register
def _end() -> None:
    for process in _RUNNING:
        process.kill()


class _Descriptor:
    """An open file on its way to a process that starts."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.number),)


def _arrived(sent: Any) -> int:
    number: int = sent.detach()
    return number


def _be_python(words: list[str], environment: dict[str, str], folder: str, output: int, errors: int) -> None:
    forget_the_server(environment)
    os.chdir(folder)
    for number, (file, name) in enumerate(((output, "stdout"), (errors, "stderr")), start=1):
        os.dup2(file, number)
        os.close(file)
        encoding, _, faults = environment.get("PYTHONIOENCODING", "utf-8").partition(":")
        faults = faults or ("strict" if name == "stdout" else "backslashreplace")
        stream = os.fdopen(number, "w", encoding=encoding, errors=faults, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    code = 1
    try:
        _run_main(words)
        code = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    leave(code)


def _run_main(words: list[str]) -> None:
    first, *rest = words
    if first == "-m":
        sys.argv = rest
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(first).parent))
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__file__ = first
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


def forget_the_server(environment: Mapping[str, str]) -> None:
    """Let a fork look like a process of its own: environment, start methods, parents."""
    _take_environment(environment)
    process: Any = multiprocessing.process
    process._parent_process = None
    context: Any = multiprocessing.context
    context._default_context._actual_context = None
    # Its own forks come from the same server.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]


def _take_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    # torch has read it when it was imported.
    if "OMP_NUM_THREADS" in environment:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))


def leave(code: int) -> None:
    """End a fork as Python ends, which forks of ``multiprocessing`` do not: what is registered with atexit runs."""
    multiprocessing.util._exit_function()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    coverage = getattr(sys.modules.get("coverage"), "Coverage", None)
    if coverage is not None and (current := coverage.current()) is not None:
        with contextlib.suppress(Exception):  # where there is no room
            current.stop()
            current.save()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code)
