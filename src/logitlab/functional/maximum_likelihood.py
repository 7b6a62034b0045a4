"""The maximum-likelihood temperature: the bandwidth of a von Mises-Fisher kernel density over the class weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .least_squares import KAPPA_CANDIDATES
from .precision import at_least_float32
from .von_mises_fisher import von_mises_fisher_bound, von_mises_fisher_log_ratio

#: How log Z is found: by the upper bound of Hornik & Grün, or exactly.
Normalizer = Literal["bound", "exact"]

NORMALIZERS = {"bound": von_mises_fisher_bound, "exact": von_mises_fisher_log_ratio}


def maximum_likelihood_energy(
    cosine: Tensor, kappa: float | Tensor, dimension: int, normalizer: Normalizer = "bound"
) -> Tensor:
    r"""Negative log-likelihood of a feature in the kernel density over the class weights.

    .. math:: E_\kappa = -\log \frac1C \sum_c \frac{Z_0}{\bar Z_\kappa} e^{\kappa z_c}

    It is T's energy less log Z_0, the logarithm of the sphere's area: the density is relative to the uniform one. The
    constant moves no minimum, and its 10^4 nats at D = 10^4 would leave float32 no digits for the rest. At κ → 0 the
    energy is zero; below zero the feature is likelier than under the uniform distribution.

    Args:
        cosine: shape ``[..., C]``.
        kappa: positive; a number, a scalar or one value a sample, shape ``[...]``.
        dimension: D, at least 2; at least 1 with the exact normaliser.
        normalizer: ``"bound"`` (log H <= S_{ν,ν+2}) or ``"exact"``.

    Returns:
        Energy in nats, shape ``[...]``, float32 at least.

    Raises:
        InputError: a dimension that is too small, or an unknown normaliser.

    References:
        T Eqs. (3), (5).

    One class in three dimensions, where Z = 4π sinh κ / κ: log(sinh 1) - 1 at the weight itself.

    >>> maximum_likelihood_energy(torch.ones(1, 1), 1.0, 3, "exact")
    tensor([-0.8386])
    """
    cosine = cosine.to(at_least_float32(cosine))
    value = kappa.to(cosine) if isinstance(kappa, Tensor) else cosine.new_full((), kappa)
    return _energy(*_about_largest(cosine), value, _log_ratio(value, dimension, normalizer))


@torch.no_grad()
def search_maximum_likelihood(
    cosine: Tensor,
    dimension: int,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    normalizer: Normalizer = "bound",
) -> Tensor:
    r"""Choose κ among candidates for each sample by the likelihood of its feature.

    .. math:: \kappa^* = \arg\min_{\kappa \in \mathcal K} E_\kappa

    Of equal energies the smallest candidate wins. One ``[..., C]`` is held at a time beside the cosines.

    Args:
        cosine: shape ``[..., C]``.
        dimension: D, at least 2; at least 1 with the exact normaliser.
        candidates: positive values of κ, increasing, at least one.
        normalizer: ``"bound"`` or ``"exact"``.

    Returns:
        One candidate a sample, shape ``[...]``; detached (T §2.3).

    Raises:
        InputError: a dimension that is too small, or an unknown normaliser.

    References:
        T Eqs. (5), (6), (14).

    The closer the class, the narrower the density; far from all classes the smallest candidate is the likeliest:

    >>> search_maximum_likelihood(torch.tensor([[0.9, 0.0], [0.5, 0.0], [-0.1, -0.2]]), 8)
    tensor([33.9985,  3.7277,  0.1353])
    """
    cosine = cosine.to(at_least_float32(cosine))
    # Filled one by one on the device: a tensor from a list would wait for the host.
    values = torch.stack([cosine.new_full((), candidate) for candidate in candidates])
    log_ratios = _log_ratio(values, dimension, normalizer)
    shifted, largest = _about_largest(cosine)
    energies = (_energy(shifted, largest, value, log_ratio) for value, log_ratio in zip(values, log_ratios))
    return _least(candidates, energies)


@torch.no_grad()
def search_likelihood_of_means(
    log_means: Tensor,
    largest: Tensor,
    dimension: int,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    normalizer: Normalizer = "bound",
) -> Tensor:
    r"""``search_maximum_likelihood`` from means over the classes, where nobody holds the cosines of all.

    Args:
        log_means: :math:`\log \frac1C \sum_c e^{\kappa (z_c - M)}` at each candidate, shape ``[K, N]``.
        largest: M, about the largest cosine, shape ``[N]``.
        dimension: as in ``search_maximum_likelihood``, and the rest too.
        candidates: K of them.
        normalizer: ``"bound"`` or ``"exact"``.

    Returns:
        One candidate a sample, shape ``[N]``.

    >>> largest = torch.tensor([0.9])
    >>> log_means = torch.stack([((1 + torch.tensor([-0.9]).mul(kappa).exp()) / 2).log() for kappa in (1.0, 34.0)])
    >>> search_likelihood_of_means(log_means, largest, 8, (1.0, 34.0))
    tensor([34.])
    """
    values = torch.stack([largest.new_full((), candidate) for candidate in candidates])
    log_ratios = _log_ratio(values, dimension, normalizer)
    energies = (log_ratios[index] - values[index] * largest - log_means[index] for index in range(len(candidates)))
    return _least(candidates, energies)


def _least(candidates: Sequence[float], energies: Iterable[Tensor]) -> Tensor:
    """The candidate of the least energy, of equal ones the first; energies of one candidate at a time, ``[...]``."""
    kappa: Tensor | None = None
    lowest: Tensor | None = None
    for candidate, energy in zip(candidates, energies):
        if kappa is None or lowest is None:
            kappa, lowest = torch.full_like(energy, candidate), energy
            continue
        better = energy < lowest
        kappa = torch.where(better, candidate, kappa)
        lowest = torch.where(better, energy, lowest)
    assert kappa is not None
    return kappa


def _log_ratio(kappa: Tensor, dimension: int, normalizer: str) -> Tensor:
    if normalizer not in NORMALIZERS:
        raise InputError(f"Expected the normalizer 'bound' or 'exact'. Got {normalizer!r}.")
    return NORMALIZERS[normalizer](kappa, dimension)


def _about_largest(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines less the largest, and the largest: with a mean instead of a sum, no log C is rounded away."""
    largest = cosine.amax(dim=-1)
    return cosine - largest.unsqueeze(-1), largest


def _energy(shifted: Tensor, largest: Tensor, kappa: Tensor, log_ratio: Tensor) -> Tensor:
    scale = kappa.unsqueeze(-1) if kappa.ndim else kappa
    return log_ratio - kappa * largest - (scale * shifted).exp().mean(dim=-1).log()
