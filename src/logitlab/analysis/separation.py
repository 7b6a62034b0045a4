"""Class separation R²: how much of the distance between features is distance between classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name
from logitlab.functional import length, normalize

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

# Below this share of the mean squared length, W as a difference of sums has lost four digits of sixteen.
_CANCELLED = 1e-4

# Between these lengths, squares of float64 numbers are sound.
_SHORT, _LONG = 1e-140, 1e140


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

    One pass sums the features of each class, since :math:`W = \tfrac1K \sum_k (q_k - \|\mu_k\|^2)` with the mean
    squared length :math:`q_k` (one for the cosine). Where that difference loses digits, because classes have
    collapsed or lie far from the origin, a second pass measures W as written above; ``"centered_cosine"`` reads
    the features once before for the mean that it subtracts.

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
    return _separation(Rows(x, "x"), y, distance, split)


def separation_by_layer(
    layers: Mapping[str, ArrayLike], y: ArrayLike, distance: Distance = "cosine", *, split: str | None = None
) -> dict[str, Measurement]:
    """Class separation of each layer of a model, as in W's figure of it.

    Args:
        layers: activations by layer, ``[N, D]`` or feature maps ``[N, C, H, W]``, which are flattened (W does not say
            whether it pooled them; hand over pooled ones for that). The class means of one layer at a time are held:
            K x D numbers.
        y: class indices, shape ``[N]``.
        distance: as in :func:`class_separation`.
        split: the part of the data, kept in the results.

    Returns:
        R² by layer, in the order given.

    Raises:
        InputError: no layers, or what :func:`class_separation` refuses; the message names the layer.
        UndefinedError: fewer than two classes, or a layer whose features are all the same.

    References:
        W Figure 4.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> found = separation_by_layer({"block": x.reshape(4, 2, 1, 1), "features": x}, [0, 0, 1, 1])
    >>> {name: round(entry.value, 4) for name, entry in found.items()}
    {'block': 0.9945, 'features': 0.9945}
    """
    if distance not in get_args(Distance):
        raise InputError(unknown_name("distance", str(distance), get_args(Distance)))
    if not layers:
        raise InputError("Expected at least one layer in 'layers'. Got none.")
    found = {}
    for name, x in layers.items():
        try:
            found[name] = _separation(Rows(x, f"layers[{name!r}]", flatten=True), y, distance, split)
        except UndefinedError as fault:
            raise UndefinedError(f"Layer {name!r}: {fault}") from fault
    return found


def _separation(rows: Rows, y: ArrayLike, distance: Distance, split: str | None) -> Measurement:
    labels = read_labels(y, "y", len(rows)).to(rows.device)
    classes, index, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise UndefinedError("Expected at least two classes in 'y'. Got one: nothing is there to separate.")
    center = _mean(rows) if distance == "centered_cosine" else None

    means = torch.zeros(len(classes), rows.shape[1], dtype=torch.float64, device=rows.device)
    # Mean squared length of each class. With the cosine it is one, for zero rows too: such a row has distance 1 to
    # itself, where the closed form expects 1 - 1 = 0.
    squares = torch.ones(len(classes), dtype=torch.float64, device=rows.device)
    squared_sum = torch.zeros_like(squares)
    zeros = 0
    for where, points, zero in _points(rows, distance, center):
        means.index_add_(0, index[where], points)
        if distance == "euclidean":
            squared_sum.index_add_(0, index[where], torch.linalg.vector_norm(points, dim=1).square_())
        zeros += zero
    means /= counts.unsqueeze(1)
    if distance == "euclidean":
        squares = squared_sum / counts
    lengths = torch.linalg.vector_norm(means, dim=1).square_()
    middle = means.mean(dim=0)
    # Part by part, which stays in the cache.
    deviations = [float((part - middle).square_().sum()) for part in torch.split(means, 64)]
    between = sum(deviations) / len(classes)
    within = float((squares - lengths).mean())
    if not within > _CANCELLED * float(squares.mean()):
        within = _within(rows, distance, center, index, counts, means)
    if not math.isfinite(within + between):
        raise InputError("Expected features whose squared lengths are finite in float64. Got larger ones.")
    if within + between <= _ROUNDING**2 * float(lengths.mean()):
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


def _within(
    rows: Rows, distance: Distance, center: Tensor | None, index: Tensor, counts: Tensor, means: Tensor
) -> float:
    """W by its definition, in a pass of its own."""
    total = torch.zeros(len(means), dtype=torch.float64, device=rows.device)
    for where, points, _ in _points(rows, distance, center):
        squared = (points - means[index[where]]).square_().sum(dim=1)
        total.index_add_(0, index[where], squared if distance == "euclidean" else squared + (points == 0).all(dim=1))
    return float((total / counts).mean())


def _points(rows: Rows, distance: Distance, center: Tensor | None) -> Iterator[tuple[slice, Tensor, int]]:
    """The points whose squared Euclidean distance is (twice) the distance that was asked for.

    Yields:
        where they stand, the points, and how many of them are zero. They are overwritten by the next ones.
    """
    farthest = 0.0 if center is None else float(center.norm())
    # Measured with 1000 classes in any order: of larger chunks than usual the class sums suffer a tenth less.
    for where, chunk in rows.passing_chunks(2, check=center is not None or distance == "euclidean"):
        if distance == "euclidean":
            yield where, chunk, 0
            continue
        shifted = chunk if center is None else chunk - center
        lengths = torch.linalg.vector_norm(shifted, dim=1)
        shortest, longest = (float(end) for end in torch.aminmax(lengths))
        # Lengths whose squares neither overflow nor vanish, of rows that lie clear of the mean: nothing to guard.
        if shortest > _SHORT and longest < _LONG and shortest > 10 * _ROUNDING * farthest:
            yield where, shifted.mul_(lengths.reciprocal_().unsqueeze(1)), 0
        else:
            rows.check(chunk, where.start)
            points = normalize(chunk if center is None else _subtract(chunk, center))
            yield where, points, int((points == 0).all(dim=1).sum())


def _subtract(chunk: Tensor, center: Tensor) -> Tensor:
    """Subtract the mean; a row that lies on it becomes zero, not the rounding error's direction."""
    difference = chunk - center
    on_center = length(difference) <= _ROUNDING * length(chunk)
    return torch.where(on_center.unsqueeze(1), 0.0, difference)


def _mean(rows: Rows) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for _, chunk in rows.passing_chunks():
        total += chunk.sum(dim=0)
    return total / len(rows)


def _warnings(zeros: int, count: int, null: float) -> tuple[str, ...]:
    warnings = []
    if zeros:
        warnings.append(f"{zeros} of {count} feature rows are zero; their cosine to every row counts as 0.")
    if null > _NULL_BIAS:
        warnings.append(f"Few samples a class: random labels would give {null:.2f} on average, not 0.")
    return tuple(warnings)
