"""A data set: training and test images with their classes, checked and fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.names import printable

from .decoding import resize
from .enlarged import EnlargedImages
from .faults import check_memory, not_square
from .images import MEMORY_LIMIT, Images, MemoryImages


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and test images of one classification problem.

    Attributes:
        name: what it is called in tables.
        train: images to train on; a validation part is split off by `logitlab.data.split_data`.
        test: images that are measured once.
        class_names: one name a class.
        fingerprint: SHA-256, in hexadecimal, of the images and labels (for streamed folders: of names, sizes
            and ends of the files).
        channels: 1 or 3.
        image_size: side of the square images, in pixels.
        augmentation: what training uses unless told otherwise: ``"none"``, ``"crop"`` or ``"crop_flip"``.
        validation: the validation images where the set brings its own; None to split them off ``train``.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    fingerprint: str
    channels: int
    image_size: int
    augmentation: str = "none"
    validation: Images | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.class_names)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        x_train: Any,
        y_train: Any,
        x_test: Any = None,
        y_test: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        image_size: int | None = None,
        augmentation: str = "none",
    ) -> DataSet:
        """Make a data set of NumPy arrays, or of what becomes one: checked, resized, fingerprinted.

        Args:
            name: what it is called in tables.
            x_train: uint8 ``[N, H, W]`` (grey) or ``[N, H, W, C]``, C 1 or 3.
            y_train: integers ``[N]`` from 0.
            x_test: likewise; None splits a fifth of each class off ``x_train``, by a fixed seed.
            y_test: likewise.
            class_names: one name a class; None numbers them up to the largest label.
            image_size: side to which the images are resized, in pixels; None keeps their size.
            augmentation: what training uses unless told otherwise: ``"none"``, ``"crop"`` or ``"crop_flip"``.

        Raises:
            DataError: an array has another type or shape, a label is out of range, images are not square.

        >>> import numpy
        >>> images, labels = numpy.zeros((10, 8, 8), dtype=numpy.uint8), numpy.arange(10) % 2
        >>> data = DataSet.from_arrays("mine", images, labels, image_size=16)
        >>> len(data.train), len(data.test), data.num_classes, data.image_size
        (8, 2, 2, 16)
        """
        from .arrays import data_set_from_arrays

        return data_set_from_arrays(
            name,
            x_train,
            y_train,
            x_test,
            y_test,
            class_names=class_names,
            image_size=image_size,
            augmentation=augmentation,
        )


@dataclass(frozen=True, eq=False)
class Part:
    """Pixels, uint8 ``[N, C, H, W]``, and integer labels ``[N]`` of one part, as a loader found them."""

    pixels: Tensor
    labels: Tensor

    def select(self, indices: Tensor) -> Part:
        """Return the images at ``indices``, in that order."""
        return Part(self.pixels[indices], self.labels[indices])


def data_set_from_parts(
    name: str,
    train: Part,
    test: Part,
    *,
    validation: Part | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    augmentation: str = "none",
) -> DataSet:
    """Check pixels and labels that lie in memory and make a data set of them.

    Args:
        name: what the set is called; errors begin with it.
        train: training images.
        test: test images of the same size.
        validation: validation images of the same size, where the set brings its own.
        class_names: one name a class; None numbers them up to the largest label.
        image_size: side to which the images are resized; None keeps their size.
        augmentation: the set's own augmentation.

    Raises:
        DataError: sizes differ or are not square, a label is out of range, a class has no training image, or
            one resized image would not fit in memory.
    """
    parts = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    for part, content in parts.items():
        if not len(content.labels):
            raise DataError(f"{name}: the {part} part has no images.")
        if content.pixels.shape[1:] != train.pixels.shape[1:]:
            raise DataError(
                f"{name}: train images are {describe_shape(train.pixels)} and {part} images "
                f"{describe_shape(content.pixels)}; make them alike."
            )
    names = check_labels(name, {part: content.labels for part, content in parts.items()}, class_names)
    height, width = train.pixels.shape[-2:]
    if image_size is None and height != width:
        raise not_square(name, (width, height))
    side, channels = image_size or height, train.pixels.shape[1]
    # Before anything is resized: torch says no more than that it cannot allocate.
    check_memory(name, channels, side, MEMORY_LIMIT)
    resized = sum(len(content.labels) for content in parts.values()) * channels * side**2
    enlarge_later = side**2 > width * height and resized > MEMORY_LIMIT
    fingerprint = hashlib.sha256()
    for part, content in parts.items():
        fingerprint.update(f"{part} {list(content.pixels.shape)}\n".encode())
        fingerprint.update(tensor_bytes(content.pixels))
        fingerprint.update(tensor_bytes(content.labels.to(torch.int64)))
    images: dict[str, Images] = {}
    for part, content in parts.items():
        if enlarge_later:
            images[part] = EnlargedImages(MemoryImages(content.pixels, content.labels), side)
        else:
            images[part] = MemoryImages(resize(content.pixels, side), content.labels)
    return DataSet(
        name=name,
        train=images["train"],
        test=images["test"],
        class_names=names,
        fingerprint=fingerprint.hexdigest(),
        channels=channels,
        image_size=side,
        augmentation=augmentation,
        validation=images.get("validation"),
    )


def check_labels(name: str, parts: dict[str, Tensor], class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Check that labels index the classes and that each class has training images; return the class names.

    Args:
        name: of the data set; errors begin with it.
        parts: labels ``[N]`` of each part; ``"train"`` among them.
        class_names: one name a class; None numbers them up to the largest training label.

    Raises:
        DataError: naming the label, the part and the image.

    >>> check_labels("mine", {"train": torch.tensor([0, 1, 1]), "test": torch.tensor([1])})
    ('0', '1')
    """
    train = parts["train"]
    num_classes = int(train.max()) + 1 if class_names is None else len(class_names)
    for part, labels in parts.items():
        wrong = torch.nonzero((labels < 0) | (labels >= num_classes)).flatten()
        if len(wrong):
            label = int(labels[wrong[0]])
            # Without names the largest label is all that tells how many classes there are: beside a negative
            # one it tells nothing.
            known = label >= 0 or class_names is not None
            expected = f"0 to {num_classes - 1} ({num_classes} classes)" if known else "0 to C - 1 for C classes"
            raise DataError(
                f"{name}: label {label} of {part} image {int(wrong[0])} is out of range; expected {expected}."
            )
    if num_classes < 2:
        raise DataError(f"{name}: expected at least 2 classes. Got {num_classes}.")
    present = set(train.tolist())
    missing = next((label for label in range(num_classes) if label not in present), None)
    if missing is not None:
        name_of = "" if class_names is None else f" (class '{class_names[missing]}')"
        raise DataError(
            f"{name}: label {missing}{name_of} has no training image, though labels go up to {num_classes - 1}; "
            "number the classes 0 to C - 1 without gaps."
        )
    return tuple(map(str, range(num_classes))) if class_names is None else tuple(map(printable, class_names))


def describe_shape(pixels: Tensor) -> str:
    """Write the shape of one image as ``WIDTHxHEIGHT with C channels``."""
    channels, height, width = pixels.shape[-3:]
    return f"{width}x{height} with {channels} channel{'s' if channels != 1 else ''}"


def tensor_bytes(values: Tensor) -> memoryview:
    """Return the bytes of a CPU tensor, row by row, for hashing."""
    return values.contiguous().numpy().data
