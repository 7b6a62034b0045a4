"""Margins that multiply the target's angle: L-Softmax and SphereFace."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional import multiplicative_angular_margin

from .annealing import Annealing
from .base import Margin

MULTIPLIER = Range(1, 100, integer=True)


class MultiplicativeAngularMargin(Margin):
    r"""L-Softmax and SphereFace: ψ(θ) = (-1)^k cos(mθ) - 2k. See ``functional.multiplicative_angular_margin``.

    With annealing the target's cosine counts beside it, (λ cos θ + ψ)/(1 + λ), less and less. On Wx the lengths of
    weight and feature stay (L-Softmax), on ‖x‖cos θ that of the feature (SphereFace), on κcos θ neither.

    Args:
        margin: m, an integer >= 1; 1 is no margin.
        annealing: a schedule of λ, a number for a constant λ, or None for λ = 0.

    Raises:
        ParameterError: all faults at once.

    References:
        L, ψ and f_y; T ref. [25] (SphereFace).

    >>> import torch
    >>> margin = MultiplicativeAngularMargin(2, annealing=1.0)  # the mean of 0.5 and cos 120° = -0.5
    >>> margin(torch.tensor([0.5]), torch.tensor([0]))
    tensor([0.])
    """

    bends_linear = True
    margin_expected = str(MULTIPLIER)

    def __init__(self, margin: int = 4, annealing: Annealing | float | None = None) -> None:
        super().__init__()
        owner = type(self).__name__
        faults = [MULTIPLIER.fault(owner, "margin", margin)]
        if isinstance(annealing, (int, float)) and not isinstance(annealing, bool) and annealing in Range(0):
            annealing = Annealing(float(annealing), gamma=0.0, minimum=0.0)
        elif annealing is not None and not isinstance(annealing, Annealing):
            expected = "an Annealing, a constant λ >= 0 or None"
            faults.append(parameter_fault(owner, "annealing", expected, annealing))
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.margin = int(margin)
        self.annealing = annealing if isinstance(annealing, Annealing) else None

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        """φ of the target's cosine. See ``Margin.forward``."""
        psi = multiplicative_angular_margin(cosine, self.margin)
        if self.annealing is None:
            return psi
        weight: Tensor = self.annealing.weight.to(cosine.dtype)
        return (weight * cosine + psi) / (1 + weight)

    def fresh(self) -> MultiplicativeAngularMargin:
        """The same margin with λ at its start."""
        return MultiplicativeAngularMargin(self.margin, None if self.annealing is None else self.annealing.fresh())

    def extra_repr(self) -> str:
        """Show m."""
        return f"margin={self.margin}"
