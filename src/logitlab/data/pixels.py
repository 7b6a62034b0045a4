"""Mean and standard deviation of pixels, by which images are normalised."""

from __future__ import annotations

import torch
from torch import Tensor

from .images import Images, MemoryImages

# A streamed set is decoded for this, so a sample must do: at 16,384 images the error of a mean is below 1e-3.
_SAMPLE = 16_384
_BATCH = 512


def pixel_statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, in units of [0, 1].

    Pixels are counted value by value, so the result is exact and does not depend on the order of summation.
    A set that is streamed is sampled: 16,384 images, evenly spaced. The deviation is at least one step of a
    pixel, 1/255, so that a constant channel can be divided by it.

    Args:
        images: the training images.

    Returns:
        Mean and standard deviation, float32 ``[channels]``.

    >>> from logitlab.data import MemoryImages
    >>> pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    >>> pixel_statistics(MemoryImages(pixels, torch.tensor([0, 1])))
    (tensor([0.5000]), tensor([0.5000]))
    """
    count = len(images)
    indices = torch.arange(count)
    if count > _SAMPLE and not isinstance(images, MemoryImages):
        indices = torch.linspace(0, count - 1, _SAMPLE, dtype=torch.float64).long()
    histogram: Tensor | int = 0
    for pixels, _ in images.batches(indices, _BATCH):
        channels = pixels.transpose(0, 1).flatten(1)
        histogram = histogram + torch.stack([torch.bincount(values, minlength=256) for values in channels])
    assert isinstance(histogram, Tensor)  # a part of a data set is never empty
    share = histogram.double() / histogram.sum(1, keepdim=True)
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    variance = (share * (value - mean[:, None]).square()).sum(1)
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()
