"""Images that are corrupted where they are read."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from logitlab.data.images import Images

from .apply import check_corruption, corrupt


class CorruptedImages:
    """Images with one corruption at one severity, made batch by batch; see `logitlab.data.images.Images`.

    An image gets the same corruption in whatever batch, order or selection it is read.

    Args:
        images: as they are.
        name: one of ``CORRUPTIONS``.
        severity: 1 to 5.
        seed: at least 0.
        order: the number of each image in its set, int64 ``[N]``; None counts from 0.

    Raises:
        InputError: an unknown name, or a severity or seed out of range.
    """

    def __init__(self, images: Images, name: str, severity: int, *, seed: int = 0, order: Tensor | None = None) -> None:
        check_corruption(name, severity, seed)
        self.labels = images.labels
        self._images = images
        self._name = name
        self._severity = severity
        self._seed = seed
        self._order = torch.arange(len(images)) if order is None else order

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> CorruptedImages:
        """Return the images at ``indices``, in that order, each corrupted as here."""
        chosen, order = self._images.select(indices), self._order[indices]
        return CorruptedImages(chosen, self._name, self._severity, seed=self._seed, order=order)

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`. Corruptions are computed on the CPU."""
        start = 0
        for pixels, labels in self._images.batches(indices, batch_size):
            numbers = self._order[indices[start : start + len(labels)]]
            start += len(labels)
            corrupted = corrupt(pixels, self._name, self._severity, seed=self._seed, indices=numbers)
            yield corrupted.to(device), labels.to(device)
