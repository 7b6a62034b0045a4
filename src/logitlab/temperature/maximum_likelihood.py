"""The κ under which a feature is likeliest, in a kernel density over the class weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name
from logitlab.config.parameters import parameter_fault
from logitlab.functional import Normalizer, search_maximum_likelihood

from .base import Temperature
from .candidates import read_candidates, show_candidates
from .running_mean import MOMENTUM, RunningMean, has_direction

NORMALIZERS = ("bound", "exact")


class MaximumLikelihood(Temperature):
    r"""Maximum-likelihood temperature: for each sample the bandwidth of a von Mises-Fisher kernel density.

    .. math:: \kappa^* = \arg\min_{\kappa \in \mathcal K}
        -\log \frac1C \sum_c \frac{1}{\bar Z_{\kappa,D}} e^{\kappa z_c}

    In training each sample is scaled by its own κ*, without gradient; at inference all share the running mean. A
    baseline: T finds κ = 0.14 and 0.1% accuracy on ImageNet, for untrained features lie far from every weight, and a κ
    that small teaches nothing.

    Args:
        candidates: values of κ to try, positive and increasing; the twenty of TS Eq. (30) by default.
        normalizer: ``"bound"``, the upper bound of Hornik & Grün as in T, or ``"exact"``.
        momentum: weight of a new batch in the running mean, in (0, 1].

    Raises:
        ParameterError: all faults at once.

    References:
        T Eqs. (3), (5), (6), (14), §3.1, Table 1; TS Eq. (30).

    >>> import torch
    >>> features = torch.nn.functional.normalize(torch.tensor([[1.0, 0.3, 0.0]]))
    >>> MaximumLikelihood().kappa_star(features[:, :2], features, torch.eye(3)[:2])
    tensor([16.2725])
    """

    adaptive = True

    def __init__(
        self,
        candidates: Sequence[float] | None = None,
        normalizer: Normalizer = "bound",
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.candidates, fault = read_candidates("MaximumLikelihood", candidates)
        faults = [fault, _normalizer_fault(normalizer), MOMENTUM.fault("MaximumLikelihood", "momentum", momentum)]
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.normalizer: Normalizer = normalizer
        self.mean = RunningMean(momentum)

    def attach(self, num_classes: int) -> None:
        """Start the running mean."""
        self.mean.start(num_classes)

    def fresh(self) -> MaximumLikelihood:
        """Another one with the same candidates, normaliser and momentum."""
        return MaximumLikelihood(self.candidates, self.normalizer, self.mean.momentum)

    @property
    def kappa(self) -> Tensor:
        """The running mean of κ*. A copy: later steps do not change it."""
        return self.mean.value.clone()

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """κ* of each sample, detached; shape ``[...]``."""
        return search_maximum_likelihood(cosine, unit_weight.shape[-1], self.candidates, self.normalizer)

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """κ* of each sample, ``[...]``, or their running mean, a scalar."""
        if not per_sample:
            return self.kappa.to(cosine.dtype)
        kappa_star = self.kappa_star(cosine, unit_features, unit_weight)
        self.mean.observe(kappa_star, has_direction(cosine, unit_features))
        return kappa_star

    def extra_repr(self) -> str:
        """Show the candidates and the normaliser."""
        return f"candidates={show_candidates(self.candidates)}, normalizer={self.normalizer!r}"


def _normalizer_fault(normalizer: object) -> str | None:
    if isinstance(normalizer, str):
        if normalizer in NORMALIZERS:
            return None
        return unknown_name("normalizer of MaximumLikelihood", normalizer, NORMALIZERS)
    return parameter_fault("MaximumLikelihood", "normalizer", "'bound' or 'exact'", normalizer)
