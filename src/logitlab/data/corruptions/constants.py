"""What the five severities of each corruption mean: the published constants, for three sizes of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

#: The fifteen corruptions of ImageNet-C, in the order of Hendrycks & Dietterich (2019): noise, blur, weather, digital.
CORRUPTIONS: Final[tuple[str, ...]] = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)

SEVERITIES: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Published:
    """The constants of one published set.

    Attributes:
        name: of the set.
        side: of its images, in pixels.
        frost_scale: how much its photographs of frost were shrunk.
        severities: corruption → its constants at severities 1 to 5:

            - ``gaussian_noise``: standard deviation; ``shot_noise``: photons at white; ``impulse_noise``: share of
              values that become black or white;
            - ``defocus_blur``: radius of the disc and standard deviation of its edge, pixels;
            - ``glass_blur``: standard deviation of the blur, farthest neighbour (pixels), rounds;
            - ``motion_blur``: radius and standard deviation, pixels;
            - ``zoom_blur``: where the zoom factors from 1 on stop (left out), and their step;
            - ``snow``: mean and standard deviation of the flakes, their enlargement, threshold, radius and standard
              deviation of their motion (pixels), weight of the picture;
            - ``frost``: weights of picture and frost; ``fog``: its weight, and how fast its detail fades;
            - ``brightness``: what is added to the value of HSV; ``contrast``: what is left of it;
            - ``elastic_transform``: amplitude and smoothness of the displacement, and what the corners move by, all
              as multiples of the side; ``pixelate``: of the side that is left; ``jpeg_compression``: quality.
    """

    name: str
    side: int
    frost_scale: float
    severities: dict[str, tuple[Any, ...]]


# The elastic transform of ImageNet-C was written for a side of 244 and used at 224.
_SLIP = 244 / 224

IMAGENET_C: Final = Published(
    "ImageNet-C",
    224,
    1.0,
    {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (2 * _SLIP, 0.7 * _SLIP, 0.1 * _SLIP),
            (2 * _SLIP, 0.08 * _SLIP, 0.2 * _SLIP),
            (0.05 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
            (0.07 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
            (0.12 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
        ),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
    },
)

# Snow is the same in the two sets of small images, but for the weight of the picture.
_SMALL_FLAKES = (
    (0.1, 0.2, 1, 0.6, 8, 3),
    (0.1, 0.2, 1, 0.5, 10, 4),
    (0.15, 0.3, 1.75, 0.55, 10, 4),
    (0.25, 0.3, 2.25, 0.6, 12, 6),
    (0.3, 0.3, 1.25, 0.65, 14, 12),
)
_SMALL_ZOOMS = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))

TINY_IMAGENET_C: Final = Published(
    "Tiny ImageNet-C",
    64,
    0.3,
    {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": _SMALL_ZOOMS,
        "snow": tuple((*flakes, weight) for flakes, weight in zip(_SMALL_FLAKES, (0.8, 0.8, 0.7, 0.65, 0.6))),
        "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (0.0, 0.0, 0.08),
            (0.05, 0.3, 0.06),
            (0.1, 0.08, 0.06),
            (0.1, 0.03, 0.03),
            (0.16, 0.03, 0.02),
        ),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
    },
)

CIFAR_10_C: Final = Published(
    "CIFAR-10-C",
    32,
    0.2,
    {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": _SMALL_ZOOMS,
        "snow": tuple((*flakes, weight) for flakes, weight in zip(_SMALL_FLAKES, (0.95, 0.9, 0.9, 0.85, 0.8))),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0.0, 0.0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
)


def published_for(side: int) -> Published:
    """Choose the set whose images are nearest in size, as a ratio.

    Args:
        side: of the images, in pixels; the shorter one where they are not square.

    Returns:
        CIFAR-10-C below 46 pixels, Tiny ImageNet-C below 120, ImageNet-C from there on.

    >>> [published_for(side).name for side in (28, 96, 224)]
    ['CIFAR-10-C', 'Tiny ImageNet-C', 'ImageNet-C']
    """
    return min((CIFAR_10_C, TINY_IMAGENET_C, IMAGENET_C), key=lambda found: abs(math.log(side / found.side)))
