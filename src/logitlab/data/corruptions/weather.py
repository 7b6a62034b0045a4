"""Snow, frost, fog and brightness. Images are float64 ``[H, W, C]`` in [0, 1]."""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from logitlab.config.errors import DataError

from .blur import smear
from .constants import Published
from .grid import clipped_zoom

_LUMA = np.array([0.299, 0.587, 0.114])

# The source chooses among five of its six pictures.
_PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_PACKAGES = ("imagecorruptions-imaug", "imagecorruptions")


def snow(
    image: NDArray[np.float64],
    constant: tuple[float, float, float, float, int, float, float],
    generator: np.random.Generator,
    published: Published,
) -> NDArray[np.float64]:
    """Whiten the picture and let flakes fall over it, once as they are and once turned upside down."""
    mean, deviation, enlarged, threshold, radius, motion, weight = constant
    flakes = clipped_zoom(generator.normal(mean, deviation, (*image.shape[:2], 1)), enlarged)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    # ImageMagick saw whole grey levels and gave whole grey levels.
    flakes = smear(np.floor(flakes * 255) / 255, radius, motion, generator.uniform(-135, -45))
    flakes = np.rint(flakes * 255) / 255
    whitened = np.maximum(image, grey(image) * 1.5 + 0.5)
    return weight * image + (1 - weight) * whitened + flakes + np.rot90(flakes, 2)


def grey(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the luma ``[H, W, 1]`` of an image of 1 or 3 channels."""
    return image if image.shape[2] == 1 else (image @ _LUMA)[..., None]


def frost(
    image: NDArray[np.float64], constant: tuple[float, float], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Add a part of a photograph of frost.

    Raises:
        DataError: the photographs are not installed.
    """
    height, width, channels = image.shape
    folder = frost_folder()
    if folder is None:
        raise DataError(
            "The corruption 'frost' needs the photographs of the package 'imagecorruptions-imaug', which is not "
            "installed. Install logitlab[corruptions], or that package alone without what it depends on: only its "
            "pictures are read. Or leave 'frost' out."
        )
    name = _PHOTOGRAPHS[int(generator.integers(len(_PHOTOGRAPHS)))]
    photograph = _photograph(folder / name, published.frost_scale, height, width)
    top, left = (int(generator.integers(max(1, have - want))) for have, want in zip(photograph.shape, (height, width)))
    part = photograph[top : top + height, left : left + width]
    picture_weight, frost_weight = constant
    return picture_weight * image + frost_weight * (part if channels == 3 else grey(part))


def frost_folder() -> Path | None:
    """Find the photographs of frost among the installed packages, without importing any; None if there are none."""
    for package in _PACKAGES:
        try:
            folder = Path(str(importlib.metadata.distribution(package).locate_file("imagecorruptions/frost")))
        except importlib.metadata.PackageNotFoundError:
            continue
        if all((folder / name).is_file() for name in _PHOTOGRAPHS):
            return folder
    return None


@lru_cache(maxsize=2 * len(_PHOTOGRAPHS))
def _photograph(path: Path, scale: float, height: int, width: int) -> NDArray[np.float64]:
    """Read a photograph, shrunk as its set had it, but not below the size of the images: ``[H', W', 3]``."""
    from PIL import Image

    with Image.open(path) as opened:
        pixels = np.array(opened.convert("RGB"), dtype=np.float64) / 255
    scale = max(scale, height / pixels.shape[0], width / pixels.shape[1])
    if scale == 1:
        return pixels
    size = (max(height, round(pixels.shape[0] * scale)), max(width, round(pixels.shape[1] * scale)))
    # Without smoothing first, as OpenCV shrank them.
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    return F.interpolate(planes, size, mode="bilinear")[0].permute(1, 2, 0).numpy()


def fog(
    image: NDArray[np.float64], constant: tuple[float, float], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Add clouds and dim the sum to the brightness that the picture had."""
    weight, decay = constant
    height, width, _ = image.shape
    side = 2 ** (max(height, width) - 1).bit_length()
    # The smallest set has a map of its own size, ImageNet-C one of 256 for 224 pixels.
    clouds = plasma(side, decay, generator)[:height, :width, None]
    brightest = image.max()
    foggy: NDArray[np.float64] = (image + weight * clouds) * brightest / (brightest + weight)
    return foggy


def plasma(side: int, decay: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a cloudy square by the diamond-square algorithm on a torus.

    Each round halves the mesh: the middle of a square, then of each of its edges, becomes the mean of its four
    neighbours plus uniform noise of ±wibble², and wibble shrinks by ``decay``.

    Args:
        side: a power of two, at least 2.
        decay: above 1; the larger, the smoother.
        generator: of the noise.

    Returns:
        ``[side, side]`` from 0 to 1.
    """
    heights = np.zeros((side, side))
    step, wibble = side, 100.0

    def displaced(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + wibble * generator.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = displaced(pairs + np.roll(pairs, -1, axis=1))
        middles = heights[half::step, half::step]
        beside = middles + np.roll(middles, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = displaced(beside)
        below = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = displaced(below)
        step, wibble = half, wibble / decay
    heights -= heights.min()
    clouds: NDArray[np.float64] = heights / heights.max()
    return clouds


def brightness(
    image: NDArray[np.float64], added: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Raise the value of HSV, hue and saturation kept: colours are proportional to it."""
    value = image.max(axis=2, keepdims=True)
    raised = np.minimum(value + added, 1)
    brighter: NDArray[np.float64] = np.where(value > 0, image * (raised / np.where(value > 0, value, 1)), raised)
    return brighter
