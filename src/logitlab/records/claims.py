"""Claims: which process runs a trial, so that two runners into one folder never run it twice. No torch.

The claims of a trial are files ``claim.1.json``, ``claim.2.json``, ... in its folder; the one with the highest number
counts. Whoever wants the trial makes the next number, which the file system grants to one process alone
(``O_EXCL``); so two processes that find the same stale claim cannot both win. While the trial is not done, the
highest number stays, released or not: were numbers to start anew, a process that paused between looking and making
could win a number that means nothing any more.

A claim is stale when its process is dead, as far as this machine can tell, or when it has not been touched for a
minute. Ages are differences of two times that the file system itself gave, so the clocks of machines do not matter.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from .files import write_json_atomic

#: A claim that nobody touched for so long is stale.
STALE_SECONDS: Final = 60.0
HEARTBEAT_SECONDS: Final = 5.0

_NAME = re.compile(r"claim\.(\d+)\.json")


@dataclass(frozen=True)
class Holder:
    """Who holds a trial.

    Attributes:
        host: the name of the machine; None where the claim could not be read.
        pid: the process there.
        since: when the claim was made, ISO 8601.
    """

    host: str | None = None
    pid: int | None = None
    since: str | None = None

    def __str__(self) -> str:
        return "another process" if self.host is None else f"process {self.pid} on {self.host}"


class ProcessName(NamedTuple):
    """A process, so named that no other one is taken for it.

    Attributes:
        machine: the running system or, in containers, the namespace of it, in which process ids are unique.
        pid: its number there.
        start: when it started, in ticks since boot; None where the system does not tell.
    """

    machine: str
    pid: int
    start: str | None

    def may_run(self) -> bool:
        """Whether it still runs; True where nobody can tell, above all for a process of another machine."""
        return self.machine != _machine() or _runs(self.pid, self.start)


class Claim:
    """A trial that this process holds; a thread touches the claim every few seconds.

    As a context manager it is released at the end. A process that was suspended for longer than ``STALE_SECONDS`` may
    find that another one has taken over: ask ``is_lost``.
    """

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self._number = number
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="logitlab-claim", daemon=True)
        self._thread.start()

    def is_lost(self) -> bool:
        """Whether another process has taken the trial over, or somebody removed the claim."""
        return _highest(self._path.parent) != self._number

    def release(self, done: bool) -> None:
        """Give the trial back.

        Args:
            done: the record stands; the claims are removed. Otherwise this one is marked as released.
        """
        self._ended.set()
        self._thread.join()
        # A claim that cannot be given back goes stale by itself.
        with suppress(OSError):
            if done:
                remove_claims(self._path.parent)
            elif not self.is_lost():
                write_json_atomic(self._path, {"released": True})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(done=(self._path.parent / "record.json").exists())

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # Without times the file system takes its own clock, the one that others compare with.
            with suppress(OSError):
                os.utime(self._path)


def this_process() -> ProcessName:
    """Name this process."""
    return ProcessName(_machine(), os.getpid(), _start_of(os.getpid()))


def take_claim(folder: Path) -> Claim | None:
    """Take a trial, unless another process (or another thread of this one) holds it.

    Args:
        folder: of the trial; it is made when missing.

    Returns:
        the claim, or None.

    Raises:
        OSError: the file system refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = _highest(folder)
    if number and _live(folder, number) is not None:
        return None
    path = _path(folder, number + 1)
    content = {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "process": _start_of(os.getpid()),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(content, file)
    except FileExistsError:
        return None
    except OSError:
        path.unlink(missing_ok=True)
        raise
    if _highest(folder) != number + 1:
        # Others came and went while this process slept, and the number that it won is an old one.
        path.unlink(missing_ok=True)
        return None
    for lower in _numbers(folder):
        if lower <= number:
            _path(folder, lower).unlink(missing_ok=True)
    return Claim(path, number + 1)


def holder(folder: Path) -> Holder | None:
    """Return who holds the trial of ``folder``; None when nobody does, or when the claim is stale.

    Raises:
        OSError: the file system refuses.
    """
    number = _highest(folder)
    return _live(folder, number) if number else None


def remove_claims(folder: Path) -> None:
    """Remove the claims of a trial that is done.

    Raises:
        OSError: the file system refuses.
    """
    for number in _numbers(folder):
        _path(folder, number).unlink(missing_ok=True)


def _live(folder: Path, number: int) -> Holder | None:
    """Return who holds a claim; None when it was released, is stale, or is gone."""
    path = _path(folder, number)
    try:
        # Opened rather than asked for by name: NFS then asks its server for the time of the last heartbeat.
        with path.open("rb") as file:
            touched = os.fstat(file.fileno()).st_mtime
            values = _read(file.read())
    except FileNotFoundError:
        return None
    if values.get("released"):
        return None
    if values.get("machine") == _machine() and not _runs(values.get("pid"), values.get("process")):
        return None
    if _time_there(folder) - touched > STALE_SECONDS:
        return None
    return Holder(values.get("host"), values.get("pid"), values.get("time"))


def _read(content: bytes) -> dict[str, Any]:
    """Read a claim. One that is being written, or was cut off, says nothing: its age alone decides."""
    try:
        values = json.loads(content)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _time_there(folder: Path) -> float:
    """Return what time the file system of ``folder`` takes it to be."""
    probe = folder / f".clock.{secrets.token_hex(8)}.tmp"
    try:
        with probe.open("xb") as file:
            # Some servers set the time when the content arrives.
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _numbers(folder: Path) -> list[int]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)


def _highest(folder: Path) -> int:
    return max(_numbers(folder), default=0)


def _path(folder: Path, number: int) -> Path:
    return folder / f"claim.{number}.json"


@lru_cache(maxsize=1)
def _machine() -> str:
    """Name what process ids are unique in: a running system and, in containers, a namespace of it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _runs(pid: Any, start: str | None) -> bool:
    """Say whether a process of this machine still runs; True where nobody can tell."""
    if not isinstance(pid, int) or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # It belongs to another user.
        return True
    # A process may be dead and not yet waited for, or its number may belong to a younger one by now.
    return _start_of(pid) == start


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None when it is dead or the system does not tell."""
    try:
        # The name stands in parentheses and may hold anything; what follows the last one is plain.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
