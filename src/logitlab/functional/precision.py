"""In which precision a head computes: float32 at least, and with autocast off."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_NOTHING = nullcontext()


def at_least_float32(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: the widest of ``tensors``, and float32 at least.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16))
    torch.float32
    >>> at_least_float32(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    torch.float64
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast, on any device; some (meta) know no autocast and refuse to turn it off.

    Where it is off already there is nothing to do, and turning it off again takes as long as a small product.

    Half precision is too coarse for a head: at κ cos = 57.6 a step of bfloat16 is 0.25.

    Args:
        device: where the tensors are.
    """
    if device.type == "meta":
        return _NOTHING
    if not torch.compiler.is_compiling() and not torch.is_autocast_enabled(device.type):
        return _NOTHING
    return torch.autocast(device.type, enabled=False)
