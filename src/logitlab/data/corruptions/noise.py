"""Noise of sensors and channels: Gaussian, Poisson (shot) and impulses. Images are float64 ``[H, W, C]`` in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .constants import Published


def gaussian_noise(
    image: NDArray[np.float64], deviation: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Add normal noise to every value."""
    return image + generator.normal(scale=deviation, size=image.shape)


def shot_noise(
    image: NDArray[np.float64], photons: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Count photons: Poisson of mean ``photons`` at white, in proportion elsewhere."""
    return generator.poisson(image * photons) / photons


def impulse_noise(
    image: NDArray[np.float64], share: float, generator: np.random.Generator, published: Published
) -> NDArray[np.float64]:
    """Make a share of all values black or white, evenly; each channel on its own, as the source has it."""
    struck = generator.random(image.shape) <= share
    salt = generator.random(image.shape) <= 0.5
    return np.where(struck, salt.astype(np.float64), image)
