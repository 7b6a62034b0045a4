"""The exact search for few classes: every candidate's energy from the products of the weights with each other.

‖v‖² = aᵀGa with G = W̃W̃ᵀ: with C classes a reconstruction costs C² instead of CD multiplications a sample. All
candidates share one product, laid out class by class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..class_chunks import LOG2_E

#: Up to so many classes all candidates at once are the fastest exact search (docs/performance.md).
GRAM_CLASSES = 128

#: Numbers in a block of softmax weights: what fits in a core's second-level cache.
_BLOCK = 2**18


def gram_matrix(weight: Tensor, inverse_length: Tensor | None = None) -> Tensor:
    """Products of the unit rows with each other, ``[C, C]``.

    Args:
        weight: shape ``[C, D]``.
        inverse_length: 1/‖w_c‖, ``[C]``; None for rows of unit length.
    """
    gram = weight @ weight.t()
    return gram if inverse_length is None else gram.mul_(inverse_length).mul_(inverse_length.unsqueeze(1))


def gram_energies(cosine: Tensor, gram: Tensor, candidates: Tensor) -> Tensor:
    r"""Energy of every candidate.

    .. math:: E_\kappa = \tfrac12 \big(1 - 2 \bar a + a^\top G a\big)

    Args:
        cosine: z, ``[N, C]``.
        gram: G, ``[C, C]``.
        candidates: ``[K]``.

    Returns:
        Shape ``[K, N]``. A feature of length zero counts as one of length one; the best candidate is the same.
    """
    num_samples, num_classes = cosine.shape
    energies = cosine.new_empty(len(candidates), num_samples)
    factor = (candidates * LOG2_E).unsqueeze(1)
    rows = max(_BLOCK // (num_classes * len(candidates)), 8)
    for start in range(0, num_samples, rows):
        here = cosine[start : start + rows].t().contiguous()
        shifted = here - here.amax(dim=0)
        weights = cosine.new_empty(num_classes, len(candidates), here.shape[1])
        torch.mul(shifted.unsqueeze(1), factor, out=weights).exp2_()
        flat = weights.view(num_classes, -1)
        total = flat.sum(dim=0)
        spread = gram @ flat
        square = spread.mul_(flat).sum(dim=0)
        mean = weights.mul_(here.unsqueeze(1)).sum(dim=0)
        total = total.view(len(candidates), -1)
        mean = mean.div_(total)
        square = square.view(len(candidates), -1).div_(total).div_(total)
        energies[:, start : start + rows] = square.sub_(mean, alpha=2).add_(1).mul_(0.5)
    return energies


def search_gram(cosine: Tensor, gram: Tensor, candidates: Tensor) -> Tensor:
    """κ* of each sample; of equal energies the smallest candidate wins. See ``gram_energies``."""
    return candidates[gram_energies(cosine, gram, candidates).argmin(dim=0)]
