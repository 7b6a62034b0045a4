"""The κ that rebuilds each feature best from the class weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from logitlab.config.errors import InputError, ParameterError
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional import KAPPA_CANDIDATES, check_candidates, search_least_squares

from .base import Temperature
from .running_mean import RunningMean

MULTIPLIER = Range(0, low_included=False)
MOMENTUM = Range(0, 1, low_included=False)


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

    def __init__(
        self,
        candidates: Sequence[float] | None = None,
        multiplier: float = 1.0,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        faults = [
            MULTIPLIER.fault("LeastSquares", "multiplier", multiplier),
            MOMENTUM.fault("LeastSquares", "momentum", momentum),
        ]
        self.candidates: tuple[float, ...] = KAPPA_CANDIDATES
        if candidates is not None:
            try:
                self.candidates = tuple(float(value) for value in candidates)
                check_candidates(self.candidates)
            except (InputError, TypeError, ValueError):
                expected = "a list of positive numbers in increasing order"
                faults.append(parameter_fault("LeastSquares", "candidates", expected, candidates))
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.multiplier = multiplier
        self.mean = RunningMean(momentum)

    def attach(self, num_classes: int) -> None:
        """Start the running mean."""
        self.mean.start(num_classes)

    def fresh(self) -> LeastSquares:
        """Another one with the same candidates, multiplier and momentum."""
        return LeastSquares(self.candidates, self.multiplier, self.mean.momentum)

    @property
    def kappa(self) -> Tensor:
        """The running mean of κ* times the multiplier. A copy: later steps do not change it."""
        return self.multiplier * self.mean.value.clone()

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """κ* of each sample, without the multiplier, detached; shape ``[...]``."""
        return search_least_squares(unit_features, unit_weight, self.candidates, cosine)

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """Multiplier times κ* of each sample, ``[...]``, or times their running mean, a scalar."""
        if not per_sample:
            return self.kappa.to(cosine.dtype)
        kappa_star = self.kappa_star(cosine, unit_features, unit_weight)
        # A zero feature has no direction, and a broken one no κ*: neither may move the mean.
        self.mean.observe(kappa_star, (unit_features != 0).any(dim=-1) & cosine.isfinite().all(dim=-1))
        return self.multiplier * kappa_star

    def extra_repr(self) -> str:
        """Show the multiplier and the number of candidates."""
        return f"candidates={len(self.candidates)}, multiplier={self.multiplier:g}"
