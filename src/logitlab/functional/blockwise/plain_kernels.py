"""The elementwise statistics of a block of classes, in torch alone: any device, float32 and float64.

This is the readable version; ``triton_kernels.py`` computes the same in one pass over the block. No value is looked at
on the way, so that nothing waits for the device and a CUDA graph can hold the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...config.errors import InputError
from ..class_chunks import LOG2_E
from ..least_squares.power_sums import LEVELS
from .block import Block

#: Columns of a tile in ``largest``: the index is looked for in one tile of each row.
_TILE = 64

#: The level of ``power_sums`` at which the exponential is taken again: a square doubles the relative error of a number,
#: and eight of them in a row would leave 256 times the error of an exponential, 16 are left so.
ANEW = 4


def largest(block: Block, column: Tensor, kappa: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the largest score over the block's classes but the target; with a bias, the largest logit κz + b.

    Args:
        block: N samples against b classes.
        column: of each sample's target, int64 ``[N]``; outside [0, b) where the target is not here.
        kappa: κ of each sample, ``[N]``; asked for with a bias only.

    Returns:
        The value, ``[N]``, -inf where there is no other class, NaN where one of them is; and its column, int64 ``[N]``,
        the first of equal ones, 0 where the value is -inf.
    """
    num_samples, num_classes = block.product.shape
    padded = block.product.new_full((num_samples, -(-num_classes // _TILE), _TILE), -torch.inf)
    scores = _scores(block, out=padded.view(num_samples, -1)[:, :num_classes])
    if block.bias is not None:
        scores.mul_(_given(kappa).unsqueeze(1)).add_(block.bias)
    _put(scores, column, -torch.inf)
    # On a CPU amax is vectorised; argmax is not and takes twenty times as long, so that it sees a tile a row.
    tile = padded.amax(dim=2).argmax(dim=1)
    inside = padded.take_along_dim(tile.view(-1, 1, 1), dim=1).squeeze(1)
    value, index = inside.max(dim=1)
    return value, tile * _TILE + index


def power_sums(block: Block, column: Tensor, nearest: Tensor, reference: Tensor) -> Tensor:
    r"""Sum over the block's classes but the target and the nearest.

    .. math:: \sum_c z_c^p\, e^{2^i (z_c - m)}, \qquad p = 0, 1, 2, \quad i = 0, \dots, \text{LEVELS} - 1

    Two exponentials a class, at κ = 1 and 16, and squares of them.

    Args:
        block: N samples against b classes; its bias is not asked.
        column: of each sample's target, int64 ``[N]``; outside [0, b) where the target is not here.
        nearest: another column to leave out, likewise.
        reference: m, about the largest score over all blocks, ``[N]``.

    Returns:
        ``[3, LEVELS, N]``.
    """
    scores = _scores(block)
    power = torch.sub(scores, reference.unsqueeze(1)).mul_(LOG2_E).exp2_()
    for left_out in (column, nearest):
        _put(power, left_out, 0.0)
        _put(scores, left_out, 0.0)
    product = torch.empty_like(scores)
    sums = scores.new_empty(3, LEVELS, len(scores))
    for level in range(LEVELS):
        if level == ANEW:
            torch.sub(scores, reference.unsqueeze(1), out=power).mul_(LOG2_E * 2**level).exp2_()
            for left_out in (column, nearest):
                _put(power, left_out, 0.0)
        elif level:
            power.mul_(power)
        sums[0, level] = power.sum(dim=1)
        sums[1, level] = torch.mul(power, scores, out=product).sum(dim=1)
        sums[2, level] = product.mul_(scores).sum(dim=1)
    return sums


def weigh(
    block: Block,
    column: Tensor,
    kappa: Tensor,
    reference: Tensor,
    out: Tensor | None = None,
    low: Tensor | None = None,
) -> Tensor:
    r"""Sum the exponentials of the block's classes but the target, and lay them out as weights of its rows.

    .. math:: e_c = e^{\kappa (z_c - m)}, \qquad \text{with a bias} \quad e_c = e^{\kappa z_c + b_c - m}

    Args:
        block: N samples against b classes.
        column: of each sample's target, int64 ``[N]``; outside [0, b) where the target is not here.
        kappa: κ, ``[N]``.
        reference: m, finite, at least about the largest score (with a bias: logit), ``[N]``.
        out: takes s_c e_c, zero for the target, ``[N, b]``, in its own dtype; may be the product's own memory.
        low: takes what rounding to ``out`` has lost, ``[N, b]``: two bfloat16 together hold 16 bits.

    Returns:
        Σ e_c, ``[N]``; of the exponentials before they were rounded.
    """
    # Fresh memory costs more than the arithmetic: where ``out`` can hold the exponentials themselves, it does.
    scores = _scores(block, out if out is not None and out.dtype == block.product.dtype else None)
    power = _powers(block, scores, column, kappa, reference, out=scores)
    total = power.sum(dim=1)
    if out is not None:
        power.mul_(block.column_scale)
        if power is not out:
            out.copy_(power)
        if low is not None:
            low.copy_(power - out)
    return total


def project(block: Block, along: Tensor, column: Tensor, kappas: Tensor, reference: Tensor) -> Tensor:
    r"""Sum over the block's classes but the target, for several κ of each sample.

    .. math:: \sum_c e_c, \qquad \sum_c e_c z_c, \qquad \sum_c e_c s_c u_c, \qquad e_c = e^{\kappa (z_c - m)}

    Args:
        block: N samples against b classes; its bias is not asked.
        along: u, a direction of each sample times the rows of the weight, ``[N, b]``, any strides.
        column: of each sample's target, int64 ``[N]``; outside [0, b) where the target is not here.
        kappas: ``[K, N]``; a zero marks a slot that is not used: its three sums are zero.
        reference: m, ``[N]``.

    Returns:
        ``[3, K, N]``.
    """
    scores = _scores(block)
    along = torch.mul(along, block.column_scale)
    difference = torch.sub(scores, reference.unsqueeze(1))
    for matrix in (scores, along):
        _put(matrix, column, 0.0)
    power, product = torch.empty_like(scores), torch.empty_like(scores)
    sums = scores.new_empty(3, *kappas.shape)
    for slot, kappa in enumerate(kappas.unbind()):
        torch.mul(difference, (kappa * LOG2_E).unsqueeze(1), out=power).exp2_()
        _put(power, column, 0.0)
        sums[0, slot] = power.sum(dim=1)
        sums[1, slot] = torch.mul(power, scores, out=product).sum(dim=1)
        sums[2, slot] = torch.mul(power, along, out=product).sum(dim=1)
    return torch.where(kappas == 0, 0.0, sums)


def gradient(
    block: Block, column: Tensor, kappa: Tensor, reference: Tensor, scale: Tensor, own: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Lay out the gradient of the product, and sum what the lengths of the weight and the bias ask for.

    .. math:: d_c = g\, e_c \ (c \ne y), \qquad d_y = \text{own}

    Args:
        block: N samples against b classes.
        column: of each sample's target, int64 ``[N]``; outside [0, b) where the target is not here.
        kappa: κ, positive, ``[N]``.
        reference: m as in ``weigh``, ``[N]``.
        scale: g, what comes from above times κ/Σ e, ``[N]``.
        own: gradient of the target's score, ``[N]``.
        out: takes r s_c d_c, the gradient of P, ``[N, b]``, in its own dtype; may be the product's own memory.

    Returns:
        Σ d_c z_c over the samples, ``[b]``; and with a bias Σ g e_c/κ over them, without the targets' own, ``[b]``,
        otherwise an empty tensor.
    """
    scores = _scores(block)
    power = _powers(block, scores, column, kappa, reference)
    share = power.new_empty(0)
    if block.bias is not None:
        share = (scale / kappa) @ power
    power.mul_(scale.unsqueeze(1))
    _put(power, column, own)
    along = scores.mul_(power).sum(dim=0)
    out.copy_(power.mul_(block.column_scale).mul_(block.row_scale.unsqueeze(1)))
    return along, share


def _scores(block: Block, out: Tensor | None = None) -> Tensor:
    """Compute z in ``out`` or in new memory, ``[N, b]``."""
    return torch.mul(block.product, block.row_scale.unsqueeze(1), out=out).mul_(block.column_scale)


def _powers(
    block: Block, scores: Tensor, column: Tensor, kappa: Tensor, reference: Tensor, out: Tensor | None = None
) -> Tensor:
    """Compute e in ``out`` or in new memory, ``[N, b]``, zero for the target; the difference before any factor."""
    if block.bias is None:
        power = torch.sub(scores, reference.unsqueeze(1), out=out).mul_((kappa * LOG2_E).unsqueeze(1))
    else:
        power = torch.mul(scores, kappa.unsqueeze(1), out=out).add_(block.bias).sub_(reference.unsqueeze(1))
        power.mul_(LOG2_E)
    return _put(power.exp2_(), column, 0.0)


def _put(matrix: Tensor, column: Tensor, value: Tensor | float) -> Tensor:
    """Put a value into a column of each row, where it lies inside, in place; no value is looked at."""
    inside = ((column >= 0) & (column < matrix.shape[1])).unsqueeze(1)
    place = column.clamp(0, matrix.shape[1] - 1).unsqueeze(1)
    put = value.unsqueeze(1) if isinstance(value, Tensor) else value
    return matrix.scatter_(1, place, torch.where(inside, put, matrix.gather(1, place)))


def _given(kappa: Tensor | None) -> Tensor:
    if kappa is None:
        raise InputError("Expected kappa of each sample, because the block has a bias. Got None.")
    return kappa
