"""The elementwise statistics of a block of classes in one pass over it each, on a GPU; float32.

The functions of ``plain_kernels.py``, which says what they compute. A program takes one tile of the block; what the
tiles of a row (of a column, in ``gradient``) add up to is reduced by torch, in a fixed order: the same input gives the
same bits. Nothing is tuned while it runs, no value is looked at, and nothing waits, so that a CUDA graph can hold it;
the first call for a kind of block compiles, which has to happen before a capture.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ...config.errors import InputError
from ..least_squares.power_sums import LEVELS
from .block import Block
from .plain_kernels import ANEW
from .triton_programs import (
    gradient_program,
    largest_program,
    power_sums_program,
    project_program,
    weigh_program,
)

# Sizes for a Hopper GPU (132 multiprocessors, each 64 K registers and about 32 KB on their way from memory at full
# rate), and blocks of 512 samples times 16 K classes, which stay in its second-level cache.
#
# A program of four warps takes 4096 numbers, 32 a thread: eight loads of 16 bytes a thread are on their way before the
# first is used, z and e fit the registers, and a block gives 2048 programs, sixteen a multiprocessor.
_ELEMENTS, _WARPS = 4096, 4
# Where along is read as well, half as many; and with fewer rows more tiles have no row that asks.
_ELEMENTS_OF_PROJECT = 2048
# 27 sums a row: within one warp they need no shared memory and no barrier. Compiled for sm_90 a thread has 128
# registers and 135 shuffles beside some 1,500 operations in float32: smaller tiles would shuffle more.
_ELEMENTS_OF_POWER_SUMS, _WARPS_OF_POWER_SUMS = 1024, 1
# Sums along the columns: 128 columns are one load of a warp; 16 rows at a time, 128 in all, give 512 programs a block.
_ELEMENTS_OF_GRADIENT, _COLUMNS_OF_GRADIENT, _SPAN = 2048, 128, 128

#: A score must be the same number wherever it is computed: contracted with the difference that follows, it would not.
_EXACT = {"num_warps": _WARPS, "enable_fp_fusion": False}
_CONTRACTED = {"num_warps": _WARPS_OF_POWER_SUMS, "enable_fp_fusion": True}


def largest(block: Block, column: Tensor, kappa: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the largest score over the block's classes but the target; with a bias, the largest logit."""
    if block.bias is not None and kappa is None:
        raise InputError("Expected kappa of each sample, because the block has a bias. Got None.")
    product = block.product
    rows, columns, grid = _tiles(product, _ELEMENTS)
    values = product.new_empty(grid[1], len(product))
    indices = column.new_empty(grid[1], len(product))
    with _on_device_of(product):
        largest_program[grid](
            *_factors(block), _vector(column), _vector(kappa, block.row_scale), values, indices,
            *product.shape, *product.stride(),
            has_bias=block.bias is not None, tile_rows=rows, tile_columns=columns, **_EXACT,
        )  # fmt: skip
    if len(values) == 1:
        return values[0], indices[0]
    value, split = values.max(dim=0)
    return value, indices.gather(0, split.unsqueeze(0)).squeeze(0)


def power_sums(block: Block, column: Tensor, nearest: Tensor, reference: Tensor) -> Tensor:
    """Sum z^p e^(2^i (z - m)) over the block's classes but the target and the nearest, ``[3, LEVELS, N]``."""
    product = block.product
    rows, columns, grid = _tiles(product, _ELEMENTS_OF_POWER_SUMS)
    sums = product.new_empty(3, LEVELS, grid[1], len(product))
    with _on_device_of(product):
        # Here products and sums are contracted, a third of the arithmetic less: κ is at most 256, and the nearest
        # class, the one whose difference must be exactly zero, is left out.
        power_sums_program[grid](
            product, _vector(block.row_scale), _vector(block.column_scale),
            _vector(column), _vector(nearest), _vector(reference), sums, *product.shape, *product.stride(),
            levels=LEVELS, anew=ANEW, tile_rows=rows, tile_columns=columns, **_CONTRACTED,
        )  # fmt: skip
    return _add_up(sums, 2)


def weigh(
    block: Block,
    column: Tensor,
    kappa: Tensor,
    reference: Tensor,
    out: Tensor | None = None,
    low: Tensor | None = None,
) -> Tensor:
    """Sum the exponentials of the block's classes but the target, and lay them out as weights of its rows."""
    product = block.product
    rows, columns, grid = _tiles(product, _ELEMENTS)
    totals = product.new_empty(grid[1], len(product))
    high, rest = product if out is None else out, product if low is None else low
    with _on_device_of(product):
        weigh_program[grid](
            *_factors(block), _vector(column), _vector(kappa), _vector(reference), totals, high, rest,
            *product.shape, *product.stride(), *high.stride(), *rest.stride(),
            has_bias=block.bias is not None, has_out=out is not None, has_low=out is not None and low is not None,
            tile_rows=rows, tile_columns=columns, **_EXACT,
        )  # fmt: skip
    return _add_up(totals, 0)


def project(block: Block, along: Tensor, column: Tensor, kappas: Tensor, reference: Tensor) -> Tensor:
    """Sum e, e z and e s u over the block's classes but the target, for several κ of each sample, ``[3, K, N]``."""
    product = block.product
    rows, columns, grid = _tiles(product, _ELEMENTS_OF_PROJECT)
    sums = product.new_zeros(3, len(kappas), grid[1], len(product))
    with _on_device_of(product):
        project_program[grid](
            product, _vector(block.row_scale), _vector(block.column_scale), along,
            _vector(column), _vector(kappas), _vector(reference), sums,
            *product.shape, *product.stride(), *along.stride(),
            slots=len(kappas), tile_rows=rows, tile_columns=columns, **_EXACT,
        )  # fmt: skip
    return _add_up(sums, 2)


def gradient(
    block: Block, column: Tensor, kappa: Tensor, reference: Tensor, scale: Tensor, own: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Lay out the gradient of the product, and sum what the lengths of the weight and the bias ask for."""
    product = block.product
    num_samples, num_classes = product.shape
    columns = _COLUMNS_OF_GRADIENT if _by_rows(product) else _ELEMENTS_OF_GRADIENT // _COLUMNS_OF_GRADIENT
    rows = _ELEMENTS_OF_GRADIENT // columns
    span = max(rows, min(_SPAN, _power_of_two(num_samples)))
    grid = (-(-num_classes // columns), -(-num_samples // span))
    alongs = product.new_empty(grid[1], num_classes)
    shares = torch.empty_like(alongs) if block.bias is not None else alongs
    with _on_device_of(product):
        gradient_program[grid](
            *_factors(block), _vector(column), _vector(kappa), _vector(reference), _vector(scale), _vector(own),
            out, alongs, shares, *product.shape, *product.stride(), *out.stride(),
            has_bias=block.bias is not None,
            tile_rows=rows, tile_columns=columns, span=span, **_EXACT,
        )  # fmt: skip
    return _add_up(alongs, 0), product.new_empty(0) if block.bias is None else _add_up(shares, 0)


def _tiles(matrix: Tensor, elements: int) -> tuple[int, int, tuple[int, int]]:
    """Rows and columns of a tile, powers of two, and the grid: tiles of rows, tiles of columns."""
    num_samples, num_classes = matrix.shape
    columns = min(1024, max(128, _power_of_two(num_classes))) if _by_rows(matrix) else 64
    rows = elements // columns
    return rows, columns, (-(-num_samples // rows), -(-num_classes // columns))


def _power_of_two(number: int) -> int:
    """The least power of two that is not below it."""
    return 1 << (number - 1).bit_length()


def _by_rows(matrix: Tensor) -> bool:
    """Whether neighbours in memory are neighbours in a row; otherwise tiles are higher."""
    return not (matrix.stride(0) == 1 and matrix.stride(1) != 1)


def _factors(block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a score is made of; where there is no bias anything takes its place, and is not read."""
    column_scale = _vector(block.column_scale)
    return block.product, _vector(block.row_scale), column_scale, _vector(block.bias, column_scale)


def _on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device the current one, where Triton launches; a CPU, the interpreter's, is left alone."""
    context: AbstractContextManager[object] = torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call,unused-ignore]
    return context


def _vector(vector: Tensor | None, instead: Tensor | None = None) -> Tensor:
    """A vector whose numbers lie side by side, as the programs take it."""
    chosen = instead if vector is None else vector
    assert chosen is not None
    return chosen.contiguous()


def _add_up(partial: Tensor, dim: int) -> Tensor:
    return partial.squeeze(dim) if partial.shape[dim] == 1 else partial.sum(dim=dim)
