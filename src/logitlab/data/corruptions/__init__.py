"""The fifteen corruptions of ImageNet-C for any images, at five severities, repeatable and of any size from 8 pixels.

The definitions and constants are those of the code with which Hendrycks & Dietterich (2019) made CIFAR-10-C, Tiny
ImageNet-C and ImageNet-C; the set whose images are nearest in size gives the constants (lengths in pixels are not
scaled further). Why not a library: the one that is kept draws from global generators, refuses images below 32 pixels,
has the constants of 224 pixels alone, and moves pixels in its elastic transform as none of the published sets does.

None of the fifteen is byte for byte what was published:

- ImageNet-C and Tiny ImageNet-C were stored as JPEG of quality 85, a corruption of its own; these images are not.
- The draws are ours. Up to them, ``gaussian_noise``, ``shot_noise``, ``impulse_noise``, ``glass_blur``, ``fog`` and
  ``frost`` follow the published definition, and ``contrast``, ``brightness``, ``pixelate``, ``jpeg_compression``,
  ``defocus_blur`` and ``zoom_blur`` draw nothing; rounding apart (at most one grey level), they are the same.
- ``motion_blur`` and ``snow`` repeat ImageMagick's motion blur without it (version 6.9 gives the same bytes).
- ``elastic_transform`` reads between pixels exactly, the OpenCV of that time in steps of 1/32 pixel.
- ``frost`` needs photographs, which the extra ``corruptions`` installs; the fourteen others need nothing.

A higher severity is not always farther in pixels: the elastic transform begins with large affine maps and ends with
small ripples, and zooming in whole pixels leaves 8 x 8 pixels as they are at severity 1.

Grey images are one channel throughout: their noise is drawn once, frost falls on them as its luma.
"""

from .apply import available_corruptions, check_corruption, corrupt
from .constants import CORRUPTIONS, SEVERITIES, Published, published_for
from .images import CorruptedImages

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "CorruptedImages",
    "Published",
    "available_corruptions",
    "check_corruption",
    "corrupt",
    "published_for",
]
