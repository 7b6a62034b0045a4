"""The κ that rebuilds each feature best from the class weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional import Chosen, KappaSearch, Search, choose_kappa

from .base import Temperature
from .candidates import read_candidates, show_candidates
from .running_mean import MOMENTUM, RunningMean, has_direction

MULTIPLIER = Range(0, low_included=False)
SEARCHES: tuple[str, ...] = get_args(Search)


class SearchReport(NamedTuple):
    """What a search was like.

    Attributes:
        method: ``"gram"``, ``"certified"``, ``"plain"`` or ``"surrogate"``; see ``functional.search_least_squares``.
        certified: where no second reconstruction was needed, bool, one a sample, ``[...]``.
    """

    method: str
    certified: Tensor

    @property
    def share_certified(self) -> float:
        """Share of the samples that needed no second reconstruction, in [0, 1]; NaN of none. Waits for a GPU."""
        return float(self.certified.double().mean())


class LeastSquares(Temperature):
    r"""Least-squares temperature: κ* = argmin E_κ over candidates, for each sample.

    In training each sample is scaled by its own κ*, times the multiplier, without gradient. At inference all
    samples share the running mean. The search needs no label, so it works under Mixup and in any trainer, and its
    energy sees neither bias nor margin. κ* serves confidence; ``multiplier=2`` is the 2κ* that T finds to
    serve accuracy.

    Args:
        candidates: values of κ to try, positive and increasing; the twenty of TS Eq. (30) by default.
        multiplier: factor on κ*, positive.
        momentum: weight of a new batch in the running mean, in (0, 1].
        search: ``"grid"``: κ* is a candidate, as in T, found exactly and fast. Two of ours: ``"continuous"``: refined
            between the neighbours of the best candidate, which takes 18 reconstructions more; the energy is never
            above that of the grid. ``"surrogate"``: an estimate without a matrix product, for a hundred classes or
            more; nothing is proved of it. See ``functional.search_least_squares``.

    Attributes:
        search_report: a ``SearchReport`` of the last search that scaled samples, outside torch.compile; None before it.

    Raises:
        ParameterError: all faults at once.

    References:
        T Eqs. (10), (11), (14), §2.3 (detached), Table 2 (2κ*); TS Eq. (30).

    >>> import torch
    >>> features = torch.tensor([[0.5**0.5, 0.0, 0.5**0.5]])  # at 45° to the first of two classes
    >>> LeastSquares().kappa_star(features[:, :2], features, torch.eye(3)[:2])
    tensor([2.5789])
    """

    adaptive = True
    # Of the class, for pickles of versions without it.
    search_report: SearchReport | None = None

    def __init__(
        self,
        candidates: Sequence[float] | None = None,
        multiplier: float = 1.0,
        momentum: float = 0.1,
        search: Search = "grid",
    ) -> None:
        super().__init__()
        self.candidates, fault = read_candidates("LeastSquares", candidates)
        faults = [
            MULTIPLIER.fault("LeastSquares", "multiplier", multiplier),
            MOMENTUM.fault("LeastSquares", "momentum", momentum),
            fault,
            _search_fault(search),
        ]
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.multiplier = multiplier
        self.search: Search = search
        self.mean = RunningMean(momentum)

    def attach(self, num_classes: int) -> None:
        """Start the running mean."""
        self.mean.start(num_classes)

    def fresh(self) -> LeastSquares:
        """Another one with the same candidates, multiplier, momentum and search."""
        return LeastSquares(self.candidates, self.multiplier, self.mean.momentum, self.search)

    @property
    def kappa(self) -> Tensor:
        """The running mean of κ* times the multiplier. A copy: later steps do not change it."""
        return self.multiplier * self.mean.value.clone()

    @property
    def fused_search(self) -> KappaSearch | None:
        """How the fused step finds κ itself; a refined κ, or a rule of a subclass, is beyond it."""
        return None if self.search == "continuous" else self.split_search

    @property
    def split_search(self) -> KappaSearch | None:
        """How κ is found where the classes are split over processes; None for a rule of a subclass."""
        parts = ("forward", "take", "kappa_star", "_choose")
        if any(getattr(type(self), part) is not getattr(LeastSquares, part) for part in parts):
            return None
        return KappaSearch(self.candidates, self.multiplier, self.search == "surrogate")

    def take(self, chosen: Chosen, counts: Tensor, every: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Go on from a search: move the running mean, and keep what is known of the search.

        Args:
            chosen: κ* of each sample, ``[...]``.
            counts: samples that have a direction, bool ``[...]``.
            every: κ* and counts of the samples of all processes, for the mean; None where there is one.

        Returns:
            The multiplier times κ*, ``[...]``.
        """
        self.mean.observe(*(every or (chosen.kappa, counts)))
        if not torch.compiler.is_compiling():
            self.search_report = SearchReport(chosen.method, chosen.certified)
        return self.multiplier * chosen.kappa

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """κ* of each sample, without the multiplier, detached; shape ``[...]``."""
        return self._choose(cosine, unit_features, unit_weight).kappa

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """Multiplier times κ* of each sample, ``[...]``, or times their running mean, a scalar."""
        if not per_sample:
            return self.kappa.to(cosine.dtype)
        if type(self).kappa_star is LeastSquares.kappa_star:
            chosen = self._choose(cosine, unit_features, unit_weight)
        else:  # a rule of the user's own
            kappa_star = self.kappa_star(cosine, unit_features, unit_weight)
            chosen = Chosen(kappa_star, torch.zeros_like(kappa_star, dtype=torch.bool), type(self).__name__)
        return self.take(chosen, has_direction(cosine, unit_features))

    def _choose(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Chosen:
        return choose_kappa(unit_features, unit_weight, self.candidates, cosine, self.search)

    def extra_repr(self) -> str:
        """Show candidates, multiplier and search."""
        candidates = show_candidates(self.candidates)
        return f"candidates={candidates}, multiplier={self.multiplier:g}, search={self.search!r}"


def _search_fault(search: object) -> str | None:
    if isinstance(search, str):
        return None if search in SEARCHES else unknown_name("search of LeastSquares", search, SEARCHES)
    return parameter_fault("LeastSquares", "search", " or ".join(f"'{name}'" for name in SEARCHES), search)
