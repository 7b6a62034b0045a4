"""Unit vectors and the angles between them, exact for small angles, in blocks that stay small."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows

# Elements of one [n, C] block; 8 MiB.
_BLOCK_ELEMENTS = 2**20

# Above this cosine (below 2.6 degrees) an arc cosine loses more than two digits, and the half-angle form takes over.
_NEARLY_PARALLEL = 0.999


def unit_weight(weight: ArrayLike, rows: Rows) -> Tensor:
    """Read class weights that belong to features, each scaled to length one.

    Args:
        weight: one row a class, shape ``[C, D]``.
        rows: the features, shape ``[N, D]``.

    Returns:
        float64 ``[C, D]`` on the device of the features; a zero row stays zero.

    Raises:
        InputError: NaN or infinity, or another D.
    """
    classes = Rows(weight, "weight")
    if classes.shape[1] != rows.shape[1]:
        raise InputError(
            f"Expected 'weight' of shape [C, {rows.shape[1]}], as long as the features. Got {list(classes.shape)}."
        )
    return torch.cat([normalize(chunk).to(rows.device) for _, chunk in classes.chunks()])


def unit_blocks(rows: Rows, width: int) -> Iterator[tuple[slice, Tensor]]:
    """Read rows scaled to length one, so few at a time that a matrix ``[n, width]`` about them stays small.

    Yields:
        where the block stands, and float64 ``[n, D]``.
    """
    step = max(1, _BLOCK_ELEMENTS // width)
    for where, chunk in rows.chunks():
        unit = normalize(chunk)
        for start in range(0, len(unit), step):
            block = unit[start : start + step]
            yield slice(where.start + start, where.start + start + len(block)), block


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    r"""Angle between unit vectors, row by row.

    .. math:: \angle(\mathbf a, \mathbf b) =
        2 \operatorname{atan2}(\|\mathbf a - \mathbf b\|, \|\mathbf a + \mathbf b\|)

    An arc cosine in double precision returns 0 below 1e-8 radians; this form keeps every digit. A zero row has no
    direction: its angle to anything is a right one.

    Args:
        first: unit or zero rows, shape ``[..., D]``.
        second: the same.

    Returns:
        Radians in [0, π], shape ``[...]``.
    """
    angle = 2 * torch.atan2((first - second).norm(dim=-1), (first + second).norm(dim=-1))
    both_zero = (first == 0).all(dim=-1) & (second == 0).all(dim=-1)
    return torch.where(both_zero, math.pi / 2, angle)


def pairwise_angles(unit: Tensor, weight: Tensor) -> Tensor:
    """Angle of each unit vector to each unit weight.

    The arc cosine of a matrix product; pairs that are nearly parallel, where it loses digits, are done again by
    :func:`angle_between`, a bounded number at a time.

    Args:
        unit: unit or zero rows, shape ``[n, D]``.
        weight: unit or zero rows, shape ``[C, D]``.

    Returns:
        Radians in [0, π], shape ``[n, C]``.
    """
    cosine = unit @ weight.T
    angles = cosine.clamp(-1, 1).acos()
    nearly_parallel = (cosine.abs() > _NEARLY_PARALLEL).nonzero()
    for pairs in torch.split(nearly_parallel, max(1, _BLOCK_ELEMENTS // unit.shape[1])):
        row, column = pairs.unbind(dim=1)
        angles[row, column] = angle_between(unit[row], weight[column])
    return angles
