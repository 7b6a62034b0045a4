"""Whether forms compute the same: loss and gradients beside the formula in float64, κ* beside every candidate."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import KAPPA_CANDIDATES

from .form import Form, Runnable, Search, Step
from .groups import masked_products
from .peers import ARCFACE_MARGIN, COSFACE_MARGIN
from .problem import KAPPA, Problem

#: Largest relative difference of the loss or a gradient of ours.
TOLERANCE = 1e-4
#: Of the others: where the loss is small (C = 10), 1 - p in float32 loses digits, so that 1e-3 was seen. The table
#: shows it; more than this would be another formula.
PEER_TOLERANCE = 1e-2
#: Largest excess of the energy of κ* over the least one of the grid: ties may go either way.
REGRET = 2e-6


class Agreement:
    """The formulas in float64, each computed once and kept."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._expected: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._energies: Tensor | None = None

    def difference(self, form: Form, runnable: Runnable) -> float | None:
        """The largest relative difference between loss and gradients of a step and the formula; None without one."""
        if not isinstance(runnable, Step) or form.agrees_with is None:
            return None
        if form.agrees_with == "least_squares":
            assert runnable.head is not None
            expected = self.formula("fixed", runnable.head.kappa_star(self.problem.features).double().unsqueeze(1))
        else:
            if form.agrees_with not in self._expected:
                self._expected[form.agrees_with] = self.formula(form.agrees_with, KAPPA)
            expected = self._expected[form.agrees_with]
        return max(
            float((found.double() - right).norm() / right.norm()) for found, right in zip(runnable.outcome(), expected)
        )

    def formula(self, kind: str, kappa: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and gradients of the textbook's step in float64; of group softmax, those of the plain version."""
        if kind.startswith("group "):
            return masked_products(self.problem, "I" if kind == "group I" else "II").outcome()
        features, weight = (
            leaf.detach().double().requires_grad_() for leaf in (self.problem.features, self.problem.weight)
        )
        cosine = F.linear(F.normalize(features), F.normalize(weight))
        target = self.problem.target.unsqueeze(1)
        own = cosine.gather(1, target)
        if kind == "cosface":
            cosine = cosine.scatter(1, target, own - COSFACE_MARGIN)
        elif kind == "arcface":
            cosine = cosine.scatter(1, target, (own.acos() + ARCFACE_MARGIN).cos())
        loss = F.cross_entropy(kappa * cosine, self.problem.target)
        of_features, of_weight = torch.autograd.grad(loss, (features, weight))
        return loss.detach(), of_features, of_weight

    def regret(self, form: Form, runnable: Runnable) -> float | None:
        """By how much the energy of κ* exceeds the least one of the grid, at worst; None where κ is given."""
        if form.agrees_with == "grid" and isinstance(runnable, Search):
            kappa = runnable()
        elif form.agrees_with == "least_squares" and isinstance(runnable, Step) and runnable.head is not None:
            kappa = runnable.head.kappa_star(self.problem.features)
        else:
            return None
        if self._energies is None:
            self._energies = grid_energies(self.problem)
        candidates = torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64)
        distance = (kappa.double().unsqueeze(1).log() - candidates.log()).abs()
        if not bool((distance.amin(dim=1) < 1e-6).all()):
            return math.inf  # not among the candidates
        chosen = self._energies.gather(1, distance.argmin(dim=1, keepdim=True)).squeeze(1)
        return float((chosen - self._energies.amin(dim=1)).max())


@torch.no_grad()
def grid_energies(problem: Problem) -> Tensor:
    """½‖x̃ - Σ softmax(κz) w̃‖² of every sample and candidate, ``[B, 20]``, float64."""
    features, weight = F.normalize(problem.features.double()), F.normalize(problem.weight.double())
    cosine = F.linear(features, weight)
    energies = [
        0.5 * (features - torch.softmax(kappa * cosine, dim=1) @ weight).square().sum(dim=1)
        for kappa in KAPPA_CANDIDATES
    ]
    return torch.stack(energies, dim=1)
