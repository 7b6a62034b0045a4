"""What all ranks do together ends alike on all of them: a fault of one is the fault of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from logitlab.config.errors import InputError, LogitLabError, ParameterError, RankError, RecordError
from logitlab.functional.blockwise import Ranks

T = TypeVar("T")

_KINDS: dict[str, type[LogitLabError]] = {kind.__name__: kind for kind in (InputError, ParameterError, RecordError)}


def together(ranks: Ranks, what: str, action: Callable[[], T]) -> list[T]:
    """Let every rank do its part, and give each what all of them found.

    Args:
        ranks: that take part; all must call this with the same ``what``.
        what: for errors.
        action: the part of this rank; it speaks to no other. What it gives back is pickled for the others.

    Returns:
        What each rank found, rank by rank.

    Raises:
        LogitLabError: of the first rank that has one, with the same message on all.
        RankError: another rank failed otherwise, is gone, or does not answer.
    """
    if ranks.size == 1:
        return [action()]
    found: Any = None
    fault: Exception | None = None
    try:
        found = action()
    except Exception as error:
        fault = error
    said = None if fault is None else (type(fault).__name__, str(fault))
    every: list[Any] = [None] * ranks.size
    try:
        dist.all_gather_object(every, (said, found), group=ranks.group)
    except RuntimeError as gone:
        raise RankError(
            f"Rank {ranks.rank} of {ranks.size}: another rank is gone, does not answer, or asks for something else, "
            f"while {what}. The process group cannot be used any more: end all ranks and start again from the last "
            f"checkpoint. The first rank that failed says why. ({str(gone).splitlines()[0]})"
        ) from gone
    for rank, (words, _) in enumerate(every):
        if words is None:
            continue
        if rank == ranks.rank and fault is not None:
            raise fault
        kind, message = words
        if kind in _KINDS:
            raise _KINDS[kind](message) from fault
        raise RankError(f"Rank {rank} of {ranks.size} failed while {what}: {kind}: {message}") from fault
    return [part for _, part in every]
