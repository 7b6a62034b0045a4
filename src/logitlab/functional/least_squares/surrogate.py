r"""The energy without a matrix product, as if the weights were orthogonal beyond what the feature sees of them.

With a = softmax(κz), ā = Σ a_c z_c and v the reconstruction Σ a_c w̃_c,

.. math:: E_\kappa = \tfrac12 \big[(1 - \bar a)^2 + \|\mathbf v_\perp\|^2\big], \qquad
    \tilde E_\kappa = \tfrac12 \Big[(1 - \bar a)^2 + \sum_c a_c^2 (1 - z_c^2)\Big].

The first is exact; the second, ours, takes the parts of the w̃_c across the feature as orthogonal to each other. Both
sums of it are known at κ = 1, 2, 4, … and interpolated between, since the logarithm of a sum of exponentials, its slope
and its curvature are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .power_sums import LEVELS, PowerSums

# Twice so many equidistant values of log κ between two neighbours of a candidate: to 0.006 in the end.
_REFINING_POINTS = 17

# Below, a sum of float32 exponentials has lost its digits.
_VANISHED = 1e-25


class Surrogate:
    r"""Ẽ of each sample for any κ.

    Between two levels log S_0 is the polynomial of fifth degree that shares value, slope and curvature with it at both
    (Hermite); below κ = 1 that of second degree at 1, above the last level its value there.

    Args:
        sums: over the rest of the classes.
        alone: cosines of the classes that stand beside the rest, each by itself: the nearest one, and the masked one
            if there is one; float64 ``[N, K]``.
    """

    def __init__(self, sums: PowerSums, alone: Tensor) -> None:
        s0, s1, s2 = (part.t() for part in sums.sums)
        self.reference = sums.reference.unsqueeze(1)
        self.alone = alone
        safe = s0.clamp_min(1e-30)
        vanished = s0 < _VANISHED
        mean = s1 / safe
        self.log_sum = safe.log()
        #: (log S_0)' = mean cosine of the rest less the reference; never positive.
        self.slope = torch.where(vanished, -1e-9, mean - self.reference)
        self.curvature = torch.where(vanished, 0.0, (s2 / safe - mean.square()).clamp_min(0))

    def energy(self, kappa: Tensor) -> Tensor:
        """Ẽ at κ.

        Args:
            kappa: positive, ``[Q]`` for all samples alike or ``[N, Q]``.

        Returns:
            Float64, ``[N, Q]``.
        """
        kappa = kappa.double().expand(len(self.reference), -1)
        top = torch.maximum(self.reference, self.alone.amax(dim=1, keepdim=True))
        shift = (self.reference - top) * kappa
        log_sum, slope, _ = self._interpolate(kappa)
        rest = (log_sum + shift).exp()
        by_class = ((self.alone - top).unsqueeze(1) * kappa.unsqueeze(2)).exp()
        total = rest + by_class.sum(dim=2)
        mean = (rest * (slope + self.reference) + (by_class * self.alone.unsqueeze(1)).sum(dim=2)) / total
        log_square, slope, curvature = self._interpolate(2 * kappa)
        of_square = slope + self.reference
        rest = (log_square + 2 * shift).exp() * (1 - of_square.square() - curvature).clamp_min(0)
        across = rest + (by_class.square() * (1 - self.alone.square()).clamp_min(0).unsqueeze(1)).sum(dim=2)
        return 0.5 * ((1 - mean).square() + across / total.square())

    def minimum(self, candidates: Tensor) -> Tensor:
        """The κ of the least Ẽ between the neighbours of the best candidate, float64 ``[N]``.

        Args:
            candidates: increasing, ``[K]``.
        """
        values = candidates.double()
        energy = self.energy(values)
        best = energy.argmin(dim=1, keepdim=True)
        lowest, kappa = energy.gather(1, best), values[best]
        low, high = (values[(best + step).clamp(0, len(values) - 1)].log() for step in (-1, 1))
        steps = torch.linspace(0, 1, _REFINING_POINTS, dtype=values.dtype, device=values.device)
        for _ in range(2):
            points = torch.lerp(low, high, steps)
            energy = self.energy(points.exp())
            best = energy.argmin(dim=1, keepdim=True)
            better = energy.gather(1, best) < lowest
            kappa = torch.where(better, points.gather(1, best).exp(), kappa)
            lowest = torch.where(better, energy.gather(1, best), lowest)
            low, high = (points.gather(1, (best + step).clamp(0, len(steps) - 1)) for step in (-1, 1))
        return kappa.squeeze(1)

    def _interpolate(self, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log S_0, its slope and its curvature at κ, each ``[N, Q]``."""
        kappa = kappa.clamp_max(2.0 ** (LEVELS - 1))
        level = kappa.log2().floor().clamp(0, LEVELS - 2).long()
        left = level.double().exp2()
        width = left  # from 2^i to 2^(i+1)
        t = (kappa - left) / width
        f0, f1 = self.log_sum.gather(1, level), self.log_sum.gather(1, level + 1)
        d0, d1 = self.slope.gather(1, level) * width, self.slope.gather(1, level + 1) * width
        c0 = self.curvature.gather(1, level) * width.square()
        c1 = self.curvature.gather(1, level + 1) * width.square()
        third = 10 * (f1 - f0) - 6 * d0 - 4 * d1 - 1.5 * c0 + 0.5 * c1
        fourth = -15 * (f1 - f0) + 8 * d0 + 7 * d1 + 1.5 * c0 - c1
        fifth = 6 * (f1 - f0) - 3 * d0 - 3 * d1 - 0.5 * c0 + 0.5 * c1
        below = kappa < 1
        third, fourth, fifth = (torch.where(below, 0.0, factor) for factor in (third, fourth, fifth))
        value = f0 + t * (d0 + t * (0.5 * c0 + t * (third + t * (fourth + t * fifth))))
        slope = (d0 + t * (c0 + t * (3 * third + t * (4 * fourth + t * 5 * fifth)))) / width
        curvature = (c0 + t * (6 * third + t * (12 * fourth + t * 20 * fifth))) / width.square()
        return value, slope.clamp_max(0), curvature.clamp_min(0)
