"""Corrupt a batch of images by name and severity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import nearest_name

from . import blur, digital, noise, weather
from .constants import CORRUPTIONS, SEVERITIES, Published, published_for
from .grid import quantized

_Corruption = Callable[[NDArray[np.float64], Any, np.random.Generator, Published], NDArray[np.float64]]

_FUNCTIONS: Final[dict[str, _Corruption]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}

_SMALLEST = 8


def available_corruptions() -> tuple[str, ...]:
    """List what can be generated here: all fifteen, or fourteen where the photographs of frost are not installed.

    >>> set(CORRUPTIONS) - set(available_corruptions()) <= {"frost"}
    True
    """
    missing = {"frost"} if weather.frost_folder() is None else set()
    return tuple(name for name in CORRUPTIONS if name not in missing)


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0, indices: Tensor | None = None) -> Tensor:
    """Corrupt images as ImageNet-C, Tiny ImageNet-C or CIFAR-10-C does, whichever has images nearest in size.

    What happens to an image depends on its pixels, the corruption, the severity, the seed and its number: not on the
    batch that it is in. See `logitlab.data.corruptions` for what differs from the published sets.

    Args:
        images: uint8 ``[B, C, H, W]``, C 1 or 3, sides of at least 8 pixels.
        name: one of ``CORRUPTIONS``.
        severity: 1 to 5.
        seed: at least 0.
        indices: the number of each image in its set, integers ``[B]``, at least 0; None counts from 0.

    Returns:
        uint8 ``[B, C, H, W]`` on the device of ``images``.

    Raises:
        InputError: other images, an unknown name, a severity, seed or number out of range.
        DataError: ``"frost"`` without its photographs.

    References:
        Hendrycks & Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
        ICLR 2019.

    >>> grey = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    >>> corrupt(grey, "brightness", 5).unique()
    tensor([176], dtype=torch.uint8)
    """
    check_corruption(name, severity, seed)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"Expected images as uint8 [B, C, H, W] with 1 or 3 channels. Got {images.dtype} {list(images.shape)}."
        )
    if min(images.shape[2:]) < _SMALLEST:
        raise InputError(f"Expected images with sides of at least {_SMALLEST} pixels. Got {list(images.shape[2:])}.")
    numbers = range(len(images)) if indices is None else _numbers(indices, len(images))
    published = published_for(min(images.shape[2:]))
    constant = published.severities[name][severity - 1]
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    corrupted = np.empty_like(pixels)
    # One by one: what an image becomes must not depend, not even by rounding, on the images beside it.
    for place, number in enumerate(numbers):
        generator = np.random.default_rng((seed, CORRUPTIONS.index(name), severity, number))
        found = _FUNCTIONS[name](pixels[place] / 255, constant, generator, published)
        corrupted[place] = np.rint(quantized(found) * 255)
    return torch.from_numpy(corrupted).permute(0, 3, 1, 2).contiguous().to(images.device)


def check_corruption(name: str, severity: int, seed: int = 0) -> None:
    """Check what corruption is wanted.

    Raises:
        InputError: an unknown name, or a severity or seed out of range.
    """
    if name not in CORRUPTIONS:
        suggestion = nearest_name(name, CORRUPTIONS)
        question = f" Did you mean '{suggestion}'?" if suggestion else ""
        raise InputError(f"Expected a corruption among {', '.join(CORRUPTIONS)}. Got '{name}'.{question}")
    if severity not in SEVERITIES:
        raise InputError(f"Expected a severity from 1 to 5. Got {severity}.")
    if seed < 0:
        raise InputError(f"Expected a seed of at least 0. Got {seed}.")


def _numbers(indices: Tensor, count: int) -> list[int]:
    if indices.shape != (count,) or indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise InputError(
            f"Expected 'indices' as integers [{count}], one an image. Got {indices.dtype} {list(indices.shape)}."
        )
    numbers: list[int] = indices.tolist()
    if numbers and min(numbers) < 0:
        raise InputError(f"Expected 'indices' of at least 0. Got {min(numbers)}.")
    return numbers
