"""Some classes of a data set alone: ``NAME:classes=0-6``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.names import unknown_name

from .dataset import DataSet
from .images import Images, MemoryImages

#: What stands between the name of a data set and the classes that are taken of it.
CLASSES: Final = ":classes="

_OPTIONS: Final = ("classes",)
# More than any data set has; so many numbers still fit in memory.
_MOST: Final = 10**6
_HOW: Final = "Write classes by number, as in classes=0-6 or classes=0-4+7+9"
_RUN: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_OPTION: Final = re.compile(r"(?P<base>.+):(?P<key>\w+)=[^:/\\]*")


def base_name(name: str) -> str:
    """Return the name of a data set without the classes that are taken of it.

    The last ``:classes=`` counts: the name of a file may hold colons.

    >>> base_name("fashion-mnist:classes=0-6"), base_name("npz:C:/mine.npz")
    ('fashion-mnist', 'npz:C:/mine.npz')
    """
    return name.rpartition(CLASSES)[0] if CLASSES in name else name


def read_classes(name: str) -> tuple[int, ...] | None:
    """Return the classes that a name asks for, in its order; None where it asks for none, which means all.

    Raises:
        DataError: they are not written as numbers and runs, there are fewer than two, or one stands twice.

    >>> read_classes("mnist:classes=7+0-2"), read_classes("mnist")
    ((7, 0, 1, 2), None)
    """
    if CLASSES not in name:
        return None
    base, _, written = name.rpartition(CLASSES)
    chosen: dict[int, None] = {}
    for run in written.split("+"):
        found = _RUN.fullmatch(run)
        if found is None:
            raise DataError(f"'{name}': expected classes as numbers and runs of them. Got '{written}'. {_HOW}.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise DataError(f"'{name}': a run of classes goes from the lower to the higher. Got '{run}'. {_HOW}.")
        # A mistyped run would fill the memory before anybody could say so.
        if last - first >= _MOST:
            raise DataError(f"'{name}': the run '{run}' has more classes than any data set of '{base}'. {_HOW}.")
        for each in range(first, last + 1):
            if each in chosen:
                raise DataError(f"'{name}': class {each} is named twice. Name each class once.")
            chosen[each] = None
        # Many runs would fill it as well.
        if len(chosen) > _MOST:
            raise DataError(f"'{name}' names more classes than any data set of '{base}' has. {_HOW}.")
    if len(chosen) < 2:
        (only,) = chosen
        raise DataError(f"'{name}': expected at least 2 classes. Got 1, class {only}. {_HOW}.")
    return tuple(chosen)


def write_classes(classes: Sequence[int]) -> str:
    """Write classes as a name has them, neighbours as runs.

    >>> write_classes([0, 1, 2, 7, 9, 8])
    '0-2+7+9+8'
    """
    runs: list[list[int]] = []
    for each in classes:
        if runs and runs[-1][1] == each - 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    return "+".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def unknown_option(name: str) -> DataError | None:
    """Say that what follows a name is no option of data sets; None where nothing looks like one.

    >>> print(unknown_option("digits"), unknown_option("npz:mine.npz"))
    None None
    """
    found = _OPTION.fullmatch(name)
    if found is None:
        return None
    if found["key"] in _OPTIONS:
        return DataError(f"'{name}' gives '{found['key']}' twice. Give it once.")
    return DataError(f"'{name}': {unknown_name('option of a data set', found['key'], _OPTIONS)} {_HOW}.")


def select_classes(data: DataSet, classes: Sequence[int]) -> DataSet:
    """Keep the images of some classes alone, in every part, and number these classes from 0 in their order.

    Args:
        data: the whole set.
        classes: of ``data``, at least two, each once.

    Returns:
        a set of its own: its name ends in the classes, its fingerprint is that of ``data`` and the classes.

    Raises:
        DataError: there is no such class, or none of a part's images is of these classes.

    >>> from logitlab.data.digits import load_digits
    >>> data = select_classes(load_digits(), [7, 1])
    >>> data.name, data.class_names, sorted(set(data.test.labels.tolist()))
    ('digits:classes=7+1', ('7', '1'), [0, 1])
    """
    written = write_classes(classes)
    wrong = [each for each in classes if not 0 <= each < data.num_classes]
    if wrong:
        raise DataError(
            f"{data.name}: class {wrong[0]} of '{written}' is out of range; expected 0 to {data.num_classes - 1} "
            f"({data.num_classes} classes)."
        )
    numbers = torch.full((data.num_classes,), -1, dtype=torch.int64)
    numbers[torch.tensor(classes)] = torch.arange(len(classes))

    def part(name: str, images: Images) -> Images:
        labels = numbers[images.labels]
        kept = torch.nonzero(labels >= 0).flatten()
        if not len(kept):
            raise DataError(f"{data.name}: the {name} part has no image of the classes '{written}'. Take others.")
        return _renumbered(images.select(kept), labels[kept])

    essence = f"{data.fingerprint} classes {' '.join(map(str, classes))}"
    return DataSet(
        name=f"{data.name}{CLASSES}{written}",
        train=part("train", data.train),
        test=part("test", data.test),
        class_names=tuple(data.class_names[each] for each in classes),
        fingerprint=hashlib.sha256(essence.encode()).hexdigest(),
        channels=data.channels,
        image_size=data.image_size,
        augmentation=data.augmentation,
        validation=None if data.validation is None else part("validation", data.validation),
    )


class RenumberedImages:
    """Images with other labels than those that they were stored with; see `logitlab.data.images.Images`.

    Args:
        images: streamed, enlarged batch by batch, or a user's own.
        labels: integers ``[N]``, one an image.
    """

    def __init__(self, images: Images, labels: Tensor) -> None:
        self.labels = labels
        self._images = images

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> RenumberedImages:
        """Return the images at ``indices``, in that order."""
        return RenumberedImages(self._images.select(indices), self.labels[indices])

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        chunks = torch.split(indices, batch_size) if len(indices) else ()
        for chunk, (pixels, _) in zip(chunks, self._images.batches(indices, batch_size, device), strict=True):
            yield pixels, self.labels[chunk].to(device)


def _renumbered(images: Images, labels: Tensor) -> Images:
    # Those in memory stay what they are: they are copied to a GPU once, and kept prepared.
    return MemoryImages(images.pixels, labels) if type(images) is MemoryImages else RenumberedImages(images, labels)
