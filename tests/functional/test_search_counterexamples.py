"""Inputs that once led the certified search astray: each broke a bound by rounding alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from logitlab.functional import KAPPA_CANDIDATES, normalize, projection_energy, search_least_squares

#: T §5: what counts is the energy of the choice.
REGRET = 2e-6


def regret(features: Tensor, weight: Tensor, candidates: Sequence[float] = KAPPA_CANDIDATES) -> float:
    """How far the energy of the choice is above the least of all candidates, in float64."""
    kappa = search_least_squares(features, weight, candidates, method="certified").double()
    rows, unit = normalize(features.double()), normalize(weight.double())
    values = torch.tensor(candidates).double()
    energy = torch.stack([projection_energy(rows, unit, float(value)) for value in values], dim=1)
    return float((projection_energy(rows, unit, kappa) - energy.amin(dim=1)).max())


@pytest.mark.parametrize("features", [34, 70])
def test_classes_in_two_cones_around_the_feature(features: int) -> None:
    # By symmetry the reconstruction lies along the feature: its part across is rounding, and has no direction.
    rows = []
    for axis in range(1, features):
        for sign in (1, -1):
            for angle in (0.3, 0.6) if axis < 4 else (0.6,):
                row = torch.zeros(features, dtype=torch.float64)
                row[0], row[axis] = math.cos(angle), sign * math.sin(angle)
                rows.append(row)
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(features, features, dtype=torch.float64))[0]
    assert regret(turn[:1].float(), (torch.stack(rows) @ turn).float()) < REGRET


def test_many_classes_in_a_plane() -> None:
    torch.manual_seed(0)
    assert max(regret(normalize(torch.randn(20000, 2)), normalize(torch.randn(200, 2))) for _ in range(4)) < REGRET


def test_candidates_at_the_powers_of_two_of_the_bound() -> None:
    # One class near, all others equally far: the logarithm of their sum is a straight line, and its rise is rounding.
    near, far, tilt, classes = 1.0612502098083496, 1.239107701589802, 0.099659264087677, 153
    weight = torch.zeros(classes, classes + 1, dtype=torch.float64)
    weight[0, 0], weight[0, 1] = math.cos(near), math.sin(near)
    for c in range(1, classes):
        weight[c, 0], weight[c, 1] = math.cos(far), -math.sin(far) * math.cos(tilt)
        weight[c, c + 1] = math.sin(far) * math.sin(tilt)
    feature = torch.zeros(1, classes + 1)
    feature[0, 0] = 1
    assert regret(feature, weight.float(), tuple(2.0**i for i in range(-2, 9))) < REGRET


def test_unit_rows_in_half_precision() -> None:
    torch.manual_seed(0)
    weight = normalize(torch.randn(500, 8))
    features = normalize(weight[torch.randint(500, (2000,))] + normalize(torch.randn(2000, 8)))
    assert regret(features.bfloat16(), weight.bfloat16()) < REGRET
