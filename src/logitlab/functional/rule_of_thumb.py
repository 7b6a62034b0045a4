"""The rule-of-thumb temperature: the concentration of the class weights about their mean direction."""

from __future__ import annotations

import torch
from torch import Tensor

#: What the rule may give. Above, float32 tells κz apart in steps of 0.06 and more; below, softmax is uniform to 1e-3.
RULE_OF_THUMB_RANGE = (1e-3, 1e6)


@torch.no_grad()
def rule_of_thumb_kappa(unit_weight: Tensor) -> Tensor:
    r"""κ by the rule of thumb of von Mises-Fisher distributions, from the class weights alone.

    .. math:: \kappa^* = \frac{\bar r (D - \bar r^2)}{1 - \bar r^2}, \qquad
        \bar r = \Big\| \tfrac1C \sum_c \tilde{\mathbf w}_c \Big\|_2

    It grows without bound as the weights gather around one direction (r̄ → 1) and with D, and vanishes where they
    balance (r̄ → 0, as for a regular simplex). Here it stays in [1e-3, 1e6].

    Args:
        unit_weight: rows of unit length, shape ``[C, D]``.

    Returns:
        κ*, scalar in [1e-3, 1e6]; detached (T §2.3).

    References:
        T Eq. (4).

    Two weights at a right angle have r̄² = 1/2, hence κ = √½ (2 - ½)/½:

    >>> rule_of_thumb_kappa(torch.eye(2))
    tensor(2.1213)
    """
    return rule_of_thumb_of_mean(unit_weight.mean(dim=0))


@torch.no_grad()
def rule_of_thumb_of_mean(mean: Tensor) -> Tensor:
    """``rule_of_thumb_kappa`` from the mean of the unit rows, where nobody holds them all.

    Args:
        mean: shape ``[D]``.

    >>> rule_of_thumb_of_mean(torch.tensor([0.5, 0.5]))
    tensor(2.1213)
    """
    squared = mean.square().sum()
    # D - r̄² = (D - 1) + (1 - r̄²): written so, D = 1 is no 0/0.
    spread = (1 - squared).clamp_min(torch.finfo(squared.dtype).eps)
    kappa = squared.sqrt() * (1 + (len(mean) - 1) / spread)
    return kappa.clamp(*RULE_OF_THUMB_RANGE)
