"""Images in a NumPy archive."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from logitlab.config.errors import DataError

from .arrays import part_of_arrays
from .dataset import DataSet, Part, check_labels, data_set_from_parts
from .faults import one_line, unreadable
from .splitting import split_off_test

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_KNOWN = frozenset({*_KEYS, "x", "y", "class_names"})
# An archive may have thousands of members; an error names so many of them.
_SHOWN = 12


def load_npz(
    path: Path, *, name: str | None = None, image_size: int | None = None, augmentation: str = "crop"
) -> DataSet:
    """Load a ``.npz`` file without pickle.

    Keys: ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``x``, ``y`` of which we split a fifth of each
    class off for the test (by a fixed seed); ``class_names`` if there are names. Images are uint8,
    ``[N, H, W]`` (grey) or ``[N, H, W, C]`` with C 1 or 3; labels are integers ``[N]`` from 0. Other keys are
    ignored.

    Args:
        path: the file.
        name: what the set is called; None takes the file's name.
        image_size: side to which the images are resized; None keeps their size.
        augmentation: the set's own augmentation.

    Raises:
        DataError: the file or a key is missing, an array has another type or shape, or a label is out of
            range.
    """
    arrays, members = read_archive(path, _KNOWN)
    name = name or path.stem
    names = arrays.get("class_names")
    class_names = None if names is None else tuple(str(value) for value in names.flatten().tolist())
    if "x" in arrays and "y" in arrays and "x_train" not in arrays:
        whole = _part(path, arrays, "x", "y")
        class_names = check_labels(name, {"train": whole.labels}, class_names)
        train, test = (whole.select(indices) for indices in split_off_test(whole.labels, class_names))
    else:
        missing = [key for key in _KEYS if key not in arrays]
        if missing:
            raise DataError(
                f"'{path}' lacks {', '.join(map(repr, missing))}; expected {', '.join(_KEYS)}, or x and y. "
                f"Found: {list_members(members)}."
            )
        train = _part(path, arrays, "x_train", "y_train")
        test = _part(path, arrays, "x_test", "y_test")
    return data_set_from_parts(
        name, train, test, class_names=class_names, image_size=image_size, augmentation=augmentation
    )


def read_archive(path: Path, known: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Read the members that are known, and the names of all: an archive may hold others, of any size.

    Raises:
        DataError: the file is missing or damaged, or holds what only pickle reads.
    """
    import numpy

    if not path.is_file():
        raise DataError(f"Cannot find the file '{path}'. Give npz:FILE with the path of a .npz file.")
    try:
        with path.open("rb") as stream:
            archive = numpy.load(stream, allow_pickle=False)
            # A bare array has no members: every key is then missing.
            members = archive.files if isinstance(archive, numpy.lib.npyio.NpzFile) else []
            return {key: archive[key] for key in members if key in known}, members
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as fault:
        if isinstance(fault, OSError) and fault.strerror:
            raise unreadable(path, fault) from fault
        raise DataError(
            f"Cannot read '{path}': {one_line(fault)}. Write it with numpy.savez from plain arrays."
        ) from fault


def list_members(members: list[str]) -> str:
    """Write the names of an archive's members."""
    if not members:
        return "no keys"
    more = f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
    return ", ".join(sorted(members)[:_SHOWN]) + more


def _part(path: Path, arrays: dict[str, Any], pixels_key: str, labels_key: str) -> Part:
    return part_of_arrays(f"'{path}'", arrays[pixels_key], arrays[labels_key], (pixels_key, labels_key))
