"""Images and labels in NumPy arrays: checked, and laid out as torch has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import DataError

from .dataset import DataSet, Part, check_labels, data_set_from_parts
from .splitting import split_off_test


def part_of_arrays(name: str, pixels: Any, labels: Any, keys: tuple[str, str]) -> Part:
    """Check images and labels, and lay the images out as ``[N, C, H, W]``.

    Args:
        name: of what they come from; errors begin with it.
        pixels: uint8 ``[N, H, W]`` (grey) or ``[N, H, W, C]``, C 1 or 3.
        labels: integers ``[N]`` from 0.
        keys: what the two are called in errors.

    Raises:
        DataError: another type or shape, or a label that is too large.
    """
    pixels_key, labels_key = keys
    if pixels.dtype != "uint8":
        raise DataError(
            f"{name}: expected '{pixels_key}' as uint8, 0 to 255. Got {pixels.dtype}; scale and convert it."
        )
    if pixels.size == 0 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] not in (1, 3)):
        raise DataError(
            f"{name}: expected '{pixels_key}' as [N, H, W], or [N, H, W, C] with C 1 or 3. Got {list(pixels.shape)}."
        )
    if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),):
        raise DataError(
            f"{name}: expected '{labels_key}' as {len(pixels)} integers, one an image. "
            f"Got {labels.dtype} {list(labels.shape)}."
        )
    largest = int(labels.max())
    if largest > torch.iinfo(torch.int64).max:
        # An uint64 of this size would become a negative number below.
        raise DataError(
            f"{name}: label {largest} of '{labels_key}' image {int(labels.argmax())} is out of range; "
            "expected 0 to C - 1 for C classes."
        )
    images: Tensor = torch.from_numpy(pixels)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Part(images, torch.from_numpy(labels.astype("int64")))


def data_set_from_arrays(
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
    """Make a data set of arrays; see :meth:`~logitlab.data.DataSet.from_arrays`."""
    import numpy

    if (x_test is None) != (y_test is None):
        raise DataError(f"{name}: give 'x_test' and 'y_test', or neither.")

    def part(pixels: Any, labels: Any, keys: tuple[str, str]) -> Part:
        # Copies: arrays that cannot be written to make no tensors, and what a user does later changes nothing here.
        return part_of_arrays(name, numpy.asarray(pixels).copy(), numpy.asarray(labels).copy(), keys)

    train = part(x_train, y_train, ("x_train", "y_train"))
    if x_test is None:
        class_names = check_labels(name, {"train": train.labels}, class_names)
        train, test = (train.select(indices) for indices in split_off_test(train.labels, class_names))
    else:
        test = part(x_test, y_test, ("x_test", "y_test"))
    return data_set_from_parts(
        name, train, test, class_names=class_names, image_size=image_size, augmentation=augmentation
    )
