"""The normaliser of the von Mises-Fisher distribution, in logs: exact, and by the bounds of Hornik & Grün."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .precision import at_least_float32

# Numerators and common denominator of D_1 to D_8 in log ΣU_k(p)/ν^k = ΣD_k(p)/ν^k, where U_k are Debye's polynomials
# (DLMF 10.41.10). D_k(p) = p^k (c_0 + c_1 p² + ... + c_k p^2k). The tests derive them anew.
_DEBYE: tuple[tuple[tuple[int, ...], int], ...] = (
    ((3, -5), 24),
    ((1, -6, 5), 16),
    ((375, -4779, 9945, -5525), 5760),
    ((13, -284, 1062, -1356, 565), 128),
    ((67599, -2252205, 13077470, -28286370, 26089875, -8696625), 322560),
    ((103, -4860, 40248, -129336, 196155, -141660, 39350), 192),
    (
        (5635995, -357743715, 3993996195, -17685616515, 38895263673, -45364037985, 26922662025, -6410157625),
        3440640,
    ),
    ((23797, -1956312, 28279916, -164210472, 487718718, -812326120, 769236588, -387494040, 80727925), 4096),
)
# From this order on the expansion is trusted; smaller orders are reached from here by recurrence.
_LEAST_ORDER = 24.0


def von_mises_fisher_log_ratio(kappa: Tensor, dimension: int) -> Tensor:
    r"""Logarithm of the normaliser over its value at κ = 0, exactly.

    .. math:: \log H_\nu(\kappa) = \log \frac{Z_{\kappa,D}}{Z_{0,D}}
        = \log \frac{\Gamma(\nu + 1)\, I_\nu(\kappa)}{(\kappa/2)^\nu}, \qquad \nu = \tfrac D2 - 1

    For ν >= 24 by Debye's uniform expansion, in a form that loses no digits however small κ is: with
    :math:`s = \sqrt{1 + (\kappa/\nu)^2}`, :math:`w = s - 1`, :math:`p = 1/s`,

    .. math:: \log H_\nu = \nu \left( w - \log(1 + \tfrac w2) \right) - \tfrac12 \log s
        + \sum_{k=1}^8 \frac{D_k(p) - D_k(1)}{\nu^k}.

    Smaller orders follow from the recurrence, all of whose terms are positive:
    :math:`\log H_{\nu-1} = \log H_\nu + \log(1 + \kappa R_\nu / 2\nu)` with the ratio
    :math:`R_\nu = I_{\nu+1}/I_\nu`, :math:`R_{\nu-1} = 1 / (2\nu/\kappa + R_\nu)`.

    Relative errors found against mpmath: below 1e-13 in float64 and 5e-7 in float32, for D from 1 to 10,000 and κ from
    1e-6 to 1e6.

    Args:
        kappa: not negative, any shape.
        dimension: D, at least 1.

    Returns:
        Not negative, zero at κ = 0, increasing; same shape, float32 at least.

    Raises:
        InputError: D below 1.

    References:
        T Eq. (3); Hornik & Grün 2014 (T ref [14]); DLMF 10.29, 10.41.

    >>> von_mises_fisher_log_ratio(torch.tensor([1.0]), 3)  # log(sinh κ / κ)
    tensor([0.1614])
    """
    order = _order(dimension)
    kappa = kappa.to(at_least_float32(kappa))
    shifts = max(0, math.ceil(_LEAST_ORDER - order))
    log_ratio, ratio = _debye(kappa, order + shifts)
    for shift in range(shifts, 0, -1):
        twice = 2 * (order + shift)
        log_ratio = log_ratio + torch.log1p(kappa * ratio / twice)
        # R / (2ν/κ + R) times κ, without a division by κ.
        ratio = kappa / (twice + kappa * ratio)
    return log_ratio


def von_mises_fisher_bound(kappa: Tensor, dimension: int) -> Tensor:
    r"""Upper bound of ``von_mises_fisher_log_ratio``, elementary.

    .. math:: \log H_\nu(\kappa) \le S_{\nu,\nu+2}(\kappa), \qquad
        S_{\alpha,\beta}(\kappa) = \sqrt{\kappa^2 + \beta^2} - \beta
        - \alpha \log \frac{\alpha + \sqrt{\kappa^2 + \beta^2}}{\alpha + \beta}

    It integrates the Amos-type bound :math:`I_{\nu+1}/I_\nu \le \kappa / (\nu + \sqrt{\kappa^2 + (\nu + 2)^2})`. The
    lower bound of the same kind is S with α = ν + 1/2, β = ν + 3/2.

    Args:
        kappa: not negative, any shape.
        dimension: D, at least 2.

    Returns:
        Not negative, zero at κ = 0, increasing; same shape, float32 at least.

    Raises:
        InputError: D below 2.

    References:
        T Eq. (5); Hornik & Grün 2014 (T ref [14]).

    >>> von_mises_fisher_bound(torch.tensor([1.0]), 3)
    tensor([0.1615])
    """
    order = _order(dimension)
    if dimension < 2:
        raise InputError(f"Expected a dimension of at least 2: the bound holds for ν = D/2 - 1 >= 0. Got {dimension}.")
    kappa = kappa.to(at_least_float32(kappa))
    beta = order + 2
    # √(κ² + β²) - β, which cancels when κ is small.
    excess = kappa * (kappa / (torch.hypot(kappa, torch.full_like(kappa, beta)) + beta))
    return excess - order * torch.log1p(excess / (order + beta))


def von_mises_fisher_log_normalizer(kappa: Tensor, dimension: int) -> Tensor:
    r"""Logarithm of the normaliser of the von Mises-Fisher distribution on the unit sphere.

    .. math:: \log Z_{\kappa,D} = \log \frac{(2\pi)^{D/2} I_{D/2-1}(\kappa)}{\kappa^{D/2-1}}
        = \log \frac{2 \pi^{D/2}}{\Gamma(D/2)} + \log H_{D/2-1}(\kappa)

    Args:
        kappa: not negative, any shape; at 0 the distribution is uniform.
        dimension: D, at least 1.

    Returns:
        Same shape, float32 at least.

    Raises:
        InputError: D below 1.

    References:
        T Eq. (3).

    >>> von_mises_fisher_log_normalizer(torch.zeros(1), 2)  # the length of the circle: log 2π
    tensor([1.8379])
    """
    surface = math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(_order(dimension) + 1)
    return surface + von_mises_fisher_log_ratio(kappa, dimension)


def _order(dimension: int) -> float:
    if dimension < 1:
        raise InputError(f"Expected a dimension of at least 1. Got {dimension}.")
    return dimension / 2 - 1


def _debye(kappa: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """Return log H_ν and R_ν by the uniform expansion."""
    z = kappa / order
    root = torch.hypot(torch.ones_like(z), z)
    w = z * (z / (1 + root))
    p = 1 / root
    coefficients = _polynomial(order)
    # A(p) - A(1) = (p - 1) Q(p) with p - 1 = -wp; synthetic division gives Q.
    quotient = [math.fsum(coefficients[power:]) for power in range(1, len(coefficients))]
    log_ratio = order * (w - torch.log1p(w / 2)) - 0.5 * torch.log1p(w) - w * p * _horner(quotient, p)
    derivative = [power * value for power, value in enumerate(coefficients)][1:]
    ratio = z * (1 / (1 + root) - p * p * (0.5 + p * _horner(derivative, p)) / order)
    return log_ratio, ratio


def _polynomial(order: float) -> list[float]:
    """Coefficients of A(p) = ΣD_k(p)/ν^k, the lowest power first."""
    coefficients = [0.0] * (3 * len(_DEBYE) + 1)
    for k, (numerators, denominator) in enumerate(_DEBYE, 1):
        for j, numerator in enumerate(numerators):
            coefficients[k + 2 * j] += numerator / denominator / order**k
    return coefficients


def _horner(coefficients: list[float], at: Tensor) -> Tensor:
    total = torch.full_like(at, coefficients[-1])
    for value in reversed(coefficients[:-1]):
        total = total * at + value
    return total
