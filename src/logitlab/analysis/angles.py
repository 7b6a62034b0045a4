"""Angles between features and class weights: to the own class, to the nearest other one, to the span of all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .counts import is_count
from .directions import angle_between, pairwise_angles, unit_blocks, unit_weight
from .measurement import Measurement, UndefinedError
from .result import Result


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
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows)
    labels = read_labels(y, "y", len(rows), len(weights)).to(rows.device)
    total, zeros = 0.0, 0
    for where, unit in unit_blocks(rows, rows.shape[1]):
        own = weights[labels[where]]
        total += float(angle_between(unit, own).sum())
        zeros += int(((unit == 0).all(dim=1) | (own == 0).all(dim=1)).sum())
    return Measurement(
        "class_angle",
        math.degrees(total / len(rows)),
        "degrees, mean over samples",
        len(rows),
        split,
        _right_angles(zeros, len(rows)),
    )


def span_angle(x: ArrayLike, weight: ArrayLike, *, split: str | None = None) -> Measurement:
    r"""Mean angle between a feature and the subspace that the class weights span.

    .. math:: \frac1N \sum_i \operatorname{atan2}\big(\|\tilde{\mathbf x}_i - Q Q^\top \tilde{\mathbf x}_i\|,\,
        \|Q^\top \tilde{\mathbf x}_i\|\big)

    with the orthonormal columns of Q from a singular value decomposition of the unit weights: directions with
    :math:`\sigma \le \sigma_1 \max(C, D)\, \epsilon` are rounding and do not count, where ε belongs to the type that
    the weights are stored in (at most float32's). Weights that sum to zero have rank C - 1; an unpivoted QR
    decomposition would add a direction made of rounding.

    A zero feature has no direction: its angle counts as 90 degrees, with a warning.

    Args:
        x: features, shape ``[N, D]``.
        weight: one row a class, shape ``[C, D]``; the bias, if the head has one, plays no part.
        split: the part of the data, kept in the result.

    Returns:
        Degrees in [0, 90]; 0 means that the features hold nothing but what the classifier reads. It is 0 whenever the
        weights span all D dimensions (as they may for C ≥ D), which a warning says. ``details``: ``rank`` of the
        weights.

    Raises:
        InputError: NaN or infinity, or shapes that do not fit.
        UndefinedError: every weight is zero.

    References:
        T Table 3, second column.

    >>> found = span_angle([[1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    >>> round(found.value, 6), found.details["rank"]
    (45.0, 1.0)
    """
    rows = Rows(x, "x")
    basis = _span_basis(weight, rows)
    rank = basis.shape[1]
    total, zeros = 0.0, 0
    for _, unit in unit_blocks(rows, rows.shape[1]):
        is_zero = (unit == 0).all(dim=1)
        zeros += int(is_zero.sum())
        if rank == rows.shape[1]:
            # What rounding leaves outside of a span that is everything is not an angle.
            angle = torch.zeros_like(unit[:, 0])
        else:
            inside = unit @ basis
            angle = torch.atan2((unit - inside @ basis.T).norm(dim=1), inside.norm(dim=1))
        total += float(torch.where(is_zero, math.pi / 2, angle).sum())
    warnings = []
    if rank == rows.shape[1]:
        warnings.append(f"The weights span all {rank} dimensions: the angle is 0 whatever the features are.")
    if zeros:
        warnings.append(f"{zeros} of {len(rows)} features are zero; their angle counts as 90 degrees.")
    return Measurement(
        "span_angle",
        math.degrees(total / len(rows)),
        "degrees, mean over samples; basis by SVD",
        len(rows),
        split,
        tuple(warnings),
        {"rank": float(rank)},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class AngleHistogram(Result):
    """How far features lie from their own class's weight and from the nearest other one.

    Attributes:
        value: mean angle to the own weight, degrees.
        mean_other: mean angle to the nearest weight of another class, degrees.
        edges: of the bins, 0 to 180 degrees, float64 ``[bins + 1]``; bins are [lo, hi), the last one closed.
        own: features a bin by the angle to their own weight, int64 ``[bins]``.
        other: the same by the angle to the nearest other weight.
    """

    name: ClassVar[str] = "angle_histogram"

    value: float
    mean_other: float
    edges: Tensor
    own: Tensor
    other: Tensor

    @property
    def headline(self) -> str:
        """Both means."""
        return f"{self.value:.4g} degrees to the own weight, {self.mean_other:.4g} to the nearest other"


def angle_histogram(
    x: ArrayLike, weight: ArrayLike, y: ArrayLike, *, bins: int = 90, split: str | None = None
) -> AngleHistogram:
    r"""Histogram of the angles of features to their own weight and to the nearest weight of another class.

    .. math:: \theta_i = \angle(\tilde{\mathbf x}_i, \tilde{\mathbf w}_{y_i}), \qquad
        \theta'_i = \min_{c \ne y_i} \angle(\tilde{\mathbf x}_i, \tilde{\mathbf w}_c)

    A feature with :math:`\theta_i < \theta'_i` is one that a cosine classifier gets right. Zero rows count as
    90 degrees from everything, with a warning.

    Args:
        x: features, shape ``[N, D]``.
        weight: one row a class, shape ``[C, D]``, at least two.
        y: class indices, shape ``[N]``.
        bins: number of bins between 0 and 180 degrees, at least 1.
        split: the part of the data, kept in the result.

    Returns:
        Counts in both histograms; each sums to N.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, labels outside [0, C), or no bins.
        UndefinedError: one class: there is no other weight.

    References:
        The distribution behind T Table 3, first column.

    >>> found = angle_histogram([[1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]], [0], bins=4)
    >>> found.own.tolist(), found.other.tolist(), round(found.value, 6)
    ([0, 1, 0, 0], [0, 0, 1, 0], 45.0)
    """
    if not is_count(bins, 1):
        raise InputError(f"Expected an integer 'bins' of at least 1. Got {bins}.")
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows)
    if len(weights) < 2:
        raise UndefinedError("Expected at least two rows in 'weight'. Got one: there is no other class.")
    labels = read_labels(y, "y", len(rows), len(weights)).to(rows.device)
    edges = torch.linspace(0, 180, bins + 1, dtype=torch.float64, device=rows.device)
    counts = torch.zeros(2, bins, dtype=torch.int64, device=rows.device)
    totals, zeros = torch.zeros(2, dtype=torch.float64, device=rows.device), 0
    zero_weight = (weights == 0).all(dim=1)
    for where, unit in unit_blocks(rows, len(weights)):
        label = labels[where].unsqueeze(1)
        angles = pairwise_angles(unit, weights).rad2deg()
        own = angles.gather(1, label).squeeze(1)
        nearest = angles.scatter(1, label, math.inf).amin(dim=1)
        for index, values in enumerate((own, nearest)):
            place = (torch.bucketize(values, edges, right=True) - 1).clamp(0, bins - 1)
            counts[index] += torch.bincount(place, minlength=bins)
            totals[index] += values.sum()
        zeros += int(((unit == 0).all(dim=1) | zero_weight[label.squeeze(1)]).sum())
    own_mean, other_mean = (totals / len(rows)).tolist()
    return AngleHistogram(
        value=own_mean,
        mean_other=other_mean,
        edges=edges.cpu(),
        own=counts[0].cpu(),
        other=counts[1].cpu(),
        convention="degrees; other: the nearest weight of another class",
        n=len(rows),
        split=split,
        warnings=_right_angles(zeros, len(rows)),
    )


def _span_basis(weight: ArrayLike, rows: Rows) -> Tensor:
    """Orthonormal columns that span the weights, ``[D, rank]``."""
    stored = Rows(weight, "weight").dtype
    unit = unit_weight(weight, rows)
    _, singular, right = torch.linalg.svd(unit, full_matrices=False)
    if not singular[0] > 0:
        raise UndefinedError("Expected class weights that span a subspace. Got zero in every row of 'weight'.")
    # A tolerance of half precision would swallow directions that mean something: float32's is the widest.
    spacing = torch.finfo(torch.float32 if stored.is_floating_point and stored != torch.float64 else torch.float64).eps
    rank = int((singular > singular[0] * max(unit.shape) * spacing).sum())
    basis: Tensor = right[:rank].T
    return basis


def _right_angles(zeros: int, count: int) -> tuple[str, ...]:
    warning = f"{zeros} of {count} angles belong to a zero feature or a zero weight and count as 90 degrees."
    return (warning,) if zeros else ()
