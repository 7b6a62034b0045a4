"""Data sets of users by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from logitlab.config.errors import DataError, LogitLabError
from logitlab.config.registry import Registry

from .dataset import DataSet
from .subsets import base_name

#: Names of LogitLab's own sets, those of out-of-distribution images included.
BUILT_IN: Final = (
    "cifar10",
    "digits",
    "dtd",
    "fashion_mnist",
    "fashionmnist",
    "gtsrb",
    "mnist",
    "noise",
    "notmnist",
    "omniglot",
    "patches",
)

Loader = Callable[[Path, "int | None"], DataSet]
AnyLoader = TypeVar("AnyLoader", bound=Callable[..., DataSet])


def _fault(name: str, made: Any) -> str | None:
    try:
        inspect.signature(made).bind(Path(), None)
    except (TypeError, ValueError):
        return "it must take the folder of data sets and the size of images, as in def mine(root, image_size): …"
    return None


DATA_SETS: Final[Registry[Loader]] = Registry("data set", "register_data_set", built_in=lambda: BUILT_IN, check=_fault)


def register_data_set(name: str, *, overwrite: bool = False) -> Callable[[AnyLoader], AnyLoader]:
    """Make a data set of your own known by name, wherever ``digits`` is: to train on, as OOD set, for linear probes.

    Its name wins over folders, and over torchvision's, that are called so.

    Args:
        name: lower-case letters, digits and underscores.
        overwrite: replace a data set that you registered under the same name before.

    Returns:
        A decorator for a function ``(root: Path, image_size: int | None) -> DataSet``: the folder that holds data
        sets, and the side to which images are to be resized (None keeps their size).
        :meth:`~logitlab.data.DataSet.from_arrays` makes one of arrays.

    Raises:
        ParameterError: the name is taken, or the function does not have this form.

    >>> @register_data_set("doctest_data", overwrite=True)
    ... def squares(root, image_size):
    ...     import numpy
    ...     images = numpy.arange(40, dtype=numpy.uint8).repeat(64).reshape(40, 8, 8)
    ...     return DataSet.from_arrays("doctest_data", images, numpy.arange(40) % 2, image_size=image_size)
    >>> DATA_SETS.forget("doctest_data")
    """
    return DATA_SETS.register(name, overwrite=overwrite)  # type: ignore[return-value]


def data_set_module(name: str) -> str | None:
    """Return the module whose import registers a data set; None for others, folders and files."""
    return DATA_SETS.module(base_name(name).lower())


def load_registered(name: str, root: Path, image_size: int | None) -> DataSet:
    """Load a data set that a user registered.

    Raises:
        DataError: its function fails, or gives something else than a data set of this size.
    """
    try:
        found: Any = DATA_SETS[name](root, image_size)
    except (LogitLabError, OSError):
        raise
    except Exception as fault:  # a user's function may raise anything
        words = " ".join(str(fault).split())
        raise DataError(
            f"The data set '{name}' cannot be loaded: {type(fault).__name__}{f': {words}' if words else ''}."
        ) from fault
    if not isinstance(found, DataSet):
        raise DataError(
            f"The function of the data set '{name}' must return a DataSet, such as DataSet.from_arrays(…). "
            f"Got {type(found).__name__}."
        )
    if image_size is not None and found.image_size != image_size:
        raise DataError(
            f"The data set '{name}' was asked for images of {image_size}x{image_size} pixels and has "
            f"{found.image_size}x{found.image_size}. Hand 'image_size' on to DataSet.from_arrays(…)."
        )
    return found
