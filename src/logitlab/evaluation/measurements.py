"""Measurements of users: numbers that a function computes from one pass of a model."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from logitlab.analysis import UndefinedError
from logitlab.config.errors import InputError
from logitlab.config.registry import Registry
from logitlab.records.analysis import BETWEEN_NAMES, MEASURE_NAMES

if TYPE_CHECKING:
    import numpy

    from .subjects import Subject

AnyMeasurement = TypeVar("AnyMeasurement", bound=Callable[..., Any])

# What stands for several measures where names are given.
_WORDS = ("all", "basic")


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """What a trained model says of N images. Arrays are NumPy's, may be mapped from the disk, and are not written to.

    Attributes:
        features: float32 ``[N, D]``.
        logits: float32 ``[N, C]``, as in inference.
        labels: int64 ``[N]``.
        max_logit: confidence ``[N]``: the largest cosine of a cosine head, else the largest logit.
        kappa_star: κ* by least squares ``[N]``.
        weight: of the head, float32 ``[C, D]``; with several centres a class ``[C · centres, D]``.
        kappa: what inference scales by; None for a head without temperature.
        link: how logits become probabilities: ``"softmax"``, ``"normalized_sigmoid"`` or ``"none"``.
        class_names: one name a class.
        part: which images: ``"test"``, ``"validation"``, ``"train"`` or ``"all"``.
    """

    features: numpy.ndarray
    logits: numpy.ndarray
    labels: numpy.ndarray
    max_logit: numpy.ndarray
    kappa_star: numpy.ndarray
    weight: numpy.ndarray
    kappa: float | None
    link: Literal["softmax", "normalized_sigmoid", "none"]
    class_names: tuple[str, ...]
    part: str


MeasurementFunction = Callable[[ModelOutputs], Any]


def _fault(name: str, made: Any) -> str | None:
    try:
        inspect.signature(made).bind(None)
    except (TypeError, ValueError):
        return "it must take one argument, the outputs, as in def mine(outputs): …"
    return None


MEASUREMENTS: Final[Registry[MeasurementFunction]] = Registry(
    "measurement",
    "register_measurement",
    built_in=lambda: (*MEASURE_NAMES, *BETWEEN_NAMES, *_WORDS),
    check=_fault,
)


def register_measurement(name: str, *, overwrite: bool = False) -> Callable[[AnyMeasurement], AnyMeasurement]:
    """Make a measurement of your own known by name: to ``logitlab analyze --measure`` and to the stage ``analyse``.

    Args:
        name: how it is called in tables; lower-case letters, digits and underscores.
        overwrite: replace a measurement that you registered under the same name before.

    Returns:
        A decorator for a function ``(outputs: ModelOutputs) -> float``. The first line of its documentation stands
        below the table as its convention. It returns None, or raises ``UndefinedError``, where the number does not
        exist.

    Raises:
        ParameterError: the name is taken, or the function does not have this form.

    >>> @register_measurement("doctest_mean_norm", overwrite=True)
    ... def mean_norm(outputs):
    ...     "mean length of the features"
    ...     return (outputs.features**2).sum(axis=1).mean()
    >>> MEASUREMENTS.forget("doctest_mean_norm")
    """
    return MEASUREMENTS.register(name, overwrite=overwrite)  # type: ignore[return-value]


def outputs_of(subject: Subject) -> ModelOutputs:
    """Return what a model says of the part that its subject measures; the pass is made if it is not there."""
    found, kappa = subject.measured, subject.head.kappa
    return ModelOutputs(
        features=found["features"],
        logits=found["logits"],
        labels=found["labels"],
        max_logit=found["max_logit"],
        kappa_star=found["kappa_star"],
        weight=subject.weight.float().numpy(),
        kappa=None if kappa is None else float(kappa),
        link=subject.link,
        class_names=subject.description.class_names,
        part=subject.around.part,
    )


def measure_by(name: str, subject: Subject) -> dict[str, Any]:
    """Apply a registered measurement; return what an analysis keeps of it.

    Args:
        name: of the measurement.
        subject: the model.

    Raises:
        InputError: the function returns no number.
        UndefinedError: the number does not exist.
    """
    outputs = outputs_of(subject)
    found = MEASUREMENTS[name](outputs)
    if found is None:
        raise UndefinedError(f"The measurement '{name}' is not defined here.")
    return {
        "name": name,
        "value": _number(name, found),
        "convention": _convention(name),
        "n": len(outputs.labels),
        "split": outputs.part,
        "warnings": [],
    }


def _number(name: str, found: Any) -> float | None:
    value = None
    if not isinstance(found, (str, bool)) and not len(getattr(found, "shape", ())):
        with suppress(TypeError, ValueError):
            value = float(found)
    if value is None:
        raise InputError(f"The measurement '{name}' must return a number or None. Got {found!r}.")
    return value if math.isfinite(value) else None


def _convention(name: str) -> str:
    """The first line of the documentation, without its full stop, or where the measurement comes from."""
    function = MEASUREMENTS[name]
    # An object has its own documentation only where its class gives one.
    lines = (inspect.getdoc(function) or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else f"registered by {MEASUREMENTS.module(name)}"
