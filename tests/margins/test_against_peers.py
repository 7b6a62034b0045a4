"""Loss, logits and gradients equal pytorch-metric-learning's, away from the places where we differ on purpose."""

from __future__ import annotations

import math

import pytest
import torch
from peers import assert_equal

import logitlab as ll
from logitlab.functional import additive_angular_margin, multiplicative_angular_margin

losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")

# They hand tensors to SciPy when they are built.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")

# Ours, its parameters; theirs, its parameters as a function of ours.
PAIRS = {
    "cosface": (
        "cosface",
        lambda m, s: {"margin": m, "kappa": s},
        lambda d, c, m, s: losses.CosFaceLoss(c, d, margin=m, scale=s),
    ),
    "arcface": (
        "arcface",
        lambda m, s: {"margin": m, "kappa": s},
        lambda d, c, m, s: losses.ArcFaceLoss(c, d, margin=math.degrees(m), scale=s),
    ),
    "sphereface": (
        "sphereface",
        lambda m, s: {"margin": 1 + int(m * 8), "annealing": None},
        lambda d, c, m, s: losses.SphereFaceLoss(c, d, margin=1 + int(m * 8), scale=1),
    ),
    "lsoftmax": (
        "lsoftmax",
        lambda m, s: {"margin": 1 + int(m * 8), "annealing": None},
        lambda d, c, m, s: losses.LargeMarginSoftmaxLoss(c, d, margin=1 + int(m * 8), scale=1),
    ),
    "normalized softmax": (
        "cosine",
        lambda m, s: {"kappa": s, "bias": False},
        lambda d, c, m, s: losses.NormalizedSoftmaxLoss(c, d, temperature=1 / s),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_loss_logits_and_gradients_in_200_random_cases(pair):
    name, parameters, theirs = PAIRS[pair]
    generator = torch.Generator().manual_seed(0)
    compared = 0
    while compared < 200:
        n, d, c = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((1, 9), (2, 12), (2, 7)))
        margin, scale = (float(torch.rand((), generator=generator)) * size for size in (0.5, 30.0))
        features = torch.randn(n, d, dtype=torch.float64, generator=generator)
        weight = torch.randn(c, d, dtype=torch.float64, generator=generator)
        target = torch.randint(c, (n,), generator=generator)
        cosine = torch.cosine_similarity(features, weight[target])
        # ArcFace's tail differs on purpose; so does every slope at |cos| = 1.
        if float(cosine.abs().max()) > 1 - 1e-6 or (name == "arcface" and float(cosine.min()) < -math.cos(margin)):
            continue
        compared += 1
        head = ll.create_head(name, d, c, dtype=torch.float64, **parameters(margin, scale or 1.0))
        peer = theirs(d, c, margin, scale or 1.0).double()
        assert_equal(head, peer, weight, features, target)


def test_arcfaces_tail_differs_on_purpose():
    # Their tail jumps down where θ + m passes π; ours goes on from there.
    margin = 0.5
    at = -math.cos(margin)
    before, after = (
        float(additive_angular_margin(torch.tensor(at + step, dtype=torch.float64), margin)) for step in (1e-9, -1e-9)
    )
    assert before - after == pytest.approx(2e-9, rel=0.5)
    peer = losses.ArcFaceLoss(2, 2, margin=math.degrees(margin), scale=1)
    theirs = float(peer.modify_cosine_of_target_classes(torch.tensor([at - 1e-9], dtype=torch.float64)))
    assert theirs == pytest.approx(at - margin * math.sin(margin))
    assert after == pytest.approx(-1.0)
    assert after - theirs == pytest.approx(0.117, abs=1e-3)


def test_psi_keeps_its_slope_at_pi_where_theirs_has_the_wrong_sign():
    cosine = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    for margin in (2, 3, 4):
        psi = multiplicative_angular_margin(cosine, margin)
        (slope,) = torch.autograd.grad(psi.sum(), cosine)
        assert (psi.item(), slope.item()) == (1 - 2 * margin, margin**2)
    peer = losses.LargeMarginSoftmaxLoss(2, 2, margin=4, scale=1)
    theirs = peer.modify_cosine_of_target_classes(cosine)
    (slope,) = torch.autograd.grad(theirs.sum(), cosine)
    # The right value with k = m, and a slope that pushes the feature away from its class.
    assert (theirs.item(), slope.item()) == (-7, -16)
