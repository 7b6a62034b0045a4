"""Augmentation and normalisation of whole batches, on the device that holds them."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "crop", "crop_flip", "resized_crop_flip", "autoaugment", "resized_autoaugment"]

# The CIFAR-10 policy was found on 32-pixel images, the ImageNet policy on 224-pixel ones.
_LARGEST_SMALL_IMAGE = 64
# W A.1: share of the image's area, and width : height. A crop that does not fit is drawn again, so many times.
_SHARES = (0.1, 1.0)
_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Images that are cut and enlarged at a time: bounds the float copy.
_RESIZED = 256


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
    - ``"resized_crop_flip"``: a crop of 10 to 100 % of the area, with an aspect ratio of 3/4 to 4/3, enlarged to
      the original size, then mirrored likewise; W A.1 for ImageNet (Szegedy et al. 2015, §6).
    - ``"autoaugment"``: ``"crop_flip"``, then torchvision's AutoAugment (Cubuk et al. 2019), the CIFAR-10 policy up
      to 64 pixels and the ImageNet policy above.
    - ``"resized_autoaugment"``: the same after ``"resized_crop_flip"``, as ImageNet is trained (W Tables C.2 and C.3).

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
        crop = random_resized_crop if augmentation.startswith("resized") else random_crop
        images = crop(images, generator)
        if augmentation != "crop":
            images = random_flip(images, generator)
        if augmentation.endswith("autoaugment"):
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


def random_resized_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a part out of each image of ``[B, C, H, W]`` and enlarge it to H x W (bilinear).

    The part has 10 to 100 % of the area, evenly drawn, and an aspect ratio of 3/4 to 4/3, evenly drawn on a logarithmic
    scale; where it fits, each place is equally likely. Of ten draws the first that fits counts; without one the whole
    image is taken.
    """
    height, width = images.shape[-2:]
    top, left, rows, columns = _draw_parts(len(images), height, width, generator)
    down = _sample_points(top, rows, height).to(images.device)
    right = _sample_points(left, columns, width).to(images.device)
    chunks = [
        _sample(images[start : start + _RESIZED], down[start : start + _RESIZED], right[start : start + _RESIZED])
        for start in range(0, len(images), _RESIZED)
    ]
    return torch.cat(chunks) if chunks else images


def _draw_parts(
    count: int, height: int, width: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw ``count`` parts of an image: first row, first column, rows and columns, whole numbers as float32."""
    device = generator.device
    share, aspect = torch.rand(2, _ATTEMPTS, count, generator=generator, device=device)
    share = _SHARES[0] + (_SHARES[1] - _SHARES[0]) * share
    low, high = map(math.log, _ASPECTS)
    aspect = torch.exp(low + (high - low) * aspect)
    rows = (height * width * share / aspect).sqrt().round().clamp_min(1)
    columns = (height * width * share * aspect).sqrt().round().clamp_min(1)
    fits = (rows <= height) & (columns <= width)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    rows = torch.where(found, rows.gather(0, first)[0], height)
    columns = torch.where(found, columns.gather(0, first)[0], width)
    place = torch.rand(2, count, generator=generator, device=device)
    # A draw just below 1 may be rounded up to the place after the last.
    top = (place[0] * (height - rows + 1)).floor().minimum(height - rows)
    left = (place[1] * (width - columns + 1)).floor().minimum(width - columns)
    return top, left, rows, columns


def _sample_points(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where ``size`` points lie that divide ``length`` pixels from ``start`` evenly, ``[B, size]``, in [-1, 1].

    They stay inside the outer pixels' centres, so that nothing beside the part is mixed in.
    """
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    inside = (steps * length[:, None] - 0.5).clamp_min(0).minimum(length[:, None] - 1)
    return (start[:, None] + inside) * (2 / max(1, size - 1)) - 1


def _sample(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    grid = torch.stack([right[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1)
    values = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return values.round_().clamp_(0, 255).to(images.dtype)


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
