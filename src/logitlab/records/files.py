"""Files that are either whole or absent, whatever happens to the process that writes them."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from ..config.errors import RecordError


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        # "x" and not the tempfile module: the umask decides who may read, so that a team can share a folder.
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Flush a folder's list of names; only POSIX systems let a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
