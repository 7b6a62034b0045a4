"""Scores of all samples with the classes of this process, a block at a time: kept, or computed anew at each turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..class_chunks import block_size
from ..normalization import length, normalize
from ..precision import at_least_float32
from ..rival_terms import Classifier
from .block import Block

# Scores in a block on a GPU: 32 MB of float32 stay in the second-level cache of a large one. With fewer classes than
# these a block of many samples would add to all of an N x D matrix for the sake of few products.
_BLOCK_ON_GPU, _FEWEST_ON_GPU = 2**23, 1024

# Up to so many bytes the scores are kept; above, each turn computes them again.
_WORKSPACE, _LITTLE_WORKSPACE = 2**31, 2**28

# By the speeds that its maker names, a large GPU computes a score of so many bfloat16 features again in less time than
# it takes to write it to its memory and to read it: estimated, not measured.
_CHEAP_FEATURES = 1024

# Rows of the weight outside of these lengths have no square in float32; shorter ones count as zero.
_SHORTEST = 1e-15


class Rows(NamedTuple):
    """Features as a product takes them.

    Attributes:
        operand: of the dtype of the products, ``[N, D]``.
        scale: what the products are multiplied by, ``[N]``.
    """

    operand: Tensor
    scale: Tensor


def product_dtype(features: Tensor, weight: Tensor) -> torch.dtype:
    """In which dtype features and weight are multiplied.

    bfloat16 where both are given so: their products are exact in float32, in which they are added up. Otherwise
    float32 at least.
    """
    if features.dtype == weight.dtype == torch.bfloat16:
        return torch.bfloat16
    return at_least_float32(features, weight)


def rows_of_features(features: Tensor, dtype: torch.dtype, classifier: Classifier) -> tuple[Rows, Tensor]:
    """Features as a product takes them, and 1/‖x‖ (zero for a zero row, one where lengths stay), ``[n]``."""
    wide = at_least_float32(features)
    if classifier != "cosine":
        ones = features.new_ones(
            features.shape[0], dtype=torch.promote_types(wide, dtype) if dtype.itemsize > 2 else wide
        )
        return Rows(features.to(dtype), ones), ones
    unit = normalize(features.to(torch.promote_types(wide, dtype) if dtype.itemsize > 2 else wide))
    is_zero = ~unit.any(dim=1)
    inverse = torch.where(is_zero, 0.0, length(features.to(unit.dtype)).reciprocal())
    if dtype.itemsize > 2:
        return Rows(unit, torch.ones_like(inverse)), inverse
    # A power of two leaves the digits of a row as they are, and its square within float32.
    _, exponent = torch.frexp(features.abs().amax(dim=1).to(wide))
    shifted = torch.ldexp(features.to(wide), -exponent.unsqueeze(1))
    shifted = torch.where(is_zero.unsqueeze(1), 0.0, shifted)
    scale = torch.where(is_zero, 1.0, torch.linalg.vector_norm(shifted, dim=1).reciprocal())
    return Rows(shifted.to(dtype), scale), inverse


def inverse_lengths(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """1/‖w_c‖, zero for a zero row, NaN for one without a square; ``[c]``. No value is looked at."""
    lengths = torch.linalg.vector_norm(weight, dim=1, dtype=dtype)
    # What is too long to be squared must not pass for zero.
    return torch.where(lengths < _SHORTEST, 0.0, torch.where(lengths.isinf(), torch.nan, lengths.reciprocal()))


def keep_scores(operand: Tensor, num_classes: int, dtype: torch.dtype) -> bool:
    """Whether the scores are kept between the turns, or computed again in each.

    Args:
        operand: features of all samples, ``[N, D]``.
        num_classes: c, of this process.
        dtype: of the scores.
    """
    cheap = operand.is_cuda and operand.dtype.itemsize < 4 and operand.shape[1] <= _CHEAP_FEATURES
    limit = _LITTLE_WORKSPACE if cheap else _WORKSPACE
    return operand.shape[0] * num_classes * dtype.itemsize <= limit


class Scores:
    """Blocks of the scores of N samples with c classes.

    Args:
        rows: features of all samples.
        weight: of the classes of this process, ``[c, D]``.
        column_scale: ``[c]``.
        bias: ``[c]``, or None.
        keep: keep all products, N x c numbers; otherwise each turn computes them again.
    """

    def __init__(self, rows: Rows, weight: Tensor, column_scale: Tensor, bias: Tensor | None, keep: bool) -> None:
        self.rows = rows
        self.weight = weight
        self.column_scale = column_scale
        self.bias = bias
        num_samples, num_classes = rows.operand.shape[0], weight.shape[0]
        self.size = block_size(num_samples, num_classes)
        if weight.is_cuda:
            fitting = _BLOCK_ON_GPU // max(num_samples, 1) // 256 * 256
            self.size = min(num_classes, max(_FEWEST_ON_GPU, fitting))
        self.dtype = rows.scale.dtype
        self._kept: dict[int, Tensor] | None = {} if keep else None
        self._buffer: Tensor | None = None

    def __len__(self) -> int:
        """How many classes there are."""
        return self.weight.shape[0]

    def __iter__(self) -> Iterator[tuple[int, Block, Tensor]]:
        """The first class of each block, the block, and its rows of the weight in the dtype of the products."""
        return self.of(None)

    def of(self, rows: Tensor | None) -> Iterator[tuple[int, Block, Tensor]]:
        """The blocks of some samples.

        Args:
            rows: which, int64 ``[M]``; None for all.
        """
        operand, scale = self.rows if rows is None else (part[rows] for part in self.rows)
        for start in range(0, len(self), self.size):
            end = min(start + self.size, len(self))
            weight = self.weight[start:end].to(operand.dtype)
            bias = None if self.bias is None else self.bias[start:end]
            product = self._product(start, operand, weight, rows)
            yield start, Block(product, scale, self.column_scale[start:end], bias), weight

    def without_bias(self) -> Scores:
        """The same scores, and the same memory, for what knows no bias."""
        if self.bias is None:
            return self
        other = Scores(self.rows, self.weight, self.column_scale, None, False)
        other._kept = self._kept
        return other

    def release(self) -> list[Tensor]:
        """Give up all that is large but the weight, for ``restore`` to take again."""
        kept = [] if self._kept is None else list(self._kept.values())
        operand = self.rows.operand
        if self._kept is not None:
            self._kept = {}
        self._buffer = None
        self.rows = Rows(operand.new_empty(0), self.rows.scale)
        self.weight = self.weight.new_empty(0)
        return [operand, *kept]

    def restore(self, weight: Tensor, operand: Tensor, products: Sequence[Tensor]) -> None:
        """Take again what ``release`` gave, and the weight."""
        self.weight, self.rows = weight, Rows(operand, self.rows.scale)
        if self._kept is not None:
            self._kept = dict(zip(range(0, len(self), self.size), products))

    def scratch(self, block: Block) -> Tensor:
        """Memory for a block of coefficients in the dtype of the products; the next call gives the same."""
        if block.product.numel() > self.rows.operand.shape[0] * min(self.size, len(self)):
            return torch.empty_like(block.product, dtype=self.rows.operand.dtype)
        if self._buffer is None:
            operand = self.rows.operand
            self._buffer = operand.new_empty(operand.shape[0] * min(self.size, len(self)))
        return self._buffer[: block.product.numel()].view(block.product.shape)

    def _product(self, start: int, operand: Tensor, weight: Tensor, rows: Tensor | None) -> Tensor:
        if self._kept is not None and start in self._kept:
            return self._kept[start] if rows is None else self._kept[start][rows]
        if rows is not None and len(rows) > self.rows.operand.shape[0]:
            # Samples more than once: their products are the same.
            return multiply(self.rows.operand, weight.t(), self.dtype)[rows]
        product = multiply(operand, weight.t(), self.dtype)
        if self._kept is not None and rows is None:
            self._kept[start] = product
        return product


def multiply(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrix product, added up and given in float32 at least.

    Args:
        left: ``[N, K]``.
        right: of the same dtype, ``[K, M]``.
        dtype: of the result.
    """
    if left.dtype == dtype:
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=dtype)
    # A CPU rounds the result of a product to the dtype of its operands.
    return left.to(dtype) @ right.to(dtype)
