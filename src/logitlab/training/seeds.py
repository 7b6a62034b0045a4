"""Seeds for independent streams of random numbers, so that what one part draws never shifts another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return a seed of 63 bits for one stream of a trial.

    It depends on its arguments alone: not on the process, the machine, or what was drawn before. Training
    is therefore the same for every head as far as order, augmentation and the backbone's initialisation go,
    whatever random numbers the head consumes, and a run can resume at any step.

    Args:
        seed: the trial's seed.
        stream: what the numbers are for, for instance ``"augmentation", epoch``.

    >>> derive_seed(0, "backbone") == derive_seed(0, "backbone")
    True
    >>> derive_seed(0, "backbone") == derive_seed(0, "head")
    False
    """
    # repr keeps "1" and 1 apart, and the tuple's commas keep ("a", "b") and ("ab",) apart.
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Give torch's global generators back as they were, so that a run inside a notebook leaves no trace in it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
