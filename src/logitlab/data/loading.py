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
from .letters import MissingError, load_notmnist, load_omniglot
from .npz import load_npz
from .registry import DATA_SETS, load_registered
from .subsets import CLASSES, base_name, read_classes, select_classes, unknown_option

_OWN = ("cifar10", "digits", "dtd", "fashion-mnist", "gtsrb", "mnist", "notmnist", "omniglot")
_CHOICES = f"Give {', '.join(_OWN)}, a torchvision set such as svhn, a folder with a sub-folder a class, or npz:FILE"
# Archives that stand for sets of torchvision where they are there, with the augmentation of these.
_ARCHIVES = {
    "cifar10": (Path("cifar10", "cifar10_subset_2000x400.npz"), "crop_flip"),
    "dtd": (Path("dtd10", "dtd10_32.npz"), "crop_flip"),
    "gtsrb": (Path("gtsrb", "gtsrb32_40x15.npz"), "crop"),
}
_LETTERS = {"notmnist": load_notmnist, "omniglot": load_omniglot}


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

    >>> content_decides("digits"), content_decides("svhn"), content_decides("digits:classes=0-4")
    (True, False, True)
    """
    known = base_name(name).lower()
    return known.startswith("npz:") or known in ("digits", "mnist", "fashion-mnist", "fashionmnist", *_LETTERS)


def load_data(name: str, *, image_size: int | None = None, root: str | Path | None = None) -> DataSet:
    """Load a data set; nothing is downloaded.

    Args:
        name: one of

            - ``"digits"``: scikit-learn's, embedded;
            - ``"fashion-mnist"``, ``"mnist"``: IDX files in ``root``;
            - ``"cifar10"``: ``root/cifar10/cifar10_subset_2000x400.npz`` if it is there, otherwise
              torchvision's;
            - ``"gtsrb"``: ``root/gtsrb/gtsrb32_40x15.npz`` if it is there, otherwise torchvision's;
            - ``"dtd"``: ``root/dtd10/dtd10_32.npz`` (ten of its classes) if it is there, otherwise torchvision's;
            - ``"notmnist"``: the letters A to J of ``root/notmnist_test``, a fifth of each class the test part;
            - ``"omniglot"``: the 964 characters of the background alphabets of ``root/omniglot/omniglot_28.npz``,
              those of the drawers 16 to 20 the test part;
            - one that was registered by :func:`~logitlab.data.register_data_set`;
            - a classification set of torchvision by its class's name in any case, such as ``"svhn"``;
            - ``"npz:FILE"``: see `logitlab.data.npz.load_npz`;
            - a folder: see `logitlab.data.folder.load_folder`.

            ``digits``, ``mnist`` and ``fashion-mnist`` win over folders of these names; write ``./digits`` for the
            folder. Any other name wins where its files are found, otherwise the folder does.

            ``:classes=`` behind any of these takes some classes alone, in every part and numbered anew from 0 in the
            order given: ``"fashion-mnist:classes=0-6"``, ``"npz:FILE:classes=0-4+7+9"``. The last ``:classes=`` of a
            name counts. Such a set has a name and a fingerprint of its own.
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
    classes, whole = read_classes(name), base_name(name)
    if not whole:
        raise DataError(f"No name stands before '{CLASSES}' in '{name}'. {_CHOICES}.")
    try:
        data = _load(whole, base, image_size)
    except OSError as fault:
        raise unreadable(fault.filename or name, fault) from fault
    return data if classes is None else select_classes(data, classes)


def load_test_data(name: str, *, image_size: int | None = None, root: str | Path | None = None) -> DataSet:
    """Load a data set to be measured on its ``test`` part, and never trained on.

    As :func:`load_data`, but for a folder of class folders without ``train/``, as ImageNet-A is published: no fifth of
    it is split off, all its images are the test part. So a class may have a single image.

    Args:
        name: as for :func:`load_data`.
        image_size: likewise.
        root: likewise.

    Raises:
        DataError: likewise.
    """
    folder = _path(base_name(name)) if base_name(name) else None
    if folder is None or base_name(name).lower() in list_data_sets() or not folder.is_dir():
        return load_data(name, image_size=image_size, root=root)
    classes = read_classes(name)
    try:
        data = load_folder(folder, image_size, whole=True)
    except OSError as fault:
        raise unreadable(fault.filename or name, fault) from fault
    return data if classes is None else select_classes(data, classes)


def _load(name: str, base: Path, image_size: int | None) -> DataSet:
    known = name.lower()
    if known.startswith("npz:"):
        file = name[len("npz:") :]
        if not file:
            raise DataError("No file follows 'npz:'. Give npz:FILE with the path of a .npz file.")
        path = _path(file)
        if not path.is_file() and (fault := unknown_option(name)):
            raise fault
        return load_npz(path, image_size=image_size)
    if known == "digits":
        return load_digits(image_size)
    if known in ("mnist", "fashion-mnist", "fashionmnist"):
        return load_idx("mnist" if known == "mnist" else "fashion-mnist", base, image_size)
    if known in DATA_SETS:
        return load_registered(known, base, image_size)
    folder = _path(name)
    if known in _LETTERS:
        try:
            return _LETTERS[known](base, image_size)
        except MissingError:
            if not folder.is_dir():
                raise
    if known in _ARCHIVES:
        archive, augmentation = _ARCHIVES[known]
        if (base / archive).is_file():
            return load_npz(base / archive, name=known, image_size=image_size, augmentation=augmentation)
    from .torchvision_sets import list_torchvision_sets, load_torchvision

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
    if (fault := unknown_option(name)) is not None:
        return fault
    if folder.suffix.lower() == ".npz":
        return DataError(f"To load the file '{name}' write npz:{name}.")
    if folder.is_file():
        return DataError(f"'{name}' is a file; expected a folder with a sub-folder a class, or npz:FILE.")
    if folder.name != name:
        return DataError(f"Cannot find the folder '{name}'. Give an existing folder with a sub-folder a class.")
    suggestion = nearest_name(name, list_data_sets())
    question = f"; did you mean '{suggestion}'?" if suggestion else "."
    return DataError(f"Unknown data set '{name}'{question} {_CHOICES}.")
