"""Blur of lenses, glass, motion and zoom. Images are float64 ``[H, W, C]`` in [0, 1]."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .constants import Published
from .grid import clipped_zoom, quantized


def defocus_blur(
    image: NDArray[np.float64], constant: tuple[float, float], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Convolve with a disc; pixels beyond the border mirror those inside, the border pixel once."""
    from scipy import ndimage

    kernel = disc(*constant)
    return np.stack([ndimage.correlate(plane, kernel, mode="mirror") for plane in np.moveaxis(image, 2, 0)], axis=2)


@lru_cache(maxsize=16)
def disc(radius: float, deviation: float) -> NDArray[np.float64]:
    """Make the kernel of a lens out of focus: a disc that adds up to one, its edge smoothed.

    The disc lies on a grid of 17 x 17 pixels (of 2·radius + 1 where that is larger) and is smoothed by a normal kernel
    of 3 x 3 (5 x 5) pixels that mirrors at the edge of the grid, as the source has it. Empty borders are cut off.

    Args:
        radius: pixels.
        deviation: standard deviation of the smoothing, pixels.
    """
    from scipy import ndimage

    reach, half = (8, 1) if radius <= 8 else (math.floor(radius), 2)
    grid = np.arange(-reach, reach + 1)
    kernel = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    normal = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * deviation**2))
    normal /= normal.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, normal, axis=axis, mode="mirror")
    used = min(reach, math.floor(radius) + half)
    kernel = kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]
    kernel.flags.writeable = False
    return kernel


def glass_blur(
    image: NDArray[np.float64], constant: tuple[float, int, int], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Blur, let pixels take the colour of a neighbour, blur again."""
    from scipy import ndimage

    deviation, farthest, rounds = constant
    smooth = (deviation, deviation, 0)
    blurred = quantized(ndimage.gaussian_filter(image, smooth, mode="nearest"))
    height, width, channels = image.shape
    source = frosted(height, width, farthest, rounds, generator)
    shuffled = blurred.reshape(-1, channels)[source].reshape(image.shape)
    seen: NDArray[np.float64] = ndimage.gaussian_filter(shuffled, smooth, mode="nearest")
    return seen


def frosted(height: int, width: int, farthest: int, rounds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Choose the pixel that is seen at each place through frosted glass.

    From the last row up and from right to left, each pixel takes the colour that a neighbour, at most ``farthest``
    away, has by then. The source means to exchange the two; but its arrays are views, so that the neighbour gets its
    own colour back: the published images are made without exchange, and so are these.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        farthest: neighbour that may be taken, pixels; in each direction.
        rounds: times that all pixels are passed over.
        generator: of the choice among neighbours.

    Returns:
        Places in the image, row by row, ``[height · width]``.
    """
    rows = np.arange(height - farthest, farthest, -1)
    columns = np.arange(width - farthest, farthest, -1)
    place = (rows[:, None] * width + columns).ravel()
    steps = generator.integers(-farthest, farthest, size=(rounds, len(place), 2))
    source = list(range(height * width))
    targets = place.tolist()
    for across, down in zip(steps[..., 0], steps[..., 1]):
        # What stands where depends on all that came before: a loop.
        for target, neighbour in zip(targets, (place + down * width + across).tolist()):
            source[target] = source[neighbour]
    return np.array(source)


def motion_blur(
    image: NDArray[np.float64], constant: tuple[int, float], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Smear in a direction within 45 degrees of the horizontal; whole grey levels, rounded, as ImageMagick's."""
    smeared = smear(image, *constant, generator.uniform(-45, 45))
    return np.rint(np.clip(smeared, 0, 1) * 255) / 255


def smear(image: NDArray[np.float64], radius: float, deviation: float, angle: float) -> NDArray[np.float64]:
    """Average along a line by one half of a normal kernel: ImageMagick's motion blur.

    Args:
        image: ``[H, W, C]``; beyond its border lies the border's own colour.
        radius: the line is 2·radius + 1 pixels long.
        deviation: of the kernel, pixels.
        angle: degrees; 0 takes pixels from the right, 90 from below.
    """
    length = 2 * math.ceil(radius) + 1
    weight = np.exp(-(np.arange(length) ** 2) / (2 * deviation**2))
    weight /= weight.sum()
    along, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    smeared = np.zeros_like(image)
    for step in range(length):
        row = np.clip(rows + math.ceil(step * down - 0.5), 0, rows[-1])
        column = np.clip(columns + math.ceil(step * along - 0.5), 0, columns[-1])
        smeared += weight[step] * image[row[:, None], column]
    return smeared


def zoom_blur(
    image: NDArray[np.float64], constant: tuple[float, float], generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Average the image with enlargements of itself."""
    factors = np.arange(1, *constant)
    total = image.copy()
    for factor in factors:
        total += clipped_zoom(image, float(factor))
    return total / (len(factors) + 1)
