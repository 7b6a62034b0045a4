"""The least-squares temperature in closed form, for class weights that form a regular simplex."""

from __future__ import annotations

import math

from logitlab.config.errors import InputError


def equiangular_kappa(num_classes: int, angle: float = 45.0) -> float:
    r"""The continuous minimiser of T Eq. (10) for an equiangular weight.

    The weights are the vertices of a regular simplex (every two at cosine -1/(C-1)) and the feature lies at
    angle θ from its class, deviating orthogonally to the span of the weights. The combination of the weights
    is then parallel to the own one, and rebuilds the projection of the feature exactly when the own class has
    probability p:

    .. math:: p = \frac{(C-1)\cos\theta + 1}{C}, \qquad
        \kappa^* = \frac{\log\frac{p}{1-p} + \log(C-1)}{\cos\theta \cdot C/(C-1)}

    Args:
        num_classes: C, at least 1. One class gives 1.0: softmax over one class does not depend on κ.
        angle: θ in degrees, in (0, 90). At 45° the value starts running means and trainable temperatures.

    Returns:
        κ*, positive.

    Raises:
        InputError: C below 1, or an angle outside (0, 90).

    References:
        T Eq. (10), solved for the simplex.

    >>> round(equiangular_kappa(10), 4)
    4.1042
    >>> round(equiangular_kappa(1000, angle=60.0), 4)
    13.8037
    """
    if num_classes < 1:
        raise InputError(f"Expected at least one class. Got {num_classes}.")
    if not 0 < angle < 90:
        raise InputError(f"Expected an angle in degrees in the range (0, 90). Got {angle}.")
    if num_classes == 1:
        return 1.0
    cosine = math.cos(math.radians(angle))
    others = num_classes - 1
    # With 1 - p written as (C-1)(1-cosθ)/C, log(C-1) cancels: log(p/(1-p)) + log(C-1) in one logarithm.
    return math.log((others * cosine + 1) / (1 - cosine)) / (cosine * num_classes / others)
