"""The least-squares temperature: the κ whose softmax rebuilds the feature best from the class weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from ..at_hand import values_at_hand
from ..class_chunks import split_cosine
from ..golden_section import golden_section
from ..normalization import normalize
from ..precision import at_least_float32, autocast_off
from .certified import propose, search_certified
from .gram import GRAM_CLASSES, gram_matrix, search_gram
from .plain import KAPPA_CANDIDATES, check_candidates, plain_search, projection_energy

#: ``"grid"``: κ* is a candidate, as in T. Two of our own: ``"continuous"``: refined between the neighbours of the best
#: candidate; ``"surrogate"``: where the surrogate energy is least, which takes no matrix product and proves nothing.
Search = Literal["grid", "continuous", "surrogate"]

#: How the best candidate is found. All but ``"plain"`` are fast; all find the same but for ties of 2e-6.
Method = Literal["auto", "plain", "gram", "certified"]

_SEARCHES, _METHODS = get_args(Search), get_args(Method)

# They shrink two cells of TS Eq. (30) to 3e-4 in log κ. Closer, energies in float32 are equal.
_REFINING_STEPS = 16


class Chosen(NamedTuple):
    """κ of each sample as a search has found it.

    Attributes:
        kappa: κ*, shape ``[...]``.
        certified: where the certified search needed no second reconstruction, bool ``[...]``; True everywhere for
            searches that compute the energies of all candidates, False everywhere for the surrogate.
        method: what was used: ``"plain"``, ``"gram"``, ``"certified"`` or ``"surrogate"``.
    """

    kappa: Tensor
    certified: Tensor
    method: str


def search_least_squares(
    unit_features: Tensor,
    unit_weight: Tensor,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    cosine: Tensor | None = None,
    search: Search = "grid",
    method: Method = "auto",
) -> Tensor:
    r"""Choose κ for each sample.

    .. math:: \kappa^* = \arg\min_{\kappa \in \mathcal K} E_\kappa

    The energy may have several local minima on the grid (docs/least_squares.md counts them), so that nothing short of
    all candidates is right: they are tried, or ruled out by a bound. Four methods do so:

    - ``"plain"``: a reconstruction a candidate, the formula as it stands;
    - ``"gram"``: for few classes, reconstructions from the C x C products of the weights;
    - ``"certified"``: for many, a good guess, its reconstruction, and one product more that rules out the others;
    - ``"auto"``: gram up to 256 classes, certified above; plain under torch.compile and torch.func, where the certified
      one cannot look at values, and on a GPU, where looking would stall it.

    A candidate that they find has an energy at most 2e-6 above the least (mostly none: float32 rounds at 1e-7); for
    candidates beyond 256, where rounding grows with κ, 5e-6. Of equal energies the plain method takes the smallest
    candidate, the others any.

    Args:
        unit_features: rows of unit length, shape ``[..., D]``.
        unit_weight: rows of unit length, shape ``[C, D]``.
        candidates: positive values of κ, increasing, at least one.
        cosine: ``unit_features @ unit_weight.T`` if already at hand, shape ``[..., C]``.
        search: ``"grid"`` (T's); ``"continuous"``: a golden section in log κ between the neighbours of the best
            candidate, 18 reconstructions more, taken where its energy is lower; ``"surrogate"``: the minimum of the
            surrogate energy between the neighbours of its best candidate. For a hundred classes and more its energy
            is mostly below that of the grid; for ten it may be far off.
        method: how the best candidate is found.

    Returns:
        κ* of each sample, shape ``[...]``; detached (T §2.3: κ is not learned end to end).

    Raises:
        InputError: an unknown search or method.

    References:
        T Eqs. (11) and (14); TS Eq. (30).
    """
    return choose_kappa(unit_features, unit_weight, candidates, cosine, search, method).kappa


@torch.no_grad()
def choose_kappa(
    unit_features: Tensor,
    unit_weight: Tensor,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    cosine: Tensor | None = None,
    search: Search = "grid",
    method: Method = "auto",
) -> Chosen:
    """Like ``search_least_squares``, and what is known of the search.

    The arguments are the same.
    """
    _check("search", search, _SEARCHES)
    _check("method", method, _METHODS)
    # Detached, since forward mode goes on where no_grad ends reverse mode.
    cosine = None if cosine is None else cosine.detach()
    unit_features, unit_weight, cosine = _widen(unit_features.detach(), unit_weight.detach(), cosine)
    dtype = cosine.dtype
    with autocast_off(unit_features.device):
        if method == "auto":
            method = _fastest(unit_features, unit_weight, cosine)
        if search == "surrogate" and cosine.numel():
            rows = cosine.reshape(-1, cosine.shape[-1])
            kappa, _ = propose(split_cosine(rows, unit_weight), rows.new_tensor(candidates), None)
            kappa = kappa.to(dtype).view(cosine.shape[:-1])
            return Chosen(kappa, torch.zeros_like(kappa, dtype=torch.bool), "surrogate")
        chosen = _search_grid(unit_features, unit_weight, candidates, cosine, method)
        if search != "continuous":
            return chosen
        return chosen._replace(kappa=_refine(unit_features, unit_weight, candidates, cosine, chosen.kappa))


def _widen(unit_features: Tensor, unit_weight: Tensor, cosine: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """All in float32 at least. Half precision moves rows off unit length and cosines with them: both are made again."""
    dtype = at_least_float32(unit_features, unit_weight)
    if unit_features.dtype.itemsize < 4:
        unit_features, cosine = normalize(unit_features.to(dtype)), None
    if unit_weight.dtype.itemsize < 4:
        unit_weight, cosine = normalize(unit_weight.to(dtype)), None
    if cosine is None or cosine.dtype.itemsize < 4:
        with autocast_off(unit_features.device):
            cosine = F.linear(unit_features.to(dtype), unit_weight.to(dtype))
    return unit_features.to(dtype), unit_weight.to(dtype), cosine.to(dtype)


def _search_grid(
    unit_features: Tensor, unit_weight: Tensor, candidates: Sequence[float], cosine: Tensor, method: str
) -> Chosen:
    batch = cosine.shape[:-1]
    if method == "plain" or not cosine.numel():
        kappa, _ = plain_search(unit_features, unit_weight, candidates, cosine)
        return Chosen(kappa, torch.ones_like(kappa, dtype=torch.bool), "plain")
    rows = cosine.reshape(-1, cosine.shape[-1])
    values = candidate_tensor(tuple(candidates), rows.dtype, rows.device)
    if method == "gram":
        in_gram = search_gram(rows, gram_matrix(unit_weight), values)
        return Chosen(values[in_gram.candidate].view(batch), in_gram.certified.view(batch), "gram")
    vectors = unit_features.reshape(-1, unit_features.shape[-1])
    found = search_certified(split_cosine(rows, unit_weight), vectors, values, None)
    return Chosen(values[found.candidate].view(batch), found.certified.view(batch), "certified")


def candidate_tensor(candidates: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The candidates as a tensor; in eager mode made once, so that it must not be written to."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return torch.tensor(candidates, dtype=dtype, device=device)
    return _kept(candidates, dtype, device)


@functools.lru_cache(maxsize=64)
def _kept(candidates: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(candidates, dtype=dtype, device=device)


def _fastest(unit_features: Tensor, unit_weight: Tensor, cosine: Tensor) -> Method:
    if not all(map(values_at_hand, (unit_features, unit_weight, cosine))):
        return "plain"
    return "gram" if cosine.shape[-1] <= GRAM_CLASSES else "certified"


def _refine(
    unit_features: Tensor, unit_weight: Tensor, candidates: Sequence[float], cosine: Tensor, kappa: Tensor
) -> Tensor:
    """Search on between the neighbours of the best candidate; at an end of the grid, from the end itself."""
    values = cosine.new_tensor(candidates)
    index = torch.searchsorted(values, kappa)
    low, high = (values[(index + step).clamp(0, len(values) - 1)].log() for step in (-1, 1))
    logarithm, energy = golden_section(
        lambda log_kappa: projection_energy(unit_features, unit_weight, log_kappa.exp(), cosine),
        low,
        high,
        _REFINING_STEPS,
    )
    lowest = projection_energy(unit_features, unit_weight, kappa, cosine)
    return torch.where(energy < lowest, logarithm.exp(), kappa)


def least_squares_kappa(
    features: Tensor,
    weight: Tensor,
    candidates: Sequence[float] = KAPPA_CANDIDATES,
    search: Search = "grid",
    method: Method = "auto",
) -> Tensor:
    """κ* of each sample by least squares, for any features and weights; no label is needed.

    Args:
        features: of any length, shape ``[..., D]``.
        weight: one row a class, of any length, shape ``[C, D]``.
        candidates: positive, finite values of κ, at least one; increasing.
        search: ``"grid"``: one of the candidates; ``"continuous"``: refined between the neighbours of the best one;
            ``"surrogate"``: an estimate without a matrix product. See ``search_least_squares``.
        method: how the best candidate is found; see ``search_least_squares``.

    Returns:
        κ*, shape ``[...]``, float32 at least; detached. A zero feature has no direction: its κ* lies among the
        candidates and means nothing.

    Raises:
        InputError: shapes that do not fit, candidates that are not positive, or an unknown search or method.

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
    with torch.no_grad():
        dtype = at_least_float32(features, weight)
        return search_least_squares(
            normalize(features.to(dtype)), normalize(weight.to(dtype)), candidates, search=search, method=method
        )


def _check(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(f"'{choice}'" for choice in choices[:-1]) + f" or '{choices[-1]}'"
        raise InputError(f"Expected the {what} {listed}. Got {value!r}.")
