"""Unit vectors and cosines that stay finite for zero, tiny and huge rows, in any floating dtype."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import at_least_float32, autocast_off


def normalize(vectors: Tensor) -> Tensor:
    r"""Scale each row to unit Euclidean length.

    .. math:: \tilde{\mathbf x} = \mathbf x / \|\mathbf x\|_2

    The result is float32 at least: in half precision the usual guard ``eps = 1e-12`` underflows and a zero row
    becomes NaN. A row is divided by its largest magnitude first, so that squares neither overflow nor
    underflow. A zero row (largest magnitude below the square root of the smallest normal number, 1e-19 in
    float32) gives a zero row and a zero gradient.

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


def cosine_similarity(features: Tensor, weight: Tensor) -> Tensor:
    r"""Cosine of each feature vector to each row of the weight.

    .. math:: z_c = \tilde{\mathbf x}^\top \tilde{\mathbf w}_c

    Args:
        features: shape ``[..., D]``.
        weight: one row a class, shape ``[C, D]``.

    Returns:
        Cosines in [-1, 1] up to rounding, shape ``[..., C]``, float32 at least. A zero row has cosine zero.

    References:
        T Eq. (1), W Eq. (7).

    >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.]])
    """
    dtype = at_least_float32(features, weight)
    with autocast_off(features.device):
        return F.linear(normalize(features.to(dtype)), normalize(weight.to(dtype)))
