r"""The certified search for κ* where the classes are split, or where values must not be looked at.

Each rank sums over its classes for the samples of all; each decides for its own samples. The steps are those of
``search_certified``, with two differences:

- The direction b may be rounded to bfloat16, so that it is neither of unit length nor quite across the feature. With
  q = b·x̃ the bound holds for (b - q x̃)/‖b - q x̃‖, whose sums follow from those of b and of the cosines. A
  reconstruction by products of bfloat16 is off by some δ, and its energy by about ‖δ‖; its own projection, however, by
  ‖δ‖²/2 only, since b then misses the true direction by an angle of the order of ‖δ‖. So the projection decides.
- Where values must not be looked at, every sample gets its projection, at its ``_SLOTS`` most promising candidates, and
  ``_ROUNDS`` times as many reconstructions as a quarter of the samples. What is undecided then keeps the best that was
  found and is not ``certified``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..at_hand import values_at_hand
from ..least_squares.bounds import energy_bound
from ..least_squares.certified import TOLERANCE
from ..least_squares.power_sums import LEVELS
from ..least_squares.surrogate import Surrogate
from .ranks import Ranks
from .scores import Scores
from .turns import Nearest, gather_home, merge_nearest, project, rebuild, sum_powers

_SLOTS = 4
_ROUNDS = 2


class Home(NamedTuple):
    """The samples of this rank.

    Attributes:
        unit_rows: x̃, ``[n, D]``.
        target_rows: w̃_y, ``[n, D]``.
        target_score: z_y, ``[n]``.
    """

    unit_rows: Tensor
    target_rows: Tensor
    target_score: Tensor


class Found(NamedTuple):
    """κ* of the home rows and what a training step goes on with.

    Attributes:
        kappa: ``[n]``.
        certified: bool, ``[n]``; false for ``surrogate``.
        reference: the largest cosine of a rival, ``[n]``.
        total: S at κ*, ``[n]``; None where nothing was rebuilt.
        mean_weight: V/S at κ*, ``[n, D]``; likewise.
    """

    kappa: Tensor
    certified: Tensor
    reference: Tensor
    total: Tensor | None
    mean_weight: Tensor | None


class Proposal(NamedTuple):
    """What is known without a reconstruction; all of the home rows.

    Attributes:
        surrogate: its energies.
        bound: a number below the energy of each candidate, ``[n, Q]``.
        reference: the largest cosine of a rival, ``[n]``.
        target_score: z_y, ``[n]``.
    """

    surrogate: Surrogate
    bound: Tensor
    reference: Tensor
    target_score: Tensor


def propose(scores: Scores, column: Tensor, candidates: Tensor, num_classes: int, ranks: Ranks) -> Proposal:
    """The first turn.

    Args:
        scores: cosines of all samples with the classes here.
        column: the target's place among them, or outside, int64 ``[N]``.
        candidates: positive, increasing, ``[Q]``.
        num_classes: of all ranks.
        ranks: that share the classes.
    """
    nearest, own = sum_powers(scores, column)
    numbers = torch.cat([nearest.reference.unsqueeze(0), own.unsqueeze(0), nearest.sums.flatten(0, 1)])
    every = ranks.exchange(numbers.t(), "the power sums").transpose(1, 2)  # [R, 2 + 3 LEVELS, n]
    sums = merge_nearest(Nearest(every[:, 0], every[:, 2:].reshape(len(every), 3, LEVELS, -1)), num_classes - 2)
    target_score = every[:, 1].sum(dim=0)
    reference = sums.reference.to(scores.dtype)
    alone = torch.stack([sums.reference, target_score.double()], dim=1)
    return Proposal(Surrogate(sums, alone), energy_bound(sums, alone, candidates), reference, target_score)


def search(scores: Scores, column: Tensor, proposal: Proposal, home: Home, candidates: Tensor, ranks: Ranks) -> Found:
    """Find κ* of each home row: a candidate whose energy is the least but for ``TOLERANCE`` and rounding.

    Args:
        scores: cosines of all samples with the classes here.
        column: the target's place among them, or outside, int64 ``[N]``.
        proposal: of the first turn.
        home: the samples of this rank.
        candidates: positive, increasing, ``[Q]``.
        ranks: that share the classes.
    """
    at_hand = values_at_hand(column)
    rounded = scores.rows.operand.dtype.itemsize < 4
    index = proposal.surrogate.energy(candidates).argmin(dim=1)
    kappa = candidates[index]
    every_kappa, reference = gather_home(ranks, "κ and the largest cosine", kappa, proposal.reference)
    total, combination = _home_sums(ranks, *rebuild(scores, column, every_kappa, reference, None, careful=False))
    rebuilt = _with_target(home, kappa, proposal.reference, total, combination)
    lowest = _energy(home.unit_rows, rebuilt)
    bound = proposal.bound.to(lowest.dtype)
    # An energy that is rounded itself rules nothing out yet.
    undecided = torch.ones_like(bound, dtype=torch.bool) if rounded else bound < (lowest - TOLERANCE).unsqueeze(1)
    undecided.scatter_(1, index.unsqueeze(1), False)
    if not at_hand or ranks.any(undecided, "whether a κ is undecided"):
        slots = torch.where(undecided, bound, torch.inf)
        slots.scatter_(1, index.unsqueeze(1), -torch.inf)
        count = min(_SLOTS, len(candidates))
        if at_hand:
            widest = ranks.largest(undecided.sum(dim=1).amax() + 1, "how many κ are undecided")
            count = int(widest)
        values, chosen = slots.topk(count, dim=1, largest=False)
        open_slot = (values < torch.inf) & undecided.gather(1, chosen)
        open_slot[:, 0] = True
        projected = _project(
            scores, column, home, proposal.reference, reference, rebuilt, candidates[chosen], open_slot, ranks
        )
        if rounded:
            lowest = projected[:, 0]
            undecided = bound < (lowest - TOLERANCE).unsqueeze(1)
            undecided.scatter_(1, index.unsqueeze(1), False)
        better_bound = torch.where(
            open_slot, torch.maximum(bound.gather(1, chosen), projected), bound.gather(1, chosen)
        )
        bound = bound.scatter(1, chosen, better_bound)
        undecided &= bound < (lowest - TOLERANCE).unsqueeze(1)
    certified = ~undecided.any(dim=1)
    turn = 0
    while ranks.any(undecided, "whether a κ is undecided") if at_hand else turn < _ROUNDS:
        turn += 1
        # The most promising candidate first: it may rule out the others.
        waiting = undecided.any(dim=1)
        trial = torch.where(undecided, bound, torch.inf).argmin(dim=1)
        trial_kappa = torch.where(waiting, candidates[trial], 0.0)
        (every_trial,) = gather_home(ranks, "a κ to try", trial_kappa)
        size = None if at_hand else max(-(-len(column) // 4), min(len(column), 8))
        rows = every_trial.nonzero().squeeze(1) if size is None else (every_trial > 0).float().topk(size).indices
        parts = rebuild(scores, column[rows], every_trial[rows], reference[rows], rows, careful=True)
        summed = ranks.sum(torch.cat([parts[1], parts[0].unsqueeze(1)], dim=1), "a reconstruction that was tried")
        # Back to the home rows; a row that was not asked about is not tried.
        here = rows - ranks.rank * len(index)
        inside = (here >= 0) & (here < len(index))
        place = torch.where(inside, here, len(index))
        all_sums = summed.new_ones(len(index) + 1, summed.shape[1]).index_copy(0, place, summed)[:-1]
        tried = torch.zeros(len(index) + 1, dtype=torch.bool, device=place.device).index_fill(0, place, True)[:-1]
        tried &= waiting
        one_total, one = all_sums[:, -1], all_sums[:, :-1]
        energy = _energy(home.unit_rows, _with_target(home, candidates[trial], proposal.reference, one_total, one))
        better = tried & (energy < lowest)
        lowest = torch.where(better, energy, lowest)
        index = torch.where(better, trial, index)
        total = torch.where(better, one_total, total)
        combination = torch.where(better.unsqueeze(1), one, combination)
        done = torch.zeros_like(undecided).scatter_(1, trial.unsqueeze(1), tried.unsqueeze(1))
        undecided &= ~done & (bound < (lowest - TOLERANCE).unsqueeze(1))
    mean_weight = combination / total.unsqueeze(1)
    return Found(candidates[index], certified, proposal.reference, total, mean_weight)


def energies(scores: Scores, column: Tensor, kappa: Tensor, proposal: Proposal, home: Home, ranks: Ranks) -> Tensor:
    """The energy of each home row at a κ of its own, by one reconstruction.

    Args:
        scores: cosines of all samples with the classes here.
        column: the target's place among them, or outside, int64 ``[N]``.
        kappa: ``[n]``.
        proposal: of the first turn.
        home: the samples of this rank.
        ranks: that share the classes.
    """
    every, reference = gather_home(ranks, "κ and the largest cosine", kappa, proposal.reference)
    total, combination = _home_sums(ranks, *rebuild(scores, column, every, reference, None, careful=True))
    return _energy(home.unit_rows, _with_target(home, kappa, proposal.reference, total, combination))


def _home_sums(ranks: Ranks, total: Tensor, combination: Tensor) -> tuple[Tensor, Tensor]:
    if ranks.size == 1:
        return total, combination
    both = ranks.sum_home(torch.cat([combination, total.unsqueeze(1)], dim=1), "the reconstructions")
    return both[:, -1], both[:, :-1]


def _with_target(home: Home, kappa: Tensor, reference: Tensor, total: Tensor, combination: Tensor) -> Tensor:
    """The reconstruction Σ a_c w̃_c over all classes, from that over the rivals."""
    share = torch.sigmoid(kappa * (home.target_score - reference) - total.log())
    return torch.lerp(combination / total.unsqueeze(1), home.target_rows, share.unsqueeze(1))


def _energy(unit_rows: Tensor, rebuilt: Tensor) -> Tensor:
    return 0.5 * (unit_rows - rebuilt).square().sum(dim=1)


def _project(
    scores: Scores,
    column: Tensor,
    home: Home,
    home_reference: Tensor,
    reference: Tensor,
    rebuilt: Tensor,
    kappas: Tensor,
    wanted: Tensor,
    ranks: Ranks,
) -> Tensor:
    """The bound by the direction b in which each reconstruction misses its feature, ``[n, K]``.

    Args:
        scores: of the classes here.
        column: the target's place among them, ``[N]``.
        home: the samples of this rank.
        home_reference: the largest cosine of a rival, ``[n]``.
        reference: that of all samples, ``[N]``.
        rebuilt: reconstructions of the home rows, ``[n, D]``.
        kappas: candidates of each home row, ``[n, K]``.
        wanted: which of them count, bool ``[n, K]``.
        ranks: that share the classes.
    """
    across = rebuilt - torch.linalg.vecdot(rebuilt, home.unit_rows).unsqueeze(1) * home.unit_rows
    size = torch.linalg.vector_norm(across, dim=1, keepdim=True)
    direction = (across / size.clamp_min(torch.finfo(size.dtype).tiny ** 0.5)).to(scores.rows.operand.dtype)
    # From here on b is what it was rounded to.
    given = direction.to(home.unit_rows.dtype)
    along_row = torch.linalg.vecdot(given, home.unit_rows)
    remaining = (given.square().sum(dim=1) - along_row.square()).unsqueeze(1)
    asked = torch.where(wanted, kappas, 0.0)
    every_direction = ranks.gather(direction, "directions across the features")
    every_kappa = ranks.gather(asked, "κ to rule out")
    sums = project(scores, column, every_direction, every_kappa.t().contiguous(), reference)
    count = kappas.shape[1]
    total, of_cosine, of_direction = (
        ranks.exchange(sums.flatten(0, 1).t(), "the projections").sum(dim=0).view(-1, 3, count).unbind(1)
    )
    total = total.clamp_min(torch.finfo(total.dtype).tiny)
    own, shift = home.target_score.unsqueeze(1), home_reference.unsqueeze(1)
    share = torch.sigmoid(kappas * (own - shift) - total.log())
    mean = torch.lerp(of_cosine / total, own.expand_as(share), share)
    own_along = torch.linalg.vecdot(given, home.target_rows).unsqueeze(1)
    projection = torch.lerp(of_direction / total, own_along.expand_as(share), share)
    # Of a b that is mostly rounding, nothing is known.
    sound = remaining > 0.25
    beyond = (projection - along_row.unsqueeze(1) * mean) / torch.where(sound, remaining, 1.0).sqrt()
    return 0.5 * ((1 - mean).square() + torch.where(sound, beyond, 0.0).square())
