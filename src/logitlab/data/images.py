"""One part of a data set: what every loader returns, every training loop reads, and sources are read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from logitlab.config.errors import DataError

# Decoded pixels up to this many bytes are held in memory; larger folders are streamed.
MEMORY_LIMIT = 512 * 2**20


class Images(Protocol):
    """Labelled images of one size, read in batches.

    Attributes:
        labels: int64 ``[N]`` on the CPU, class indices from 0.
    """

    labels: Tensor

    def __len__(self) -> int:
        """Return N, the number of images."""
        ...

    def select(self, indices: Tensor) -> Images:
        """Return the images at ``indices`` (int64 ``[M]``), in that order."""
        ...

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the images at ``indices`` in that order; the last batch may be smaller.

        Args:
            indices: int64 ``[M]``, on the CPU; an index may come more than once.
            batch_size: images a batch, at least 1.
            device: where the batches are wanted.

        Yields:
            Pixels, uint8 ``[B, channels, height, width]``, and labels, int64 ``[B]``, both on ``device``.
        """
        ...


class Source(Protocol):
    """Reads one image at a time. It travels to worker processes, so it must be picklable."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> Tensor:
        """Decode one image to uint8 ``[channels, height, width]``; a DataError names the image that fails."""
        ...


class MemoryImages:
    """Images held as one tensor: the form for small sets.

    A copy goes to each device that asks for batches, once; from then on a batch is one indexing operation
    there.

    Args:
        pixels: uint8 ``[N, channels, height, width]``.
        labels: integers ``[N]``.

    Raises:
        DataError: the tensors do not have these types and shapes.

    >>> images = MemoryImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1]))
    >>> [(tuple(pixels.shape), labels.tolist()) for pixels, labels in images.batches(torch.arange(3), 2)]
    [((2, 1, 8, 8), [0, 1]), ((1, 1, 8, 8), [1])]
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.dim() != 4:
            raise DataError(
                "Expected pixels as uint8 [images, channels, height, width]. "
                f"Got {pixels.dtype} {list(pixels.shape)}; convert them first."
            )
        if labels.dim() != 1 or len(labels) != len(pixels) or labels.dtype.is_floating_point:
            raise DataError(
                f"Expected one integer label for each of {len(pixels)} images. Got {labels.dtype} {list(labels.shape)}."
            )
        self.pixels = pixels.cpu()
        self.labels = labels.to("cpu", torch.int64)
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> MemoryImages:
        """Copy the images at ``indices``, in that order."""
        return MemoryImages(self.pixels[indices], self.labels[indices])

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        pixels, labels = self._on(torch.device(device))
        for start in range(0, len(indices), batch_size):
            chosen = indices[start : start + batch_size].to(device, non_blocking=True)
            yield pixels[chosen], labels[chosen]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._copies:
            self._copies[device] = (self.pixels.to(device), self.labels.to(device))
        return self._copies[device]
