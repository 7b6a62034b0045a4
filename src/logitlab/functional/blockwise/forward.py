"""The forward pass of ``blockwise_rival_terms``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..golden_section import golden_section
from ..least_squares.search import Chosen, candidate_tensor
from ..normalization import length
from ..rival_terms import Classifier, KappaSearch, RivalTerms
from .proposal import Home, energies, propose
from .ranks import Ranks
from .scores import Rows, Scores, inverse_lengths, keep_scores, product_dtype, rows_of_features
from .search import search
from .turns import Total, gather_home, merge_totals, sum_rivals

_REFINING_STEPS = 16


class Placement(NamedTuple):
    """Where the targets of all samples are.

    Attributes:
        column: the target's row of the weight here, int64 ``[N]``; negative where it is not here.
        owner: the rank that has it, ``[N]``; -1 for a sample without one, which fills up a batch.
        num_classes: classes of all ranks over which is summed.
    """

    column: Tensor
    owner: Tensor
    num_classes: int


class Kept(NamedTuple):
    """What the forward pass keeps for the gradients.

    Attributes:
        scores: blocks of all samples and the classes here.
        kappa: of all samples, ``[N]``.
        unit_rows: x̃ (or x) of the home rows, ``[n, D]``, in float32 at least.
        inverse_row_length: 1/‖x‖ of the home rows, ``[n]``.
        reference: of the home rows, ``[n]``.
        total: of the home rows, ``[n]``.
        mean_weight: Σ p_c w̃_c over the rivals, of the home rows, ``[n, D]``, if a search has computed it.
        target_rows: w̃_y of the home rows, likewise.
    """

    scores: Scores
    kappa: Tensor
    unit_rows: Tensor
    inverse_row_length: Tensor
    reference: Tensor
    total: Tensor
    mean_weight: Tensor | None
    target_rows: Tensor | None


def forward_terms(
    features: Tensor,
    weight: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    placement: Placement,
    classifier: Classifier,
    search_for: KappaSearch | None,
    refine: bool,
    ranks: Ranks,
) -> tuple[RivalTerms, Kept, Chosen | None]:
    """The terms of the home rows; the arguments are those of ``blockwise_rival_terms``."""
    rows, inverse_row_length = rows_of_features(features, product_dtype(features, weight), classifier)
    unit_rows = rows.operand.to(rows.scale.dtype) * rows.scale.unsqueeze(1)
    dtype = unit_rows.dtype
    column_scale = weight.new_ones(weight.shape[0], dtype=dtype)
    if classifier != "linear":
        column_scale = inverse_lengths(weight, dtype)
    operand = ranks.gather(rows.operand, "features")
    # Unit rows need no factor, and every rank knows it.
    scaled = rows.operand.dtype.itemsize < 4 and classifier == "cosine"
    scale = ranks.gather(rows.scale, "lengths of features") if scaled else rows.scale.new_ones(operand.shape[0])
    keep = keep_scores(operand, weight.shape[0], dtype)
    scores = Scores(Rows(operand, scale), weight, column_scale, bias, keep)
    chosen, total, mean_weight, target_rows = None, None, None, None
    own = None
    if search_for is not None:
        found = _search(scores, placement, unit_rows, search_for, refine, ranks)
        chosen, own, target_rows = found.chosen, found.target_score, found.target_rows
        kappa = chosen.kappa * search_for.multiplier
        if search_for.multiplier == 1 and bias is None:
            total, mean_weight = found.total, found.mean_weight
    every_kappa = _kappa_of_all(kappa, scale, ranks)
    home_kappa = None if kappa is None else kappa.to(dtype).expand(features.shape[0])
    target_length = torch.ones_like(unit_rows[:, 0])
    if total is None or classifier == "linear" or own is None:
        total, own, target_length = _sum(scores, placement, every_kappa, home_kappa, classifier, ranks)
    reference = total.reference
    rivals = total.total.log() + (reference if bias is not None or home_kappa is None else home_kappa * reference)
    kept = Kept(scores, every_kappa, unit_rows, inverse_row_length, reference, total.total, mean_weight, target_rows)
    return RivalTerms(rivals, own, target_length), kept, chosen


def _kappa_of_all(kappa: Tensor | None, like: Tensor, ranks: Ranks) -> Tensor:
    if kappa is None:
        return torch.ones_like(like)
    if kappa.ndim == 0:
        return kappa.to(like.dtype).expand(len(like)).contiguous()
    return gather_home(ranks, "κ", kappa.to(like.dtype))[0]


def _sum(
    scores: Scores,
    placement: Placement,
    every_kappa: Tensor,
    home_kappa: Tensor | None,
    classifier: Classifier,
    ranks: Ranks,
) -> tuple[Total, Tensor, Tensor]:
    """The sum over all rivals, the target's score, and the length of its row for a linear classifier."""
    found, own = sum_rivals(scores, placement.column, every_kappa)
    numbers = [found.reference, found.total, own]
    if classifier == "linear":
        numbers.append(_target_length(scores.weight, placement, ranks, own.dtype))
    every = ranks.exchange(torch.stack(numbers, dim=1), "the sums over the rivals")
    unit_kappa = None if scores.bias is not None else home_kappa
    if unit_kappa is None and scores.bias is None:
        unit_kappa = torch.ones_like(every[0, :, 0])
    total = merge_totals(Total(every[:, :, 0], every[:, :, 1]), unit_kappa)
    own = every[:, :, 2].sum(dim=0)
    return total, own, every[:, :, 3].sum(dim=0) if classifier == "linear" else torch.ones_like(own)


def _target_length(weight: Tensor, placement: Placement, ranks: Ranks, dtype: torch.dtype) -> Tensor:
    mine = placement.owner == ranks.rank
    return torch.where(mine, length(weight[placement.column.clamp_min(0)].to(dtype)), 0.0)


class _Searched(NamedTuple):
    chosen: Chosen
    total: Total | None
    mean_weight: Tensor | None
    target_rows: Tensor | None
    target_score: Tensor


def _search(
    scores: Scores,
    placement: Placement,
    unit_rows: Tensor,
    search_for: KappaSearch,
    refine: bool,
    ranks: Ranks,
) -> _Searched:
    # Its energy knows no bias.
    plain = scores.without_bias()
    column = placement.column
    candidates = candidate_tensor(search_for.candidates, unit_rows.dtype, unit_rows.device)
    proposal = propose(plain, column, candidates, placement.num_classes, ranks)
    if search_for.surrogate:
        kappa = proposal.surrogate.minimum(candidates).to(unit_rows.dtype)
        chosen = Chosen(kappa, torch.zeros_like(kappa, dtype=torch.bool), "surrogate")
        return _Searched(chosen, None, None, None, proposal.target_score)
    place = column.clamp_min(0)
    # As they are stored, which is half as much in bfloat16.
    own = ranks.deal(scores.weight.index_select(0, place), placement.owner, "the weights of the targets")
    own = own.to(unit_rows.dtype)
    target_rows = own * inverse_lengths(own, own.dtype).unsqueeze(1)
    home = Home(unit_rows, target_rows, proposal.target_score)
    found = search(plain, column, proposal, home, candidates, ranks)
    chosen = Chosen(found.kappa, found.certified, "certified")
    if not refine:
        assert found.total is not None
        total = Total(found.reference, found.total)
        return _Searched(chosen, total, found.mean_weight, target_rows, proposal.target_score)

    def energy(log_kappa: Tensor) -> Tensor:
        return energies(plain, column, log_kappa.exp(), proposal, home, ranks)

    index = torch.searchsorted(candidates, found.kappa)
    low, high = (candidates[(index + step).clamp(0, len(candidates) - 1)].log() for step in (-1, 1))
    logarithm, lowest = golden_section(energy, low, high, _REFINING_STEPS)
    refined = torch.where(lowest < energy(found.kappa.log()), logarithm.exp(), found.kappa)
    return _Searched(chosen._replace(kappa=refined), None, None, None, proposal.target_score)
