"""Features on disk: a safetensors file that is written batch by batch, since a large set does not fit in memory."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from logitlab.config.errors import RecordError

if TYPE_CHECKING:
    import numpy

# The header is written when all shapes are known, into room that is kept for it at the start of the file.
_HEADER_BYTES = 65_536
_LEFTOVER = ".tmp"
_ESSENCE = "essence"
_HASH = "sha256 of "

# Files that this process has read through and found whole.
_VERIFIED: set[tuple[str | int, ...]] = set()


class FeatureWriter:
    """A context that writes float32 tensors one after another; the file appears, whole, when it ends well.

    Args:
        path: of the file; its folder exists.
        essence: what its tensors depend on; a reader who asks for another gets nothing.
    """

    def __init__(self, path: Path, essence: str) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_LEFTOVER}")
        self._metadata = {_ESSENCE: essence}
        self._header: dict[str, Any] = {"__metadata__": self._metadata}
        self._end = 0
        self._file: IO[bytes]

    def add(self, name: str, rows: int, batches: Iterable[Tensor]) -> None:
        """Write one tensor and note its hash.

        Args:
            name: of the tensor.
            rows: its length.
            batches: float32 on the CPU, ``rows`` of them in all.
        """
        start, written = self._end, 0
        tail: tuple[int, ...] = ()
        hashed = hashlib.sha256()
        for batch in batches:
            data = _little_endian(batch)
            self._file.write(data)
            hashed.update(data)
            self._end += data.nbytes
            written, tail = written + len(batch), tuple(batch.shape[1:])
        assert written == rows
        self._metadata[_HASH + name] = hashed.hexdigest()
        self._header[name] = {"dtype": "F32", "shape": [rows, *tail], "data_offsets": [start, self._end]}

    def __enter__(self) -> Self:
        self._file = self._temporary.open("xb")
        self._file.write(bytes(_HEADER_BYTES))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                header = json.dumps(self._header).encode()
                length = _HEADER_BYTES - 8
                assert len(header) <= length
                self._file.seek(0)
                self._file.write(length.to_bytes(8, "little") + header.ljust(length))
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self._path)
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def read_features(path: Path, essence: str, rows: Mapping[str, int], width: int) -> dict[str, Tensor] | None:
    """Map the tensors of a file into memory, once they are known to be what was written and what is asked for.

    A process reads a file through for its hashes when it meets it first; after that, what is not looked at is not
    read.

    Args:
        path: of the file.
        essence: what the file must have been written for.
        rows: the length that tensors must have, by name.
        width: D, the length of each of their rows.

    Returns:
        the tensors by name; None where there is no file.

    Raises:
        RecordError: the file is damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        state = path.stat()
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            found: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as fault:
        raise _unusable(path, str(fault).rstrip(".")) from fault
    if metadata.get(_ESSENCE) != essence:
        raise _unusable(path, "they are not of this backbone and these images")
    for name, count in rows.items():
        if name not in found or found[name].dtype != torch.float32 or found[name].shape != (count, width):
            raise _unusable(path, f"'{name}' is not float32 of {count} x {width}")
    if not {"pixel_mean", "pixel_std"} <= found.keys():
        raise _unusable(path, "the statistics of the images are missing")
    # Another inode, size or time of change is another file.
    mark = (str(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if mark not in _VERIFIED:
        for name, tensor in found.items():
            if metadata.get(_HASH + name) != hashlib.sha256(_little_endian(tensor)).hexdigest():
                raise _unusable(path, f"'{name}' is damaged")
        _VERIFIED.add(mark)
    return found


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left of a file; only for one who knows that nobody writes it now.

    Args:
        path: of the file that they were to write.
    """
    # The name begins with hexadecimal digits, none of which means anything to a glob.
    for leftover in path.parent.glob(f".{path.name}.*{_LEFTOVER}"):
        leftover.unlink(missing_ok=True)


def _unusable(path: Path, reason: str) -> RecordError:
    # A record keeps this sentence: the place of the study is left out.
    return RecordError(f"The features in '{path.parent.name}/{path.name}' cannot be used: {reason}.")


def _little_endian(tensor: Tensor) -> memoryview:
    """Return the bytes as the file has them."""
    data: numpy.ndarray = tensor.contiguous().numpy()
    return (data.byteswap() if sys.byteorder == "big" else data).data
