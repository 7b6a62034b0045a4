"""The embedded data set: scikit-learn's handwritten digits."""

from __future__ import annotations

import torch

from .dataset import DataSet, Part, data_set_from_parts
from .splitting import split_off_test


def load_digits(image_size: int | None = None) -> DataSet:
    """Load 1,797 grey digits of 8x8 pixels, 10 classes; nothing is downloaded.

    Source: the test part of UCI's "Optical Recognition of Handwritten Digits" as scikit-learn ships it. The
    ink counts 0 to 16 are scaled to 0 to 255. A fifth of each class (359 images in all) is the test set, by a
    fixed seed. No augmentation by default: one pixel of shift is an eighth of such an image.

    Args:
        image_size: side to which the images are resized; None keeps 8.

    >>> data = load_digits()
    >>> len(data.train), len(data.test), data.num_classes
    (1438, 359, 10)
    """
    from sklearn.datasets import load_digits as load

    found = load()
    pixels = torch.from_numpy(found.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).to(torch.int64)
    train, test = split_off_test(labels)
    return data_set_from_parts(
        "digits",
        Part(pixels[train], labels[train]),
        Part(pixels[test], labels[test]),
        image_size=image_size,
    )
