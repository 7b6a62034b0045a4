"""What a head asks of the tensors that it is given."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .parameters import RANGES


def check_features(features: Tensor, in_features: int) -> None:
    """Refuse what is no batch of features.

    Raises:
        InputError: another dtype or length.
    """
    if not features.is_floating_point() or features.shape[-1:] != (in_features,):
        raise InputError(
            f"Expected floating features of shape [..., {in_features}]. Got {features.dtype} {list(features.shape)}."
        )


def read_kappa(kappa: float | Tensor, batch: torch.Size, like: Tensor) -> Tensor:
    """A κ that the caller gave, as a scalar tensor or one value a sample.

    Args:
        kappa: a positive, finite number, or a tensor.
        batch: shape of the samples, ``[...]``.
        like: of the dtype and device that it shall have.

    Raises:
        InputError: another shape, or no positive number.
    """
    if isinstance(kappa, Tensor):
        if kappa.ndim and kappa.shape != batch:
            raise InputError(f"Expected 'kappa' as a number or of shape {list(batch)}. Got {list(kappa.shape)}.")
        return kappa.to(like)
    if kappa not in RANGES["kappa"]:
        raise InputError(f"Expected 'kappa' as a positive, finite number or a tensor. Got {kappa!r}.")
    return like.new_full((), float(kappa))


def refuse_kappa(kappa: float | Tensor | None) -> None:
    """Refuse a κ for a head without a temperature.

    Raises:
        InputError: there is one.
    """
    if kappa is not None:
        raise InputError("Got 'kappa' for a head without a temperature. Leave it out.")
