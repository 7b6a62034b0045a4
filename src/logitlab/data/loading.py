"""Data sets by name or path. torchvision takes seconds to import, so only what needs it imports it."""

from __future__ import annotations

import os
from pathlib import Path

from logitlab.config.errors import DataError
from logitlab.config.names import nearest_name

from .dataset import DataSet
from .digits import load_digits
from .faults import unreadable
from .folder import load_folder
from .idx import load_idx
from .npz import load_npz
from .registry import DATA_SETS, load_registered

_OWN = ("cifar10", "digits", "fashion-mnist", "mnist")
_CHOICES = f"Give {', '.join(_OWN)}, a torchvision set such as svhn, a folder with a sub-folder a class, or npz:FILE"
_CIFAR10_SUBSET = Path("cifar10", "cifar10_subset_2000x400.npz")


def list_data_sets() -> list[str]:
    """Return the names that `load_data` knows beside folders and ``npz:FILE``.

    >>> "digits" in list_data_sets()
    True
    """
    from .torchvision_sets import list_torchvision_sets

    return sorted({*_OWN, *DATA_SETS.names(), *list_torchvision_sets()})


def content_decides(name: str) -> bool:
    """Say whether the fingerprint of a set is that of its images as they are stored, whatever size they are asked for.

    That of torchvision's sets is of the resized images, and that of a folder of what is read of its files.

    >>> content_decides("digits"), content_decides("svhn")
    (True, False)
    """
    known = name.lower()
    return known.startswith("npz:") or known in ("digits", "mnist", "fashion-mnist", "fashionmnist")


def load_data(name: str, *, image_size: int | None = None, root: str | Path | None = None) -> DataSet:
    """Load a data set; nothing is downloaded.

    Args:
        name: one of

            - ``"digits"``: scikit-learn's, embedded;
            - ``"fashion-mnist"``, ``"mnist"``: IDX files in ``root``;
            - ``"cifar10"``: ``root/cifar10/cifar10_subset_2000x400.npz`` if it is there, otherwise
              torchvision's;
            - one that was registered by :func:`~logitlab.data.register_data_set`;
            - a classification set of torchvision by its class's name in any case, such as ``"svhn"``;
            - ``"npz:FILE"``: see `logitlab.data.npz.load_npz`;
            - a folder: see `logitlab.data.folder.load_folder`.

            ``digits``, ``mnist`` and ``fashion-mnist`` win over folders of these names; write ``./digits`` for the
            folder. A name of torchvision wins where its files are found, otherwise the folder does.
        image_size: side to which images are resized, in pixels; None keeps their size.
        root: the folder that holds data sets; None takes $LOGITLAB_DATA, or ``data`` if that is not set.

    Raises:
        DataError: the set is unknown, missing, unreadable or inconsistent; one line that names the file or
            the label.

    >>> data = load_data("digits")
    >>> data.num_classes, data.image_size, data.channels
    (10, 8, 1)
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size must be at least 1 pixel. Got {image_size}.")
    if not name:
        # As a path it would be the current folder.
        raise DataError(f"The name of the data set is empty. {_CHOICES}, or '.' for the current folder.")
    base = _path(os.environ.get("LOGITLAB_DATA") or "data" if root is None else root)
    try:
        return _load(name, base, image_size)
    except OSError as fault:
        raise unreadable(fault.filename or name, fault) from fault


def _load(name: str, base: Path, image_size: int | None) -> DataSet:
    known = name.lower()
    if known.startswith("npz:"):
        file = name[len("npz:") :]
        if not file:
            raise DataError("No file follows 'npz:'. Give npz:FILE with the path of a .npz file.")
        return load_npz(_path(file), image_size=image_size)
    if known == "digits":
        return load_digits(image_size)
    if known in ("mnist", "fashion-mnist", "fashionmnist"):
        return load_idx("mnist" if known == "mnist" else "fashion-mnist", base, image_size)
    if known in DATA_SETS:
        return load_registered(known, base, image_size)
    if known == "cifar10" and (base / _CIFAR10_SUBSET).is_file():
        return load_npz(base / _CIFAR10_SUBSET, name=known, image_size=image_size, augmentation="crop_flip")
    from .torchvision_sets import list_torchvision_sets, load_torchvision

    folder = _path(name)
    if known in list_torchvision_sets():
        try:
            return load_torchvision(known, base, image_size)
        except DataError:
            # Not where data sets are kept: then the folder of that name in front of us is meant, if there is one.
            if not folder.is_dir():
                raise
    if folder.is_dir():
        return load_folder(folder, image_size)
    raise _unknown(name, folder)


def _path(name: str | Path) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise DataError(f"Cannot find the home folder that '{name}' begins with. Write the path in full.") from None


def _unknown(name: str, folder: Path) -> DataError:
    """Say what is wrong with a name that is neither a known one nor a folder."""
    if folder.suffix.lower() == ".npz":
        return DataError(f"To load the file '{name}' write npz:{name}.")
    if folder.is_file():
        return DataError(f"'{name}' is a file; expected a folder with a sub-folder a class, or npz:FILE.")
    if folder.name != name:
        return DataError(f"Cannot find the folder '{name}'. Give an existing folder with a sub-folder a class.")
    suggestion = nearest_name(name, list_data_sets())
    question = f"; did you mean '{suggestion}'?" if suggestion else "."
    return DataError(f"Unknown data set '{name}'{question} {_CHOICES}.")
