"""A study that extends another one: it says what differs, and shares the rest, its trials included."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import ConfigurationError
from .yaml_file import Document, read_yaml

#: The key of a file that names the study below it.
EXTENDS: Final = "extends"

#: From the name of a study to its file; raises ConfigurationError where there is none.
Finder: TypeAlias = Callable[[str], Path]

_SUFFIXES: Final = (".yaml", ".yml")

# A study that extends one that extends one, and so on, is hard to read long before this.
_MOST: Final = 10


def read_document(path: Path, find: Finder | None = None) -> Document:
    """Read a file, merged over the studies that it extends.

    Mappings merge, and with them scales of one name; lists and single values replace. Its name is that of the file
    unless it has one of its own.

    Args:
        path: the file.
        find: finds studies that do not lie beside the file; None where there are none.

    Raises:
        ConfigurationError: a file cannot be read, or extends itself.
    """
    document = read_yaml(path)
    stem = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "study"
    document.values.setdefault("name", stem)
    find_table(document, path.parent)
    return extended(document, path.parent, find, (path.resolve(),))


def extended(document: Document, folder: Path, find: Finder | None = None, above: tuple[Path, ...] = ()) -> Document:
    """Merge a document over what its key ``extends`` names.

    Args:
        document: what was read.
        folder: where it lies; a study of this name is looked for there first.
        find: finds studies elsewhere; None where there are none.
        above: files that extend this one.

    Raises:
        ConfigurationError: there is no such study, it cannot be read, or it extends itself.
    """
    if EXTENDS not in document.values:
        return document
    where = document.where((EXTENDS,))
    name = document.values.pop(EXTENDS)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}'{EXTENDS}' must name a preset or a file. Got {name!r}.")
    path = _beside(name, folder)
    if path is None or (find is not None and above and path.resolve() == above[-1]):
        # A file of the name of a preset extends the preset, not itself.
        try:
            path = path if find is None else find(name)
        except ConfigurationError as fault:
            raise ConfigurationError([f"{where}{sentence}" for sentence in fault.faults]) from None
    if path is None:
        raise ConfigurationError(f"{where}There is no study '{name}' to extend. Give a YAML file in '{folder}'.")
    if path.resolve() in above:
        raise ConfigurationError(f"{where}'{name}' extends itself, over {len(above)} file(s). Leave one of them out.")
    if len(above) >= _MOST:
        raise ConfigurationError(f"{where}Expected at most {_MOST} studies one below the other. Got more.")
    base = read_yaml(path)
    find_table(base, path.parent)
    # What the lower one is called is no name for this one.
    base.values.pop("name", None)
    below = extended(base, path.parent, find, (*above, path.resolve()))
    if "scales" in document.values and document.values["scales"] is None:
        # Who takes the scales away takes away which one is the default.
        below.values.pop("default_scale", None)
    return document.over(below)


def _beside(name: str, folder: Path) -> Path | None:
    """Find a study in a folder, by the name of its file or without the ending."""
    try:
        place = folder / Path(name).expanduser()
        candidates = [place] if place.suffix in _SUFFIXES else [place.with_name(place.name + end) for end in _SUFFIXES]
        return next((path for path in candidates if path.is_file()), None)
    except (OSError, RuntimeError, ValueError):
        # No home folder; a name that is too long for a file, or that no file can have, such as '.'.
        return None


def find_table(document: Document, folder: Path) -> None:
    """Look for the file of the paper's numbers beside the study; an absolute path stays one."""
    scales = document.values.get("scales")
    holders = [document.values, *(scales.values() if isinstance(scales, dict) else ())]
    for holder in holders:
        paper = holder.get("paper") if isinstance(holder, dict) else None
        table = paper.get("table") if isinstance(paper, dict) else None
        if isinstance(paper, dict) and isinstance(table, str) and table.endswith(".csv"):
            paper["table"] = str(folder.resolve() / table)
