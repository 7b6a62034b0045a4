"""Which axes of a study take whole numbers alone."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from ..training import TrainingConfig
from ..trial import DataConfig

_KINDS: dict[str, type[BaseModel]] = {"training": TrainingConfig, "data": DataConfig}


def takes_whole_numbers(axis: str) -> bool:
    """Say whether an axis is a field that is an int, or None.

    >>> takes_whole_numbers("training.epochs"), takes_whole_numbers("training.learning_rate")
    (True, False)
    """
    group, _, name = axis.partition(".")
    kind = _KINDS.get(group)
    return kind is not None and name in kind.model_fields and _parts(kind.model_fields[name].annotation) == {int}


def as_axis_value(axis: str, value: float) -> float | int:
    """Return a computed number in the form that an axis takes: the nearest whole one where it takes no other.

    >>> as_axis_value("training.epochs", 10.4), as_axis_value("head.kappa", 10.4)
    (10, 10.4)
    """
    return round(value) if takes_whole_numbers(axis) else value


def _parts(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return {part for each in get_args(annotation) for part in _parts(each)} - {types.NoneType}
    return {annotation}
