"""The processes that share the classes, and what they tell each other: each exchange has a name and is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from logitlab.config.errors import ParameterError, RankError

from ..at_hand import values_at_hand


class Traffic(NamedTuple):
    """One exchange.

    Attributes:
        what: what it was about, in words.
        operation: ``"all_gather"``, ``"all_to_all"``, ``"reduce_scatter"`` or ``"all_reduce"``.
        elements: numbers that this rank hands to the operation.
        bytes: their size.
    """

    what: str
    operation: str
    elements: int
    bytes: int


class Ranks:
    """The ranks of a process group; without a group one process, which has all classes and tells nobody anything.

    Every rank must call the same methods in the same order. Rows are those of all ranks, rank by rank, as many of each;
    home rows are this rank's own.

    Args:
        group: of torch.distributed, or None.

    Raises:
        ParameterError: this process is no member of the group.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        traffic: the exchanges since ``begin``.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        if self.rank < 0:
            raise ParameterError("This process is no member of the group that was given. Only its ranks may use it.")
        self.size = 1 if group is None else dist.get_world_size(group)
        self.traffic: list[Traffic] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """A copy speaks to the same processes."""
        return Ranks(self.group)

    def begin(self) -> None:
        """Count from here."""
        self.traffic = []

    def gather(self, home: Tensor, what: str) -> Tensor:
        """Rows of all ranks, ``[R n, ...]``, from the home rows of each, ``[n, ...]``."""
        if self.size == 1:
            return home
        home = home.contiguous()
        every = home.new_empty(self.size * home.shape[0], *home.shape[1:])
        with self._telling(what, "all_gather", home):
            dist.all_gather_into_tensor(every, home, group=self.group)
        return every

    def exchange(self, partial: Tensor, what: str) -> Tensor:
        """What each rank found for the home rows.

        Args:
            partial: what this rank found for all rows, ``[R n, ...]``.
            what: for the count and for errors.

        Returns:
            ``[R, n, ...]``.
        """
        if self.size == 1:
            return partial.unsqueeze(0)
        partial = partial.contiguous()
        found = torch.empty_like(partial)
        with self._telling(what, "all_to_all", partial):
            dist.all_to_all_single(found, partial, group=self.group)
        return found.view(self.size, -1, *partial.shape[1:])

    def collect(self, partial: Tensor, sizes: Sequence[int], what: str) -> Tensor:
        """Columns of the home rows from all ranks, side by side.

        Args:
            partial: what this rank has for all rows, ``[R n, c]``.
            sizes: c of each rank.
            what: for the count and for errors.

        Returns:
            ``[n, Σ c]``.
        """
        if self.size == 1:
            return partial
        partial = partial.contiguous()
        number = partial.shape[0] // self.size
        found = partial.new_empty(number * sum(sizes))
        received = [number * size for size in sizes]
        sent = [number * partial.shape[1]] * self.size
        with self._telling(what, "all_to_all", partial):
            dist.all_to_all_single(found, partial.view(-1), received, sent, group=self.group)
        return torch.cat([part.view(number, -1) for part in torch.split(found, received)], dim=1)

    def sum_home(self, partial: Tensor, what: str) -> Tensor:
        """Sum over the ranks of what each found, ``[R n, ...]``, for the home rows: ``[n, ...]``."""
        if self.size == 1:
            return partial
        partial = partial.contiguous()
        home = partial.new_empty(partial.shape[0] // self.size, *partial.shape[1:])
        with self._telling(what, "reduce_scatter", partial):
            dist.reduce_scatter_tensor(home, partial, group=self.group)
        return home

    def sum(self, partial: Tensor, what: str) -> Tensor:
        """Sum over the ranks, the same on all of them."""
        return self._reduce(partial, what, dist.ReduceOp.SUM)

    def largest(self, partial: Tensor, what: str) -> Tensor:
        """Largest over the ranks, element by element, the same on all of them."""
        return self._reduce(partial, what, dist.ReduceOp.MAX)

    def from_first(self, value: Tensor, what: str) -> Tensor:
        """What rank 0 has."""
        return self.sum(value if self.rank == 0 else torch.zeros_like(value), what)

    def deal(self, rows: Tensor, owner: Tensor, what: str) -> Tensor:
        """Bring a row for each home sample from the rank that owns it.

        Where values are at hand each row travels once, from its owner; elsewhere the counts would have to be read from
        the device, so that zeros travel for what a rank does not own.

        Args:
            rows: for all samples, ``[R n, D]``; only those that this rank owns are looked at.
            owner: which rank owns the row of each sample, -1 for none; ``[R n]``.
            what: for the count and for errors.

        Returns:
            ``[n, D]``, zero where nobody owns the row.
        """
        mine = (owner == self.rank).unsqueeze(1)
        if self.size == 1 or not values_at_hand(rows):
            return self.sum_home(torch.where(mine, rows, 0.0), what)
        by_home = owner.view(self.size, -1)
        of_home = by_home[self.rank]
        sent = (by_home == self.rank).sum(dim=1).tolist()
        received = torch.bincount(of_home[of_home >= 0], minlength=self.size).tolist()
        outgoing = rows[mine.squeeze(1)]
        incoming = rows.new_empty(sum(received), rows.shape[1])
        with self._telling(what, "all_to_all", outgoing):
            dist.all_to_all_single(incoming, outgoing, received, sent, group=self.group)
        home = rows.new_zeros(len(of_home), rows.shape[1])
        # They arrive rank by rank, of each rank in the order of the samples.
        place = of_home.argsort(stable=True)[len(of_home) - len(incoming) :]
        home[place] = incoming
        return home

    def any(self, flags: Tensor, what: str) -> bool:
        """Whether a flag is set on any rank; reads values, so that it waits for a GPU."""
        flag = flags.any().to(torch.int32)
        return bool(self.largest(flag, what)) if self.size > 1 else bool(flag)

    def _reduce(self, partial: Tensor, what: str, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size == 1:
            return partial
        result = partial.clone(memory_format=torch.contiguous_format)
        with self._telling(what, "all_reduce", result):
            dist.all_reduce(result, operation, group=self.group)
        return result

    @contextmanager
    def _telling(self, what: str, operation: str, sent: Tensor) -> Iterator[None]:
        self.traffic.append(Traffic(what, operation, sent.numel(), sent.numel() * sent.element_size()))
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as fault:
            # What gloo and NCCL raise where a peer has died, or has not answered within the timeout of the group.
            raise RankError(
                f"Rank {self.rank} of {self.size}: another rank is gone, does not answer, or asks for something else, "
                f"at the {operation} of {what}. The process group cannot be used any more: end all ranks and start "
                f"again from the last checkpoint. The first rank that failed says why. ({str(fault).splitlines()[0]})"
            ) from fault
