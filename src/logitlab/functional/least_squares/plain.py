"""The energy of T Eq. (10), and the search as the paper writes it: what the fast searches must find again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from ..precision import autocast_off

#: The candidate set of TS Eq. (30): twenty values, equally spaced in the logarithm, from e^-2 to e^5.
KAPPA_CANDIDATES: tuple[float, ...] = tuple(math.exp(-2 + 7 / 19 * j) for j in range(20))


def projection_energy(
    unit_features: Tensor, unit_weight: Tensor, kappa: float | Tensor, cosine: Tensor | None = None
) -> Tensor:
    r"""Squared distance between a feature and its softmax combination of the class weights.

    .. math:: E_\kappa = \tfrac12 \Big\| \tilde{\mathbf x} - \sum_c a_c \tilde{\mathbf w}_c \Big\|_2^2,
        \qquad a = \operatorname{softmax}(\kappa z)

    Args:
        unit_features: rows of unit length, shape ``[..., D]``.
        unit_weight: rows of unit length, shape ``[C, D]``.
        kappa: inverse temperature, positive; a number, a scalar or one value a sample, shape ``[...]``.
        cosine: ``unit_features @ unit_weight.T`` if already at hand, shape ``[..., C]``.

    Returns:
        Energy in [0, 2], shape ``[...]``.

    References:
        T Eq. (10).

    A feature on its weight, with κ large, is rebuilt exactly:

    >>> projection_energy(torch.eye(3), torch.eye(3), 100.0)
    tensor([0., 0., 0.])
    """
    if isinstance(kappa, Tensor) and kappa.ndim:
        kappa = kappa.unsqueeze(-1)
    # Autocast would turn the deciding products into half precision.
    with autocast_off(unit_features.device):
        if cosine is None:
            cosine = F.linear(unit_features, unit_weight)
        combination = torch.softmax(kappa * cosine, dim=-1) @ unit_weight
    return 0.5 * (unit_features - combination).square().sum(dim=-1)


def plain_search(
    unit_features: Tensor, unit_weight: Tensor, candidates: Sequence[float], cosine: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The plain search: one reconstruction a candidate. Of equal energies the smallest candidate wins.

    .. math:: \kappa^* = \arg\min_{\kappa \in \mathcal K} E_\kappa

    Args:
        unit_features: rows of unit length, shape ``[..., D]``.
        unit_weight: rows of unit length, shape ``[C, D]``.
        candidates: positive values of κ, increasing, at least one.
        cosine: ``unit_features @ unit_weight.T``, shape ``[..., C]``.

    Returns:
        κ* of each sample and its energy, each of shape ``[...]``.

    References:
        T Eqs. (11) and (14); TS Eq. (30).
    """
    kappa = torch.full_like(cosine[..., 0], candidates[0])
    lowest = projection_energy(unit_features, unit_weight, candidates[0], cosine)
    for candidate in candidates[1:]:
        energy = projection_energy(unit_features, unit_weight, candidate, cosine)
        better = energy < lowest
        kappa = torch.where(better, candidate, kappa)
        lowest = torch.where(better, energy, lowest)
    return kappa, lowest


def check_candidates(candidates: Sequence[float]) -> None:
    """Refuse an empty candidate set, and values that are not positive, finite and increasing.

    Raises:
        InputError: says which rule is broken.
    """
    values = list(candidates)
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(f"Expected at least one candidate κ, each positive and finite. Got {values}.")
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise InputError(f"Expected candidates for κ in increasing order, each once. Got {values}.")
