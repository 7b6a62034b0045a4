"""What a pass of a model over images leaves on the disk: memory maps that are filled batch by batch, and resumed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from logitlab.records import write_json_atomic

if TYPE_CHECKING:
    import numpy

PASS_VERSION: Final = 1

_STATE_FILE = "state.json"
_LOCK_FILE = ".lock"
# Of the state: its own hash. Names of layers or a count of rows that somebody edited would be believed.
_SEAL = "seal"
# Files that this process has read through and found whole.
_VERIFIED: set[tuple[str | int, ...]] = set()


@dataclass(frozen=True)
class Column:
    """One array of a pass: a row an image.

    Attributes:
        name: of its file, without the ending.
        shape: of a row.
        dtype: NumPy's name of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Pass:
    """A whole pass, read from its folder; arrays are mapped and not read before they are looked at.

    Attributes:
        folder: of the pass.
        rows: N, how many images.
        layers: names of the layers, in the order of the network.
        columns: the arrays by name, memory maps that cannot be written.
    """

    folder: Path
    rows: int
    layers: tuple[str, ...]
    columns: Mapping[str, numpy.ndarray]

    def layer(self, name: str) -> numpy.ndarray:
        """The vectors of a layer, float32 ``[N, D]``."""
        return self.columns[f"layer-{self.layers.index(name)}"]

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.columns[name]


class PassFolder:
    """The folder of one pass: ``state.json`` says which rows are done, and each array is a ``.npy`` file.

    Rows are on the disk before the state says so: what a killed process leaves is continued after the last row that the
    state knows.

    Args:
        root: the folder of all passes.
        essence: what the pass depends on, as plain values; its hash names the folder.
    """

    def __init__(self, root: Path, essence: Mapping[str, Any]) -> None:
        text = json.dumps({**essence, "version": PASS_VERSION}, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.path = root / self.key[:16]

    def read(self) -> Pass | None:
        """Return the pass if it is whole and undamaged."""
        state = self._state()
        if state is None or "hashes" not in state or state["done"] != state["rows"]:
            return None
        columns = self._open(state, "r")
        if columns is None or not self._is_intact(state):
            return None
        return Pass(self.path, state["rows"], tuple(state["layers"]), columns)

    def begin(
        self, rows: int, batch_size: int, layers: Sequence[str], columns: Sequence[Column]
    ) -> tuple[int, dict[str, numpy.ndarray]]:
        """Open the arrays for writing: those that a killed process left, or fresh ones.

        Args:
            rows: N.
            batch_size: images a step; another one might round differently, so a pass with another one starts again.
            layers: names of the layers.
            columns: the arrays.

        Returns:
            how many rows are done, and the arrays by name.

        Raises:
            OSError: the file system refuses, or has not enough room.
        """
        plan: dict[str, Any] = {
            "key": self.key,
            "rows": rows,
            "batch_size": batch_size,
            "layers": list(layers),
            "columns": {column.name: [list(column.shape), column.dtype] for column in columns},
        }
        state = self._state()
        if state is not None and "hashes" not in state and {name: state.get(name) for name in plan} == plan:
            found = self._open(state, "r+")
            if found is not None:
                return int(state["done"]), found
        self.path.mkdir(parents=True, exist_ok=True)
        for left in (*self.path.glob("*.npy"), self.path / _STATE_FILE):
            left.unlink(missing_ok=True)
        arrays = {column.name: _create(self.path / f"{column.name}.npy", rows, column) for column in columns}
        self._write({**plan, "done": 0})
        return 0, arrays

    def commit(self, done: int, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Bring the first ``done`` rows to the disk, then say so; after the last row the pass is whole."""
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]  # memory maps have it
        state = self._state()
        if state is None:
            raise FileNotFoundError(errno.ENOENT, "changed while a pass was written", str(self.path / _STATE_FILE))
        state["done"] = done
        if done == state["rows"]:
            state["hashes"] = {name: _digest(self._file(name)) for name in arrays}
        self._write(state)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time fill the folder, where the file system knows locks."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ModuleNotFoundError:  # not a POSIX system
            yield
            return
        with (self.path / _LOCK_FILE).open("w") as lock:
            with suppress(OSError):  # some network file systems know no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _write(self, state: Mapping[str, Any]) -> None:
        write_json_atomic(self.path / _STATE_FILE, {**state, _SEAL: _seal(state)})

    def _state(self) -> dict[str, Any] | None:
        """Read the state; None where it is missing, damaged or another pass's."""
        try:
            state = json.loads((self.path / _STATE_FILE).read_bytes())
            fits = (
                state["key"] == self.key
                and state[_SEAL] == _seal(state)
                and isinstance(state["rows"], int)
                and isinstance(state["done"], int)
                and 0 <= state["done"] <= state["rows"]
                and isinstance(state["layers"], list)
                and isinstance(state["columns"], dict)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if fits else None

    def _open(self, state: Mapping[str, Any], mode: Literal["r", "r+"]) -> dict[str, numpy.ndarray] | None:
        """Map the arrays; None where one is missing, too short, or of another form."""
        import numpy

        found: dict[str, numpy.ndarray] = {}
        try:
            for name, (shape, dtype) in state["columns"].items():
                array = numpy.load(self._file(name), mmap_mode=mode, allow_pickle=False)
                if array.shape != (state["rows"], *shape) or array.dtype != numpy.dtype(dtype):
                    return None
                found[name] = array
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return found

    def _is_intact(self, state: Mapping[str, Any]) -> bool:
        """Compare the bytes with their hashes; a process does so once a file."""
        for name in state["columns"]:
            file = self._file(name)
            try:
                at = file.stat()
                mark = (str(file), at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, str(state["hashes"].get(name)))
                if mark in _VERIFIED:
                    continue
                if _digest(file) != state["hashes"].get(name):
                    return False
            except (OSError, AttributeError):
                return False
            _VERIFIED.add(mark)
        return True


def _create(path: Path, rows: int, column: Column) -> numpy.ndarray:
    import numpy

    array = numpy.lib.format.open_memmap(path, mode="w+", dtype=column.dtype, shape=(rows, *column.shape))
    if hasattr(os, "posix_fallocate"):
        # A map on a full disk ends the process with a signal; this ends it with a sentence.
        with path.open("r+b") as file:
            size = path.stat().st_size
            if size:
                os.posix_fallocate(file.fileno(), 0, size)
    return array


def _seal(state: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in state.items() if name != _SEAL}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
