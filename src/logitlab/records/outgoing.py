"""Files that a user asked for by name: written whole, or what stood there stays."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..config.errors import ConfigurationError
from .files import flush_folder


@contextmanager
def whole_file(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file that takes its place when all of it is written; until then what stood there stays.

    Args:
        path: where it shall stand, in a folder that is there.
        binary: for bytes instead of text in UTF-8.

    Raises:
        ConfigurationError: the folder is missing, the place is a folder, or the file system refuses.
    """
    check_output(path)
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            options: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
            with temporary.open("xb" if binary else "x", **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        flush_folder(path.parent)
    except OSError as fault:
        raise ConfigurationError(
            f"Cannot write '{path}': {fault.strerror or fault}. What stood there is kept; give another place."
        ) from fault


def check_output(path: Path) -> None:
    """See that a file can be written there, before hours are spent on what shall stand in it.

    Raises:
        ConfigurationError: the folder is missing or takes no file, or the place is a folder.
    """
    try:
        if path.is_dir():
            raise ConfigurationError(f"Expected a file to write to. '{path}' is a folder; give a name in it.")
        if not path.parent.is_dir():
            raise ConfigurationError(f"Cannot write '{path}': there is no folder '{path.parent}'. Make it first.")
        if not os.access(path.parent, os.W_OK):
            raise ConfigurationError(f"Cannot write '{path}': the folder '{path.parent}' takes no files.")
    except OSError as fault:
        raise ConfigurationError(f"Cannot write '{path}': {fault.strerror or fault}. Give another place.") from None
