"""Images as a caller hands them over: paths, NumPy arrays or tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import InputError


def are_paths(images: Any) -> bool:
    """Say whether images are given as one path or several."""
    if isinstance(images, (str, os.PathLike)):
        return True
    return isinstance(images, (list, tuple)) and all(isinstance(image, (str, os.PathLike)) for image in images)


def listed(images: str | Path | Sequence[str | Path]) -> list[str]:
    """Return one path or several as a list."""
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    return [os.fspath(image) for image in images]


def check_pixels(images: Any) -> None:
    """Refuse what is neither a uint8 array ``[N, H, W]`` or ``[N, H, W, C]`` nor a uint8 tensor ``[N, C, H, W]``."""
    shape, kind = list(getattr(images, "shape", ())), str(getattr(images, "dtype", type(images).__name__))
    is_tensor = isinstance(images, Tensor)
    channels = shape[1] if is_tensor and len(shape) == 4 else 1 if len(shape) == 3 else shape[-1] if shape else 0
    dimensions = (4,) if is_tensor else (3, 4)
    sound = kind.removeprefix("torch.") == "uint8" and len(shape) in dimensions and channels in (1, 3)
    if not sound or 0 in shape[1:]:
        raise InputError(
            "Expected paths, a uint8 array [N, H, W] or [N, H, W, C], or a uint8 tensor [N, C, H, W], C 1 or 3 and "
            f"values from 0 to 255. Got {kind} {shape or ''}".rstrip()
            + "."
        )


def lay_out(images: Any) -> Tensor:
    """Turn a checked batch into uint8 ``[N, C, H, W]``."""
    if isinstance(images, Tensor):
        return images
    # A copy: torch takes neither read-only arrays, such as Pillow's, nor reversed ones.
    pixels = torch.from_numpy(images.copy())
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
