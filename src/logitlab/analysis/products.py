"""Sums of products over rows in float64: what CKA, spectra and covariances are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .arrays import Rows

# Chunks of `Rows` that enter a matrix product at once: enough that adding to D x D sums costs little beside it.
PRODUCT_CHUNKS = 16

# Numbers between 2 to the minus this and 2 to this need no scale.
_PLAIN = 100

# Width of the blocks of a symmetric product: of 2048 columns, ten of sixteen blocks are computed, the rest mirrored.
_BLOCK = 512


class Centered:
    """Rows minus their mean (or not), times a power of two: what is summed neither overflows nor cancels.

    The mean is exact before any product is taken. Subtracting it from the sums afterwards would lose all digits where
    the mean is large beside the deviation.

    Args:
        rows: the matrix; it is read once here and once for each sum.
        center: subtract the mean of the rows.

    Attributes:
        rows: as given.
        centered: whether the mean is subtracted.
        mean: ``[D]``; zero unless centred.
        scale: a power of two: one, unless fourth powers of the numbers would leave float64; then the largest
            magnitude times it is about one.
    """

    def __init__(self, rows: Rows, *, center: bool = True) -> None:
        self.rows = rows
        self.centered = center
        self.mean = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
        # Means at first, so that sums of huge numbers stay finite.
        largest = 0.0
        for _, chunk in rows.passing_chunks():
            low, high = torch.aminmax(chunk)
            largest = max(largest, -float(low), float(high))
            self.mean += chunk.mul_(1 / len(rows)).sum(dim=0)
        self.largest = largest
        if not center:
            self.mean.zero_()
        exponent = math.frexp(largest)[1]
        self.scale = 1.0 if abs(exponent) < _PLAIN else 2.0 ** -max(-1000, min(1000, exponent))

    def chunks(self, times: int | None = None, *, width: int | None = None) -> Iterator[Tensor]:
        """Read the rows, centred and scaled, through one buffer: each chunk is overwritten by the next."""
        for _, chunk in self.rows.passing_chunks(times or PRODUCT_CHUNKS, width=width):
            if self.centered:
                chunk.sub_(self.mean)
            yield chunk if self.scale == 1 else chunk.mul_(self.scale)

    @property
    def negligible(self) -> float:
        """Sums of squares up to here are what rounding leaves of rows that are all the same."""
        return (1e-14 * self.largest * self.scale) ** 2 * self.rows.shape[0] * self.rows.shape[1]


def add_gram(total: Tensor, chunk: Tensor) -> None:
    """Add ``chunk.T @ chunk`` to the blocks on and below the diagonal of ``total``; :func:`mirror` fills the rest."""
    for start in range(0, len(total), _BLOCK):
        total[start:, start : start + _BLOCK].addmm_(chunk[:, start:].T, chunk[:, start : start + _BLOCK])


def mirror(total: Tensor) -> Tensor:
    """Make a sum of :func:`add_gram` symmetric, in place."""
    for start in range(0, len(total), _BLOCK):
        stop = start + _BLOCK
        corner = total[start:stop, start:stop]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        total[start:stop, stop:] = total[stop:, start:stop].T
    return total


def cross_products(points: Centered) -> Tensor:
    r""":math:`\sum_i \hat{\mathbf x}_i \hat{\mathbf x}_i^\top` of the centred, scaled rows: ``[D, D]``."""
    size = points.rows.shape[1]
    total = torch.zeros(size, size, dtype=torch.float64, device=points.rows.device)
    for chunk in points.chunks():
        add_gram(total, chunk)
    return mirror(total)


def inner_products(points: Centered) -> Tensor:
    r""":math:`\hat{\mathbf x}_i^\top \hat{\mathbf x}_j` of the centred, scaled rows: ``[N, N]``, column by column."""
    size = len(points.rows)
    total = torch.zeros(size, size, dtype=torch.float64, device=points.rows.device)
    for where, chunk in points.rows.columns(PRODUCT_CHUNKS):
        add_gram(total, ((chunk - points.mean[where]) * points.scale).T)
    return mirror(total)
