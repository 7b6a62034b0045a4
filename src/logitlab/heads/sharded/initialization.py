"""The weight of a rank's classes at the start, the same for any number of ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Rows that one generator draws.
BLOCK = 2**13


@torch.no_grad()
def draw_rows(rows: Tensor, start: int, seed: int) -> None:
    """Fill rows of a large matrix as ``nn.Linear`` draws its weight.

    Each block of the whole matrix has a generator of its own, so that a row does not depend on who draws it.

    Args:
        rows: ``[n, D]``, written over.
        start: the first of them in the whole matrix.
        seed: of the whole matrix.

    >>> whole, part = torch.empty(5, 2), torch.empty(2, 2)
    >>> draw_rows(whole, 0, 7)
    >>> draw_rows(part, 3, 7)
    >>> torch.equal(whole[3:], part)
    True
    """
    bound = 1 / math.sqrt(rows.shape[1])
    end = start + len(rows)
    generator = torch.Generator(device=rows.device)
    for block in range(start // BLOCK, -(-end // BLOCK)):
        generator.manual_seed((seed + block) % 2**63)
        first, last = max(start, block * BLOCK), min(end, (block + 1) * BLOCK)
        # The whole block, whatever part of it is wanted: on a GPU a number depends on how many are drawn.
        drawn = torch.empty(BLOCK, rows.shape[1], device=rows.device).uniform_(-bound, bound, generator=generator)
        rows[first - start : last - start] = drawn[first - block * BLOCK : last - block * BLOCK]
