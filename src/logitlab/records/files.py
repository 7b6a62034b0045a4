"""Files that are either whole or absent, whatever happens to the process that writes them."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..config.errors import RecordError

LEFTOVER_SUFFIX: Final = ".tmp"


def write_json_atomic(path: Path, value: Any) -> None:
    """Write ``value`` as JSON so that a reader sees the old file or the whole new one, never a part.

    The text goes to a temporary file in the same folder, is flushed to the disk and renamed over ``path``;
    then the folder itself is flushed, so that the name outlives a loss of power as well.

    Args:
        path: where the file shall stand; missing parent folders are made.
        value: what ``json.dumps`` takes. NaN and infinity are refused: JSON has no word for them, and a
            record with a hole reads ``None``.

    Raises:
        RecordError: ``value`` cannot be written as JSON.
        OSError: the file system refuses; the temporary file is removed.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except (TypeError, ValueError) as fault:
        raise RecordError(
            f"Cannot write '{path}' as JSON: {fault}. Records hold finite numbers, text, lists and mappings."
        ) from fault
    write_atomic(path, lambda file: file.write(f"{text}\n".encode()))


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let ``write`` fill a file that appears at ``path`` whole, or not at all.

    Args:
        path: where the file shall stand; missing parent folders are made.
        write: called with the temporary file, open for writing.

    Raises:
        OSError: the file system refuses; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{LEFTOVER_SUFFIX}")
    try:
        # "x" and not the tempfile module: the umask decides who may read, so that a team can share a folder.
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def remove_leftovers(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove the temporary files of writers that were killed.

    Args:
        folder: where they may lie.
        older_than: seconds that a file must have lain untouched; 0 only where nobody may be writing.
    """
    until = time.time() - older_than
    for leftover in folder.glob(f".*{LEFTOVER_SUFFIX}"):
        with suppress(FileNotFoundError):  # its writer has finished
            if older_than == 0 or leftover.stat().st_mtime < until:
                leftover.unlink()


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names; only POSIX systems let a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
