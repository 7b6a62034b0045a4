"""Image files in batches of bounded memory; one that cannot be read does not hold up the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.data.decoding import read_header, read_image, refuse_bombs

# Each thread holds one image as the camera took it, up to a quarter of a gigabyte.
_MOST_THREADS = 4


def decode_batches(
    paths: Sequence[str], channels: int, image_size: int, batch_size: int
) -> Iterator[tuple[Sequence[str], list[DataError | None], Tensor]]:
    """Decode files batch by batch; memory holds one batch, and an undecoded image a thread.

    Args:
        paths: the files.
        channels: 1 (grey) or 3 (RGB).
        image_size: side to which every image is resized, as in training.
        batch_size: files a batch.

    Yields:
        The paths of the batch; for each what was wrong with it, or None; and the pixels of the sound ones, uint8
        ``[B, channels, image_size, image_size]``, in their order.
    """

    def attempt(path: str) -> Tensor | DataError:
        try:
            # Only the head of the file tells more than 8 bits a channel.
            read_header(path)
            return read_image(path, channels, image_size)
        except DataError as fault:
            return fault

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            with refuse_bombs():
                results = list(pool.map(attempt, batch))
            sound = [result for result in results if isinstance(result, Tensor)]
            faults = [None if isinstance(result, Tensor) else result for result in results]
            empty = torch.empty(0, channels, image_size, image_size, dtype=torch.uint8)
            yield batch, faults, torch.stack(sound) if sound else empty
