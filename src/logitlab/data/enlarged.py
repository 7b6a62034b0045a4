"""Small images that are asked for larger than memory holds: enlarged a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .decoding import resize
from .images import MemoryImages


class EnlargedImages:
    """Images held as they are and resized where they are read; see `logitlab.data.images.Images`.

    A pretrained network at 224 pixels would otherwise make 9 GB of Fashion-MNIST's 47 MB.

    Args:
        images: as they were stored.
        side: to which every batch is resized, in pixels.
    """

    def __init__(self, images: MemoryImages, side: int) -> None:
        self.labels = images.labels
        self._images = images
        self._side = side

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> EnlargedImages:
        """Return the images at ``indices``, in that order."""
        return EnlargedImages(self._images.select(indices), self._side)

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        for pixels, labels in self._images.batches(indices, batch_size, device):
            yield resize(pixels, self._side), labels
