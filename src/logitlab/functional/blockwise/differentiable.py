"""Exchanges between ranks that gradients flow through: each rank differentiates the sum of the losses of all."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cosine import cosine_similarity
from ..cross_entropy import rival_logsumexp
from ..normalization import normalize
from ..rival_terms import Classifier, RivalTerms
from .forward import Placement
from .ranks import Ranks


def gather_rows(home: Tensor, ranks: Ranks, what: str) -> Tensor:
    """``Ranks.gather``; its gradient is summed over the ranks."""
    return cast(Tensor, _Gather.apply(home, ranks, what))


def exchange_parts(partial: Tensor, ranks: Ranks, what: str) -> Tensor:
    """``Ranks.exchange``; its gradient goes back to the rank that each part came from."""
    return cast(Tensor, _Exchange.apply(partial, ranks, what))


def shared(value: Tensor, ranks: Ranks, what: str) -> Tensor:
    """A value that all ranks hold alike; its gradient is what it has on all of them together."""
    return cast(Tensor, _Shared.apply(value, ranks, what))


def sum_of_all(part: Tensor, ranks: Ranks, what: str) -> Tensor:
    """Sum over the ranks, the same on all, of which each uses it in a loss of its own."""
    return shared(total_loss(part, ranks, what), ranks, what)


def total_loss(part: Tensor, ranks: Ranks, what: str) -> Tensor:
    """Sum over the ranks as the loss of all: its gradient goes once to the part of each."""
    return cast(Tensor, _Total.apply(part, ranks, what))


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The same values; the gradient is multiplied."""
    return tensor if factor == 1 else cast(Tensor, _ScaleGradient.apply(tensor, factor))


def bias_of_targets(bias: Tensor, placement: Placement, ranks: Ranks) -> Tensor:
    """The bias of the class of each home row, from the rank that has it, ``[n]``.

    Args:
        bias: of the classes here, ``[c]``.
        placement: of the targets.
        ranks: that share the classes.
    """
    mine = placement.owner == ranks.rank
    own = torch.where(mine, bias[placement.column.clamp_min(0)], 0.0)
    return exchange_parts(own, ranks, "the bias of the targets").sum(dim=0)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, home: Tensor, ranks: Ranks, what: str) -> Tensor:
        ctx.ranks, ctx.what = ranks, what
        return ranks.gather(home, what).view(-1, *home.shape[1:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.sum_home(upstream, f"gradients of {ctx.what}"), None, None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor, ranks: Ranks, what: str) -> Tensor:
        ctx.ranks, ctx.what = ranks, what
        return ranks.exchange(partial, what).clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        returned = ctx.ranks.exchange(upstream.flatten(0, 1), f"gradients of {ctx.what}")
        return returned.flatten(0, 1), None, None


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks, what: str) -> Tensor:
        ctx.ranks, ctx.what = ranks, what
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.sum(upstream, f"gradients of {ctx.what}"), None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, what: str) -> Tensor:
        return ranks.sum(part, what).view_as(part)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return upstream, None, None


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return upstream * ctx.factor, None


def plain_split_terms(
    features: Tensor,
    weight: Tensor,
    placement: Placement,
    kappa: Tensor | None,
    bias: Tensor | None,
    classifier: Classifier,
    centers: int,
    ranks: Ranks,
) -> RivalTerms:
    """The terms where the classes are split, by ordinary autograd: what ``blockwise_rival_terms`` must equal.

    It also serves classes of several centers. It holds the logits of all samples with the classes here, and what
    autograd keeps of them.

    Args:
        features: x, float32 at least, ``[n, D]``.
        weight: of the classes here, ``[c * centers, D]``.
        placement: of the targets.
        kappa: κ of the home rows, a scalar or ``[n]``; None for 1.
        bias: of the classes here, ``[c]``, or None.
        classifier: what the scores are.
        centers: rows of weight a class; its score is the largest of theirs.
        ranks: that share the classes.
    """
    weight = weight.to(features.dtype)
    rows = gather_rows(features, ranks, "features")
    if classifier == "cosine":
        scores = cosine_similarity(rows, weight)
    else:
        scores = F.linear(rows, weight if classifier == "linear" else normalize(weight))
    if centers > 1:
        scores = scores.view(len(rows), -1, centers).amax(dim=2)
    logits = scores
    if kappa is not None:
        every = kappa if kappa.ndim == 0 else gather_rows(kappa, ranks, "κ")
        logits = scores * (every if every.ndim == 0 else every.unsqueeze(1))
    logits = logits if bias is None else logits + bias
    mine = placement.owner == ranks.rank
    place = placement.column.clamp_min(0)
    # One class more, masked, for targets that are elsewhere to stand for.
    wider = F.pad(logits, (0, 1), value=torch.finfo(logits.dtype).min)
    rivals = rival_logsumexp(wider, torch.where(mine, place, logits.shape[1]))
    own = torch.where(mine, scores.gather(1, place.unsqueeze(1)).squeeze(1), 0.0)
    length = (
        torch.linalg.vector_norm(weight[place * centers], dim=1) if classifier == "linear" else own.new_zeros(len(own))
    )
    numbers = torch.stack([rivals, own, torch.where(mine, length, 0.0)], dim=1)
    every_rank = exchange_parts(numbers, ranks, "the sums over the rivals")
    found = every_rank[:, :, 0].logsumexp(dim=0)
    lengths = every_rank[:, :, 2].sum(dim=0) if classifier == "linear" else torch.ones_like(found)
    return RivalTerms(found, every_rank[:, :, 1].sum(dim=0), lengths)
