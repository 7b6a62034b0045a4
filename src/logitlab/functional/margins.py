"""What the margin losses make of the target's cosine; the other classes' logits stay as they are.

All are functions of the gathered target cosine, never of an angle: acos has infinite slope at ±1, where other
libraries give NaN gradients. φ never rises with the angle, and φ(cos θ) <= cos θ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Where 1 - cos² is smaller, the slope of sin θ counts as zero: at |cos| = 1 it would be infinite.
_SMALLEST = {torch.float32: 1e-7, torch.float64: 1e-14}


def multiplicative_angular_margin(cosine: Tensor, margin: int) -> Tensor:
    r"""ψ of L-Softmax and SphereFace: the target's cosine at m times the angle, continued downwards.

    .. math:: \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \qquad \theta \in [k\pi/m, (k+1)\pi/m], \quad
        k \in \{0, \dots, m - 1\}

    cos(mθ) is the Chebyshev polynomial of cos θ. k stays below m at θ = π, where pytorch-metric-learning takes k = m:
    its value is right there and its derivative has the wrong sign.

    Args:
        cosine: of the target, in [-1, 1] up to rounding; shape ``[...]``.
        margin: m >= 1, an integer; 1 leaves the cosine as it is.

    Returns:
        ψ in [1 - 2m, 1], shape ``[...]``: continuous and never rising with θ.

    References:
        L, "ψ(θ) = (-1)^k cos(mθ) - 2k"; T ref. [25] (SphereFace).

    >>> multiplicative_angular_margin(torch.tensor([1.0, 0.5, -1.0]), 2)
    tensor([ 1.0000, -0.5000, -3.0000])
    """
    before, polynomial = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, polynomial = polynomial, 2 * cosine * polynomial - before
    # θ >= jπ/m where the cosine is at most cos(jπ/m): no angle is needed.
    k = torch.zeros_like(cosine)
    for j in range(1, margin):
        k = k + (cosine.detach() <= math.cos(j * math.pi / margin)).to(cosine.dtype)
    sign = 1 - 2 * (k % 2)
    return sign * polynomial - 2 * k


def additive_cosine_margin(cosine: Tensor, margin: float | Tensor) -> Tensor:
    r"""CosFace: the target's cosine less a margin.

    .. math:: \varphi = \cos\theta - m

    Args:
        cosine: of the target, shape ``[...]``.
        margin: m >= 0 in units of the cosine; a number, or one a sample, shape ``[...]``.

    Returns:
        Shape ``[...]``.

    References:
        T §3.4.1, ref. [37].

    >>> additive_cosine_margin(torch.tensor([0.5]), 0.25)
    tensor([0.2500])
    """
    return cosine - margin


def additive_angular_margin(cosine: Tensor, margin: float | Tensor, *, detach_margin: bool = False) -> Tensor:
    r"""ArcFace: the cosine of the target's angle plus a margin, with a tail that goes on falling.

    .. math:: \varphi = \begin{cases} \cos(\theta + m) = \cos\theta \cos m - \sin\theta \sin m & \theta + m \le \pi \\
        \cos\theta + \cos m - 1 & \theta + m > \pi \end{cases}

    Past θ + m = π the cosine would rise again and reward a larger angle. The tail here meets -1 there without a jump
    and falls as the cosine does. pytorch-metric-learning and others take cos θ - m sin m, which jumps down at that
    point; insightface dropped the tail.

    Args:
        cosine: of the target, in [-1, 1] up to rounding; shape ``[...]``.
        margin: m in [0, π) radians; a number, or one a sample, shape ``[...]``.
        detach_margin: the same value with the gradient of the cosine alone (dφ/dcos θ = 1), as insightface trains;
            by default the gradient is that of φ.

    Returns:
        Shape ``[...]``, continuous.

    References:
        T §3.4.1, ref. [9].

    >>> additive_angular_margin(torch.tensor([0.0, -1.0]), math.pi / 6)
    tensor([-0.5000, -1.1340])
    """
    angle = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device) if _is_number(margin) else margin
    assert isinstance(angle, Tensor)
    value = cosine.detach() if detach_margin else cosine
    turned = value * angle.cos() - _sine(value) * angle.sin()
    # At |cos θ| = 1 the slope of φ is infinite. That of the cosine stands for it: finite, and of the right sign.
    steep = 1 - value.detach().square() < _SMALLEST.get(value.dtype, 1e-7)
    turned = torch.where(steep, value + (turned - value).detach(), turned)
    falling = value + angle.cos() - 1
    # θ + m <= π where cos θ >= cos(π - m).
    phi = torch.where(value.detach() >= -angle.cos(), turned, falling)
    # The value of φ, and the slope of the cosine.
    return cosine + (phi - value).detach() if detach_margin else phi


def _sine(cosine: Tensor) -> Tensor:
    """Return sin θ >= 0 of cos θ; the value is exact, the slope is zero where it would grow without bound."""
    square = 1 - cosine.square()
    bounded = square.clamp_min(_SMALLEST.get(cosine.dtype, 1e-7)).sqrt()
    return bounded + (square.detach().clamp_min(0).sqrt() - bounded.detach())


def _is_number(margin: float | Tensor) -> bool:
    return not isinstance(margin, Tensor)
