"""From what a user names (files, folders, patterns) to the files of images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from logitlab.config.errors import DataError


def list_images(names: Iterable[str | Path]) -> list[str]:
    """List the files that names stand for, each name's in alphabetical order, each file once.

    A file is taken whatever it is called, since it was named; of a folder and its sub-folders those that
    torchvision's ImageFolder would take (PNG, JPEG, ...), without hidden ones. What is neither is a pattern, with
    ``**`` for any depth.

    Args:
        names: files, folders and patterns.

    Raises:
        DataError: a name stands for nothing, or a folder holds no image.
    """
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys(_files_of(os.fspath(name))))
    if not found:
        raise DataError("No image to predict. Give files, folders or patterns such as 'photos/**/*.jpg'.")
    return list(found)


def _files_of(name: str) -> list[str]:
    if _is_folder(name):
        files = sorted(_walk(name))
        if not files:
            raise DataError(
                f"The folder '{name}' has no images (expected {', '.join(_extensions())}). Give one that has."
            )
        return files
    if os.path.lexists(name):
        return [name]
    if not glob.has_magic(name):
        raise DataError(f"Cannot find the image '{name}'. Give files, folders or patterns such as 'photos/**/*.jpg'.")
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # Path.glob knows no absolute patterns
    files = [path for path in matches if not _is_folder(path)]
    if files:
        return files
    # A pattern of folders alone stands for what is in them.
    files = [path for folder in matches for path in sorted(_walk(folder))]
    if not files:
        raise DataError(f"No image matches '{name}'. Check the pattern; quote it so that the shell leaves it alone.")
    return files


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a name that no file system takes
        return False


def _walk(folder: str) -> Iterator[str]:
    extensions = _extensions()

    def refuse(fault: OSError) -> None:
        raise DataError(f"Cannot read the folder '{fault.filename}': {fault.strerror}. Check who may read it.")

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(extensions):
                yield str(Path(place, name))


def _extensions() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)
