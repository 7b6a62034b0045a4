"""Which rank has which classes, where the targets of a batch are, and which classes are drawn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from logitlab.functional.blockwise import Placement, Ranks


class ClassRange(NamedTuple):
    """The classes of one rank: from ``start`` up to, and without, ``end``.

    >>> [ClassRange.of(rank, 3, 10) for rank in range(3)]
    [ClassRange(start=0, end=4), ClassRange(start=4, end=7), ClassRange(start=7, end=10)]
    """

    start: int
    end: int

    @classmethod
    def of(cls, rank: int, num_ranks: int, num_classes: int) -> ClassRange:
        """Ranges as equal as can be: the first C mod R ranks have a class more.

        Args:
            rank: in [0, R).
            num_ranks: R.
            num_classes: C.
        """
        each, more = divmod(num_classes, num_ranks)
        start = rank * each + min(rank, more)
        return cls(start, start + each + (rank < more))

    @property
    def number(self) -> int:
        """How many classes they are."""
        return self.end - self.start


def owner_of(target: Tensor, num_ranks: int, num_classes: int) -> Tensor:
    """The rank that has a class; -1 for a negative one.

    Args:
        target: class indices, any shape.
        num_ranks: R.
        num_classes: C.

    >>> owner_of(torch.tensor([0, 3, 4, 9, -1]), 3, 10)
    tensor([ 0,  0,  1,  2, -1])
    """
    each, more = divmod(num_classes, num_ranks)
    # The first ranks have a class more; from where that ends the rest have the same number.
    wide = target // (each + 1)
    narrow = (target - more) // max(each, 1)
    owner = torch.where(target < more * (each + 1), wide, narrow)
    return torch.where(target < 0, -1, owner)


def place_targets(target: Tensor, ranks: Ranks, num_classes: int) -> Placement:
    """Where the targets of all samples are among all classes.

    Args:
        target: of the samples of all ranks, -1 for none, ``[N]``.
        ranks: that share the classes.
        num_classes: C.
    """
    owner = owner_of(target, ranks.size, num_classes)
    start = ClassRange.of(ranks.rank, ranks.size, num_classes).start
    return Placement(torch.where(owner == ranks.rank, target - start, -1), owner, num_classes)


def draw_classes(placement: Placement, num_here: int, share: float, ranks: Ranks) -> tuple[Tensor, Placement]:
    """Draw some of the classes here, and those of the targets before any other.

    How many is known beforehand, so that no value is looked at: the share of the classes here, but at least as many as
    there are samples and at least two, as far as there are so many classes.

    Args:
        placement: of the targets among all classes.
        num_here: classes of this rank.
        share: in (0, 1).
        ranks: that share the classes.

    Returns:
        The classes drawn, increasing, int64 ``[k]``, and where the targets are among those.
    """
    num_drawn = [
        _number_drawn(ClassRange.of(rank, ranks.size, placement.num_classes).number, share, len(placement.column))
        for rank in range(ranks.size)
    ]
    device = placement.column.device
    order = torch.rand(num_here + 1, device=device)
    # What is elsewhere marks a place beyond the classes.
    order.index_fill_(0, torch.where(placement.column < 0, num_here, placement.column), 2.0)
    drawn = order[:num_here].topk(num_drawn[ranks.rank], sorted=False).indices.sort().values
    column = torch.searchsorted(drawn, placement.column)
    return drawn, Placement(torch.where(placement.column < 0, -1, column), placement.owner, sum(num_drawn))


def _number_drawn(num_classes: int, share: float, num_samples: int) -> int:
    # The class of a single sample must not be left without a rival.
    return min(num_classes, max(round(share * num_classes), num_samples, 2))
