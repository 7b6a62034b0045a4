"""The products of group softmax, for a block of classes: logits, gradient of the weight, gradient of the features.

A feature belongs to one group, so that each of them needs no more multiplications than its plain counterpart; but as
masked matrix products, the plain way, they need G times as many. On the CPU all three are what ``embedding_bag`` and
its derivative compute, without any feature of another group: sums of rows weighted by the features, and products of
one row by another. Where there is no such thing, or too few classes to be worth the preparation, they are masked.

Nothing here is differentiated by autograd; ``group_softmax_fast`` and ``group_softmax_operators`` are.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

#: Columns of a table summed at a time: rows of so many float32 stay in a core's second-level cache.
SUMMED_COLUMNS = 128
#: Columns of a table multiplied at a time: each product of two rows is a call, which pays for long ones only.
MULTIPLIED_COLUMNS = 1024
#: Sums of rows are faster than masked products from this many groups on, and this many masked numbers.
FEWEST_GROUPS, FEWEST_MASKED = 4, 2**17


def group_dtype(groups: int) -> torch.dtype:
    """The smallest integers that number the groups."""
    return torch.uint8 if groups <= 256 else torch.int32


def products_of_groups(features: Tensor, grouping: Tensor, groups: int) -> MaskedProducts | RowSums:
    """The faster products for this shape and this device.

    Args:
        features: x, shape ``[N, D]``.
        grouping: group of each feature in [0, G), integers, shape ``[N, D]``; groups may differ in size.
        groups: G.

    Returns:
        Something with three methods: ``logits`` of a block of the weight ``[c, D]`` gives ``[N, G, c]``;
        ``to_weight`` takes gradients of these to ``[c, D]``; ``to_features`` takes them, and the block, to ``[N, D]``.
    """
    large = groups >= FEWEST_GROUPS and features.numel() * groups > FEWEST_MASKED
    summed = large and features.device.type == "cpu" and features.dtype in (torch.float32, torch.float64)
    return RowSums(features, grouping, groups) if summed else MaskedProducts(features, grouping, groups)


class MaskedProducts:
    """One matrix product for all groups, of features ``[NG, D]`` that are zero outside of their group."""

    def __init__(self, features: Tensor, grouping: Tensor, groups: int) -> None:
        alone = features.new_zeros(features.shape[0], groups, features.shape[1])
        self.index = grouping.long().unsqueeze(1)
        self.alone = alone.scatter_(1, self.index, features.unsqueeze(1)).flatten(0, 1)
        self.groups = groups

    def logits(self, weight: Tensor) -> Tensor:
        """``[N, G, c]`` of a block of the weight ``[c, D]``."""
        return F.linear(self.alone, weight).view(-1, self.groups, len(weight))

    def to_weight(self, gradient: Tensor) -> Tensor:
        """``[c, D]`` of the gradient of the logits."""
        return gradient.flatten(0, 1).t() @ self.alone

    def to_features(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """``[N, D]`` of the gradient of the logits and the block of the weight."""
        everywhere = gradient.flatten(0, 1) @ weight
        return everywhere.view(-1, self.groups, weight.shape[1]).gather(1, self.index).squeeze(1)


class RowSums:
    """Sums over the features of a group, as ``embedding_bag`` has them; a bag is a group of a sample."""

    def __init__(self, features: Tensor, grouping: Tensor, groups: int) -> None:
        self.features, self.groups = features, groups
        # Numbers of few bits, which a radix sort likes.
        dtype = torch.int16 if len(grouping) * groups < 2**15 else torch.int32
        first = torch.arange(0, len(grouping) * groups, groups, dtype=dtype)
        self.bag = grouping.to(dtype).add_(first.unsqueeze(-1))

    @cached_property
    def _features_of_bags(self) -> tuple[Tensor, Tensor, Tensor]:
        """By sample, then group, then feature: features' indices, where the bags begin, the features themselves."""
        bag, order = torch.sort(self.bag.view(-1), stable=True)
        offsets = torch.searchsorted(bag, torch.arange(self.features.shape[0] * self.groups, dtype=bag.dtype))
        factor = self.features.reshape(-1).index_select(0, order)
        return order.remainder_(self.features.shape[1]), offsets, factor

    @cached_property
    def _bags_of_features(self) -> tuple[Tensor, Tensor, Tensor]:
        """By feature, then sample: indices of the bags, where the features begin, the features themselves."""
        offsets = torch.arange(0, self.features.numel(), self.features.shape[0], dtype=torch.int32)
        return self.bag.t().reshape(-1).int(), offsets, self.features.t().reshape(-1)

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        """By sample, then feature: indices of the features and of their bags."""
        row = torch.arange(self.features.shape[1], dtype=torch.int32).repeat(len(self.features))
        return row, self.bag.view(-1).int()

    def logits(self, weight: Tensor) -> Tensor:
        """Sum the rows of the transposed weight over the features of each group, weighted by the features."""
        result = self.features.new_empty(self.bag.shape[0] * self.groups, len(weight))
        for start in range(0, len(weight), SUMMED_COLUMNS):
            table = weight[start : start + SUMMED_COLUMNS].t().contiguous()
            result[:, start : start + SUMMED_COLUMNS] = _weighted_sums(table, *self._features_of_bags)
        return result.view(-1, self.groups, len(weight))

    def to_weight(self, gradient: Tensor) -> Tensor:
        """Sum, for each feature, the gradients of the groups that it was in, weighted by the feature."""
        gradient = gradient.flatten(0, 1)
        result = self.features.new_empty(gradient.shape[1], self.features.shape[1])
        for start in range(0, len(result), SUMMED_COLUMNS):
            table = gradient[:, start : start + SUMMED_COLUMNS].contiguous()
            result[start : start + SUMMED_COLUMNS] = _weighted_sums(table, *self._bags_of_features).t()
        return result

    def to_features(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """Multiply, for each feature, the gradient of its group by its own column of the weight.

        This is the derivative of the sums by their factors, whose kernel is called by name: autograd would compute the
        sums once more to come to it.
        """
        row, bag = self._pairs
        unused = torch.zeros(1, dtype=torch.int32)  # offsets; each row brings its bag
        gradient = gradient.flatten(0, 1)
        result = self.features.new_zeros(self.features.numel())
        for start in range(0, len(weight), MULTIPLIED_COLUMNS):
            table = weight[start : start + MULTIPLIED_COLUMNS].t().contiguous()
            columns = gradient[:, start : start + MULTIPLIED_COLUMNS]
            result += torch.ops.aten._embedding_bag_per_sample_weights_backward(columns, table, row, unused, bag, 0)
        return result.view(self.features.shape)


def _weighted_sums(table: Tensor, row: Tensor, offsets: Tensor, factor: Tensor) -> Tensor:
    return F.embedding_bag(row, table, offsets, mode="sum", per_sample_weights=factor)
