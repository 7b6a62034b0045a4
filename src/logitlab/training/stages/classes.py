"""Classes of another data set that are those of a model, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitlab.config.errors import ConfigurationError
from logitlab.config.names import nearest_name

if TYPE_CHECKING:
    from logitlab.data import DataSet


def places_of(data: DataSet, trained: Sequence[str]) -> list[int]:
    """Return the number that the model has for each class of a data set.

    Args:
        data: its classes are those of the model or some of them, in any order.
        trained: names of the model's classes.

    Raises:
        ConfigurationError: a class is not the model's, or two have one name.
    """
    numbers = {name: number for number, name in enumerate(trained)}
    if len(numbers) < len(trained):
        twice = next(name for place, name in enumerate(trained) if numbers[name] != place)
        raise ConfigurationError(
            f"Two classes of the trained model are called '{twice}', so that those of other sets cannot be told apart "
            "by name. Rename one."
        )
    strange = [name for name in data.class_names if name not in numbers]
    if strange:
        nearest = nearest_name(strange[0], trained)
        more = f", nor {len(strange) - 1} more of its classes" if len(strange) > 1 else ""
        raise ConfigurationError(
            f"'{data.name}' must have the classes of the trained model, or some of them, under the same names. Its "
            f"class '{strange[0]}' is not among these{more}"
            + (f"; did you mean '{nearest}'?" if nearest else ".")
            + " Rename its class folders, or give another set."
        )
    if len(set(data.class_names)) < len(data.class_names):
        raise ConfigurationError(f"Two classes of '{data.name}' have the same name. Rename one.")
    return [numbers[name] for name in data.class_names]


def check_classes(sets: Sequence[DataSet], trained: Sequence[str]) -> None:
    """See that the classes of every set are those of the model, or some of them.

    Raises:
        ConfigurationError: a sentence for each set whose classes are not.
    """
    faults: list[str] = []
    for data in sets:
        try:
            places_of(data, trained)
        except ConfigurationError as fault:
            faults.extend(fault.faults)
    if faults:
        raise ConfigurationError(list(dict.fromkeys(faults)))
