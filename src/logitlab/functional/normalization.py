"""Unit vectors that stay finite for zero, tiny and huge rows, in any floating dtype."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .at_hand import by_hand, gradient_of
from .precision import at_least_float32, autocast_off

# Between these lengths no square overflows in float32, and what underflows is below its rounding.
_SHORTEST, _LONGEST = 1e-12, 1e12


def normalize(vectors: Tensor) -> Tensor:
    r"""Scale each row to unit Euclidean length.

    .. math:: \tilde{\mathbf x} = \mathbf x / \|\mathbf x\|_2

    The result is float32 at least: in half precision the usual guard ``eps = 1e-12`` underflows and a zero row
    becomes NaN. A zero row (largest magnitude below the square root of the smallest normal number, 1e-19 in
    float32) gives a zero row and a zero gradient; tiny and huge rows neither underflow nor overflow.

    In eager mode on the CPU rows of ordinary length take a shorter way through the same formula.

    Args:
        vectors: floating, shape ``[..., D]``.

    Returns:
        Rows of length one, or zero; shape ``[..., D]``, float32 or float64.

    References:
        T Eq. (1).

    >>> normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e38, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000],
            [1.0000, 0.0000]])
    """
    vectors = vectors.to(at_least_float32(vectors))
    lengths = ordinary_lengths(vectors) if by_hand(vectors) else None
    if lengths is None:
        return normalize_any(vectors)
    if torch.is_grad_enabled() and vectors.requires_grad:
        return cast(Tensor, _Normalize.apply(vectors, lengths))
    return vectors / lengths


def normalize_any(vectors: Tensor) -> Tensor:
    """``normalize`` for rows of any length, in plain operations: each is first divided by its largest magnitude.

    Args:
        vectors: float32 or float64, shape ``[..., D]``.

    Returns:
        Shape ``[..., D]``.

    >>> normalize_any(torch.tensor([[3e-30, 4e-30], [3e38, 0.0]]))
    tensor([[0., 0.],
            [1., 0.]])
    """
    # The quotient does not depend on this scale, hence no gradient flows through it.
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    is_zero = largest < torch.finfo(vectors.dtype).tiny ** 0.5
    # Zero rows are replaced before the norm is taken, so that no derivative of any order meets 0/0.
    scaled = torch.where(is_zero, 1.0, vectors) / torch.where(is_zero, 1.0, largest)
    unit = scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return torch.where(is_zero, 0.0, unit)


def length(vectors: Tensor) -> Tensor:
    r"""Euclidean length of each row; huge rows do not overflow, and a zero row has a zero gradient.

    Args:
        vectors: floating, shape ``[..., D]``.

    Returns:
        Shape ``[...]``, float32 or float64.

    >>> length(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30]]))
    tensor([5.0000e+00, 0.0000e+00, 5.0000e+30])
    """
    vectors = vectors.to(at_least_float32(vectors))
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    found: Tensor = torch.linalg.vector_norm(vectors / largest, dim=-1) * largest.squeeze(-1)
    return found


def ordinary_lengths(vectors: Tensor) -> Tensor | None:
    """Length of each row where all are ordinary, so that the short way may be taken.

    Args:
        vectors: float32 or float64, shape ``[..., D]``; their values are read, so that ``by_hand`` must hold.

    Returns:
        Shape ``[..., 1]``, detached; None where one row is not ordinary, and where there is none.

    >>> ordinary_lengths(torch.tensor([[3.0, 4.0]]))
    tensor([[5.]])
    """
    if vectors.numel() == 0:
        return None
    lengths = torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True)
    return lengths if are_ordinary(lengths) else None


def are_ordinary(lengths: Tensor) -> bool:
    """Whether rows of these lengths can be divided by them without care for zeros, underflow and overflow.

    Args:
        lengths: at least one, any shape. Their values are read: not for a GPU's queue.

    >>> are_ordinary(torch.tensor([1.0, 20.0])), are_ordinary(torch.tensor([1.0, 0.0]))
    (True, False)
    """
    low, high = lengths.aminmax()
    # NaN fails every comparison.
    return float(low) >= _SHORTEST and float(high) <= _LONGEST


def away_from_row(gradient: Tensor, unit: Tensor) -> Tensor:
    """Take from each gradient its part along the row, in place: g - (g·u) u.

    Args:
        gradient: shape ``[..., D]``; written over.
        unit: rows of unit length, shape ``[..., D]``.

    Returns:
        ``gradient``.

    >>> away_from_row(torch.tensor([[5.0, 7.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0., 7.]])
    """
    along = torch.linalg.vecdot(gradient, unit).unsqueeze(-1)
    return gradient.addcmul_(unit, along, value=-1)


class _Normalize(torch.autograd.Function):
    r"""u = x / ‖x‖ with the backward pass in one new tensor; further derivatives are those of the plain formula.

    .. math:: \partial L / \partial \mathbf x = (\mathbf g - (\mathbf g^\top \mathbf u) \mathbf u) / \|\mathbf x\|
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, lengths: Tensor) -> Tensor:
        unit = vectors / lengths
        ctx.save_for_backward(vectors, unit, lengths)
        return unit

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        vectors, unit, lengths = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *gradient_of(normalize_any, (vectors,), (upstream,)), None
        with autocast_off(unit.device):
            return away_from_row(upstream / lengths, unit), None
