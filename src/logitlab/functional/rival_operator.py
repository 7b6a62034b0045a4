"""``rival_terms`` as operators of torch: what torch.compile and torch.export put into a graph as one step.

The operators compute what the autograd function computes in eager mode. They speak in tensors alone: one without
elements stands for what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .least_squares.gram import GRAM_CLASSES
from .least_squares.search import Chosen
from .rival_gradients import Wanted, rival_gradients
from .rival_terms import Classifier, KappaSearch, Kept, RivalTerms, forward_rival_terms

_TERMS = len(RivalTerms._fields)
_Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def compiled_rival_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    classifier: Classifier,
    search: KappaSearch | None,
) -> tuple[RivalTerms, Chosen | None]:
    """``rival_terms`` by the operators; its arguments. A second derivative is refused by torch, in words."""
    candidates = [] if search is None else list(search.candidates)
    multiplier, surrogate = (1.0, False) if search is None else (search.multiplier, search.surrogate)
    outputs = rival_terms_operator(features, weight, target, kappa, bias, classifier, candidates, multiplier, surrogate)
    terms = RivalTerms(*outputs[:_TERMS])
    if search is None:
        return terms, None
    method = _method(weight.shape[0], surrogate)
    return terms, Chosen(outputs[_TERMS].detach(), outputs[_TERMS + 1], method)


def _method(num_classes: int, surrogate: bool) -> str:
    if surrogate:
        return "surrogate"
    return "gram" if num_classes <= GRAM_CLASSES else "certified"


@torch.library.custom_op("logitlab::rival_terms", mutates_args=())
def rival_terms_operator(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    classifier: str,
    candidates: Sequence[float],
    multiplier: float,
    surrogate: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The terms, κ* and its certificate, and what is kept for the gradients."""
    search = KappaSearch(tuple(candidates), multiplier, surrogate) if candidates else None
    features = features.contiguous()
    known = cast(Classifier, classifier)
    terms, kept, chosen = forward_rival_terms(features, weight, target, kappa, bias, known, search)
    nothing = features.new_empty(0)
    found = (nothing, nothing.bool()) if chosen is None else chosen[:2]
    # An operator may not give back what it was given.
    rows = features.new_empty(0) if kept.rows is features else kept.rows
    kept = kept._replace(rows=rows)
    parts = (*terms, *found, *(nothing.clone() if part is None else part for part in kept))
    return cast(_Parts, parts)


@rival_terms_operator.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    classifier: str,
    candidates: Sequence[float],
    multiplier: float,
    surrogate: bool,
) -> tuple[Tensor, ...]:
    num_samples, num_classes = features.shape[0], weight.shape[0]
    cosine, divided = classifier == "cosine", classifier != "linear"
    certified = candidates and _method(num_classes, surrogate) == "certified"
    found = num_samples if candidates else 0
    return (
        *(features.new_empty(num_samples) for _ in range(_TERMS)),
        features.new_empty(found),
        features.new_empty(found, dtype=torch.bool),
        features.new_empty(num_samples * num_classes),
        torch.empty_like(features, memory_format=torch.contiguous_format) if cosine else features.new_empty(0),
        features.new_empty(num_samples, 1) if cosine else features.new_empty(0),
        features.new_empty(num_classes) if divided else features.new_empty(0),
        torch.empty_like(features, memory_format=torch.contiguous_format)
        if certified and multiplier == 1 and bias is None
        else features.new_empty(0),
        torch.empty((), dtype=torch.bool),
        features.new_empty(num_samples, 1),
        features.new_empty(num_samples, 1),
    )


@torch.library.custom_op("logitlab::rival_gradients", mutates_args=())
def rival_gradients_operator(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    kept: Sequence[Tensor],
    terms: Sequence[Tensor],
    upstream: Sequence[Tensor],
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of features, weight, κ (one a sample) and bias."""
    parts: list[Any] = [part if part.numel() else None for part in kept]
    parts[1] = features.contiguous() if parts[1] is None else parts[1]
    nothing = features.new_empty(0)
    found = rival_gradients(
        weight,
        target,
        kappa,
        bias,
        RivalTerms(*terms),
        Kept(*parts),
        RivalTerms(*upstream),
        Wanted(*wanted),
    )
    return tuple(nothing.clone() if part is None else part for part in found)  # type: ignore[return-value]


@rival_gradients_operator.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    kept: Sequence[Tensor],
    terms: Sequence[Tensor],
    upstream: Sequence[Tensor],
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_features, of_weight, of_kappa, of_bias = wanted
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(features, memory_format=contiguous) if of_features else features.new_empty(0),
        torch.empty_like(weight, memory_format=contiguous) if of_weight else features.new_empty(0),
        features.new_empty(features.shape[0]) if of_kappa else features.new_empty(0),
        features.new_empty(weight.shape[0]) if of_bias else features.new_empty(0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    features, weight, target, kappa, bias, _, candidates, multiplier, _ = inputs
    found = output[_TERMS]
    if candidates:
        kappa = found * multiplier
    ctx.mark_non_differentiable(*output[_TERMS + 1 :])
    ctx.save_for_backward(features, weight, target, kappa, bias, *output[:_TERMS], *output[_TERMS + 2 :])
    ctx.searched = bool(candidates)


def _backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
    features, weight, target, kappa, bias, *rest = ctx.saved_tensors
    of_features, of_weight, _, of_kappa, of_bias = ctx.needs_input_grad[:5]
    wanted = [of_features, of_weight, of_kappa and not ctx.searched, of_bias]
    found = rival_gradients_operator(
        features, weight, target, kappa, bias, rest[_TERMS:], rest[:_TERMS], list(gradients[:_TERMS]), wanted
    )
    to_features, to_weight, to_kappa, to_bias = (part if asked else None for part, asked in zip(found, wanted))
    if to_kappa is not None and kappa.ndim == 0:
        to_kappa = to_kappa.sum()
    return to_features, to_weight, None, to_kappa, to_bias, None, None, None, None


rival_terms_operator.register_autograd(_backward, setup_context=_keep)
