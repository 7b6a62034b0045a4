"""A batch against all classes, a block of classes at a time.

Large products run fastest on blocks whose scores stay in a core's cache, and what is computed from a block can be used
while it is there. Blocks go over the classes: a head has many more of them than a batch has samples, so that blocks of
samples would be a row or two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .at_hand import values_at_hand

#: Numbers in a block of scores: half a megabyte of float32, which stays in a core's second-level cache.
BLOCK = 2**17
_FEWEST, _MOST = 256, 4096

#: Exponentials are taken to the base 2: on a CPU torch's exp2 takes a third of the time of its exp, which takes twenty
#: times as long again where the result is denormal, as most are for a large κ.
LOG2_E = 1 / math.log(2)

#: Stands for the score of a masked class: its exponential is zero, and so is its product with the score or its square.
MASKED = -1e18


class Chunk(NamedTuple):
    """One block of n classes.

    Attributes:
        start: the first class.
        cosine: ``[N, n]``.
        weight: ``[n, D]``, rows of any length.
        inverse_length: 1/‖w_c‖, ``[n]``; None for rows that are taken as they are.
    """

    start: int
    cosine: Tensor
    weight: Tensor
    inverse_length: Tensor | None


def block_size(num_samples: int, num_classes: int) -> int:
    """How many classes a block has.

    Args:
        num_samples: N, at least 1.
        num_classes: C.

    >>> block_size(256, 1000), block_size(128, 100)
    (512, 100)
    """
    return min(num_classes, max(_FEWEST, min(_MOST, BLOCK // max(num_samples, 1))))


class ClassChunks:
    """The cosines of N samples to C classes, block by block.

    Args:
        chunks: the blocks, in the order of the classes.
    """

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks
        first = chunks[0]
        self.num_samples = first.cosine.shape[0]
        self.num_classes = chunks[-1].start + chunks[-1].cosine.shape[1]
        self.num_features = first.weight.shape[1]
        # Fresh memory for every intermediate result would cost more than the arithmetic.
        self._scratch: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)

    def scratch(self, shape: torch.Size, which: int = 0) -> Tensor:
        """A matrix to compute a block in; the next call for the same one gives the same memory.

        Args:
            shape: at most N rows, and at most as many columns as a block.
            which: of several.
        """
        if which not in self._scratch:
            first = self.chunks[0].cosine  # no block is larger
            self._scratch[which] = first.new_empty(first.numel())
        return self._scratch[which][: shape.numel()].view(shape)

    def places(self, classes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each block, the samples whose class lies in it, and its column there.

        Args:
            classes: one a sample, ``[N]``.
        """
        block = classes // self.chunks[0].cosine.shape[1]
        order = block.argsort(stable=True)
        rows = torch.split(order, torch.bincount(block, minlength=len(self.chunks)).tolist())
        return [(those, classes[those] - chunk.start) for those, chunk in zip(rows, self.chunks)]

    def dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Σ left · right along each row; uses the second scratch matrix."""
        return torch.mul(left, right, out=self.scratch(left.shape, 1)).sum(dim=1)

    def powers(self, chunk: Chunk, kappa: Tensor | float, bias: Tensor | None, reference: Tensor) -> Tensor:
        """Exponentials of the logits of a block, less a reference, in the scratch memory.

        The difference comes before any factor, so that it is exact where scores are nearly equal, however large.

        Args:
            chunk: the block.
            kappa: a number, a scalar or ``[N, 1]``.
            bias: of all classes, ``[C]``, or None.
            reference: ``[N, 1]``; see ``largest_of``.

        Returns:
            e^(κ(z - m)), or with a bias e^(κz + b - m); ``[N, n]``.
        """
        result = self.scratch(chunk.cosine.shape)
        if bias is None:
            return torch.sub(chunk.cosine, reference, out=result).mul_(kappa * LOG2_E).exp2_()
        return self._with_bias(chunk, kappa, bias).sub_(reference).mul_(LOG2_E).exp2_()

    def largest_of(self, chunk: Chunk, kappa: Tensor | float, bias: Tensor | None) -> Tensor:
        """The reference of a block: its largest score, or with a bias its largest logit; finite, ``[N, 1]``."""
        scores = chunk.cosine if bias is None else self._with_bias(chunk, kappa, bias)
        return scores.amax(dim=1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)

    def _with_bias(self, chunk: Chunk, kappa: Tensor | float, bias: Tensor) -> Tensor:
        here = bias[chunk.start : chunk.start + chunk.cosine.shape[1]]
        return torch.mul(chunk.cosine, kappa, out=self.scratch(chunk.cosine.shape)).add_(here)

    def largest(self) -> tuple[Tensor, Tensor]:
        """Largest cosine of each sample and its class, each ``[N]``; masked classes stand back."""
        value = index = None
        for chunk in self.chunks:
            # amax is vectorised; max with indices is not and takes ten times as long.
            here = chunk.cosine.amax(dim=1)
            if value is None or index is None:
                value, index = here, torch.zeros_like(here, dtype=torch.int64)
                continue
            better = here > value
            value = torch.where(better, here, value)
            index = torch.where(better, chunk.start, index)
        assert value is not None
        assert index is not None
        # Which class it was is asked of its own block alone, where values may be looked at.
        for chunk in self.chunks:
            if values_at_hand(index):
                rows = (index == chunk.start).nonzero().squeeze(1)
                if len(rows):
                    index[rows] = chunk.start + chunk.cosine[rows].argmax(dim=1)
            else:
                index = torch.where(index == chunk.start, chunk.start + chunk.cosine.argmax(dim=1), index)
        return value, index

    def weigh(self, kappa: Tensor, reference: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Sum the exponentials, and the unit rows of the weight weighted by them.

        .. math:: S = \sum_c e^{\kappa (z_c - m)}, \qquad \mathbf V = \sum_c e^{\kappa (z_c - m)} \tilde{\mathbf w}_c

        Args:
            kappa: κ of each sample that is asked about, ``[M]``.
            reference: m, at least about the largest cosine, ``[M]``.
            rows: the samples that are asked about, ``[M]``; None for all N.

        Returns:
            S ``[M]`` and V ``[M, D]``.
        """
        kappa, reference = kappa.unsqueeze(1) * LOG2_E, reference.unsqueeze(1)
        total = kappa.new_zeros(len(kappa))
        combination = kappa.new_zeros(len(kappa), self.num_features)
        for chunk in self.chunks:
            cosine = chunk.cosine if rows is None else chunk.cosine.index_select(0, rows)
            weighed = self.scratch(cosine.shape)
            torch.sub(cosine, reference, out=weighed).mul_(kappa).exp2_()
            total += weighed.sum(dim=1)
            if chunk.inverse_length is not None:
                weighed.mul_(chunk.inverse_length)
            combination.addmm_(weighed, chunk.weight.to(kappa.dtype))
        return total, combination


def split_cosine(cosine: Tensor, unit_weight: Tensor) -> ClassChunks:
    """Blocks of cosines that are at hand already.

    Args:
        cosine: shape ``[N, C]``.
        unit_weight: rows of unit length, shape ``[C, D]``.
    """
    size = block_size(*cosine.shape)
    return ClassChunks(
        [
            Chunk(start, cosine[:, start : start + size], unit_weight[start : start + size], None)
            for start in range(0, cosine.shape[1], size)
        ]
    )


def lay_out(storage: Tensor, weight: Tensor, inverse_length: Tensor | None) -> ClassChunks:
    """Blocks of scores in one piece of memory, each block contiguous.

    Args:
        storage: N times C numbers, one dimension.
        weight: shape ``[C, D]``.
        inverse_length: shape ``[C]``, or None.
    """
    num_classes = weight.shape[0]
    num_samples = storage.numel() // num_classes
    size = block_size(num_samples, num_classes)
    chunks = []
    for start in range(0, num_classes, size):
        end = min(start + size, num_classes)
        scores = storage[num_samples * start : num_samples * end].view(num_samples, end - start)
        chunks.append(
            Chunk(start, scores, weight[start:end], None if inverse_length is None else inverse_length[start:end])
        )
    return ClassChunks(chunks)


def positions(target: Tensor, num_classes: int) -> Tensor:
    """Where the scores of the targets lie in the memory of ``lay_out``.

    Args:
        target: class indices in [0, C), shape ``[N]``.
        num_classes: C.

    Returns:
        Indices into the storage, shape ``[N]``.

    >>> positions(torch.tensor([0, 300]), 400)  # a block of 400 classes, two rows
    tensor([  0, 700])
    """
    num_samples = len(target)
    size = block_size(num_samples, num_classes)
    start = target // size * size
    width = (num_classes - start).clamp_max(size)
    return num_samples * start + torch.arange(num_samples, device=target.device) * width + target - start
