"""The angle between a feature and the weight of its class."""

from __future__ import annotations

import math

import torch

from logitlab.config.errors import InputError
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows, read_labels
from .measurement import Measurement


def class_angle(x: ArrayLike, weight: ArrayLike, y: ArrayLike, *, split: str | None = None) -> Measurement:
    r"""Mean angle between a feature and the weight of its own class.

    .. math:: \frac1N \sum_i \angle(\tilde{\mathbf x}_i, \tilde{\mathbf w}_{y_i}), \qquad
        \angle(\mathbf a, \mathbf b) = 2 \operatorname{atan2}(\|\mathbf a - \mathbf b\|, \|\mathbf a + \mathbf b\|)

    The half-angle form keeps small angles that an arc cosine rounds to zero. A zero row has no direction: its
    angle counts as 90 degrees (cosine zero), with a warning.

    Args:
        x: features, shape ``[N, D]``.
        weight: one row a class, shape ``[C, D]``.
        y: class indices, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        Degrees in [0, 180]; 0 means that every feature points along its class's weight.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or labels outside [0, C).

    References:
        T Table 3, first column.

    >>> found = class_angle([[2.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 3.0]], [0, 1])
    >>> round(found.value, 6)
    22.5
    """
    rows, classes = Rows(x, "x"), Rows(weight, "weight")
    count, length = rows.shape
    if classes.shape[1] != length:
        raise InputError(
            f"Expected 'weight' of shape [C, {length}], as long as the features. Got {list(classes.shape)}."
        )
    labels = read_labels(y, "y", count, len(classes))
    unit_weight = torch.cat([normalize(chunk).to(rows.device) for _, chunk in classes.chunks()])
    total, zeros = 0.0, 0
    for where, chunk in rows.chunks():
        unit = normalize(chunk)
        own = unit_weight[labels[where].to(rows.device)]
        half = torch.atan2((unit - own).norm(dim=1), (unit + own).norm(dim=1))
        total += 2 * float(half.sum())
        zeros += int(((unit == 0).all(dim=1) | (own == 0).all(dim=1)).sum())
    warning = f"{zeros} of {count} angles belong to a zero feature or a zero weight and count as 90 degrees."
    return Measurement(
        "class_angle",
        math.degrees(total / count),
        "degrees, mean over samples",
        count,
        split,
        (warning,) if zeros else (),
    )
