# mypy: ignore-errors
# What stands here is Triton's language in Python's syntax: its own compiler types it, mypy cannot.
"""The programs of ``triton_kernels.py``: what one tile of a block does on a GPU.

Only what Triton has had for long is used. Masks decide by ``where`` after the arithmetic: nothing is added to a score
to hide it, and a score of another class that is not finite comes through.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1 / math.log(2))
_NONE = tl.constexpr(2**31 - 1)


@triton.jit
def _scores(
    product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
):  # fmt: skip
    """Scores of a tile, zero outside the block: the row's factor first, then the column's, as everywhere."""
    row_inside = rows < num_rows
    column_inside = columns < num_columns
    # A product of two int32 strides may pass 2^31.
    place = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    value = tl.load(product + place, mask=row_inside[:, None] & column_inside[None, :], other=0.0)
    by_row = tl.load(row_scale + rows, mask=row_inside, other=0.0)
    by_column = tl.load(column_scale + columns, mask=column_inside, other=0.0)
    return (value * by_row[:, None]) * by_column[None, :]


@triton.jit
def _column_of(column, rows, num_rows, num_columns):
    """A column as int32, which costs half of int64 to compare with; -1 where it is not in the block."""
    value = tl.load(column + rows, mask=rows < num_rows, other=-1)
    return tl.where((value >= 0) & (value < num_columns), value, -1).to(tl.int32)


@triton.jit
def _exponents(scores, bias, kappa, reference, columns, num_columns, has_bias: tl.constexpr):
    """Exponents to the base 2 of κ(z - m), with a bias of κz + b - m."""
    if has_bias:
        shift = tl.load(bias + columns, mask=columns < num_columns, other=0.0)
        result = ((scores * kappa[:, None] + shift[None, :]) - reference[:, None]) * _LOG2_E
    else:
        result = (scores - reference[:, None]) * (kappa * _LOG2_E)[:, None]
    return result


@triton.jit
def largest_program(
    product, row_scale, column_scale, bias, column, kappa, values, indices,
    num_rows, num_columns, row_stride, column_stride,
    has_bias: tl.constexpr, tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """The largest score of a tile and its first column, for each row; values and indices are ``[splits, N]``."""
    rows = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    columns = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
    scores = _scores(
        product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
    )  # fmt: skip
    row_inside = rows < num_rows
    if has_bias:
        factor = tl.load(kappa + rows, mask=row_inside, other=0.0)
        scores = scores * factor[:, None] + tl.load(bias + columns, mask=columns < num_columns, other=0.0)[None, :]
    target = _column_of(column, rows, num_rows, num_columns)
    counted = (columns < num_columns)[None, :] & (columns[None, :] != target[:, None])
    scores = tl.where(counted, scores, -float("inf"))
    # max drops NaN, which must win.
    strange = (scores != scores).to(tl.int32)
    any_strange = tl.max(strange, axis=1)
    top = tl.max(tl.where(strange > 0, float("inf"), scores), axis=1)
    hit = tl.where(any_strange[:, None] > 0, strange, (scores == top[:, None]).to(tl.int32))
    index = tl.min(tl.where(hit > 0, columns[None, :], _NONE), axis=1)
    place = tl.program_id(1).to(tl.int64) * num_rows + rows
    tl.store(values + place, tl.where(any_strange > 0, float("nan"), top), mask=row_inside)
    tl.store(indices + place, index.to(tl.int64), mask=row_inside)


@triton.jit
def power_sums_program(
    product, row_scale, column_scale, column, nearest, reference, sums,
    num_rows, num_columns, row_stride, column_stride,
    levels: tl.constexpr, anew: tl.constexpr, tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """Sums of a tile at all levels; sums are ``[3, levels, splits, N]``."""
    rows = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    columns = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
    scores = _scores(
        product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
    )  # fmt: skip
    row_inside = rows < num_rows
    shift = tl.load(reference + rows, mask=row_inside, other=0.0)
    target = _column_of(column, rows, num_rows, num_columns)
    second = _column_of(nearest, rows, num_rows, num_columns)
    counted = (columns < num_columns)[None, :] & (columns[None, :] != target[:, None])
    counted = counted & (columns[None, :] != second[:, None])
    power = tl.where(counted, tl.exp2((scores - shift[:, None]) * _LOG2_E), 0.0)
    scores = tl.where(counted, scores, 0.0)
    squared = scores * scores
    step = tl.num_programs(1).to(tl.int64) * num_rows
    place = sums + tl.program_id(1).to(tl.int64) * num_rows + rows
    for level in tl.static_range(levels):
        if level == anew:
            # What is left out has stayed zero; what has vanished at a smaller κ stays so as well.
            afresh = tl.exp2((scores - shift[:, None]) * (_LOG2_E * 2**anew))
            power = tl.where(power == 0.0, 0.0, afresh)
        tl.store(place + level * step, tl.sum(power, axis=1), mask=row_inside)
        tl.store(place + (levels + level) * step, tl.sum(power * scores, axis=1), mask=row_inside)
        tl.store(place + (2 * levels + level) * step, tl.sum(power * squared, axis=1), mask=row_inside)
        power = power * power


@triton.jit
def weigh_program(
    product, row_scale, column_scale, bias, column, kappa, reference, totals, out, low,
    num_rows, num_columns, row_stride, column_stride,
    out_row_stride, out_column_stride, low_row_stride, low_column_stride,
    has_bias: tl.constexpr, has_out: tl.constexpr, has_low: tl.constexpr,
    tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """Exponentials of a tile, laid out and summed; totals are ``[splits, N]``."""
    rows = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    columns = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
    scores = _scores(
        product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
    )  # fmt: skip
    row_inside = rows < num_rows
    column_inside = columns < num_columns
    factor = tl.load(kappa + rows, mask=row_inside, other=0.0)
    shift = tl.load(reference + rows, mask=row_inside, other=0.0)
    target = _column_of(column, rows, num_rows, num_columns)
    counted = column_inside[None, :] & (columns[None, :] != target[:, None])
    exponents = _exponents(scores, bias, factor, shift, columns, num_columns, has_bias)
    power = tl.where(counted, tl.exp2(exponents), 0.0)
    tl.store(totals + tl.program_id(1).to(tl.int64) * num_rows + rows, tl.sum(power, axis=1), mask=row_inside)
    if has_out:
        inside = row_inside[:, None] & column_inside[None, :]
        far_rows, far_columns = rows.to(tl.int64)[:, None], columns.to(tl.int64)[None, :]
        weighed = power * tl.load(column_scale + columns, mask=column_inside, other=0.0)[None, :]
        rounded = weighed.to(out.dtype.element_ty)
        tl.store(out + far_rows * out_row_stride + far_columns * out_column_stride, rounded, mask=inside)
        if has_low:
            rest = (weighed - rounded.to(tl.float32)).to(low.dtype.element_ty)
            tl.store(low + far_rows * low_row_stride + far_columns * low_column_stride, rest, mask=inside)


@triton.jit
def project_program(
    product, row_scale, column_scale, along, column, kappas, reference, sums,
    num_rows, num_columns, row_stride, column_stride, along_row_stride, along_column_stride,
    slots: tl.constexpr, tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """Sums of a tile at the κ of each slot that is used; sums are ``[3, slots, splits, N]``, zeros at first."""
    rows = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    row_inside = rows < num_rows
    used = 0
    for slot in tl.static_range(slots):
        kappa = tl.load(kappas + slot * num_rows + rows, mask=row_inside, other=0.0)
        used += tl.max((kappa != 0.0).to(tl.int32), axis=0)
    # Most rows are decided without: their tiles are not even read.
    if used > 0:
        columns = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
        column_inside = columns < num_columns
        scores = _scores(
            product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
        )  # fmt: skip
        shift = tl.load(reference + rows, mask=row_inside, other=0.0)
        target = _column_of(column, rows, num_rows, num_columns)
        counted = column_inside[None, :] & (columns[None, :] != target[:, None])
        far = rows.to(tl.int64)[:, None] * along_row_stride + columns.to(tl.int64)[None, :] * along_column_stride
        scaled = tl.load(along + far, mask=row_inside[:, None] & column_inside[None, :], other=0.0)
        scaled = scaled * tl.load(column_scale + columns, mask=column_inside, other=0.0)[None, :]
        scaled = tl.where(counted, scaled, 0.0)
        difference = scores - shift[:, None]
        scores = tl.where(counted, scores, 0.0)
        step = tl.num_programs(1).to(tl.int64) * num_rows
        place = sums + tl.program_id(1).to(tl.int64) * num_rows + rows
        for slot in tl.static_range(slots):
            kappa = tl.load(kappas + slot * num_rows + rows, mask=row_inside, other=0.0)
            if tl.max((kappa != 0.0).to(tl.int32), axis=0) > 0:
                power = tl.where(counted, tl.exp2(difference * (kappa * _LOG2_E)[:, None]), 0.0)
                asked = row_inside & (kappa != 0.0)
                tl.store(place + slot * step, tl.sum(power, axis=1), mask=asked)
                tl.store(place + (slots + slot) * step, tl.sum(power * scores, axis=1), mask=asked)
                tl.store(place + (2 * slots + slot) * step, tl.sum(power * scaled, axis=1), mask=asked)


@triton.jit
def gradient_program(
    product, row_scale, column_scale, bias, column, kappa, reference, scale, own, out, alongs, shares,
    num_rows, num_columns, row_stride, column_stride, out_row_stride, out_column_stride,
    has_bias: tl.constexpr, tile_rows: tl.constexpr, tile_columns: tl.constexpr, span: tl.constexpr,
):  # fmt: skip
    """The gradient of a tile of columns along ``span`` rows, laid out and summed; alongs and shares ``[splits, b]``."""
    columns = tl.program_id(0) * tile_columns + tl.arange(0, tile_columns)
    column_inside = columns < num_columns
    by_column = tl.load(column_scale + columns, mask=column_inside, other=0.0)
    far_columns = columns.to(tl.int64)[None, :]
    # Sums stay with their threads until the end.
    along = tl.zeros((tile_rows, tile_columns), dtype=tl.float32)
    share = tl.zeros((tile_rows, tile_columns), dtype=tl.float32)
    # Between constants: the interpreter takes no others in every version.
    for start in range(0, span, tile_rows):
        rows = tl.program_id(1) * span + start + tl.arange(0, tile_rows)
        row_inside = rows < num_rows
        inside = row_inside[:, None] & column_inside[None, :]
        scores = _scores(
            product, row_scale, column_scale, rows, columns, num_rows, num_columns, row_stride, column_stride
        )  # fmt: skip
        factor = tl.load(kappa + rows, mask=row_inside, other=1.0)
        shift = tl.load(reference + rows, mask=row_inside, other=0.0)
        from_above = tl.load(scale + rows, mask=row_inside, other=0.0)
        of_target = tl.load(own + rows, mask=row_inside, other=0.0)
        by_row = tl.load(row_scale + rows, mask=row_inside, other=0.0)
        is_target = columns[None, :] == _column_of(column, rows, num_rows, num_columns)[:, None]
        power = tl.exp2(_exponents(scores, bias, factor, shift, columns, num_columns, has_bias))
        power = tl.where(inside, power, 0.0)
        rises = tl.where(is_target, of_target[:, None], power * from_above[:, None])
        along += tl.where(inside, rises * scores, 0.0)
        if has_bias:
            share += tl.where(is_target, 0.0, power * (from_above / factor)[:, None])
        result = (rises * by_column[None, :]) * by_row[:, None]
        far = rows.to(tl.int64)[:, None] * out_row_stride + far_columns * out_column_stride
        tl.store(out + far, result.to(out.dtype.element_ty), mask=inside)
    place = tl.program_id(1).to(tl.int64) * num_columns + columns
    tl.store(alongs + place, tl.sum(along, axis=0), mask=column_inside)
    if has_bias:
        tl.store(shares + place, tl.sum(share, axis=0), mask=column_inside)
