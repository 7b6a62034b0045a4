r"""The exact search for κ* with one reconstruction and one more product, instead of twenty reconstructions.

1. A surrogate without a product proposes a candidate κ_0 (``surrogate``).
2. One reconstruction v gives its energy. It is also the gradient of the feature, so that a training step has it anyway.
3. Bounds from sums that are at hand rule out most candidates (``bounds``).
4. Let b = v_⊥/‖v_⊥‖ be the direction across the feature in which the reconstruction misses it, and u = W̃b. Since
   the length of a vector is at least that of its projection,

   .. math:: E_\kappa \ge \tfrac12 \big[(1 - \bar a)^2 + (\textstyle\sum_c a_c u_c)^2\big]
       \quad \text{for every } \kappa,

   with equality at κ_0. One product gives u for the samples that are still undecided.
5. What is undecided after that is reconstructed: few samples of many classes, most of ten classes in three dimensions
   (``benchmarks/search_regret.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..class_chunks import LOG2_E, ClassChunks
from .bounds import energy_bound
from .power_sums import power_sums
from .surrogate import Surrogate

#: Candidates whose bound is no further below the least energy than this count as ruled out: far above the rounding of
#: a float32 energy, far below what a candidate is worth.
TOLERANCE = 5e-7


class Masked(NamedTuple):
    """A class of each sample whose cosine is masked among the others: the target, which a loss takes by itself.

    Attributes:
        cosine: its cosine, ``[N]``.
        unit_weight: its row of the weight, of unit length, ``[N, D]``.
    """

    cosine: Tensor
    unit_weight: Tensor


class Found(NamedTuple):
    """κ* and what a training step goes on with.

    Attributes:
        candidate: index of κ* among the candidates, int64 ``[N]``.
        total: S at κ* over the classes that are not masked, relative to ``reference``, ``[N]``.
        combination: V at κ*, likewise, ``[N, D]``; see ``ClassChunks.weigh``.
        reference: the largest cosine that is not masked, ``[N]``.
        certified: whether one reconstruction was enough, bool ``[N]``.
        products: how many products of all samples with all classes it took beside the cosines: reconstructed samples
            and samples multiplied with b, over N.
    """

    candidate: Tensor
    total: Tensor
    combination: Tensor
    reference: Tensor
    certified: Tensor
    products: float


def search_certified(chunks: ClassChunks, unit_features: Tensor, candidates: Tensor, masked: Masked | None) -> Found:
    """Find κ* of each sample: a candidate whose energy is the least but for ``TOLERANCE`` and rounding.

    Args:
        chunks: cosines of all classes; masked ones hold ``class_chunks.MASKED``.
        unit_features: rows of unit length, ``[N, D]``.
        candidates: positive, increasing, of the dtype of the cosines, ``[K]``.
        masked: the class of each sample that the cosines leave out; None for none.
    """
    reference, nearest = chunks.largest()
    sums = power_sums(chunks, nearest, reference, masked is not None)
    alone = _alone(reference, masked)
    index = Surrogate(sums, alone).energy(candidates).argmin(dim=1)
    kappa = candidates[index]
    total, combination = chunks.weigh(kappa, reference)
    rebuilt = _rebuild(kappa, reference, total, combination, masked, None)
    lowest = _energy(unit_features, rebuilt)
    bound = energy_bound(sums, alone, candidates).to(lowest.dtype)
    undecided = bound < (lowest - TOLERANCE).unsqueeze(1)
    undecided.scatter_(1, index.unsqueeze(1), False)
    rows = undecided.any(dim=1).nonzero().squeeze(1)
    products = 1.0
    if len(rows):
        across = _direction_across(rebuilt[rows], unit_features[rows])
        projected = _projection_bound(chunks, candidates, reference, masked, across, rows, undecided)
        bound = torch.maximum(bound, projected)
        undecided &= bound < (lowest - TOLERANCE).unsqueeze(1)
        products += len(rows) / len(index)
    certified = ~undecided.any(dim=1)
    while True:
        rows = undecided.any(dim=1).nonzero().squeeze(1)
        if not len(rows):
            break
        # The most promising candidate first: it may rule out the others.
        trial = torch.where(undecided[rows], bound[rows], torch.inf).argmin(dim=1)
        undecided[rows, trial] = False
        kappa = candidates[trial]
        here_total, here = chunks.weigh(kappa, reference[rows], rows)
        energy = _energy(unit_features[rows], _rebuild(kappa, reference, here_total, here, masked, rows))
        products += len(rows) / len(index)
        better = energy < lowest[rows]
        won = rows[better]
        lowest[won], index[won] = energy[better], trial[better]
        total[won], combination[won] = here_total[better], here[better]
        undecided[rows] &= bound[rows] < (lowest[rows] - TOLERANCE).unsqueeze(1)
    return Found(index, total, combination, reference, certified, products)


def propose(chunks: ClassChunks, candidates: Tensor, masked: Masked | None) -> tuple[Tensor, Tensor]:
    """The κ of the least surrogate energy, refined between the candidates; no product, and no certificate.

    Args:
        chunks: as for ``search_certified``.
        candidates: positive, increasing, ``[K]``.
        masked: as for ``search_certified``.

    Returns:
        κ in float64 and the largest cosine that is not masked, each ``[N]``.
    """
    reference, nearest = chunks.largest()
    sums = power_sums(chunks, nearest, reference, masked is not None)
    return Surrogate(sums, _alone(reference, masked)).minimum(candidates), reference


def _alone(reference: Tensor, masked: Masked | None) -> Tensor:
    cosines = [reference] if masked is None else [reference, masked.cosine]
    return torch.stack(cosines, dim=1).double()


def _rebuild(
    kappa: Tensor, reference: Tensor, total: Tensor, combination: Tensor, masked: Masked | None, rows: Tensor | None
) -> Tensor:
    """The reconstruction Σ a_c w̃_c over all classes, the masked one too."""
    mean = combination / total.unsqueeze(1)
    if masked is None:
        return mean
    share = _share_of_masked(kappa, reference, total, masked.cosine, rows).unsqueeze(1)
    unit_weight = masked.unit_weight if rows is None else masked.unit_weight[rows]
    return torch.lerp(mean, unit_weight, share)


def _share_of_masked(kappa: Tensor, reference: Tensor, total: Tensor, cosine: Tensor, rows: Tensor | None) -> Tensor:
    """The weight of the masked class in the softmax; as a sigmoid, since its exponential may overflow."""
    if rows is not None:
        reference, cosine = reference[rows], cosine[rows]
    return torch.sigmoid(kappa * (cosine - reference) - total.log())


def _energy(unit_features: Tensor, rebuilt: Tensor) -> Tensor:
    difference = unit_features - rebuilt
    return difference.mul_(difference).sum(dim=1).mul_(0.5)


def _direction_across(rebuilt: Tensor, unit_features: Tensor) -> Tensor:
    """b, the direction of what a reconstruction has beside the feature, ``[M, D]``.

    Where that is no more than rounding, one projection leaves a part along the feature in it, and the bound would count
    it twice. A second one takes it away. Shorter than one b bounds less, and so it stays.
    """
    across = rebuilt - torch.linalg.vecdot(rebuilt, unit_features).unsqueeze(1) * unit_features
    length = torch.linalg.vector_norm(across, dim=1, keepdim=True)
    across = across / length.clamp_min(torch.finfo(length.dtype).tiny ** 0.5)
    again: Tensor = torch.linalg.vecdot(across, unit_features).unsqueeze(1)
    return torch.addcmul(across, again, unit_features, value=-1)


def _projection_bound(
    chunks: ClassChunks,
    candidates: Tensor,
    reference: Tensor,
    masked: Masked | None,
    across: Tensor,
    rows: Tensor,
    undecided: Tensor,
) -> Tensor:
    """The bound of step 4 for every undecided candidate, zero elsewhere, ``[N, K]``.

    Args:
        chunks: the cosines.
        candidates: positive, increasing, ``[K]``.
        reference: largest cosine that is not masked, ``[N]``.
        masked: the class of each sample that the cosines leave out, or None.
        across: b of the samples ``rows``, ``[M, D]``.
        rows: samples with an undecided candidate, ``[M]``.
        undecided: bool, ``[N, K]``.
    """
    wanted = undecided[rows]
    count = wanted.sum(dim=1)
    # Samples with many undecided candidates first: those that still have one in the s-th turn are then the first ones.
    everything = len(rows) == chunks.num_samples and bool((count == count[0]).all())
    if not everything:
        order = count.argsort(descending=True, stable=True)
        rows, across, wanted, count = rows[order], across[order], wanted[order], count[order]
    turns = int(count[0])
    turn_candidate = wanted.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :turns]
    sizes = [int((count > turn).sum()) for turn in range(turns)]
    kappa = candidates[turn_candidate]
    factor = kappa * LOG2_E
    shifted = reference[rows].unsqueeze(1)
    sums = across.new_zeros(3, turns, len(rows))
    by_turn = [
        (size, shifted[:size], factor[:size, turn : turn + 1], sums[:, turn, :size].unbind())
        for turn, size in enumerate(sizes)
    ]
    for chunk in chunks:
        cosine = chunk.cosine if everything else chunk.cosine.index_select(0, rows)
        along = chunks.scratch(cosine.shape, 2)
        torch.mm(across, chunk.weight.to(across.dtype).t(), out=along)
        if chunk.inverse_length is not None:
            along.mul_(chunk.inverse_length)
        for size, shift, power, (of_weight, of_cosine, of_projection) in by_turn:
            here = cosine[:size]
            weighed = chunks.scratch(here.shape)
            torch.sub(here, shift, out=weighed).mul_(power).exp2_()
            of_weight += weighed.sum(dim=1)
            of_cosine += chunks.dot(weighed, here)
            of_projection += chunks.dot(weighed, along[:size])
    total = sums[0].clamp_min(torch.finfo(sums.dtype).tiny)
    mean, projection = sums[1] / total, sums[2] / total
    if masked is not None:
        own = masked.cosine[rows]
        own_along = torch.linalg.vecdot(across, masked.unit_weight[rows])
        share = torch.sigmoid(kappa.t() * (own - shifted.squeeze(1)) - total.log())
        mean, projection = torch.lerp(mean, own, share), torch.lerp(projection, own_along, share)
    bound = 0.5 * ((1 - mean).square() + projection.square())
    result = across.new_zeros(undecided.shape)
    for turn, size in enumerate(sizes):
        result[rows[:size], turn_candidate[:size, turn]] = bound[turn, :size]
    return result
