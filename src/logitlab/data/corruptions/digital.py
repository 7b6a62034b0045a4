"""Contrast, elastic transform, pixels and JPEG. Images are float64 ``[H, W, C]`` in [0, 1]."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .constants import Published

if TYPE_CHECKING:
    from PIL.Image import Image


def contrast(
    image: NDArray[np.float64], left: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Draw every value towards the mean of its channel."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    drawn: NDArray[np.float64] = (image - mean) * left + mean
    return drawn


def elastic_transform(
    image: NDArray[np.float64],
    constant: tuple[float, float, float],
    generator: np.random.Generator,
    published: Published,
) -> NDArray[np.float64]:
    """Move three corners of a square at random, which is an affine map, then every pixel by a smooth random field."""
    from scipy import ndimage

    height, width, _ = image.shape
    shorter = min(height, width)
    amplitude, smoothness, jitter = (multiple * shorter for multiple in constant)
    middle, reach = np.array([width // 2, height // 2]), shorter // 3
    corners = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + generator.uniform(-jitter, jitter, (3, 2))
    # Where each pixel comes from: the map from the moved corners back to the corners.
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)
    row, column = np.mgrid[:height, :width].astype(np.float64)
    from_column, from_row = (row * back[1, axis] + column * back[0, axis] + back[2, axis] for axis in (0, 1))
    warped = _sampled(image, from_row, from_column, "mirror")
    if amplitude == 0:
        return warped
    across, down = (
        ndimage.gaussian_filter(generator.uniform(-1, 1, (height, width)), smoothness, mode="reflect", truncate=3)
        * amplitude
        for _ in range(2)
    )
    return _sampled(warped, row + down, column + across, "reflect")


def _sampled(
    image: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64], beyond: str
) -> NDArray[np.float64]:
    """Read an image between its pixels, linearly."""
    from scipy import ndimage

    planes = [
        ndimage.map_coordinates(plane, [rows, columns], order=1, mode=beyond) for plane in np.moveaxis(image, 2, 0)
    ]
    return np.stack(planes, axis=2)


def pixelate(
    image: NDArray[np.float64], left: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Average boxes down to a smaller image, then enlarge it by boxes."""
    from PIL import Image

    picture = _picture(image)
    small = tuple(max(1, int(size * left)) for size in picture.size)
    box = Image.Resampling.BOX
    return _array(picture.resize((small[0], small[1]), box).resize(picture.size, box))


def jpeg_compression(
    image: NDArray[np.float64], quality: int, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Compress as JPEG, and read that."""
    from PIL import Image

    file = BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as opened:
        return _array(opened)


def _picture(image: NDArray[np.float64]) -> Image:
    """Make a picture of Pillow's: RGB, or grey."""
    from PIL import Image

    pixels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(pixels if image.shape[2] == 3 else pixels[..., 0])


def _array(picture: Image) -> NDArray[np.float64]:
    pixels = np.array(picture, dtype=np.float64) / 255
    return pixels if pixels.ndim == 3 else pixels[..., None]
