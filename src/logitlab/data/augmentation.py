"""Augmentation and normalisation of whole batches, on the device that holds them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "crop", "crop_flip", "autoaugment"]

# The CIFAR-10 policy was found on 32-pixel images, the ImageNet policy on 224-pixel ones.
_LARGEST_SMALL_IMAGE = 64


def prepare_batch(
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    augmentation: Augmentation = "none",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Augment a batch of pixels and normalise it to (pixels / 255 - mean) / std.

    - ``"crop"``: a crop of the original size out of the image padded with black, by 4 pixels at a size of 32
      and in proportion at others (at least 1); He et al. 2016, §4.2.
    - ``"crop_flip"``: the same, then mirrored left to right with probability 1/2.
    - ``"autoaugment"``: the same, then torchvision's AutoAugment (Cubuk et al. 2019), the CIFAR-10 policy up
      to 64 pixels and the ImageNet policy above.

    Every draw comes from ``generator``; torch's global generators are left as they were.

    Args:
        images: uint8 ``[B, C, H, W]`` on any device, C 1 or 3.
        mean: ``[C]``, in units of [0, 1].
        std: ``[C]``, in units of [0, 1].
        augmentation: one of the above, or ``"none"``.
        generator: source of randomness; needed unless ``augmentation`` is ``"none"``. One on the CPU gives
            the same batches on every device.

    Returns:
        float32 ``[B, C, H, W]`` on the device of ``images``.

    Raises:
        ValueError: an augmentation without a generator.

    >>> black = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    >>> prepare_batch(black, torch.tensor([0.5]), torch.tensor([0.25])).unique()
    tensor([-2.])
    """
    if augmentation != "none":
        if generator is None:
            raise ValueError(f"Augmentation '{augmentation}' needs a torch.Generator; pass generator=….")
        images = random_crop(images, generator)
        if augmentation in ("crop_flip", "autoaugment"):
            images = random_flip(images, generator)
        if augmentation == "autoaugment":
            images = auto_augment(images, generator)
    mean, std = (values.to(images.device, torch.float32).view(-1, 1, 1) for values in (mean, std))
    return images.float().div_(255).sub_(mean).div_(std)


def random_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image of ``[B, C, H, W]`` at random by up to an eighth of its side; the border is black."""
    batch, channels, height, width = images.shape
    padding = max(1, round(height / 8))
    padded = F.pad(images, (padding, padding, padding, padding))
    shift = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator, device=generator.device)
    down, right = shift.to(images.device)
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    index = torch.arange(batch, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image of ``[B, C, H, W]`` left to right with probability 1/2."""
    coin = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
    return torch.where(coin.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def auto_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Apply torchvision's AutoAugment to each image of a uint8 batch ``[B, C, H, W]`` separately."""
    from torchvision.transforms import v2

    small = images.shape[-1] <= _LARGEST_SMALL_IMAGE
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10 if small else v2.AutoAugmentPolicy.IMAGENET)
    seed = torch.randint(2**31, (), generator=generator, device=generator.device)
    # torchvision draws from torch's global CPU generator alone, so only that one is lent and given back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        return torch.stack([policy(image) for image in images]) if len(images) else images
