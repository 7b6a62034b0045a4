"""What the search for κ* starts from: a proposal and bounds without a reconstruction, and the energy of one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..least_squares.bounds import energy_bound
from ..least_squares.power_sums import LEVELS
from ..least_squares.surrogate import Surrogate
from .ranks import Ranks
from .scores import Scores
from .turns import Nearest, gather_home, merge_nearest, rebuild, sum_powers


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


class Proposal(NamedTuple):
    """What is known without a reconstruction; all of the home rows.

    Attributes:
        surrogate: its energies.
        bound: a number below the energy of each candidate, ``[n, Q]``.
        reference: the largest cosine of a rival, ``[n]``.
        target_score: z_y, ``[n]``.
        num_classes: of all ranks.
    """

    surrogate: Surrogate
    bound: Tensor
    reference: Tensor
    target_score: Tensor
    num_classes: int


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
    bound = energy_bound(sums, alone, candidates)
    return Proposal(Surrogate(sums, alone), bound, reference, target_score, num_classes)


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
    total, combination = sum_at_home(
        ranks, "the reconstructions", *rebuild(scores, column, every, reference, None, careful=True)
    )
    return energy_of(home.unit_rows, with_target(home, kappa, proposal.reference, total, combination))


def sum_at_home(ranks: Ranks, what: str, total: Tensor, combination: Tensor) -> tuple[Tensor, Tensor]:
    """S ``[n]`` and V ``[n, D]`` of the home rows over all ranks, from what this one has found for all rows."""
    if ranks.size == 1:
        return total, combination
    both = ranks.sum_home(torch.cat([combination, total.unsqueeze(1)], dim=1), what)
    return both[:, -1], both[:, :-1]


def with_target(home: Home, kappa: Tensor, reference: Tensor, total: Tensor, combination: Tensor) -> Tensor:
    """The reconstruction Σ a_c w̃_c over all classes, from that over the rivals."""
    share = torch.sigmoid(kappa * (home.target_score - reference) - total.log())
    return torch.lerp(combination / total.unsqueeze(1), home.target_rows, share.unsqueeze(1))


def energy_of(unit_rows: Tensor, rebuilt: Tensor) -> Tensor:
    """Half the squared distance of each row to its reconstruction, ``[n]`` of ``[n, D]`` each; T (10)."""
    return 0.5 * (unit_rows - rebuilt).square().sum(dim=1)
