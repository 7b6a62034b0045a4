r"""The exact search for few classes, by the products of their weights with each other.

With G = W̃W̃ᵀ a reconstruction v = W̃ᵀa has ‖v‖² = aᵀGa: C² multiplications a sample instead of CD. The exponentials
of all candidates are then what costs, so that all of them are at hand, laid out class by class. Up to 32 classes the
energies of all candidates are too. Above, the steps are those of the certified search (``certified``), where the
product with G gives reconstruction and certificate at once: W̃v_⊥ = Ga - āz.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..class_chunks import LOG2_E
from .certified import TOLERANCE

#: Up to so many classes this is the fastest exact search; above, G itself costs more than a reconstruction.
GRAM_CLASSES = 256

#: Up to so many classes the energies of all candidates cost no more than a bound.
EXHAUSTIVE_CLASSES = 32

# Numbers in a block of exponentials: what fits in a core's second-level cache beside a copy.
_BLOCK = 2**19

# ‖v_⊥‖² is a difference; so much may be lost in it.
_ROOM = 1e-6


class GramFound(NamedTuple):
    """What the search has found.

    Attributes:
        candidate: index of κ* among the candidates, int64 ``[N]``.
        certified: whether one reconstruction was enough, or all were computed, bool ``[N]``.
    """

    candidate: Tensor
    certified: Tensor


def gram_matrix(weight: Tensor, inverse_length: Tensor | None = None) -> Tensor:
    """Products of the unit rows with each other, ``[C, C]``.

    Args:
        weight: shape ``[C, D]``.
        inverse_length: 1/‖w_c‖, ``[C]``; None for rows of unit length.
    """
    gram = weight @ weight.t()
    return gram if inverse_length is None else gram.mul_(inverse_length).mul_(inverse_length.unsqueeze(1))


def search_gram(cosine: Tensor, gram: Tensor, candidates: Tensor) -> GramFound:
    """Find κ* of each sample: a candidate whose energy is the least but for ``TOLERANCE`` and rounding.

    Args:
        cosine: z, ``[N, C]``.
        gram: G, ``[C, C]``.
        candidates: positive, increasing, ``[K]``.

    Returns:
        A feature of length zero counts as one of length one; the best candidate is the same.
    """
    num_classes = cosine.shape[1]
    one = _exhaustive if num_classes <= EXHAUSTIVE_CLASSES else _certified
    rows = max(_BLOCK // (num_classes * len(candidates)), 8)
    parts = [one(block.t().contiguous(), gram, candidates) for block in torch.split(cosine, rows)]
    if len(parts) == 1:
        return parts[0]
    return GramFound(*(torch.cat(each) for each in zip(*parts)))


class _Weights:
    """Softmax weights of one block of samples at all candidates.

    Attributes:
        cosine: ``[C, n]``.
        power: exponentials, unnormalised, ``[C, K, n]``.
        total: their sums, ``[K, n]``.
        mean: ā, ``[K, n]``.
        largest: the largest cosine, ``[n]``.
    """

    def __init__(self, cosine: Tensor, candidates: Tensor) -> None:
        self.cosine = cosine
        self.largest = cosine.amax(dim=0)
        shape = (cosine.shape[0], len(candidates), cosine.shape[1])
        self.power = cosine.new_empty(shape)
        torch.mul((cosine - self.largest).unsqueeze(1), (candidates * LOG2_E).unsqueeze(1), out=self.power).exp2_()
        self._product = torch.empty_like(self.power)
        self.total = self.power.sum(dim=0)
        self.mean = self.average(cosine)

    def average(self, values: Tensor) -> Tensor:
        """Σ_c a_c of values ``[C, n]`` at each candidate, ``[K, n]``."""
        return torch.mul(self.power, values.unsqueeze(1), out=self._product).sum(dim=0).div_(self.total)

    def average_square(self, values: Tensor) -> Tensor:
        """Σ_c a_c² of values ``[C, n]``."""
        squared = torch.mul(self.power, self.power, out=self._product).mul_(values.unsqueeze(1))
        return squared.sum(dim=0).div_(self.total).div_(self.total)

    def at(self, candidate: Tensor) -> Tensor:
        """Weights of each sample at one candidate of its own ``[n]``: ``[C, n]``."""
        index = candidate.unsqueeze(0)
        chosen = self.power.gather(1, index.expand(self.power.shape[0], 1, -1)).squeeze(1)
        return chosen.div_(self.total.gather(0, index))


def _exhaustive(cosine: Tensor, gram: Tensor, candidates: Tensor) -> GramFound:
    r"""By the energies of all candidates, :math:`\tfrac12 (1 - 2\bar a + a^\top G a)`; of equal ones the first."""
    weights = _Weights(cosine, candidates)
    flat = weights.power.view(cosine.shape[0], -1)
    square = (gram @ flat).mul_(flat).sum(dim=0).view(weights.total.shape).div_(weights.total).div_(weights.total)
    # Constants do not move the least.
    candidate = square.sub_(weights.mean, alpha=2).t().contiguous().argmin(dim=1)
    return GramFound(candidate, torch.ones_like(candidate, dtype=torch.bool))


def _certified(cosine: Tensor, gram: Tensor, candidates: Tensor) -> GramFound:
    weights = _Weights(cosine, candidates)
    along = (1 - weights.mean).clamp_min_(0).square_()
    # Twice the surrogate energy proposes, twice the true one of the proposal is what others must beat.
    surrogate = weights.average_square(1 - cosine.square()).add_(along)
    candidate = surrogate.t().contiguous().argmin(dim=1)
    own = candidate.unsqueeze(0)
    share = weights.at(candidate)
    image = gram @ share
    mean = weights.mean.gather(0, own).squeeze(0)
    square = (share * image).sum(dim=0)
    lowest = 1 - 2 * mean + square
    across = (square - mean.square()).clamp_min_(0)
    projection = weights.average(image.sub_(cosine * mean)).square_().div_(across + _ROOM)
    nearest = weights.total.reciprocal()
    # A cosine of exactly zero may be that of a zero row, which has no part across the feature.
    sine = torch.where(weights.largest == 0, 0.0, (1 - weights.largest.square()).clamp_min_(0).sqrt_())
    triangle = torch.addcmul(nearest - 1, nearest, sine).clamp_min_(0).square_()
    bound = torch.maximum(projection, triangle).add_(along)
    undecided = bound < lowest - 2 * TOLERANCE
    undecided.scatter_(0, own, False)
    certified = ~undecided.any(dim=0)
    trial, sample = undecided.nonzero(as_tuple=True)
    if len(trial):
        shares = weights.power[:, trial, sample]
        total = weights.total[trial, sample]
        square = (gram @ shares).mul_(shares).sum(dim=0).div_(total).div_(total)
        energy = torch.full_like(weights.total, torch.inf)
        energy[trial, sample] = square + 1 - 2 * weights.mean[trial, sample]
        energy.scatter_(0, own, lowest.unsqueeze(0))
        candidate = energy.t().contiguous().argmin(dim=1)
    return GramFound(candidate, certified)
