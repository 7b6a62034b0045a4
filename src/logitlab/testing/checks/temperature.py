"""κ: given from outside, detached where a rule chooses it, and chosen well in every precision."""

from __future__ import annotations

import torch

from logitlab.functional import normalize

from ..case import Case, gradients, same, same_gradients
from ..catalogue import check
from ..report import CheckFailed
from ..traits import HeadTraits

#: How far above the smallest energy that of the chosen κ may be: nearly equal candidates may change places.
REGRET = 2e-6


def _no_kappa(traits: HeadTraits) -> str | None:
    return None if traits.takes_kappa else "takes_kappa=False"


def _not_adaptive(traits: HeadTraits) -> str | None:
    return None if traits.adaptive_kappa else "adaptive_kappa=False"


def _no_energy(traits: HeadTraits) -> str | None:
    return None if traits.kappa_energy is not None and traits.kappa_candidates else "no kappa_energy and candidates"


@check(_no_kappa)
def kappa_argument(case: Case) -> None:
    """Logits are affine in ``kappa=``; a number, a scalar tensor and one value a sample agree."""
    features, target = case.batch(4)
    for training in case.modes():
        head = case.head(training=training)
        one, two, four = (head(features, kappa=kappa) for kappa in (1.0, 2.0, 4.0))
        same(four, two + 2 * (two - one), "logits at kappa=4 against those at 1 and 2")
        same(head(features, kappa=torch.tensor(4.0)), four, "kappa= as a scalar tensor")
        same(head(features, kappa=torch.full((4,), 4.0)), four, "kappa= as one value a sample")
        mixed = head(features, kappa=torch.tensor([1.0, 2.0, 4.0, 1.0]))
        same(mixed, torch.stack([one[0], two[1], four[2], one[3]]), "kappa= of each sample")
        losses = head(features, target, kappa=torch.full((4,), 4.0), reduction="none")
        same(losses, head(features, target, kappa=4.0, reduction="none"), "losses with kappa= as one value a sample")


@check(_not_adaptive)
def kappa_detached(case: Case) -> None:
    """No gradient passes through the choice of κ: loss and gradients equal those with the same κ as ``kappa=``."""
    features, target = case.batch(8)
    for training in case.modes():
        frozen = case.frozen(case.head(training=training), features, target)
        if not (frozen["kappa"] > 0).all():
            raise CheckFailed(f"κ must be positive, got {frozen['kappa'].min().item():g}")
        loss, found = gradients(case.head(training=training), features, target)
        expected, of_frozen = gradients(case.head(training=training), features, target, **frozen)
        same(loss, expected, "the loss against that with κ frozen")
        same_gradients(found, of_frozen, "with κ frozen", rtol=1e-8)


@check(_no_energy)
def kappa_regret(case: Case) -> None:
    """κ chosen in float32 has an energy at most 2e-6 above the smallest one in float64.

    For features in half precision too. Among nearly equal candidates any may win.
    """
    energy = case.traits.kappa_energy
    assert energy is not None
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        head = case.head(training=True, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        features, target = case.batch(64)
        # Some near their weight and some far from all, so that small and large κ are chosen.
        rows = head.weight.detach().double()[target]
        features = (torch.linspace(0, 1, 64, dtype=torch.float64).unsqueeze(-1) * features + 3 * rows).to(dtype)
        kappa = head.kappa_star(features).double()
        unit, weight = normalize(features.double()), normalize(head.weight.detach().double())
        every = [energy(unit, weight, torch.full_like(kappa, value)) for value in case.traits.kappa_candidates]
        smallest = torch.stack(every).amin(0)
        regret = (energy(unit, weight, kappa) - smallest).max().item()
        if not regret <= REGRET:
            raise CheckFailed(f"features in {dtype}: the energy of the chosen κ is {regret:.3g} above the smallest")
