"""A folder of images: a sub-folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.names import printable

from .dataset import DataSet
from .decoding import Header, ImageFiles, decode_all, map_in_threads, read_header
from .faults import check_memory, not_square, sizes_differ
from .images import MEMORY_LIMIT, Images, MemoryImages
from .splitting import split_off_test
from .streaming import StreamedImages

_VALIDATION_NAMES = ("val", "valid", "validation")
# Of a streamed file so much is hashed at either end.
_HASHED_END = 8 * 2**10


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of one part with their labels, int64 ``[N]``."""

    paths: tuple[str, ...]
    labels: Tensor

    def select(self, indices: Tensor) -> _Files:
        return _Files(tuple(self.paths[index] for index in indices.tolist()), self.labels[indices])


def load_folder(
    path: Path,
    image_size: int | None = None,
    *,
    memory_limit: int = MEMORY_LIMIT,
    workers: int | None = None,
    whole: bool = False,
) -> DataSet:
    """Load a folder with a sub-folder a class, or with ``train/`` and ``val/`` or ``test/`` above them.

    Without ``train/`` a fifth of each class is split off for the test, by a fixed seed. With ``train/`` the
    test images are those in ``test/``, or in ``val/`` if there is no ``test/``; when both are there ``val/``
    is the validation part. Files are those that torchvision's ImageFolder takes (PNG, JPEG, ...); hidden ones
    are passed over. Images are grey if all are, RGB otherwise.

    Every header is read, so that sizes are known. If all decoded images fit in ``memory_limit`` bytes they
    are decoded now, otherwise while training. The fingerprint covers the files' names relative to the folder,
    their sizes and their contents (of a set that is streamed: 8 KiB at either end).

    Args:
        path: the folder.
        image_size: side to which images are resized; None keeps their size.
        memory_limit: largest set, in decoded bytes, that is held in memory.
        workers: processes that decode a set that is streamed; None takes one a core, at most 4.
        whole: without ``train/`` nothing is split off: all images are the test part, and stand for the training part
            as well. For sets that are there to be measured alone.

    Raises:
        DataError: naming the file or the class: an image that cannot be read, a class without images, sizes
            that differ or are not square (without ``image_size``), fewer than two classes, parts with
            different classes.
    """
    class_names, parts = _find_parts(path, whole=whole)
    paths = [file for files in parts.values() for file in files.paths]
    headers = map_in_threads(read_header, paths)
    side = image_size or _common_side(paths, headers)
    channels = 1 if all(header.grey for header in headers) else 3
    in_memory = len(paths) * channels * side * side <= memory_limit
    if image_size is not None:
        # What is streamed lies in memory image by image.
        check_memory(f"'{path}'", channels, side, max(memory_limit, MEMORY_LIMIT))

    def images(files: _Files) -> Images:
        source = ImageFiles(files.paths, channels, image_size)
        if in_memory:
            return MemoryImages(decode_all(source, channels, side), files.labels)
        return StreamedImages(source, files.labels, workers)

    found = {part: images(files) for part, files in parts.items()}
    return DataSet(
        name=printable(path.resolve().name),
        train=found.get("train", found["test"]),
        test=found["test"],
        class_names=tuple(map(printable, class_names)),
        fingerprint=fingerprint_files(path, {part: files.paths for part, files in parts.items()}, whole=in_memory),
        channels=channels,
        image_size=side,
        augmentation="crop",
        validation=found.get("validation"),
    )


def _has_train(path: Path) -> bool:
    return (path / "train").is_dir() and bool(_sub_folders(path / "train"))


def _find_parts(path: Path, *, whole: bool = False) -> tuple[tuple[str, ...], dict[str, _Files]]:
    """Find the classes and the files of each part."""
    if not _has_train(path):
        class_names = _class_names(path)
        files = _list_files(path, class_names)
        if whole:
            return class_names, {"test": files}
        kept, held_out = split_off_test(files.labels, class_names)
        return class_names, {"train": files.select(kept), "test": files.select(held_out)}
    folders = {"train": path / "train"}
    validation = next((path / name for name in _VALIDATION_NAMES if (path / name).is_dir()), None)
    if (path / "test").is_dir():
        folders["test"] = path / "test"
        if validation is not None:
            folders["validation"] = validation
    elif validation is not None:
        folders["test"] = validation
    else:
        raise DataError(
            f"'{path}' has train/ but neither val/ nor test/. Add one of them, or give '{path / 'train'}' to "
            "have a fifth of it split off as the test set."
        )
    class_names = _class_names(folders["train"])
    for folder in folders.values():
        odd = sorted(set(_class_names(folder)) ^ set(class_names))
        if odd:
            raise DataError(
                f"The class '{odd[0]}' is in only one of '{folders['train']}' and '{folder}'; "
                "give both the same class folders."
            )
    return class_names, {part: _list_files(folder, class_names) for part, folder in folders.items()}


def _class_names(folder: Path) -> tuple[str, ...]:
    names = _sub_folders(folder)
    if len(names) < 2:
        found = f"only '{names[0]}'" if names else "none"
        raise DataError(f"Expected at least 2 class folders in '{folder}', one a class. Found {found}.")
    written: dict[str, str] = {}
    for name in names:
        # A name that is not UTF-8 is written with a backslash, which another name may have had from the start.
        if (other := written.setdefault(printable(name), name)) != name:
            raise DataError(f"Two class folders in '{folder}' are written '{printable(other)}'. Rename one of them.")
    return names


def _sub_folders(folder: Path) -> tuple[str, ...]:
    # Hidden folders, such as those that notebooks and editors leave behind, are no classes.
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _list_files(folder: Path, class_names: tuple[str, ...]) -> _Files:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    labels = {name: label for label, name in enumerate(class_names)}
    found = make_dataset(folder, labels, extensions=IMG_EXTENSIONS, allow_empty=True)
    found = [(file, label) for file, label in found if not Path(file).name.startswith(".")]
    counts = torch.bincount(torch.tensor([label for _, label in found], dtype=torch.int64), minlength=len(labels))
    empty = torch.nonzero(counts == 0).flatten().tolist()
    if empty:
        class_folder = folder / class_names[empty[0]]
        # torchvision passes over what it may not list; then this raises.
        next(class_folder.iterdir(), None)
        raise DataError(
            f"The class folder '{class_folder}' has no images (expected "
            f"{', '.join(IMG_EXTENSIONS)}). Add some or remove the folder."
        )
    return _Files(tuple(file for file, _ in found), torch.tensor([label for _, label in found]))


def _common_side(paths: list[str], headers: list[Header]) -> int:
    """Return the side that all images share."""
    first = headers[0]
    for file, header in zip(paths, headers):
        if header.size != first.size:
            raise sizes_differ(f"'{paths[0]}'", first.size, f"'{file}'", header.size)
    width, height = first.size
    if width != height:
        raise not_square(f"'{paths[0]}'", first.size)
    return width


def fingerprint_files(root: Path, parts: Mapping[str, Sequence[str]], *, whole: bool) -> str:
    """Return the SHA-256 of the names below ``root``, sizes and contents of files; both ends unless ``whole``."""

    def entry(file: str) -> bytes:
        path = Path(file)
        with path.open("rb") as stream:
            if whole or path.stat().st_size <= 2 * _HASHED_END:
                content = stream.read()
            else:
                content = stream.read(_HASHED_END)
                stream.seek(-_HASHED_END, 2)
                content += stream.read()
        digest = hashlib.sha256(content).hexdigest()
        # The name as it stands on the disk, in UTF-8 or not.
        name = os.fsencode(path.relative_to(root).as_posix())
        return name + f"\t{path.stat().st_size}\t{digest}\n".encode()

    fingerprint = hashlib.sha256()
    for part, paths in parts.items():
        fingerprint.update(f"{part}\n".encode())
        fingerprint.update(b"".join(map_in_threads(entry, paths)))
    return fingerprint.hexdigest()
