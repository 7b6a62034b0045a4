r"""The certified search for κ* where the classes are split, or where values must not be looked at.

Each rank sums over its classes for the samples of all; each decides for its own samples. The steps are those of
``search_certified``, with two differences:

- The direction b may be rounded to bfloat16, so that it is neither of unit length nor quite across the feature. With
  q = b·x̃ the bound holds for (b - q x̃)/‖b - q x̃‖, whose sums follow from those of b and of the cosines. A
  reconstruction by products of bfloat16 is off by some δ, and its energy by about ‖δ‖; its own projection, however, by
  ‖δ‖²/2 only, since b then misses the true direction by an angle of the order of ‖δ‖. So the projection decides.
- Where values must not be looked at and the batch is small, every candidate is reconstructed, which is exact. In a
  large one every sample gets its projection, at its ``_SLOTS`` most promising candidates, and ``_ROUNDS`` times as many
  reconstructions as an eighth of the samples. What is undecided then keeps the best that was found and is not
  ``certified``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..at_hand import values_at_hand
from ..least_squares.certified import TOLERANCE
from .proposal import Home, Proposal, energy_of, sum_at_home, with_target
from .ranks import Ranks
from .scores import Scores
from .turns import gather_home, project, rebuild

_SLOTS = 4
_ROUNDS = 2
_SHARE_TRIED = 8

#: Up to so many numbers in the reconstructions of all candidates, or in their coefficients, all are made: 256 MB.
EXHAUSTIVE = 2**26


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


def is_small(num_samples: int, num_classes: int, num_features: int, num_candidates: int) -> bool:
    """Whether all candidates are reconstructed where values must not be looked at.

    Args:
        num_samples: N, of all ranks.
        num_classes: the most that one rank has.
        num_features: D.
        num_candidates: Q.

    >>> is_small(256, 10_000, 512, 20), is_small(512, 93_431, 512, 20)
    (True, False)
    """
    return num_candidates * num_samples * max(num_classes, num_features) <= EXHAUSTIVE


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
    most = -(-proposal.num_classes // ranks.size)  # the same on every rank
    if not at_hand and is_small(len(column), most, home.unit_rows.shape[1], len(candidates)):
        return _exhaustive(scores, column, proposal, home, candidates, ranks)
    index = proposal.surrogate.energy(candidates).argmin(dim=1)
    every_kappa, reference = gather_home(ranks, "κ and the largest cosine", candidates[index], proposal.reference)
    total, combination = sum_at_home(
        ranks, "the reconstructions", *rebuild(scores, column, every_kappa, reference, None, careful=False)
    )
    rebuilt = with_target(home, candidates[index], proposal.reference, total, combination)
    lowest = energy_of(home.unit_rows, rebuilt)
    bound = proposal.bound.to(lowest.dtype)
    undecided = bound < (lowest - TOLERANCE).unsqueeze(1)
    if scores.rows.operand.dtype.itemsize < 4:
        # An energy that is rounded itself rules nothing out yet.
        undecided = torch.ones_like(undecided)
    undecided.scatter_(1, index.unsqueeze(1), False)
    state = _State(index, lowest, total, combination, bound, undecided)
    everything = _Everything(scores, column, reference, proposal, home, candidates, ranks)
    if not at_hand or ranks.any(undecided, "whether a κ is undecided"):
        _rule_out(state, everything, rebuilt, at_hand)
    certified = ~state.undecided.any(dim=1)
    turn = 0
    while ranks.any(state.undecided, "whether a κ is undecided") if at_hand else turn < _ROUNDS:
        turn += 1
        _try_another(state, everything, at_hand)
    mean_weight = state.combination / state.total.unsqueeze(1)
    return Found(candidates[state.index], certified, proposal.reference, state.total, mean_weight)


def _exhaustive(
    scores: Scores, column: Tensor, proposal: Proposal, home: Home, candidates: Tensor, ranks: Ranks
) -> Found:
    """``search`` by the reconstructions of all candidates at once: the formula as it stands."""
    number, count = len(proposal.reference), len(candidates)
    (reference,) = gather_home(ranks, "the largest cosine", proposal.reference)
    # Each row as many times as there are candidates; those of a rank stay together.
    rows = torch.arange(len(column), device=column.device).repeat_interleave(count)
    every_kappa = candidates.repeat(len(column))
    parts = rebuild(scores, column[rows], every_kappa, reference[rows], rows, careful=True)
    total, combination = sum_at_home(ranks, "the reconstructions", *parts)
    own = torch.arange(number, device=column.device).repeat_interleave(count)
    repeated = Home(*(part[own] for part in home))
    rebuilt = with_target(repeated, candidates.repeat(number), proposal.reference[own], total, combination)
    index = energy_of(repeated.unit_rows, rebuilt).view(number, count).argmin(dim=1)
    best = torch.arange(number, device=column.device) * count + index
    total, combination = total[best], combination[best]
    certified = torch.ones_like(index, dtype=torch.bool)
    mean_weight = combination / total.unsqueeze(1)
    return Found(candidates[index], certified, proposal.reference, total, mean_weight)


class _Everything(NamedTuple):
    """What all steps of a search look at."""

    scores: Scores
    column: Tensor
    reference: Tensor
    proposal: Proposal
    home: Home
    candidates: Tensor
    ranks: Ranks


@dataclass
class _State:
    """How far the search of the home rows has come.

    Attributes:
        index: the best candidate so far, ``[n]``.
        lowest: its energy, ``[n]``.
        total: S there, ``[n]``.
        combination: V there, ``[n, D]``.
        bound: a number below the energy of each candidate, ``[n, Q]``.
        undecided: candidates that may still be better, bool ``[n, Q]``.
    """

    index: Tensor
    lowest: Tensor
    total: Tensor
    combination: Tensor
    bound: Tensor
    undecided: Tensor

    def rule_out(self) -> None:
        """Decide by the bounds."""
        self.undecided = self.undecided & (self.bound < (self.lowest - TOLERANCE).unsqueeze(1))


def _rule_out(state: _State, everything: _Everything, rebuilt: Tensor, at_hand: bool) -> None:
    """Raise the bounds of the most promising candidates by their projections.

    Args:
        state: changed in place.
        everything: of the search.
        rebuilt: reconstructions of the home rows, ``[n, D]``.
        at_hand: whether values may be looked at; then all that is undecided gets its projection, and nothing else.
    """
    ranks, candidates = everything.ranks, everything.candidates
    rounded = everything.scores.rows.operand.dtype.itemsize < 4
    slots = torch.where(state.undecided, state.bound, torch.inf)
    if rounded:
        # The candidate itself comes first: its projection is its energy.
        slots.scatter_(1, state.index.unsqueeze(1), -torch.inf)
    count, asking = min(_SLOTS, len(candidates)), None
    if at_hand:
        number = state.undecided.sum(dim=1)
        widest = torch.stack([number.amax() + rounded, (number > 0).sum()])
        count, most = ranks.largest(widest, "how many κ and rows are undecided").tolist()
        # As many rows on every rank, those that are undecided first.
        asking = None if most == len(number) else number.argsort(descending=True, stable=True)[:most]
    values, chosen = slots.topk(count, dim=1, largest=False)
    wanted = values < torch.inf
    before = state.bound.gather(1, chosen)
    if asking is None:
        projected = _project(everything, rebuilt, candidates[chosen], wanted, None)
    else:
        projected = before.clone()
        projected[asking] = _project(everything, rebuilt[asking], candidates[chosen[asking]], wanted[asking], asking)
    if rounded:
        state.lowest = projected[:, 0]
    state.bound = state.bound.scatter(1, chosen, torch.where(wanted, torch.maximum(before, projected), before))
    state.rule_out()


def _try_another(state: _State, everything: _Everything, at_hand: bool) -> None:
    """Reconstruct each undecided row at its most promising candidate, which may rule out the others.

    Args:
        state: changed in place.
        everything: of the search.
        at_hand: whether values may be looked at; otherwise some of all rows are taken, undecided ones first.
    """
    scores, column, reference, proposal, home, candidates, ranks = everything
    waiting = state.undecided.any(dim=1)
    # As many rows on every rank, those that are undecided first.
    if at_hand:
        most = int(ranks.largest(waiting.sum(), "how many rows are undecided"))
        asking = waiting.to(torch.uint8).argsort(descending=True, stable=True)[:most]
    else:
        asking = waiting.float().topk(_number_tried(len(waiting))).indices
    trial = torch.where(state.undecided, state.bound, torch.inf).argmin(dim=1)[asking]
    kappa, asked = candidates[trial], waiting[asking]
    rows = ranks.gather(asking + ranks.rank * len(waiting), "which rows are tried")
    every_trial = ranks.gather(kappa, "a κ to try")
    parts = rebuild(scores, column[rows], every_trial, reference[rows], rows, careful=True)
    total, combination = sum_at_home(ranks, "reconstructions that were tried", *parts)
    its_home = Home(*(part[asking] for part in home))
    energy = energy_of(its_home.unit_rows, with_target(its_home, kappa, proposal.reference[asking], total, combination))
    better = asked & (energy < state.lowest[asking])
    state.lowest = _where(state.lowest, asking, better, energy)
    state.index = _where(state.index, asking, better, trial)
    state.total = _where(state.total, asking, better, total)
    state.combination = _where(state.combination, asking, better, combination)
    done = torch.zeros_like(state.undecided)
    done[asking] = torch.zeros_like(done[asking]).scatter_(1, trial.unsqueeze(1), asked.unsqueeze(1))
    state.undecided = state.undecided & ~done
    state.rule_out()


def _where(all_rows: Tensor, asking: Tensor, better: Tensor, found: Tensor) -> Tensor:
    """All rows, with what was found for those that asked and are better off with it."""
    chosen = better.view(-1, *(1,) * (found.ndim - 1))
    return all_rows.index_copy(0, asking, torch.where(chosen, found, all_rows[asking]))


def _number_tried(num_samples: int) -> int:
    """How many samples are reconstructed once more where it is not known how many ask for it."""
    return max(-(-num_samples // _SHARE_TRIED), min(num_samples, 8))


def _project(everything: _Everything, rebuilt: Tensor, kappas: Tensor, wanted: Tensor, asking: Tensor | None) -> Tensor:
    """The bound by the direction b in which each reconstruction misses its feature, ``[m, K]``.

    Args:
        everything: of the search.
        rebuilt: reconstructions of the rows that ask, ``[m, D]``.
        kappas: candidates of each, ``[m, K]``.
        wanted: which of them count, bool ``[m, K]``.
        asking: which home rows ask, ``[m]``, as many on every rank; None for all.
    """
    scores, column, reference, proposal, home, _, ranks = everything
    home_reference, rows = proposal.reference, None
    if asking is not None:
        home = Home(*(part[asking] for part in home))
        home_reference = home_reference[asking]
        rows = ranks.gather(asking + ranks.rank * len(proposal.reference), "which rows are undecided")
        column, reference = column[rows], reference[rows]
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
    sums = project(scores, column, every_direction, every_kappa.t().contiguous(), reference, rows)
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
