"""What torchrun told this process: which of how many it is. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .errors import ConfigurationError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """One of several processes that torchrun started for one training.

    Attributes:
        rank: of this process, from 0; the process of rank 0 alone writes and prints.
        size: how many processes there are, at least 2.
        local_rank: of this process on its machine, from 0; the number of its GPU.
    """

    rank: int
    size: int
    local_rank: int


def torchrun_launch() -> Launch | None:
    """Read torchrun's environment; None when this process is on its own.

    Raises:
        ConfigurationError: the variables contradict each other.
    """
    if not all(name in os.environ for name in _VARIABLES):
        return None
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in _VARIABLES[:3])
        fits = 0 <= rank < size and local_rank >= 0
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(
            "The environment variables RANK, WORLD_SIZE and LOCAL_RANK must be those that torchrun sets. "
            f"Got {', '.join(os.environ[name] for name in _VARIABLES[:3])}; start with torchrun, or unset them."
        )
    return Launch(rank, size, local_rank) if size > 1 else None


def refuse_torchrun(command: str) -> None:
    """Refuse to run what several processes would do several times.

    Args:
        command: what was called.

    Raises:
        ConfigurationError: torchrun started this process among others.
    """
    launch = torchrun_launch()
    if launch is not None:
        raise ConfigurationError(
            f"torchrun started {launch.size} processes, and '{command}' would do the same in each. Start '{command}' "
            "without torchrun (it runs trials side by side by itself: workers=N), or train one head on several "
            "processes with 'train'."
        )
