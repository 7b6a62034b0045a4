"""Features of two dimensions as they are, with the directions of the classes (L's pictures of MNIST)."""

from __future__ import annotations

from typing import Any

import numpy

from logitlab.analysis import UndefinedError, class_separation

from ..subjects import Subject
from .representations import MAP_POINTS
from .requests import Request


def unsuited_to_plane(subject: Subject) -> str | None:
    """Say why the features of a model cannot be drawn as they are; None where they can."""
    width = subject.weight.shape[1]
    if width == 2:
        return None
    return f"Features of {width} dimensions lie in no plane; 'tsne' makes a map of them."


def plane(subject: Subject, request: Request) -> dict[str, Any]:
    """The features of at most ``MAP_POINTS`` images, chosen by the seed, and the weight of every class.

    The value is the class separation (cosine distance) of all images that were measured; None where it is undefined.
    """
    if (reason := unsuited_to_plane(subject)) is not None:
        raise UndefinedError(reason)
    outputs, part = subject.measured, subject.around.part
    chosen = numpy.arange(outputs.rows)
    if len(chosen) > MAP_POINTS:
        chosen = numpy.sort(numpy.random.default_rng(request.seed).choice(outputs.rows, MAP_POINTS, replace=False))
    value, warnings, convention = None, [], "features as they are; value: class separation R², cosine distance"
    if len(chosen) < outputs.rows:
        convention += f"; {len(chosen)} of {outputs.rows} images drawn, seed {request.seed}"
    try:
        separation = class_separation(outputs["features"], outputs["labels"], split=part)
    except UndefinedError as fault:
        warnings.append(f"No class separation: {fault}")
    else:
        value = separation.value
        warnings.extend(separation.warnings)
    return {
        "points": _short(outputs["features"][chosen]),
        "labels": numpy.asarray(outputs["labels"][chosen]).tolist(),
        "weight": _short(subject.weight.numpy()),
        "centers": subject.head.centers,
        "value": value,
        "convention": convention,
        "n": outputs.rows,
        "split": part,
        "warnings": warnings,
    }


def _short(rows: numpy.ndarray) -> list[list[float]]:
    """Write rows with four digits a number: features may be of any size."""
    return [[float(f"{value:.4g}") for value in row] for row in rows]
