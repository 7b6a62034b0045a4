"""A constant κ."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range

from .base import Temperature

KAPPA = Range(0, low_included=False)


class Fixed(Temperature):
    """A constant inverse temperature, given as κ or as τ = 1/κ, exactly one of the two.

    It is configuration, as the rate of a dropout is: it stands in no state dict, and keeps its digits
    whatever the dtype of the model.

    Args:
        kappa: κ, positive and finite.
        tau: τ, positive and finite.

    Raises:
        ParameterError: none or both given, or a value outside its range.

    References:
        T Table 2 ("Fixed κ"), W Eq. (7) (τ).

    >>> Fixed(tau=0.05).kappa
    tensor(20.)
    """

    adaptive = False

    def __init__(self, kappa: float | None = None, *, tau: float | None = None) -> None:
        super().__init__()
        if (kappa is None) == (tau is None):
            raise ParameterError(
                f"Fixed needs exactly one of 'kappa' and 'tau' (= 1/kappa). Got kappa={kappa}, tau={tau}."
            )
        name, given = ("kappa", kappa) if tau is None else ("tau", tau)
        fault = KAPPA.fault("Fixed", name, given)
        if fault or given is None:
            raise ParameterError(fault or "")
        self._kappa = float(given) if tau is None else 1.0 / float(given)
        if not math.isfinite(self._kappa):
            raise ParameterError(f"The 'tau' parameter of Fixed must have a finite inverse. Got {tau!r} instead.")

    def attach(self, num_classes: int) -> None:
        """A constant does not depend on the number of classes."""

    def fresh(self) -> Fixed:
        """Another one with the same constant."""
        return Fixed(self._kappa)

    @property
    def kappa(self) -> Tensor:
        """The constant."""
        return torch.tensor(self._kappa)

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """The constant for each sample, shape ``[...]``."""
        return torch.full_like(cosine[..., 0], self._kappa)

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """The constant, in the dtype and on the device of the cosines."""
        return cosine.new_full((), self._kappa)

    def extra_repr(self) -> str:
        """Show κ."""
        return f"kappa={self._kappa:g}"
