"""What the ranks tell each other before a step, so that a fault of one is said by all and nobody waits for it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional.blockwise import Ranks

if TYPE_CHECKING:
    from .attributes import Sharded

#: Numbers of a shard from which on it cannot equal another one by chance.
_ENOUGH = 64


def agree_on_batch(ranks: Ranks, number: int, needs_gradient: bool, refused: bool, device: torch.device) -> int:
    """The most samples of any rank; where values are at hand.

    Args:
        ranks: that share the classes.
        number: of this rank's samples.
        needs_gradient: whether its features need a gradient, which all ranks exchange or none.
        refused: whether it has refused its batch, and will raise an error of its own.
        device: to speak on.

    Raises:
        InputError: another rank has refused its batch, or the ranks do not ask for the same gradients.
    """
    told = torch.tensor([number, refused, needs_gradient, not needs_gradient], device=device)
    most, faulty, some, some_not = ranks.largest(told, "the number of samples").tolist()
    if faulty and not refused:
        raise InputError("Another rank has refused its batch, and says why. No rank has taken a step.")
    if some and some_not and not refused:
        raise InputError(
            "Expected features that need a gradient on all ranks or on none, because the gradients are exchanged. This "
            f"rank's {'do' if needs_gradient else 'do not'}; freeze the backbone on every rank alike."
        )
    return int(most)


@torch.no_grad()
def look_at_shards(head: Sharded) -> None:
    """Before the first step: refuse a weight that is spread already, and warn where ranks hold the same rows.

    It reads values, so that it waits for a GPU, once.

    Args:
        head: about to take a step of training.

    Raises:
        InputError: the weight is a tensor of FSDP or of tensor parallelism.
    """
    if hasattr(head.weight, "device_mesh"):
        raise InputError(
            "The weight of a ShardedHead is split over the ranks already. Got one that FSDP or another wrapper has "
            "spread once more: wrap the backbone alone."
        )
    # Asked of all ranks alike, not of this one's part.
    if head.ranks.size == 1 or head.num_classes // head.ranks.size * head.in_features < _ENOUGH:
        return
    numbers = head.weight.detach().double()
    mark = torch.stack([numbers.sum(), numbers.square().sum(), numbers[0].sum(), numbers[-1].sum()])
    every = head.ranks.gather(mark.unsqueeze(0), "marks of the weights")
    if bool(mark[1] > 0) and int((every == mark).all(dim=1).sum()) > 1:
        warnings.warn(
            "Several ranks of a ShardedHead hold the same rows of weight. DistributedDataParallel does so to a model "
            "that it is given whole: use DistributedDataParallel(logitlab.keep_shards_local(model)), or wrap the "
            "backbone alone.",
            stacklevel=3,
        )


def loud(gap: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """NaN for samples of no class, where labels are not checked because that would wait for the device.

    Args:
        gap: of each sample, ``[...]``.
        target: class indices, ``[...]``.
        num_classes: C.
    """
    return torch.where((target >= 0) & (target < num_classes), gap, torch.nan)
