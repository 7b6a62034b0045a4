"""Features on disk: a safetensors file that is written batch by batch, since a large set does not fit in memory."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
from torch import Tensor

from logitlab.config.errors import RecordError

# The header is written when all shapes are known, into room that is kept for it at the start of the file.
_HEADER_BYTES = 65_536


class FeatureWriter:
    """A context that writes float32 tensors one after another; the file appears, whole, when it ends well.

    Args:
        path: of the file; its folder exists.
        metadata: texts that the file carries.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        self._header: dict[str, Any] = {"__metadata__": dict(metadata)}
        self._end = 0
        self._file: IO[bytes]

    def add(self, name: str, rows: int, batches: Iterable[Tensor]) -> None:
        """Write one tensor.

        Args:
            name: of the tensor.
            rows: its length.
            batches: float32 on the CPU, ``rows`` of them in all.
        """
        start, written = self._end, 0
        tail: tuple[int, ...] = ()
        for batch in batches:
            data = batch.contiguous().numpy()
            if sys.byteorder == "big":
                data = data.byteswap()  # the format is little-endian
            self._file.write(data.data)
            self._end += data.nbytes
            written, tail = written + len(batch), tuple(batch.shape[1:])
        assert written == rows
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


def read_features(path: Path, rows: Mapping[str, int]) -> dict[str, Tensor]:
    """Map the tensors of a file into memory: what is not looked at is not read.

    Args:
        path: of the file.
        rows: the length that tensors must have, by name.

    Raises:
        RecordError: the file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as fault:
        raise RecordError(f"Cannot read the features in '{path}': {fault}.") from fault
    fits = {"pixel_mean", "pixel_std"} <= found.keys() and all(
        name in found and found[name].dtype == torch.float32 and len(found[name]) == count
        for name, count in rows.items()
    )
    if not fits:
        raise RecordError(f"'{path}' does not hold the features of these images.")
    return found
