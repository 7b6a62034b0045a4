"""Singular values of features, weights and class centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .arrays import ArrayLike, Rows, read_labels
from .products import Centered, cross_products, inner_products
from .result import Result

# A matrix of so few numbers is decomposed itself, which resolves small singular values too.
_SMALL = 2**18

# Eigenvalues of a float64 Gram matrix are sound down to this share of the largest, singular values to its square root.
_RESOLVED = 1e-16


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum(Result):
    """Singular values.

    Attributes:
        value: decreasing, float64 ``[min(N, D)]``.
        columns: D.
        resolved: values below this one are not distinguished from zero.
        negligible: a largest value up to here is what rounding leaves of rows that are all the same.
    """

    name: ClassVar[str] = "singular_values"

    value: Tensor
    columns: int
    resolved: float
    negligible: float

    @property
    def headline(self) -> str:
        """The largest and the smallest."""
        return f"{len(self.value)} values from {float(self.value[0]):.4g} down to {float(self.value[-1]):.4g}"


def singular_values(a: ArrayLike, *, center: bool = False, split: str | None = None) -> Spectrum:
    r"""Singular values of a matrix, which may be larger than memory.

    .. math:: \sigma_i = \sqrt{\lambda_i(\mathbf A^\top \mathbf A)}

    A small matrix (up to 2\ :sup:`18` numbers) is decomposed itself. Of a larger one the products
    :math:`\mathbf A^\top \mathbf A` (or :math:`\mathbf A \mathbf A^\top` where that is smaller) are summed in float64
    over chunks. That resolves singular values down to 1e-8 of the largest: smaller ones come out below
    ``resolved`` and mean no more than "nearly zero".

    Args:
        a: features, weights or centroids, ``[N, D]``; more dimensions are flattened. Lengths count: hand over
            normalised rows for the spectrum of directions.
        center: subtract the mean of the rows first. W does not say that it did; the default does not.
        split: the part of the data, kept in the result.

    Returns:
        ``value``: min(N, D) numbers, decreasing, at least 0.

    Raises:
        InputError: NaN or infinity, no rows, or no real numbers.

    References:
        W Figure E.2.

    >>> singular_values([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]).value
    tensor([4., 3.], dtype=torch.float64)
    """
    rows = Rows(a, "a", flatten=True)
    points = Centered(rows, center=center)
    count, size = rows.shape
    if count * size <= _SMALL:
        matrix = torch.cat([chunk.clone() for chunk in points.chunks()])
        values = torch.linalg.svdvals(matrix)
        resolved = max(count, size) * torch.finfo(torch.float64).eps * float(values[0])
    else:
        products = cross_products(points) if size <= count else inner_products(points)
        values = torch.linalg.eigvalsh(products).flip(0).clamp(min=0).sqrt()
        resolved = _RESOLVED**0.5 * float(values[0])
    return Spectrum(
        convention="of the centred matrix" if center else "of the matrix as it is, not centred",
        n=count,
        split=split,
        value=values.cpu() / points.scale,
        columns=size,
        resolved=resolved / points.scale,
        negligible=points.negligible**0.5 / points.scale if center else 0.0,
    )


def class_centroids(x: ArrayLike, y: ArrayLike) -> Tensor:
    """Mean feature of each class.

    Args:
        x: features, ``[N, D]``; more dimensions are flattened.
        y: class indices, ``[N]``.

    Returns:
        float64 ``[K, D]`` on the CPU: the classes that occur, in order of their index.

    Raises:
        InputError: NaN or infinity, or shapes that do not fit.

    References:
        W Figure E.2, class centroids.

    >>> class_centroids([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], [4, 4, 2])
    tensor([[0., 5.],
            [2., 0.]], dtype=torch.float64)
    """
    rows = Rows(x, "x", flatten=True)
    return class_means(rows, read_labels(y, "y", len(rows)))[2].cpu()


def class_means(rows: Rows, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the classes ``[K]``, for each row the place of its class ``[N]``, and the class means ``[K, D]``."""
    classes, index, counts = torch.unique(labels.to(rows.device), return_inverse=True, return_counts=True)
    means = torch.zeros(len(classes), rows.shape[1], dtype=torch.float64, device=rows.device)
    for where, chunk in rows.passing_chunks():
        means.index_add_(0, index[where], chunk)
    return classes, index, means / counts.unsqueeze(1)
