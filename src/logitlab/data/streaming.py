"""Images that are decoded while they are needed, by DataLoader workers: the form for large sets."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from logitlab.config.errors import DataError

from .decoding import refuse_bombs
from .images import Source

# More decoding threads than this rarely help one accelerator, and trials share the machine.
_MOST_WORKERS = 4


class StreamedImages:
    """Images that worker processes decode batch by batch.

    Args:
        source: what reads an image.
        labels: integers ``[N]``, one for each image of ``source``.
        workers: processes that decode; 0 decodes in this process; None takes one a core, at most 4.
        order: the images of ``source`` that belong to this part, int64 ``[N]``; None takes all in order.
    """

    def __init__(self, source: Source, labels: Tensor, workers: int | None = None, order: Tensor | None = None) -> None:
        self.source = source
        self.labels = labels.to("cpu", torch.int64)
        self.workers = min(_MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers
        self._order = torch.arange(len(source)) if order is None else order
        if len(self.labels) != len(self._order):
            raise DataError(f"Expected {len(self._order)} labels, one an image. Got {len(self.labels)}.")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> StreamedImages:
        """Return the images at ``indices``, in that order; nothing is decoded."""
        return StreamedImages(self.source, self.labels[indices], self.workers, self._order[indices])

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`.

        Raises:
            DataError: an image cannot be decoded; the message names its file.
        """
        chunks = torch.split(indices, batch_size) if len(indices) else ()
        device = torch.device(device)
        loader = DataLoader(
            _BatchReader(self.source),
            batch_size=None,
            sampler=[self._order[chunk].tolist() for chunk in chunks],
            # A daemonic process, such as a worker of multiprocessing.Pool, may not have children.
            num_workers=0 if multiprocessing.current_process().daemon else self.workers,
            collate_fn=_unchanged,
            pin_memory=device.type == "cuda",
            # Without a generator of its own a DataLoader draws from torch's global one at every epoch.
            generator=torch.Generator(),
        )
        for chunk, pixels in zip(chunks, loader, strict=True):
            if isinstance(pixels, DataError):
                raise pixels
            yield pixels.to(device, non_blocking=True), self.labels[chunk].to(device)


class _BatchReader(Dataset["Tensor | DataError"]):
    """Decodes a list of images. An error is returned, since the DataLoader would bury it in a traceback."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, indices: list[int]) -> Tensor | DataError:
        try:
            with refuse_bombs():
                return torch.stack([self.source[index] for index in indices])
        except DataError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch
