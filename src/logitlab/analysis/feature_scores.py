"""Confidence scores from features and class weights: one number a sample, larger is surer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import length, normalize, projection_energy, search_least_squares

from .arrays import ArrayLike, Rows

# Elements of the cosines that the least-squares search keeps at once: with many classes they outgrow the features.
_COSINE_ELEMENTS = 2**20


def feature_norm(x: ArrayLike) -> Tensor:
    r"""Euclidean length of each feature.

    .. math:: \|\mathbf x\|_2

    Args:
        x: features, shape ``[N, D]``.

    Returns:
        Shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: NaN or infinity.

    References:
        T §3.2.1.

    >>> feature_norm([[3.0, 4.0]])
    tensor([5.], dtype=torch.float64)
    """
    rows = Rows(x, "x")
    return each_row(len(rows), rows.chunks(), length)


def projection_residual(x: ArrayLike, weight: ArrayLike) -> Tensor:
    r"""How well the softmax combination of the class weights rebuilds the feature at its best κ; a score of our own.

    .. math:: -E_{\kappa^*} = -\tfrac12 \Big\| \tilde{\mathbf x}
        - \sum_c \operatorname{softmax}_c(\kappa^* z) \tilde{\mathbf w}_c \Big\|_2^2

    A feature far from the hull of the weights is like none of the classes. κ* is the best of the twenty candidates of
    TS Eq. (30), for each sample. A zero feature has no direction; all its cosines are zero, and it is rebuilt by the
    mean of the weights.

    Args:
        x: features of any length, shape ``[N, D]``.
        weight: one row a class, of any length, shape ``[C, D]``.

    Returns:
        In [-2, 0], shape ``[N]``, float64, on the CPU; larger (nearer to 0) is surer.

    Raises:
        InputError: NaN or infinity, or shapes that do not fit.

    References:
        T Eqs. (10), (11), (14); TS Eq. (30).

    >>> projection_residual([[2.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).round(decimals=4) + 0.0
    tensor([ 0., -1.], dtype=torch.float64)
    """
    return -least_squares_of_rows(x, weight)[1]


def kappa_star(x: ArrayLike, weight: ArrayLike) -> Tensor:
    r"""κ* of each sample by least squares, with its sign turned so that larger is surer; a score of our own.

    .. math:: -\kappa^* = -\arg\min_{\kappa \in \mathcal K} E_\kappa

    "κ* would roughly reflect the distance between x̃ and a convex hull spanned by w̃" (T §2.2.1): the farther the
    feature, the smaller its cosines and the larger the κ* that makes the combination sparse. 𝒦 has twenty candidates,
    hence many samples are tied; of equal energies the smallest candidate wins. The κ* of a zero feature means nothing.

    Args:
        x: features of any length, shape ``[N, D]``.
        weight: one row a class, of any length, shape ``[C, D]``.

    Returns:
        One of -𝒦, in [-148.4, -0.135], shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: NaN or infinity, or shapes that do not fit.

    References:
        T Eqs. (10), (11), (14); TS Eq. (30).

    >>> kappa_star([[1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tensor([-2.5789], dtype=torch.float64)
    """
    return -least_squares_of_rows(x, weight)[0]


def each_row(count: int, chunks: Iterable[tuple[slice, Tensor]], function: Callable[[Tensor], Tensor]) -> Tensor:
    """Fill one array with a number a row.

    Small results kept until the end would lie among the chunks' freed memory, which then fits no further chunk: for a
    memory map of many rows the process would grow by as much as the map holds.
    """
    found = torch.empty(count, dtype=torch.float64)
    for where, chunk in chunks:
        found[where] = function(chunk)
    return found


def least_squares_of_rows(x: ArrayLike, weight: ArrayLike) -> tuple[Tensor, Tensor]:
    """κ* of each sample and the energy there, each ``[N]``, float64, on the CPU."""
    rows, classes = Rows(x, "x"), Rows(weight, "weight")
    if classes.shape[1] != rows.shape[1]:
        raise InputError(
            f"Expected 'weight' of shape [C, {rows.shape[1]}], as long as the features. Got {list(classes.shape)}."
        )
    unit_weight = torch.cat([normalize(chunk).to(rows.device) for _, chunk in classes.chunks()])
    kappa, residual = torch.empty(2, len(rows), dtype=torch.float64)
    for where, unit in _unit_rows(rows, len(classes)):
        cosine = unit @ unit_weight.T
        best = search_least_squares(unit, unit_weight, cosine=cosine)
        kappa[where], residual[where] = best, projection_energy(unit, unit_weight, best, cosine)
    return kappa, residual


def _unit_rows(rows: Rows, num_classes: int) -> Iterator[tuple[slice, Tensor]]:
    for where, chunk in rows.chunks():
        unit, step = normalize(chunk), max(1, _COSINE_ELEMENTS // num_classes)
        for start in range(0, len(unit), step):
            block = unit[start : start + step]
            yield slice(where.start + start, where.start + start + len(block)), block
