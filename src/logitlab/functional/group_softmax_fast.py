"""Group softmax, the fast version: the order of λ by a radix sort, and group logits by the faster of two products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .at_hand import operators_may_have
from .group_softmax import check_groups, discriminative_grouping, group_logits, group_mask
from .group_softmax_products import group_dtype, products_of_groups
from .precision import at_least_float32, autocast_off
from .targets import is_soft

#: Numbers sorted at once: enough for torch's radix sort, few enough for the cache.
SORTED_AT_ONCE = 2**16


@torch.no_grad()
def fast_discriminative_grouping(features: Tensor, weight: Tensor, target: Tensor, groups: int) -> Tensor:
    """The same as ``discriminative_grouping``, entry for entry, in half of the time and in fewer bytes.

    Float32 numbers are read as integers of the same order and put behind the number of their sample, so that many
    samples are sorted as one row: torch sorts a long row of integers by radix. Everything else (float64, GPUs,
    torch.func) takes the plain version. To torch.compile this is one node.

    Args:
        features: x, shape ``[..., D]``.
        weight: W, shape ``[C, D]``.
        target: class indices in [0, C), int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        groups: G, which divides D.

    Returns:
        Group of each feature in [0, G), integers of any size, shape ``[..., D]``.

    Raises:
        ParameterError: G does not divide D.

    >>> weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]])
    >>> fast_discriminative_grouping(torch.ones(1, 4), weight, torch.tensor([0]), groups=2).int()
    tensor([[1, 0, 0, 1]], dtype=torch.int32)
    """
    check_groups(features.shape[-1], groups)
    single = at_least_float32(features, weight) == torch.float32
    if not single or features.device.type != "cpu" or not operators_may_have(features, weight, target):
        return discriminative_grouping(features, weight, target, groups)
    rows, weight = features.reshape(-1, features.shape[-1]).float(), weight.float()
    with autocast_off(features.device):
        own = F.linear(target.float(), weight.t()).reshape(rows.shape) if is_soft(target) else None
        grouping: Tensor = _grouping(rows, weight, own, None if own is not None else target.reshape(-1), groups)
    return grouping.view(features.shape)


def _grouping_by_radix(
    features: Tensor, weight: Tensor, own: Tensor | None, target: Tensor | None, groups: int
) -> Tensor:
    """Part rows ``[N, D]`` by the order of λ, some rows at a time; equal λ go by the index of their feature.

    What a row of the weight is to a class index, ``own`` is to a soft target; one of them is given.
    """
    num_features, dtype = features.shape[1], group_dtype(groups)
    total, num_rivals = weight.sum(dim=0), max(len(weight) - 1, 1)
    rows = max(SORTED_AT_ONCE // num_features, 1)
    blocks = (torch.arange(num_features) // (num_features // groups)).to(dtype).repeat(rows)
    first = ((torch.arange(rows) << 32) + 2**31).unsqueeze(1)
    grouping = torch.empty(features.shape, dtype=dtype)
    for start in range(0, len(features), rows):
        block = slice(start, start + rows)
        if own is not None:
            score = own[block].clone()
        else:
            assert target is not None
            score = weight.index_select(0, target[block])
        score.sub_((total - score).div_(num_rivals)).mul_(features[block])
        # Adding zero makes -0 a plain zero. Of negative numbers all bits but the sign turn, then integers order as
        # they do.
        bits = score.add_(0.0).view(torch.int32)
        ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
        keys = ordered + first[: len(bits)]
        order = torch.sort(keys.view(-1), stable=True).indices
        grouping[block].view(-1).scatter_(0, order, blocks[: len(order)])
    return grouping


_grouping = torch.library.custom_op(
    "logitlab::discriminative_grouping",
    _grouping_by_radix,
    mutates_args=(),
    schema="(Tensor features, Tensor weight, Tensor? own, Tensor? target, int groups) -> Tensor",
)
_grouping.register_fake(
    lambda features, weight, own, target, groups: features.new_empty(features.shape, dtype=group_dtype(groups))
)


def fast_group_logits(
    features: Tensor, weight: Tensor, grouping: Tensor, groups: int, bias: Tensor | None = None
) -> Tensor:
    """The same as ``group_logits`` up to rounding, with a backward pass of its own, which can be differentiated again.

    Under torch.compile and torch.func, and elsewhere than on the CPU, this is ``group_logits`` itself: one large matrix
    product. With one group it is a plain linear layer.

    Args:
        features: x, shape ``[..., D]``, float32 at least.
        weight: W, shape ``[C, D]``, of the same dtype.
        grouping: group of each feature in [0, G), integers, shape ``[..., D]``.
        groups: G.
        bias: b, shape ``[C]``, of the same dtype.

    Returns:
        Shape ``[..., G, C]``.

    >>> features, weight = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    >>> fast_group_logits(features, weight, torch.tensor([[0, 1, 1, 0]]), groups=2)
    tensor([[[5.],
             [5.]]])
    """
    if groups == 1:
        return F.linear(features, weight, bias).unsqueeze(-2)
    if features.device.type != "cpu" or not features.numel() or not _eager(features, weight, grouping, bias):
        return group_logits(features, weight, grouping, groups, bias)
    leading = features.shape[:-1]
    rows = features.reshape(-1, features.shape[-1])
    small = grouping.reshape(rows.shape).to(group_dtype(groups))
    logits: Tensor = _GroupLogits.apply(rows, weight, None if bias is None else bias / groups, small, groups)
    return logits.view(*leading, groups, weight.shape[0])


class _GroupLogits(torch.autograd.Function):
    """Group logits ``[N, G, C]`` of features ``[N, D]``, a weight, a share of the bias, and a grouping ``[N, D]``."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, share: Tensor | None, grouping: Tensor, groups: int
    ) -> Tensor:
        ctx.save_for_backward(features, weight, grouping)
        ctx.groups = groups
        logits = products_of_groups(features, grouping, groups).logits(weight)
        return logits if share is None else logits.add_(share)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, grouping = ctx.saved_tensors
        groups = ctx.groups
        of_features, of_weight, of_share = ctx.needs_input_grad[:3]
        to_share = gradient.sum(dim=(0, 1)) if of_share else None
        to_features: Tensor | None = None
        to_weight: Tensor | None = None
        if torch.is_grad_enabled():  # create_graph=True: the plain formulas, which autograd can go through again
            inside = group_mask(grouping, groups)
            alone = torch.where(inside, features.unsqueeze(1), torch.zeros_like(features).unsqueeze(1))
            to_features = torch.where(inside, gradient @ weight, torch.zeros_like(alone)).sum(dim=1)
            to_weight = gradient.flatten(0, 1).t() @ alone.flatten(0, 1)
        else:
            with autocast_off(features.device):
                products = products_of_groups(features, grouping, groups)
                to_features = products.to_features(gradient, weight) if of_features else None
                to_weight = products.to_weight(gradient) if of_weight else None
        return to_features, to_weight, to_share, None, None


def _eager(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors: not compiled, exported, or wrapped by torch.func or a subclass."""
    return not torch.compiler.is_compiling() and operators_may_have(*tensors)
