"""κ where the classes are split over ranks: each temperature's rule, from what the ranks tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from logitlab.functional import KappaSearch, at_least_float32, normalize
from logitlab.functional.blockwise import Placement, blockwise_rival_terms, likelihood_means, plain_split_terms, shared
from logitlab.functional.maximum_likelihood import search_likelihood_of_means
from logitlab.functional.rule_of_thumb import rule_of_thumb_of_mean
from logitlab.temperature import AdaCos, LeastSquares, MaximumLikelihood, RuleOfThumb

from ..fusing import has_direction

if TYPE_CHECKING:
    from .attributes import Sharded

_ROWS = 2**16


class Scale(NamedTuple):
    """What the cosines of the home rows are multiplied by.

    Attributes:
        kappa: a scalar or ``[n]``; None where the step finds it, or there is none.
        search: how the step finds it; None where it is known.
        refine: whether it goes on between the candidates.
    """

    kappa: Tensor | None
    search: KappaSearch | None = None
    refine: bool = False


def choose_scale(head: Sharded, rows: Tensor, placement: Placement, given: Tensor, counts: Tensor) -> Scale:
    """What the temperature says of a batch; it moves running means as a dense head does.

    Args:
        head: with a temperature.
        rows: features of the home rows, ``[n, D]``.
        placement: of the targets among all classes.
        given: home rows that do not merely fill up, bool ``[n]``.
        counts: those whose target is not ignored, bool ``[n]``.
    """
    temperature = head.temperature
    assert temperature is not None
    dtype = at_least_float32(rows, head.weight)
    per_sample = head.training or head.inference_kappa == "per_sample"
    directed = given & has_direction(rows)
    if isinstance(temperature, AdaCos) and temperature.dynamic and head.training and torch.is_grad_enabled():
        _observe(head, temperature, rows, placement, counts & directed)
    if not (temperature.adaptive and per_sample):
        like = rows.new_zeros(1, 1, dtype=dtype)
        kappa: Tensor = temperature(like, like, like, per_sample=False)
        # Each rank sees the gradient of its own samples.
        return Scale(shared(kappa, head.ranks, "κ") if kappa.requires_grad else kappa)
    if isinstance(temperature, LeastSquares):
        search = temperature.split_search
        assert search is not None
        return Scale(None, search, temperature.search == "continuous")
    kappa = rule_of(head, rows).to(dtype)
    if isinstance(temperature, (MaximumLikelihood, RuleOfThumb)):
        temperature.mean.observe(*of_all(head, kappa, directed))
    return Scale(kappa)


@torch.no_grad()
def rule_of(head: Sharded, rows: Tensor) -> Tensor:
    """What the rule of the temperature says of each home row, ``[n]``; for all but least squares.

    Args:
        head: with a temperature.
        rows: features of the home rows, ``[n, D]``.
    """
    temperature = head.temperature
    if isinstance(temperature, MaximumLikelihood):
        means, largest = likelihood_means(rows, head.weight, temperature.candidates, head.num_classes, head.ranks)
        dimension = head.in_features
        return search_likelihood_of_means(means, largest, dimension, temperature.candidates, temperature.normalizer)
    if isinstance(temperature, RuleOfThumb):
        total = rows.new_zeros(head.in_features, dtype=at_least_float32(rows, head.weight))
        for block in torch.split(head.weight, _ROWS):
            total += normalize(block).to(total.dtype).sum(dim=0)
        mean = head.ranks.sum(total, "the mean of the weights") / head.num_classes
        return rule_of_thumb_of_mean(mean).expand(len(rows))
    assert temperature is not None
    return temperature.kappa_star(rows[:, :1], rows, rows)


def of_all(head: Sharded, kappa: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """κ* and counts of the samples of all ranks: a running mean is to be the same on each."""
    if head.ranks.size == 1:
        return kappa, counts
    both = torch.stack([kappa, counts.to(kappa.dtype)], dim=1)
    every = head.ranks.gather(both, "κ* and which samples count")
    return every[:, 0], every[:, 1] > 0


@torch.no_grad()
def _observe(head: Sharded, temperature: AdaCos, rows: Tensor, placement: Placement, counts: Tensor) -> None:
    """Let the dynamic scale see the batch; it takes a product of its own."""
    kappa = temperature.kappa.to(rows.device, at_least_float32(rows, head.weight))
    rows, weight = rows.detach(), head.weight.detach()
    if head.centers > 1:
        wide = rows.to(at_least_float32(rows, weight))
        terms = plain_split_terms(wide, weight, placement, kappa, None, "cosine", head.centers, head.ranks)
    else:
        terms, _ = blockwise_rival_terms(rows, weight, placement, kappa, ranks=head.ranks)
    numbers = torch.stack([terms.rivals, terms.target_score, counts.to(terms.rivals.dtype)], dim=1)
    rivals, own, counted = head.ranks.gather(numbers, "the cosines of the targets").unbind(1)
    with torch.enable_grad():  # without which a running mean rests
        temperature.observe_terms(rivals, own, counted > 0)
