"""Letters: notMNIST, and Omniglot's handwritten characters of many alphabets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from logitlab.config.errors import DataError

from .arrays import part_of_arrays
from .dataset import DataSet, Part, data_set_from_parts
from .idx import read_idx
from .npz import list_members, read_archive
from .splitting import split_off_test

#: The files of notMNIST's test part, in MNIST's format.
NOTMNIST_IMAGES: Final = "t10k-images-idx3-ubyte"
NOTMNIST_LABELS: Final = "t10k-labels-idx1-ubyte"

_NOTMNIST_FOLDERS = ("notmnist_test", "notmnist", "notMNIST")
_OMNIGLOT = Path("omniglot", "omniglot_28.npz")
_OMNIGLOT_KEYS = ("x_background", "y_background", "drawer_background", "class_names_background")
# Each character was drawn once by each of twenty people; these drew the training images.
_TRAIN_DRAWERS = 15


class MissingError(DataError):
    """The files of a data set are not there."""


def find_notmnist(root: Path, stem: str) -> Path:
    """Return where a file of notMNIST lies, gzipped or not.

    Args:
        root: the folder that holds data sets.
        stem: name of the file without ``.gz``.

    Raises:
        MissingError: it is in none of the folders ``notmnist_test``, ``notmnist`` and ``notMNIST`` of ``root``.
    """
    folders = [root / name for name in _NOTMNIST_FOLDERS]
    files = [folder / f"{stem}{suffix}" for folder in folders for suffix in ("", ".gz")]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise MissingError(
            f"Cannot find '{stem}.gz' in {' or '.join(repr(str(folder)) for folder in folders)}. "
            "Name the folder that holds data sets by --data-root or LOGITLAB_DATA."
        )
    return path


def load_notmnist(root: Path, image_size: int | None = None) -> DataSet:
    """Load the 10,000 letters A to J of notMNIST's test part, 28x28 grey; a fifth of each class is our test part.

    The letters as published repeat themselves: 44 of the 2,000 test images are also, pixel by pixel, among the training
    images. As an out-of-distribution set the same name means all of them; see `logitlab.data.load_ood`.

    Args:
        root: the folder that holds data sets.
        image_size: side to which the images are resized; None keeps 28.

    Raises:
        MissingError: a file is not there.
        DataError: a file is truncated, of another format, or does not fit the other.
    """
    pixels = read_idx(find_notmnist(root, NOTMNIST_IMAGES), dimensions=3).unsqueeze(1)
    labels = read_idx(find_notmnist(root, NOTMNIST_LABELS), dimensions=1).long()
    if len(pixels) != len(labels):
        raise DataError(f"notmnist: found {len(pixels)} images and {len(labels)} labels; fetch it again.")
    train, test = split_off_test(labels)
    whole = Part(pixels, labels)
    return data_set_from_parts(
        "notmnist",
        whole.select(train),
        whole.select(test),
        class_names=tuple("ABCDEFGHIJ"),
        image_size=image_size,
    )


def load_omniglot(root: Path, image_size: int | None = None) -> DataSet:
    """Load the 964 characters of Omniglot's 30 background alphabets, 28x28 grey, 20 images each; ink is white.

    The images of the drawers 1 to 15 are the training part, those of 16 to 20 the test part: whoever drew a test image
    drew no training image of its class. The evaluation alphabets are left for tasks of their own.

    Args:
        root: the folder that holds data sets; the file is ``root/omniglot/omniglot_28.npz``.
        image_size: side to which the images are resized; None keeps 28.

    Raises:
        MissingError: the file is not there.
        DataError: it is damaged, or lacks an array.
    """
    path = root / _OMNIGLOT
    if not path.is_file():
        raise MissingError(
            f"Cannot find '{path}'. Name the folder that holds data sets by --data-root or LOGITLAB_DATA."
        )
    arrays, members = read_archive(path, _OMNIGLOT_KEYS)
    missing = [key for key in _OMNIGLOT_KEYS if key not in arrays]
    if missing:
        raise DataError(f"'{path}' lacks {', '.join(map(repr, missing))}. Found: {list_members(members)}.")
    whole = part_of_arrays(f"'{path}'", arrays["x_background"], arrays["y_background"], _OMNIGLOT_KEYS[:2])
    drawers = torch.from_numpy(arrays["drawer_background"])
    if drawers.shape != whole.labels.shape:
        raise DataError(
            f"'{path}': expected 'drawer_background' as {len(whole.labels)} integers, one an image. "
            f"Got {list(drawers.shape)}."
        )
    return data_set_from_parts(
        "omniglot",
        whole.select(torch.nonzero(drawers <= _TRAIN_DRAWERS).flatten()),
        whole.select(torch.nonzero(drawers > _TRAIN_DRAWERS).flatten()),
        class_names=tuple(str(name) for name in arrays["class_names_background"].flatten().tolist()),
        image_size=image_size,
        augmentation="crop",
    )
