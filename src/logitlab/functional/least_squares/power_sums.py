"""Sums over the classes at κ = 1, 2, 4, …, 256: one exponential a class, then squares of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..class_chunks import LOG2_E, ClassChunks

#: κ = 1, 2, 4, …, 256: the candidates of TS Eq. (30) reach up to 148.
LEVELS = 9


class PowerSums(NamedTuple):
    r"""Sums over the rest: every class but the masked one and the nearest of the others.

    .. math:: S_p(\kappa) = \sum_{c \in \text{rest}} z_c^p\, e^{\kappa (z_c - m)}, \qquad p = 0, 1, 2

    Attributes:
        sums: float64, ``[3, LEVELS, N]``, at κ = 1, 2, 4, ….
        number: number of classes in the rest: S_0 at κ = 0.
        reference: m, the cosine of the nearest class, float64 ``[N]``.
    """

    sums: Tensor
    number: int
    reference: Tensor


def power_sums(chunks: ClassChunks, nearest: Tensor, reference: Tensor, masked: bool) -> PowerSums:
    """Sum over the rest of the classes.

    The nearest class is left out: where it outweighs all others, what they add up to would be lost beside it.

    Args:
        chunks: the cosines.
        nearest: the nearest class that is not masked, ``[N]``.
        reference: its cosine, ``[N]``.
        masked: whether a class of each sample is masked.
    """
    sums = torch.zeros(3, LEVELS, chunks.num_samples, dtype=reference.dtype, device=reference.device)
    by_level = [part.unbind() for part in sums.unbind(1)]
    shifted = reference.unsqueeze(1)
    for chunk in chunks:
        cosine = chunk.cosine
        power, product = chunks.scratch(cosine.shape), chunks.scratch(cosine.shape, 1)
        torch.sub(cosine, shifted, out=power).mul_(LOG2_E).exp2_()
        _leave_out(power, (nearest - chunk.start).unsqueeze(1))
        for level, (of_power, of_first, of_second) in enumerate(by_level):
            if level:
                power.mul_(power)
            of_power += power.sum(dim=1)
            of_first += torch.mul(power, cosine, out=product).sum(dim=1)
            of_second += product.mul_(cosine).sum(dim=1)
    return PowerSums(sums.double(), chunks.num_classes - 1 - masked, reference.double())


def _leave_out(power: Tensor, column: Tensor) -> None:
    """Put a zero into the column of each row, ``[N, 1]``, where the block has it; no value is looked at."""
    inside = (column >= 0) & (column < power.shape[1])
    column = column.clamp(0, power.shape[1] - 1)
    power.scatter_(1, column, torch.where(inside, 0.0, power.gather(1, column)))
