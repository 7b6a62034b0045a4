"""The least-squares temperature: the κ whose softmax rebuilds the feature best from the class weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from .golden_section import golden_section
from .normalization import normalize
from .precision import at_least_float32, autocast_off

#: The candidate set of TS Eq. (30): twenty values, equally spaced in the logarithm, from e^-2 to e^5.
KAPPA_CANDIDATES: tuple[float, ...] = tuple(math.exp(-2 + 7 / 19 * j) for j in range(20))

#: Whether κ* is a candidate, or refined between the neighbours of the best one.
Search = Literal["grid", "continuous"]

# They shrink two cells of TS Eq. (30) to 3e-4 in log κ. Closer, energies in float32 are equal.
_REFINING_STEPS = 16


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


@torch.no_grad()
def search_least_squares(
    unit_features: Tensor,
    unit_weight: Tensor,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    cosine: Tensor | None = None,
    search: Search = "grid",
) -> Tensor:
    r"""Choose κ for each sample: the plain search, one reconstruction a candidate.

    .. math:: \kappa^* = \arg\min_{\kappa \in \mathcal K} E_\kappa

    The energy has several local minima on the grid for many trained samples, so every candidate is tried. Of
    equal energies the smallest candidate wins.

    The continuous search goes on from there: a golden section in log κ between the neighbours of the best candidate
    (18 reconstructions more), whose result is taken where its energy is lower. So its energy is never above the
    grid's; it stays between the first and the last candidate.

    Args:
        unit_features: rows of unit length, shape ``[..., D]``.
        unit_weight: rows of unit length, shape ``[C, D]``.
        candidates: positive values of κ, increasing, at least one.
        cosine: ``unit_features @ unit_weight.T`` if already at hand, shape ``[..., C]``.
        search: ``"grid"`` (T's) or ``"continuous"`` (ours).

    Returns:
        κ* of each sample, shape ``[...]``; detached (T §2.3: κ is not learned end to end).

    References:
        T Eqs. (11) and (14); TS Eq. (30).
    """
    if cosine is None:
        with autocast_off(unit_features.device):
            cosine = F.linear(unit_features, unit_weight)
    kappa = torch.full_like(cosine[..., 0], candidates[0])
    lowest = projection_energy(unit_features, unit_weight, candidates[0], cosine)
    # Neighbours of the best candidate; at an end of the grid, the end itself.
    below, above = [candidates[0], *candidates[:-1]], [*candidates[1:], candidates[-1]]
    low, high = kappa, torch.full_like(kappa, above[0])
    for index, candidate in enumerate(candidates[1:], 1):
        energy = projection_energy(unit_features, unit_weight, candidate, cosine)
        better = energy < lowest
        kappa = torch.where(better, candidate, kappa)
        lowest = torch.where(better, energy, lowest)
        if search == "continuous":
            low, high = torch.where(better, below[index], low), torch.where(better, above[index], high)
    if search == "grid":
        return kappa
    logarithm, energy = golden_section(
        lambda log_kappa: projection_energy(unit_features, unit_weight, log_kappa.exp(), cosine),
        low.log(),
        high.log(),
        _REFINING_STEPS,
    )
    return torch.where(energy < lowest, logarithm.exp(), kappa)


def least_squares_kappa(
    features: Tensor, weight: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES, search: Search = "grid"
) -> Tensor:
    """κ* of each sample by least squares, for any features and weights; no label is needed.

    Args:
        features: of any length, shape ``[..., D]``.
        weight: one row a class, of any length, shape ``[C, D]``.
        candidates: positive, finite values of κ, at least one; increasing, so that ties go to the smallest.
        search: ``"grid"``: one of the candidates; ``"continuous"``: refined between the neighbours of the best one.

    Returns:
        κ*, shape ``[...]``, float32 at least; detached. A zero feature has no direction: its κ* lies among the
        candidates and means nothing.

    Raises:
        InputError: shapes that do not fit, candidates that are not positive, or an unknown search.

    References:
        T Eqs. (1), (10), (11), (14); TS Eq. (30).

    >>> least_squares_kappa(torch.tensor([[1.0, 0.0, 1.0]]), torch.eye(3)[:2])
    tensor([2.5789])
    """
    if weight.ndim != 2 or features.shape[-1:] != weight.shape[-1:]:
        raise InputError(
            f"Expected features [..., D] and weight [C, D] with one D. Got {tuple(features.shape)} and "
            f"{tuple(weight.shape)}."
        )
    check_candidates(candidates)
    if search not in ("grid", "continuous"):
        raise InputError(f"Expected the search 'grid' or 'continuous'. Got {search!r}.")
    with torch.no_grad():
        dtype = at_least_float32(features, weight)
        return search_least_squares(
            normalize(features.to(dtype)), normalize(weight.to(dtype)), candidates, search=search
        )


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
