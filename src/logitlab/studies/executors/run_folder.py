"""A folder of one run below the store: how processes on other machines and their runner hear of each other.

It lies where all of them must see the records anyway. Each process writes a file of its own, a line a message, opened
for every line, so that network file systems pass it on; the runner reads what is new. That the folder is there at all
tells a process that it sees the same store as the runner, and the file ``stop`` tells it to begin nothing more.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...config.errors import ConfigurationError, DataError, LogitLabError
from ...config.trial import TrialConfig
from ...records.claims import ProcessName, this_process
from .job import Listener

if TYPE_CHECKING:
    from ...training import Progress

_PREFIX: Final = ".run-"
_STOP: Final = "stop"
_RUNNER: Final = "runner.json"
_SUFFIX: Final = ".messages"
# A runner of another machine that shows no sign of life for so long is taken for dead.
_SECONDS_TO_LEAVE: Final = 7 * 24 * 3600.0
_SECONDS_BETWEEN_SIGNS: Final = 3600.0
# What keeps its kind on the way to another process.
_KINDS: Final[dict[str, type[LogitLabError]]] = {
    kind.__name__: kind for kind in (DataError, ConfigurationError, LogitLabError)
}


@dataclass(frozen=True)
class News:
    """What a process said.

    Attributes:
        kind: ``"started"``, ``"epoch"``, ``"ended"``, ``"held"``, ``"left"`` (the process was told to go in the middle
            of the trial) or ``"fault"``.
        identity: of the trial; empty for a fault that concerns them all.
        values: of an epoch or a fault.
        host: where the process runs.
        pid: its number there.
        label: what the process was called when it was sent out.
    """

    kind: str
    identity: str
    values: Mapping[str, Any]
    host: str
    pid: int
    label: str


class RunFolder:
    """The folder as the processes see it; it travels to them.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, root: Path) -> RunFolder:
        """Make a new one below the folder of the records; remove those of runners that were killed.

        Raises:
            OSError: the file system refuses.
        """
        for left in root.glob(f"{_PREFIX}*"):
            if _is_left(left):
                shutil.rmtree(left, ignore_errors=True)
        path = root.resolve() / f"{_PREFIX}{secrets.token_hex(8)}"
        path.mkdir(parents=True)
        (path / _RUNNER).write_text(json.dumps(this_process()), encoding="utf-8")
        return cls(path)

    def show_life(self) -> None:
        """Let runners of other machines see that this one lives."""
        with suppress(OSError):
            os.utime(self.path / _RUNNER)

    def is_seen(self) -> bool:
        """Whether this process sees the same folder as the runner."""
        return self.path.is_dir()

    def stop(self) -> None:
        """Ask every process to begin no further trial."""
        with suppress(OSError):
            (self.path / _STOP).touch()

    def is_stopped(self) -> bool:
        """Whether no further trial shall begin; also when the runner is gone and took the folder along."""
        return (self.path / _STOP).exists() or not self.is_seen()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def poster(self, label: str = "") -> Poster:
        """Return what writes messages of this process."""
        return Poster(self.path, label)


class Poster:
    """Writes the messages of one process; what cannot be written is lost, for records do not depend on it.

    Args:
        folder: of the run.
        label: what the process was called when it was sent out.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        self._host, self._pid, self._label = socket.gethostname(), os.getpid(), label
        self._path = folder / f"{self._host}.{self._pid}{_SUFFIX}"

    def say(self, kind: str, identity: str = "", values: Mapping[str, Any] | None = None) -> None:
        """Write one message."""
        line = json.dumps([kind, identity, values or {}, self._host, self._pid, self._label])
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def epoch(self, progress: Progress) -> None:
        """Tell of an epoch."""
        self.say("epoch", progress.identity, asdict(progress))

    def fault(self, fault: Exception) -> None:
        """Tell of what concerns every trial."""
        self.say("fault", values=written_fault(fault))


class Inbox:
    """Reads the messages of all processes of a run, each once.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._run, self._folder = folder, folder.path
        self._read: dict[str, int] = {}
        self._shown = time.monotonic()

    def news(self) -> list[News]:
        """Return what came since the last call, process by process."""
        found = []
        if time.monotonic() - self._shown > _SECONDS_BETWEEN_SIGNS:
            self._shown = time.monotonic()
            self._run.show_life()
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(_SUFFIX))
        except OSError:
            return []
        for name in names:
            path = self._folder / name
            begun = self._read.get(name, 0)
            try:
                if path.stat().st_size <= begun:
                    continue
                with path.open("rb") as file:
                    file.seek(begun)
                    content = file.read()
            except OSError:
                continue
            # A line that is not whole yet is read the next time.
            whole = content[: content.rfind(b"\n") + 1]
            self._read[name] = begun + len(whole)
            for line in whole.splitlines():
                with suppress(ValueError, TypeError):
                    found.append(News(*json.loads(line)))
        return found


def hand_on(news: News, trials: Callable[[str], TrialConfig | None], listener: Listener) -> None:
    """Pass what a process said to the listener: trials that started, and their epochs.

    Args:
        news: the message.
        trials: returns a trial that runs by its identity; None for any other.
        listener: receives the events.

    Raises:
        LogitLabError: the process told of a fault that concerns every trial.
        OSError: likewise, from the file system.
    """
    if news.kind == "fault":
        raise fault_of(news.values)
    trial = trials(news.identity)
    if trial is None:
        return
    if news.kind == "started":
        listener.trial_started(trial)
    elif news.kind == "epoch":
        listener.epoch(progress_of(news.values))


def progress_of(values: Mapping[str, Any]) -> Progress:
    """Return the progress that was written down."""
    from ...training import Progress

    return Progress(**values)


def written_fault(fault: Exception) -> dict[str, Any]:
    """Return what is left of a fault on its way to another process."""
    own = isinstance(fault, LogitLabError)
    # A user's own kind of DataError is one there as well.
    name = next((kind.__name__ for kind in type(fault).__mro__ if kind in _KINDS.values()), type(fault).__name__)
    values: dict[str, Any] = {"class": name, "own": own}
    if isinstance(fault, OSError) and fault.errno is not None:
        return {**values, "words": fault.strerror, "number": fault.errno}
    return {**values, "words": str(fault), "number": None}


def fault_of(values: Mapping[str, Any]) -> Exception:
    """Return the fault that was written down; of foreign kinds the words alone are left."""
    kind, words, number = str(values["class"]), str(values["words"]), values["number"]
    if number is not None:
        return OSError(number, words)
    if not values["own"]:
        return LogitLabError(f"{kind}: {words}")
    return _KINDS.get(kind, LogitLabError)(words)


def _is_left(path: Path) -> bool:
    """Whether the runner that made a folder is dead; of one of another machine its signs of life are all that is known.

    Containers may share the name of their machine and number their processes alike: the claims' name tells them apart.
    """
    with suppress(OSError, ValueError, TypeError):
        if not ProcessName(*json.loads((path / _RUNNER).read_text(encoding="utf-8"))).may_run():
            return True
    try:
        touched = [path.stat().st_mtime, *(entry.stat().st_mtime for entry in os.scandir(path))]
    except OSError:
        return False
    return time.time() - max(touched) > _SECONDS_TO_LEAVE
