"""The order in which an epoch visits the training images."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor


def epoch_order(
    labels: Tensor, seed: int, epoch: int, sampler: Literal["random", "class_balanced"] = "random"
) -> Tensor:
    """Return the indices that one epoch visits, a function of the arguments alone.

    Heads trained with the same seed therefore see the same images in the same order, and a resumed run goes
    on as if it had never stopped.

    Args:
        labels: int64 ``[N]`` of the training images.
        seed: of the trial.
        epoch: from 0.
        sampler: ``"random"`` visits each image once; ``"class_balanced"`` draws N times with replacement, a
            class uniformly among those present and then an image of it uniformly.

    Returns:
        int64 ``[N]``, on the CPU.

    >>> epoch_order(torch.tensor([0, 0, 1]), seed=0, epoch=0).sort().values
    tensor([0, 1, 2])
    """
    # Neighbouring seeds and epochs must not give related streams, hence the hash.
    digest = hashlib.blake2b(f"order {seed} {epoch}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    if sampler == "random":
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    # torch.multinomial, and with it WeightedRandomSampler, stops at 2^24 images; two uniform draws do not.
    drawn = torch.randint(len(counts), (len(labels),), generator=generator)
    inside = (torch.rand(len(labels), dtype=torch.float64, generator=generator) * counts[drawn]).long()
    starts = counts.cumsum(0) - counts
    return torch.argsort(labels, stable=True)[starts[drawn] + inside]
