"""Group softmax, the fast version: the order of λ by a radix sort, and group logits as weighted sums of rows.

A feature belongs to one group, so that the group logits need no more multiplications than the whole ones; but masked
matrix products, the plain way, need G times as many. On the CPU a sum over the features of a group is what
``embedding_bag`` computes: rows of the transposed weight, weighted by the features. It takes about as long as four
matrix products whatever G is. The gradient of the weight is such a sum too. That of the features is not: it takes a
product a group, of which each feature keeps the entry of its own group, without ever holding them all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .group_softmax import (
    check_groups,
    discriminative_grouping,
    discriminativity,
    group_logits,
    group_mask,
)
from .precision import at_least_float32, autocast_off

#: Classes at a time: rows of this many float32 of the transposed weight stay in a core's second-level cache.
CLASS_BLOCK = 128


#: Numbers sorted at once: enough for torch's radix sort, few enough for the cache.
SORTED_AT_ONCE = 2**16


@torch.no_grad()
def fast_discriminative_grouping(features: Tensor, weight: Tensor, target: Tensor, groups: int) -> Tensor:
    """The same as ``discriminative_grouping``, entry for entry, in half of the time and in fewer bytes.

    Float32 numbers are read as integers of the same order and put behind the number of their sample, so that many
    samples are sorted as one row: torch sorts a long row of integers by radix. Everything else (float64, GPUs,
    torch.compile, torch.func) takes the plain version.

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
    if not single or features.device.type != "cpu" or not _eager(features, weight, target):
        return discriminative_grouping(features, weight, target, groups)
    with autocast_off(features.device):
        score = discriminativity(features.float(), weight.float(), target)
    return _grouping_by_radix(score.reshape(-1, score.shape[-1]), groups).view(score.shape)


def _grouping_by_radix(score: Tensor, groups: int) -> Tensor:
    """Part each row of float32 numbers ``[N, D]`` by their order, equal ones by their index."""
    num_features = score.shape[1]
    dtype = _group_dtype(groups)
    blocks = (torch.arange(num_features) // (num_features // groups)).to(dtype)
    grouping = torch.empty(score.shape, dtype=dtype)
    rows = max(SORTED_AT_ONCE // num_features, 1)
    for start in range(0, len(score), rows):
        # Adding zero makes -0 a plain zero. Of negative numbers all bits but the sign turn, then integers order as
        # they do.
        bits = (score[start : start + rows] + 0.0).view(torch.int32)
        ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
        keys = ordered + ((torch.arange(len(bits)) << 32) + 2**31).unsqueeze(1)
        order = torch.sort(keys.view(-1), stable=True).indices
        grouping[start : start + rows].view(-1).scatter_(0, order, blocks.repeat(len(bits)))
    return grouping


def _group_dtype(groups: int) -> torch.dtype:
    return torch.uint8 if groups <= 256 else torch.int32


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
    small = grouping.reshape(rows.shape).to(_group_dtype(groups))
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
        logits = _sums_of_groups(features, weight, grouping, groups)
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
            to_features = _features_gradient(gradient, weight, grouping, groups) if of_features else None
            to_weight = _weight_gradient(gradient, features, grouping, groups) if of_weight else None
        return to_features, to_weight, to_share, None, None


def _sums_of_groups(features: Tensor, weight: Tensor, grouping: Tensor, groups: int) -> Tensor:
    """Sum the rows of the transposed weight over the features of each group, weighted by the features."""
    num_samples, num_features = features.shape
    bag, order = torch.sort(_bag(grouping, groups).view(-1), stable=True)  # by sample, then group, then feature
    offsets = torch.searchsorted(bag, torch.arange(num_samples * groups, dtype=bag.dtype))
    factor = features.reshape(-1).index_select(0, order)
    row = order.remainder_(num_features)
    logits = features.new_empty(num_samples * groups, weight.shape[0])
    for start in range(0, weight.shape[0], CLASS_BLOCK):
        block = weight[start : start + CLASS_BLOCK].t().contiguous()
        logits[:, start : start + CLASS_BLOCK] = _weighted_sums(block, row, offsets, factor)
    return logits.view(num_samples, groups, -1)


def _weight_gradient(gradient: Tensor, features: Tensor, grouping: Tensor, groups: int) -> Tensor:
    """Sum, for each feature, the gradients of the groups that it was in, weighted by the feature."""
    num_samples, num_features = features.shape
    row = _bag(grouping, groups).t().reshape(-1).int()
    factor = features.t().reshape(-1)
    offsets = torch.arange(0, num_samples * num_features, num_samples, dtype=torch.int32)
    rows = gradient.reshape(num_samples * groups, -1)
    result = features.new_empty(rows.shape[1], num_features)
    for start in range(0, rows.shape[1], CLASS_BLOCK):
        block = rows[:, start : start + CLASS_BLOCK].contiguous()
        result[start : start + CLASS_BLOCK] = _weighted_sums(block, row, offsets, factor).t()
    return result


def _bag(grouping: Tensor, groups: int) -> Tensor:
    """Number of the group of a sample, ``[N, D]``, in [0, NG): in few bits, which a radix sort likes."""
    dtype = torch.int16 if len(grouping) * groups < 2**15 else torch.int32
    first = torch.arange(0, len(grouping) * groups, groups, dtype=dtype)
    return grouping.to(dtype).add_(first.unsqueeze(-1))


def _weighted_sums(table: Tensor, row: Tensor, offsets: Tensor, factor: Tensor) -> Tensor:
    return F.embedding_bag(row, table, offsets, mode="sum", per_sample_weights=factor)


def _features_gradient(gradient: Tensor, weight: Tensor, grouping: Tensor, groups: int) -> Tensor:
    """A product a group, of which each feature keeps the entry of its own group."""
    result = gradient[:, 0] @ weight
    for group in range(1, groups):
        result = torch.where(grouping == group, gradient[:, group] @ weight, result)
    return result


def _eager(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors: not compiled, exported, or wrapped by torch.func or a subclass."""
    return not torch.compiler.is_compiling() and all(
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type != "meta"
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in tensors
        if tensor is not None
    )
