"""Which kernels work on a tensor: Triton's on a GPU, torch's everywhere else."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from . import plain_kernels
from .block import Block


class Kernels(Protocol):
    """The elementwise statistics of a block of classes; ``plain_kernels.py`` says what each computes."""

    def largest(self, block: Block, column: Tensor, kappa: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Largest score of the classes but the target, and its column."""
        ...

    def power_sums(self, block: Block, column: Tensor, nearest: Tensor, reference: Tensor) -> Tensor:
        """Sums of z^p e^(2^i (z - m)), ``[3, LEVELS, N]``."""
        ...

    def weigh(
        self,
        block: Block,
        column: Tensor,
        kappa: Tensor,
        reference: Tensor,
        out: Tensor | None = None,
        low: Tensor | None = None,
    ) -> Tensor:
        """Sum of the exponentials, which are laid out on the way."""
        ...

    def project(self, block: Block, along: Tensor, column: Tensor, kappas: Tensor, reference: Tensor) -> Tensor:
        """Sums of e, e z and e u at several κ, ``[3, K, N]``."""
        ...

    def gradient(
        self, block: Block, column: Tensor, kappa: Tensor, reference: Tensor, scale: Tensor, own: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the product, and its sums for the lengths of the weight and the bias."""
        ...


def kernels_for(tensor: Tensor) -> Kernels:
    """Choose the kernels by what they are to work on.

    Args:
        tensor: the product of a block, or any tensor of its device and dtype.

    Returns:
        Triton's for float32 on a GPU, where Triton is installed; otherwise torch's.
    """
    if tensor.is_cuda and tensor.dtype == torch.float32:
        return _triton_kernels() or plain_kernels
    return plain_kernels


@cache
def _triton_kernels() -> Kernels | None:
    try:
        from . import triton_kernels
    except ImportError:
        return None
    return triton_kernels
