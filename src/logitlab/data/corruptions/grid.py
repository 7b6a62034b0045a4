"""What several corruptions do to the grid of pixels."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def clipped_zoom(image: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Enlarge the middle of an image, linearly, and cut it to the image's size.

    Args:
        image: ``[H, W, C]``.
        factor: at least 1.
    """
    height, width, _ = image.shape
    taller = (_enlargement(height, factor) @ image.reshape(height, -1)).reshape(image.shape)
    enlarged: NDArray[np.float64] = _enlargement(width, factor) @ taller
    return enlarged


@lru_cache(maxsize=512)
def _enlargement(size: int, factor: float) -> NDArray[np.float64]:
    """Make the matrix ``[size, size]`` that does so to one axis: on a small image SciPy's own pass takes far longer."""
    from scipy import ndimage

    used = math.ceil(size / factor)
    first = (size - used) // 2
    grown = ndimage.zoom(np.eye(size)[first : first + used], (factor, 1), order=1)
    first = (len(grown) - size) // 2
    matrix: NDArray[np.float64] = grown[first : first + size]
    matrix.flags.writeable = False
    return matrix


def quantized(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut down to whole grey levels, as the sources do; what an error in the last bit fell short by counts as there.

    >>> (quantized(np.array([0.5, 200.7 / 255, 7 / 255 - 1e-15])) * 255).tolist()
    [127.0, 200.0, 7.0]
    """
    levels: NDArray[np.float64] = np.floor(np.clip(image, 0, 1) * 255 + 1e-6)
    return levels / 255
