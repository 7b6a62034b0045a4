"""A κ that is learned by gradient descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import at_least_float32, equiangular_kappa

from .base import Temperature

INIT = Range(0, low_included=False, optional=True)


class Trainable(Temperature):
    r"""An inverse temperature that is learned end to end through its logarithm.

    .. math:: \kappa = \exp(\kappa'), \qquad \kappa' \in \mathbb R

    Give κ' no weight decay (``param_groups`` does not): decay would draw κ to 1. T finds that it grows without need
    late in training, because a larger κ lowers the loss of samples that are right already.

    Args:
        init: κ at the start, positive; None starts at the closed form of an equiangular weight at 45°
            (``functional.equiangular_kappa``).

    Raises:
        ParameterError: ``init`` is not positive.

    References:
        T §3.1, Table 1.

    >>> temperature = Trainable(init=10.0)
    >>> temperature.kappa
    tensor(10., grad_fn=<SqueezeBackward1>)
    """

    adaptive = False

    def __init__(self, init: float | None = None) -> None:
        super().__init__()
        fault = INIT.fault("Trainable", "init", init)
        if fault:
            raise ParameterError(fault)
        self.init = init
        self.num_classes: int | None = None
        # One element and not a scalar: FSDP shards no scalars.
        self.log_kappa = nn.Parameter(torch.zeros(1))
        self.reset_parameters()

    def attach(self, num_classes: int) -> None:
        """Start at the closed form of ``num_classes`` classes, unless a start was given or found already."""
        if self.num_classes is None:
            self.num_classes = num_classes
            if self.init is None:
                self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again; also what ``to_empty`` needs after building on the meta device."""
        start = self.init
        if start is None:
            start = 1.0 if self.num_classes is None else equiangular_kappa(self.num_classes)
        with torch.no_grad():
            self.log_kappa.fill_(math.log(start))

    def fresh(self) -> Trainable:
        """Another one with the same start."""
        return Trainable(self.init)

    @property
    def kappa(self) -> Tensor:
        """The value learned so far; carries a gradient."""
        return self.log_kappa.to(at_least_float32(self.log_kappa)).exp().squeeze(0)

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """The value learned so far, for each sample, detached; shape ``[...]``."""
        return self.kappa.detach().to(cosine).expand(cosine.shape[:-1])

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """The value learned so far, in the dtype of the cosines; carries a gradient."""
        return self.log_kappa.to(cosine.dtype).exp().squeeze(0)

    def extra_repr(self) -> str:
        """Show the start."""
        return f"init={self.init}"
