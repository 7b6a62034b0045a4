r"""What the energy cannot fall below, from the sums at κ = 1, 2, 4, … alone.

Let M be the largest cosine, and O(κ) = Σ e^{κ(z_c - M)} over all other classes, so that the nearest class has the
weight a = 1/(1 + O). log O is convex: between two levels it lies below its chord and above its tangents. Hence bounds
of a from below and of ā from above, and with ‖v_⊥‖ ≥ a √(1 - M²) - (1 - a) (the triangle inequality)

.. math:: E_\kappa \ge \tfrac12 \big[(1 - \bar a_{\max})_+^2 + (a_{\min} \sqrt{1 - M^2} - (1 - a_{\min}))_+^2\big].
"""

from __future__ import annotations

import torch
from torch import Tensor

from .power_sums import LEVELS, PowerSums

# Float32 exponentials that were squared eight times are right to 3e-5: what is called a bound leaves room for it.
_ROOM = 1e-4


def energy_bound(sums: PowerSums, alone: Tensor, candidates: Tensor) -> Tensor:
    """A number below the energy of each candidate.

    Args:
        sums: over the rest of the classes.
        alone: cosines of the classes beside the rest, as ``Surrogate`` takes them; float64, one or two columns.
        candidates: positive, increasing, ``[Q]``.

    Returns:
        Float64, ``[N, Q]``.
    """
    kappa = candidates.double()
    nodes = torch.cat([kappa.new_zeros(1), 2.0 ** torch.arange(LEVELS, dtype=kappa.dtype, device=kappa.device)])
    top = alone.amax(dim=1, keepdim=True)
    log_others, slope = _others(sums, alone, top, nodes)
    # The interval of nodes around each candidate; beyond the last node O still falls, so that its value there serves.
    right = torch.searchsorted(nodes, kappa).clamp_max(LEVELS)
    left = right - 1
    beyond = kappa > nodes[-1]
    width = nodes[right] - nodes[left]
    share = ((kappa - nodes[left]) / width).clamp(0, 1)
    at_left, at_right = log_others[:, left], log_others[:, right]
    upper = at_left + share * (at_right - at_left)
    # A node without a slope has no tangent: fmax passes over NaN.
    lower = torch.fmax(
        at_left + slope[:, left] * (kappa - nodes[left]),
        at_right + slope[:, right] * (kappa - nodes[right]),
    )
    lower = torch.where(lower.isfinite() & ~beyond, lower, -torch.inf)
    # The mean of the others is the slope of log O at κ: below that of the chord to the right node, and that node's own.
    to_right = (nodes[right] - kappa).clamp_min(1e-300)
    # Just below a node two nearly equal numbers are subtracted and divided by next to nothing.
    rise = at_right - lower + _ROOM * nodes[right] / nodes[-1]
    steepest = torch.where(lower.isfinite(), rise / to_right, 0.0)
    known = slope[:, right].isfinite()
    steepest = torch.minimum(steepest, torch.where(known, slope[:, right], 0.0)).clamp_max(0)
    steepest = torch.where(beyond, 0.0, steepest)
    most = upper.exp() * (1 + _ROOM)
    fewest = lower.exp() * (1 - _ROOM)
    mean = top + fewest * steepest * (1 - _ROOM) / (1 + fewest)
    nearest = 1 / (1 + most)
    # A cosine of exactly zero may be that of a zero row, which has no part across the feature.
    sine = torch.where(top == 0, 0.0, (1 - top.square()).clamp_min(0).sqrt())
    across = (nearest * sine - (1 - nearest)).clamp_min(0)
    return 0.5 * ((1 - mean).clamp_min(0).square() + across.square())


def _others(sums: PowerSums, alone: Tensor, top: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Log O at each node and its slope there, ``[N, LEVELS + 1]``; the slope is NaN where O has vanished, and at 0."""
    s0, s1, _ = (part.t() for part in sums.sums)
    shift = (sums.reference.unsqueeze(1) - top) * nodes[1:]
    rest = s0 * shift.exp()
    moment = s1 * shift.exp()
    total, mean = rest, moment
    if alone.shape[1] > 1:
        second = alone.amin(dim=1, keepdim=True)
        weight = ((second - top) * nodes[1:]).exp()
        total, mean = rest + weight, moment + weight * second
    vanished = total < 1e-25
    slope = torch.where(vanished, torch.nan, mean / total.clamp_min(1e-300) - top)
    # What has vanished from float32 is at most this: 1e-38 a class.
    log_total = torch.where(vanished, -50.0, total.clamp_min(1e-300).log())
    others = sums.number + alone.shape[1] - 1
    start = torch.full_like(log_total[:, :1], float(others)).log()
    return torch.cat([start, log_total], 1), torch.cat([torch.full_like(start, torch.nan), slope], 1)
