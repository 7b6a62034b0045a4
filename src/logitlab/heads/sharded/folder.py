"""The folder of a checkpoint: which data in it counts, and the one step that replaces it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

from logitlab.config.errors import RecordError

FORMAT: Final = "logitlab sharded checkpoint"
VERSION: Final = 1

_POINTER = "checkpoint.json"
_DATA = re.compile(r"data-[0-9a-f]{16}")


def pointed_data(folder: Path) -> str:
    """Name of the folder of data that counts.

    Raises:
        RecordError: there is none.
    """
    path = folder / _POINTER
    wanted = f"A checkpoint of save_sharded is a folder with '{_POINTER}'."
    if not folder.is_dir():
        raise RecordError(f"There is no folder '{folder}'. {wanted}")
    try:
        pointer = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"There is no '{path}'. {wanted}") from None
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror or fault}.") from fault
    except ValueError as fault:
        raise RecordError(f"'{path}' is damaged: {fault}.") from fault
    if not isinstance(pointer, dict) or pointer.get("format") != FORMAT:
        raise RecordError(f"'{path}' is of something else. {wanted}")
    if pointer.get("version") != VERSION:
        raise RecordError(
            f"'{path}' has version {pointer.get('version')}, this LogitLab reads {VERSION}. Use the newer LogitLab."
        )
    name = pointer.get("data")
    if not isinstance(name, str) or not _DATA.fullmatch(name):
        raise RecordError(f"'{path}' is damaged: it names no folder of data.")
    return name


def is_pointed(folder: Path, data: Path) -> bool:
    """Whether a folder of data is the one that counts already."""
    try:
        return pointed_data(folder) == data.name
    except RecordError:
        return False


def put_in_place(folder: Path, data: Path) -> None:
    """Let a folder of data count from now on, and remove what counted before.

    Raises:
        RecordError: the file system refuses.
    """
    with Refusal(folder):
        _flush_folder(data)
        _flush_folder(folder)
        pointer = {"format": FORMAT, "version": VERSION, "data": data.name}
        temporary = folder / f".{_POINTER}.{secrets.token_hex(8)}.tmp"
        try:
            write_file(temporary, json.dumps(pointer, indent=1).encode() + b"\n")
            temporary.replace(folder / _POINTER)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(folder)
    remove_others(folder, data)


def remove_others(folder: Path, data: Path) -> None:
    """Remove what counted before, and what killed saves have left."""
    for path in folder.iterdir():
        if path != data and _DATA.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, down to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush a folder's list of names; only POSIX systems let a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Refusal:
    """Turns what the file system says into a RecordError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, at: object) -> None:
        if isinstance(fault, OSError):
            raise RecordError(
                f"Cannot write the checkpoint '{self._folder}': {fault.strerror or fault}. What was saved before is "
                "still there."
            ) from fault
