"""The operator behind the fused step of group softmax, and its backward pass, both a block of classes at a time.

Operators of ``torch.library``, each with a twin that knows only shapes, are one node to torch.compile too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .at_hand import gradient_of, operators_may_have
from .cross_entropy import rival_logsumexp
from .group_softmax import group_logits
from .group_softmax_products import products_of_groups
from .precision import autocast_off

#: Group logits in a block of classes: few enough for a cache, and on a GPU enough to keep it busy.
BLOCK, BLOCK_ELSEWHERE = 2**20, 2**24
#: Classes in a block, at least.
FEWEST_CLASSES = 128


def spares_memory(features: Tensor, num_classes: int, groups: int) -> bool:
    """Whether the group logits are more than one block of classes, so that the fused step is worth its calls.

    Below that it takes about as long as the plain one, or half a millisecond longer.

    Args:
        features: shape ``[..., D]``; only its shape and device count.
        num_classes: C.
        groups: G.

    >>> spares_memory(torch.zeros(256, 2048), 1000, 8), spares_memory(torch.zeros(128, 512), 100, 8)
    (True, False)
    """
    num_samples = features.numel() // max(features.shape[-1], 1)
    return num_samples * groups * num_classes > _block_of(features)


def _block_of(features: Tensor) -> int:
    return BLOCK if features.device.type == "cpu" else BLOCK_ELSEWHERE


def _blocks(features: Tensor, num_classes: int, groups: int) -> Iterator[slice]:
    size = max(_block_of(features) // max(len(features) * groups, 1), FEWEST_CLASSES)
    return (slice(start, min(start + size, num_classes)) for start in range(0, num_classes, size))


def _forward(
    features: Tensor, weight: Tensor, share: Tensor | None, target: Tensor, grouping: Tensor, groups: int, hold: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Rivals' log-sum-exp and target's logit, ``[N, G]`` each, and the logits ``[N, G, C]`` where they are held."""
    rivals, own, held = _empty_forward(features, weight, share, target, grouping, groups, hold)
    own.zero_()
    of_blocks = []
    with autocast_off(features.device):
        products = products_of_groups(features, grouping, groups)
        for block in _blocks(features, len(weight), groups):
            logits = products.logits(weight[block])
            if share is not None:
                logits += share[block]
            here, index = _place(target, block)
            at_target = logits.gather(2, index.expand(-1, groups, 1))
            own += torch.where(here, at_target, 0).squeeze(2)
            lowest = torch.finfo(logits.dtype).min  # see rival_logsumexp
            logits.scatter_(2, index.expand(-1, groups, 1), torch.where(here, lowest, at_target))
            if held.numel():
                held[:, :, block] = logits
            of_blocks.append(logits.logsumexp(dim=2))
        torch.logsumexp(torch.stack(of_blocks, dim=2), dim=2, out=rivals)
    return rivals, own, held


def _empty_forward(
    features: Tensor, weight: Tensor, share: Tensor | None, target: Tensor, grouping: Tensor, groups: int, hold: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows = features.new_empty(len(features), groups)
    return rows, torch.empty_like(rows), features.new_empty(len(features), groups, len(weight) if hold else 0)


def _place(target: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Whether the target lies in a block, and where, ``[N, 1, 1]``; without asking a GPU for values."""
    place = (target - block.start).view(-1, 1, 1)
    width = block.stop - block.start
    return (place >= 0) & (place < width), place.clamp(0, width - 1)


def _backward(
    to_rivals: Tensor,
    to_own: Tensor,
    rivals: Tensor,
    held: Tensor,
    features: Tensor,
    weight: Tensor,
    share: Tensor | None,
    target: Tensor,
    grouping: Tensor,
    of_features: bool,
    of_weight: bool,
    of_share: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of features, weight and share; without elements where nobody asks."""
    groups = rivals.shape[1]
    to_features, to_weight, to_share = _empty_gradients(features, weight, of_features, of_weight, of_share)
    to_features.zero_()
    with autocast_off(features.device):
        products = products_of_groups(features, grouping, groups)
        for block in _blocks(features, len(weight), groups):
            if held.numel():
                gradient = held[:, :, block] - rivals.unsqueeze(2)
            else:
                gradient = products.logits(weight[block])
                if share is not None:
                    gradient += share[block]
                gradient -= rivals.unsqueeze(2)
            gradient.exp_().mul_(to_rivals.unsqueeze(2))
            here, index = _place(target, block)
            index = index.expand(-1, groups, 1)
            gradient.scatter_(2, index, torch.where(here, to_own.unsqueeze(2), gradient.gather(2, index)))
            if of_share:
                to_share[block] = gradient.sum(dim=(0, 1))
            if of_weight:
                to_weight[block] = products.to_weight(gradient)
            if of_features:
                to_features += products.to_features(gradient, weight[block])
    return to_features, to_weight, to_share


def _empty_gradients(
    features: Tensor, weight: Tensor, of_features: bool, of_weight: bool, of_share: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        features.new_empty(features.shape if of_features else 0),
        weight.new_empty(weight.shape if of_weight else 0),
        weight.new_empty(len(weight) if of_share else 0),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    features, weight, share, target, grouping, groups, _ = inputs
    rivals, _, held = output
    ctx.save_for_backward(features, weight, share, target, grouping, rivals, held)
    ctx.groups = groups
    ctx.mark_non_differentiable(held)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, to_rivals: Tensor | None, to_own: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    features, weight, share, target, grouping, rivals, held = ctx.saved_tensors
    asked = ctx.needs_input_grad[:3]
    upstream = tuple(torch.zeros_like(rivals) if gradient is None else gradient for gradient in (to_rivals, to_own))
    # To be differentiated again (create_graph), or of a batch of upstream gradients: by the plain formulas.
    if torch.is_grad_enabled() or not operators_may_have(*upstream):
        found = gradient_of(
            lambda features, weight, *share: plain_group_terms(features, weight, target, grouping, ctx.groups, *share),
            (features, weight) if share is None else (features, weight, share),
            upstream,
        )
        return *found, *[None] * (7 - len(found))
    gradients = _gradients(*upstream, rivals, held, features, weight, share, target, grouping, *asked)
    return *(gradient if wanted else None for gradient, wanted in zip(gradients, asked)), None, None, None, None


def plain_group_terms(
    features: Tensor, weight: Tensor, target: Tensor, grouping: Tensor, groups: int, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``fused_group_terms`` by their formulas: what its backward pass falls back to when it is differentiated again.

    >>> weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]])
    >>> plain_group_terms(torch.ones(1, 4), weight, torch.tensor([0]), torch.tensor([[1, 0, 0, 1]]), groups=2)
    (tensor([[7., 1.]]), tensor([[1., 4.]]))
    """
    logits = group_logits(features, weight, grouping, groups)
    if share is not None:
        logits = logits + share
    of_groups = target.unsqueeze(-1).expand(logits.shape[:-1])
    return rival_logsumexp(logits, of_groups), logits.gather(-1, of_groups.unsqueeze(-1)).squeeze(-1)


#: Features ``[N, D]``, weight ``[C, D]``, what is added to the logits ``[C]``, target ``[N]``, grouping ``[N, D]``, G,
#: and whether to hold the logits -> what ``plain_group_terms`` gives, and the logits where they are held.
group_terms = torch.library.custom_op(
    "logitlab::group_softmax_terms",
    _forward,
    mutates_args=(),
    schema="(Tensor features, Tensor weight, Tensor? share, Tensor target, Tensor grouping, int groups, bool hold)"
    " -> (Tensor, Tensor, Tensor)",
)
group_terms.register_fake(_empty_forward)
group_terms.register_autograd(_differentiate, setup_context=_remember)

_gradients = torch.library.custom_op(
    "logitlab::group_softmax_gradients",
    _backward,
    mutates_args=(),
    schema="(Tensor to_rivals, Tensor to_own, Tensor rivals, Tensor held, Tensor features, Tensor weight, "
    "Tensor? share, Tensor target, Tensor grouping, bool of_features, bool of_weight, bool of_share)"
    " -> (Tensor, Tensor, Tensor)",
)
_gradients.register_fake(lambda *inputs: _empty_gradients(inputs[4], inputs[5], *inputs[9:]))
