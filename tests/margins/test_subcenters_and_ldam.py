"""Sub-centre ArcFace equals pytorch-metric-learning's; LDAM equals its authors' formula."""

from __future__ import annotations

import math

import pytest
import torch
from peers import assert_equal, close
from torch.nn import functional as F

import logitlab as ll
from logitlab.config.errors import ParameterError
from logitlab.margins import AdditiveAngularMargin, LabelDistributionMargin

# They hand tensors to SciPy when they are built.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")


def test_subcenter_arcface_in_200_random_cases() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    compared = 0
    while compared < 200:
        n, d, c, centers = draw(1, 9), draw(2, 12), draw(2, 7), draw(1, 5)
        margin, scale = (float(torch.rand((), generator=generator)) * size for size in (0.5, 30.0))
        features = torch.randn(n, d, dtype=torch.float64, generator=generator)
        weight = torch.randn(c * centers, d, dtype=torch.float64, generator=generator)
        target = torch.randint(c, (n,), generator=generator)
        every = F.normalize(features) @ F.normalize(weight).T
        # By an explicit loop: the largest cosine among the rows of each class.
        cosine = torch.stack([every[:, k * centers : (k + 1) * centers].amax(1) for k in range(c)], 1)
        own = cosine.gather(1, target[:, None])
        # The tail differs on purpose; so does every slope at |cos| = 1.
        if float(own.abs().max()) > 1 - 1e-6 or float(own.min()) < -math.cos(margin):
            continue
        compared += 1
        scale = scale or 1.0
        head = ll.create_head(
            "subcenter_arcface", d, c, centers=centers, margin=margin, kappa=scale, dtype=torch.float64
        )
        peer = losses.SubCenterArcFaceLoss(
            num_classes=c, embedding_size=d, margin=math.degrees(margin), scale=scale, sub_centers=centers
        ).double()
        assert_equal(head, peer, weight, features, target)
        assert close(head.cosine(features), cosine)


def test_one_centre_is_arcface() -> None:
    one, arcface = (
        ll.create_head(name, 5, 3, kappa=9.0, **more)
        for name, more in (("subcenter_arcface", {"centers": 1}), ("arcface", {}))
    )
    one.load_state_dict(arcface.state_dict())
    features, target = torch.randn(6, 5), torch.randint(3, (6,))
    assert torch.equal(one(features, target), arcface(features, target))


def test_subcenters_by_default() -> None:
    head = ll.create_head("subcenter_arcface", 5, 10)
    assert head.weight.shape == (30, 5)
    assert isinstance(head.margin, AdditiveAngularMargin)
    assert head.margin.margin == 0.5
    assert head.kappa is not None
    assert head.kappa.item() == pytest.approx(math.sqrt(2) * math.log(9))
    with pytest.raises(ParameterError, match="one weight a class"):
        ll.create_head("subcenter_arcface", 5, 10, temperature="least_squares")


@pytest.mark.parametrize("counts", [None, [500, 60, 7]])
def test_ldam_by_its_authors_formula(counts: list[int] | None) -> None:
    head = ll.create_head("ldam", 6, 3, class_counts=counts, dtype=torch.float64)
    features, target = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    margins = [0.5, 0.5, 0.5]
    if counts:
        margins = [1 / math.sqrt(math.sqrt(n)) for n in counts]
        margins = [m * 0.5 / max(margins) for m in margins]
    # losses.py of kaidic/LDAM-DRW: where(index, x - m, x), times s = 30, into cross-entropy.
    cosine = F.normalize(features) @ F.normalize(head.weight.detach()).T
    lowered = cosine - F.one_hot(target, 3) * torch.tensor(margins, dtype=torch.float64)
    rtol = 1e-12 if counts is None else 1e-6  # margins by class are a float32 buffer
    expected = F.cross_entropy(30 * lowered, target, reduction="none")
    torch.testing.assert_close(head(features, target, reduction="none"), expected, rtol=rtol, atol=1e-6)
    # One predicts without margins.
    torch.testing.assert_close(head(features), 30 * cosine)


def test_ldams_scale_and_margin_can_be_set() -> None:
    assert ll.create_head("ldam", 6, 3).kappa == 30
    assert ll.create_head("ldam", 6, 3, kappa=10, max_margin=0.2).kappa == 10
    assert type(ll.create_head("ldam", 6, 3, temperature="least_squares").temperature) is ll.LeastSquares
    assert ll.create_head("ldam", 6, 3, max_margin=0.2).margin.margin == 0.2
    with pytest.raises(ParameterError, match="did you mean 'max_margin'"):
        ll.create_head("ldam", 6, 3, margin=0.3)
    with pytest.raises(ParameterError, match="must be 3 positive numbers, one a class. Got 2 numbers"):
        ll.create_head("ldam", 6, 3, class_counts=[1, 2])
    with pytest.raises(ParameterError, match="class_counts.* Got 0 for class 1") as caught:
        LabelDistributionMargin(2.0, [5, 0])
    assert len(caught.value.faults) == 2
