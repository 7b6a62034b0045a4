"""Class separation R²: how much of the distance between features is distance between classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows, read_labels
from .measurement import Measurement, UndefinedError

Distance = Literal["cosine", "centered_cosine", "euclidean"]

_CONVENTIONS = {
    "cosine": "cosine distance",
    "centered_cosine": "cosine distance after subtracting the sample mean",
    "euclidean": "squared Euclidean distance",
}

# Labels that say nothing still give (K - 1)/(N - 1) on average; from here on the result says so.
_NULL_BIAS = 0.05

# Differences below this share of the numbers that they come from are float64 rounding.
_ROUNDING = 1e-14


def class_separation(
    x: ArrayLike, y: ArrayLike, distance: Distance = "cosine", *, split: str | None = None
) -> Measurement:
    r"""One minus the ratio of the mean distance within classes to the mean distance overall.

    .. math:: R^2 = 1 - \frac{\sum_k \sum_m \sum_n d(\mathbf x_{k,m}, \mathbf x_{k,n}) / (K N_k^2)}
        {\sum_j \sum_k \sum_m \sum_n d(\mathbf x_{j,m}, \mathbf x_{k,n}) / (K^2 N_j N_k)}

    Every class weighs alike, and pairs of a sample with itself count, as in the paper. For the three distances
    of Table E.1 both sums have a closed form in O(ND): with class means :math:`\mu_k` of the (normalised)
    features, :math:`\bar\mu = \frac1K \sum_k \mu_k`, and the mean squared distance to the class mean,

    .. math:: B = \tfrac1K \sum_k \|\mu_k - \bar\mu\|^2, \quad
        W = \tfrac1K \sum_k \tfrac1{N_k} \sum_m \|\mathbf x_{k,m} - \mu_k\|^2, \quad R^2 = \frac{B}{W + B}

    The features are read once for the class means and once more for W (a single pass would lose W to
    cancellation where classes have collapsed), and once before for the mean that ``"centered_cosine"``
    subtracts.

    Args:
        x: features, shape ``[N, D]``. A zero row has cosine zero to everything, itself included.
        y: class indices, shape ``[N]``; gaps are allowed, K counts the classes that occur.
        distance: ``"cosine"``: 1 - cosine; ``"centered_cosine"``: the same after subtracting the mean of all
            samples; ``"euclidean"``: squared distance of the features as they are.
        split: the part of the data, kept in the result. W measures on the training set.

    Returns:
        A fraction in [0, 1]: 0 where classes have equal means, 1 where each class is one point. ``details``:
        ``classes``, ``null`` (the mean for random labels, (K - 1)/(N - 1)).

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or another distance.
        UndefinedError: fewer than two classes, or features that are all the same.

    References:
        W Eq. (11) and Table E.1.

    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    >>> round(class_separation(x, [0, 0, 1, 1]).value, 4), round(class_separation(x, [0, 1, 0, 1]).value, 4)
    (0.9945, 0.0025)
    """
    if distance not in get_args(Distance):
        raise InputError(unknown_name("distance", str(distance), get_args(Distance)))
    rows = Rows(x, "x")
    labels = read_labels(y, "y", len(rows)).to(rows.device)
    classes, index, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise UndefinedError("Expected at least two classes in 'y'. Got one: nothing is there to separate.")
    center = _mean(rows) if distance == "centered_cosine" else None

    means = torch.zeros(len(classes), rows.shape[1], dtype=torch.float64, device=rows.device)
    for where, points in _points(rows, distance, center):
        means.index_add_(0, index[where], points)
    means /= counts.unsqueeze(1)
    between = float((means - means.mean(dim=0)).square().sum(dim=1).mean())

    within_sum = torch.zeros(len(classes), dtype=torch.float64, device=rows.device)
    zeros = 0
    for where, points in _points(rows, distance, center):
        squared = (points - means[index[where]]).square().sum(dim=1)
        if distance != "euclidean":
            zero = (points == 0).all(dim=1)
            zeros += int(zero.sum())
            # A zero row has distance 1 to itself, where the closed form expects 1 - 1 = 0.
            squared = squared + zero
        within_sum.index_add_(0, index[where], squared)
    within = float((within_sum / counts).mean())
    if within + between <= _ROUNDING**2 * float(means.square().sum(dim=1).mean()):
        raise UndefinedError("Expected features that differ. Got the same point in every row: R² is 0/0.")
    null = (len(classes) - 1) / (len(rows) - 1)
    return Measurement(
        "class_separation",
        between / (within + between),
        f"{_CONVENTIONS[distance]}, classes weighted alike",
        len(rows),
        split,
        _warnings(zeros, len(rows), null),
        {"classes": float(len(classes)), "null": null},
    )


def _points(rows: Rows, distance: Distance, center: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """The points whose squared Euclidean distance is (twice) the distance that was asked for."""
    for where, chunk in rows.chunks():
        if distance == "euclidean":
            yield where, chunk
        else:
            yield where, normalize(chunk if center is None else _subtract(chunk, center))


def _subtract(chunk: Tensor, center: Tensor) -> Tensor:
    """Subtract the mean; a row that lies on it becomes zero, not the rounding error's direction."""
    difference = chunk - center
    on_center = difference.norm(dim=1, keepdim=True) <= _ROUNDING * chunk.norm(dim=1, keepdim=True)
    return torch.where(on_center, 0.0, difference)


def _mean(rows: Rows) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for _, chunk in rows.chunks():
        total += chunk.sum(dim=0)
    return total / len(rows)


def _warnings(zeros: int, count: int, null: float) -> tuple[str, ...]:
    warnings = []
    if zeros:
        warnings.append(f"{zeros} of {count} feature rows are zero; their cosine to every row counts as 0.")
    if null > _NULL_BIAS:
        warnings.append(f"Few samples a class: random labels would give {null:.2f} on average, not 0.")
    return tuple(warnings)
