"""Measures of how features lie among the weights of the classes."""

from __future__ import annotations

from typing import Any

import numpy

from logitlab.analysis import angle_histogram as _angle_histogram
from logitlab.analysis import angular_visual_hardness, hull_projection
from logitlab.analysis import class_angle as _class_angle
from logitlab.analysis import span_angle as _span_angle

from ..passes import chosen_images
from ..subjects import Subject
from .requests import Request, one_weight_a_class, plain_entry, rows_of_labels

#: A quadratic programme an image: no more images than these.
HULL_IMAGES = 2000


def class_angle(subject: Subject, request: Request) -> Any:
    """Mean angle to the own weight, of several centres to the nearest (T Table 3)."""
    outputs = subject.measured
    rows = rows_of_labels(subject, outputs)
    return _class_angle(outputs["features"], subject.weight, rows, split=subject.around.part)


def span_angle(subject: Subject, request: Request) -> Any:
    """Mean angle to the span of the weights (T Table 3)."""
    return _span_angle(subject.measured["features"], subject.weight, split=subject.around.part)


def angle_histogram(subject: Subject, request: Request) -> Any:
    """Angles to the own and to the nearest other weight, counted."""
    one_weight_a_class(subject)
    outputs = subject.measured
    return _angle_histogram(outputs["features"], subject.weight, outputs["labels"], split=subject.around.part)


def hardness(subject: Subject, request: Request) -> Any:
    """Angular visual hardness (W Figure E.3)."""
    one_weight_a_class(subject)
    outputs = subject.measured
    return angular_visual_hardness(outputs["features"], subject.weight, outputs["labels"], split=subject.around.part)


def hull(subject: Subject, request: Request) -> dict[str, Any]:
    """Projection onto the convex hull of the weights (T Eqs. (7) and (8))."""
    outputs = subject.measured
    chosen = chosen_images(outputs.rows, HULL_IMAGES).numpy()
    features = outputs["features"] if len(chosen) == outputs.rows else numpy.asarray(outputs["features"][chosen])
    entry = plain_entry(hull_projection(features, subject.weight, split=subject.around.part))
    if len(chosen) < outputs.rows:
        entry["convention"] += f"; {len(chosen)} of {outputs.rows} images"
    return entry
