"""Grey images for a model of colour images, and the reverse."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import DataError

# Pillow's weights of red, green and blue (ITU-R 601-2) as it computes them: in 65536ths, rounded.
_LUMA = (19595, 38470, 7471)


def match_channels(pixels: Tensor, channels: int) -> Tensor:
    """Give images the number of channels that a model takes, as Pillow does it for files.

    Args:
        pixels: uint8 ``[N, C, H, W]``, C 1 or 3.
        channels: 1 or 3.

    Raises:
        DataError: another number of channels.

    >>> import torch
    >>> match_channels(torch.full((1, 1, 2, 2), 7, dtype=torch.uint8), 3).shape
    torch.Size([1, 3, 2, 2])
    """
    have = pixels.shape[1]
    if have == channels:
        return pixels
    if (have, channels) == (1, 3):
        return pixels.expand(-1, 3, -1, -1)
    if (have, channels) == (3, 1):
        red, green, blue = pixels.int().unbind(1)
        grey = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + 0x8000) >> 16
        return grey.unsqueeze(1).to(pixels.dtype)
    raise DataError(f"Expected images of 1 or 3 channels. Got {have}; the model takes {channels}.")
