"""Data sets by name or path. torchvision takes seconds to import, so only what needs it imports it."""

from __future__ import annotations

import os
from pathlib import Path

from logitlab.config.errors import DataError
from logitlab.config.names import nearest_name

from .dataset import DataSet
from .digits import load_digits
from .folder import load_folder
from .idx import load_idx
from .npz import load_npz

_OWN = ("cifar10", "digits", "fashion-mnist", "mnist")
_CIFAR10_SUBSET = Path("cifar10", "cifar10_subset_2000x400.npz")


def list_data_sets() -> list[str]:
    """Return the names that `load_data` knows beside folders and ``npz:FILE``.

    >>> "digits" in list_data_sets()
    True
    """
    from .torchvision_sets import list_torchvision_sets

    return sorted({*_OWN, *list_torchvision_sets()})


def load_data(name: str, *, image_size: int | None = None, root: str | Path | None = None) -> DataSet:
    """Load a data set; nothing is downloaded.

    Args:
        name: one of

            - ``"digits"``: scikit-learn's, embedded;
            - ``"fashion-mnist"``, ``"mnist"``: IDX files in ``root``;
            - ``"cifar10"``: ``root/cifar10/cifar10_subset_2000x400.npz`` if it is there, otherwise
              torchvision's;
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
    base = Path(os.environ.get("LOGITLAB_DATA") or "data" if root is None else root).expanduser()
    folder = Path(name).expanduser()
    known = name.lower()
    if known.startswith("npz:"):
        return load_npz(Path(name[len("npz:") :]).expanduser(), image_size=image_size)
    if known == "digits":
        return load_digits(image_size)
    if known in ("mnist", "fashion-mnist", "fashionmnist"):
        return load_idx("mnist" if known == "mnist" else "fashion-mnist", base, image_size)
    if known == "cifar10" and (base / _CIFAR10_SUBSET).is_file():
        return load_npz(base / _CIFAR10_SUBSET, name=known, image_size=image_size, augmentation="crop_flip")
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
    return DataError(
        f"Unknown data set '{name}'{question} Give {', '.join(_OWN)}, a torchvision set such as svhn, a folder "
        "with a sub-folder a class, or npz:FILE."
    )
