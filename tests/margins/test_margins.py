"""What margins make of the target's cosine, and what heads make of margins."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import logitlab as ll
from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import additive_angular_margin, least_squares_kappa, multiplicative_angular_margin
from logitlab.heads import Head, canonical_parameters, create_head
from logitlab.margins import AdditiveAngularMargin, AdditiveCosineMargin, Annealing, Margin, MultiplicativeAngularMargin

C, D = 5, 6
BY_CLASS = [0.0, 0.1, 0.5, 1.0, 1.5]

# Each with the largest |dφ/dθ| that its definition allows.
MARGINS: dict[str, tuple[Margin, float]] = {
    **{f"multiplicative {m}": (MultiplicativeAngularMargin(m), float(m)) for m in range(1, 11)},
    "multiplicative 4, λ 2": (MultiplicativeAngularMargin(4, annealing=2.0), 2.0),
    "additive cosine": (AdditiveCosineMargin(0.35), 1.0),
    "additive cosine by class": (AdditiveCosineMargin(BY_CLASS), 1.0),
    **{f"additive angular {m}": (AdditiveAngularMargin(m), 1.0) for m in (0.0, 0.1, 0.5, 1.5, 2.0, 3.1)},
    "additive angular by class": (AdditiveAngularMargin(BY_CLASS), 1.0),
    "additive angular, detached": (AdditiveAngularMargin(0.5, detach_margin=True), 1.0),
}


def psi_by_definition(theta: Tensor, m: int) -> Tensor:
    """L: ψ(θ) = (-1)^k cos(mθ) - 2k on [kπ/m, (k+1)π/m]."""
    k = (m * theta / math.pi).floor().clamp_max(m - 1)
    return (1 - 2 * (k % 2)) * torch.cos(m * theta) - 2 * k


@pytest.mark.parametrize("m", range(1, 11))
def test_psi_equals_its_definition(m: int) -> None:
    cosine = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    expected = psi_by_definition(cosine.acos(), m)
    # acos loses digits at the ends: 1e-8 of an angle, of which m² cos takes the square.
    torch.testing.assert_close(multiplicative_angular_margin(cosine, m), expected, rtol=0, atol=1e-12 * m**2)
    single = multiplicative_angular_margin(cosine.float(), m)
    torch.testing.assert_close(single.double(), psi_by_definition(cosine.float().double().acos(), m), rtol=0, atol=1e-5)


@pytest.mark.parametrize("m", range(1, 11))
def test_psi_at_pi_keeps_k_below_m(m: int) -> None:
    cosine = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    psi = multiplicative_angular_margin(cosine, m)
    (slope,) = torch.autograd.grad(psi, cosine)
    # By hand: ψ(π) = 1 - 2m, and |dT_m/dc| = m² at the ends.
    assert (psi.item(), slope.item()) == (1 - 2 * m, m**2)


@pytest.mark.parametrize("name", MARGINS)
def test_phi_is_continuous_falls_and_stays_below_the_cosine(name: str) -> None:
    margin, lipschitz = MARGINS[name]
    margin.attach(C)
    theta = torch.linspace(0, math.pi, 5001, dtype=torch.float64)
    for c in range(C):
        phi = margin(theta.cos(), torch.full(theta.shape, c))
        step = phi.diff()
        assert step.max() <= 1e-12
        assert step.min() >= -lipschitz * math.pi / 5000 * (1 + 1e-6) - 1e-12
        assert (phi <= theta.cos() + 1e-12).all()


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5, 2.0])
def test_arcface_by_its_angles_and_its_tail(margin: float) -> None:
    theta = torch.linspace(0, math.pi, 5001, dtype=torch.float64)
    phi = additive_angular_margin(theta.cos(), margin)
    expected = torch.where(theta + margin <= math.pi, (theta + margin).cos(), theta.cos() + math.cos(margin) - 1)
    torch.testing.assert_close(phi, expected, rtol=0, atol=1e-7)
    # By hand at the far end: -1 + cos m - 1.
    assert phi[-1].item() == pytest.approx(math.cos(margin) - 2)


def test_a_margin_a_class_is_that_of_the_target() -> None:
    cosine, target = torch.rand(4, 3) * 2 - 1, torch.randint(C, (4, 3))
    for kind in (AdditiveCosineMargin, AdditiveAngularMargin):
        found = kind(BY_CLASS)(cosine, target)
        expected = [kind(BY_CLASS[c])(z.reshape(1), c.reshape(1)) for z, c in zip(cosine.flatten(), target.flatten())]
        torch.testing.assert_close(found.flatten(), torch.cat(expected))
        as_tensor = kind(torch.tensor(BY_CLASS, dtype=torch.float64))
        torch.testing.assert_close(as_tensor(cosine, target), found)


def test_logits_of_lsoftmax_and_sphereface_by_their_formulas() -> None:
    features, target = torch.randn(7, D, dtype=torch.float64), torch.randint(C, (7,))
    for name in ("lsoftmax", "sphereface"):
        head = create_head(name, D, C, margin=3, annealing=0.5, dtype=torch.float64)
        weight = head.weight.detach() if name == "lsoftmax" else F.normalize(head.weight.detach())
        logits = features @ weight.T
        lengths = features.norm(dim=1) * weight[target].norm(dim=1)
        theta = (logits.gather(1, target[:, None])[:, 0] / lengths).acos()
        # L: (λ‖W‖‖x‖cos θ + ‖W‖‖x‖ψ)/(1 + λ) in the target's place.
        own = lengths * (0.5 * theta.cos() + psi_by_definition(theta, 3)) / 1.5
        expected = F.cross_entropy(logits.scatter(1, target[:, None], own[:, None]), target)
        loss, plain = head(features, target, return_logits=True)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(plain, logits)  # no margin in what one predicts with


def test_a_bias_is_added_after_the_margin() -> None:
    head = create_head("arcface", D, C, kappa=9.0, bias=True, dtype=torch.float64)
    assert head.bias is not None
    torch.nn.init.normal_(head.bias)
    features, target = torch.randn(6, D, dtype=torch.float64), torch.randint(C, (6,))
    cosine = head.cosine(features)
    own = additive_angular_margin(cosine.gather(1, target[:, None]), 0.5)
    expected = F.cross_entropy(9 * cosine.scatter(1, target[:, None], own) + head.bias, target)
    torch.testing.assert_close(head(features, target), expected)


def test_a_temperature_replaces_the_lengths() -> None:
    head = create_head("lsoftmax", D, C, kappa=7.0, annealing=None)
    features, target = torch.randn(4, D), torch.randint(C, (4,))
    torch.testing.assert_close(head(features), 7 * F.normalize(features) @ F.normalize(head.weight).T)
    torch.testing.assert_close(head(features, target), head(3 * features, target))


SOFT: dict[str, tuple[str, dict[str, Any]]] = {
    "lsoftmax": ("lsoftmax", {"annealing": 0.3}),
    "sphereface": ("sphereface", {"annealing": None, "margin": 2}),
    "cosface": ("cosface", {"kappa": 12.0}),
    "cosface, least squares": ("cosface", {}),
    "arcface": ("arcface", {"kappa": 12.0, "bias": True}),
    "arcface by class": ("arcface", {"kappa": 12.0, "margin": BY_CLASS}),
    "arcface, class weight": ("arcface", {"kappa": 12.0, "class_weight": [0.5, 1.0, 2.0, 3.0, 4.0]}),
}


@pytest.mark.parametrize("title", SOFT)
def test_a_soft_target_costs_the_mean_of_its_classes(title: str) -> None:
    name, parameters = SOFT[title]
    head = create_head(name, D, C, dtype=torch.float64, **parameters)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    features = torch.randn(8, D, dtype=torch.float64)
    target = torch.softmax(2 * torch.randn(8, C, dtype=torch.float64), dim=1)
    each = torch.stack([head.loss(features, torch.full((8,), c), reduction="none") for c in range(C)], dim=1)
    torch.testing.assert_close(head.loss(features, target, reduction="none"), (target * each).sum(dim=1))
    index = torch.randint(C, (8,))
    one_hot = F.one_hot(index, C).double()
    torch.testing.assert_close(
        head.loss(features, one_hot, reduction="none"), head.loss(features, index, reduction="none")
    )


@pytest.mark.parametrize("parameters", [{"alpha": 0.1}, {"beta": 0.1}, {"loss": "sigmoid"}], ids=str)
def test_soft_targets_that_mean_nothing_under_a_margin_are_refused(parameters: dict[str, Any]) -> None:
    head = create_head("arcface", D, C, kappa=10.0, **parameters)
    features = torch.randn(2, D)
    assert head(features, torch.tensor([0, 1])).isfinite()
    with pytest.raises(InputError, match=r"takes class indices only: a margin belongs to the class of a sample"):
        head(features, torch.full((2, C), 1 / C))


def test_an_ignored_sample_costs_nothing_under_a_margin() -> None:
    features, target = torch.randn(4, D), torch.tensor([0, -100, 2, -100])
    for name in ("lsoftmax", "sphereface", "cosface", "arcface"):
        head = create_head(name, D, C)
        kept = head.loss(features[::2], target[::2], reduction="none")
        torch.testing.assert_close(head.loss(features, target, reduction="none")[::2], kept)


def test_the_number_of_margins_must_be_that_of_the_classes() -> None:
    for kind in (AdditiveCosineMargin, AdditiveAngularMargin):
        with pytest.raises(ParameterError, match=r"got 2 margins for 5 classes. Give one a class, or one number"):
            Head(D, C, classifier="cosine", kappa=10.0, margin=kind([0.1, 0.2]))
    with pytest.raises(ParameterError, match="got 5 margins for 4 classes"):
        create_head("arcface", D, C, margin=BY_CLASS).for_classes(4)


@pytest.mark.parametrize(
    ("build", "messages"),
    [
        (
            lambda: MultiplicativeAngularMargin(0, annealing="slow"),
            ["'margin'", "'annealing'.*constant λ >= 0 or None"],
        ),
        (
            lambda: MultiplicativeAngularMargin(1.5),
            ["'margin' parameter of MultiplicativeAngularMargin must be an int"],
        ),
        (lambda: MultiplicativeAngularMargin(2, annealing=-1.0), ["'annealing'.*Got -1.0"]),
        (lambda: MultiplicativeAngularMargin(2, annealing=True), ["'annealing'.*Got True"]),
        (lambda: AdditiveCosineMargin(-0.1), [r"float in the range \[0, 2\), or a list of them.*Got -0.1"]),
        (lambda: AdditiveCosineMargin(2), [r"\[0, 2\)"]),
        (lambda: AdditiveCosineMargin([]), ["one a class.*Got \\[\\]"]),
        (lambda: AdditiveCosineMargin([0.1, math.nan]), ["nan"]),
        (lambda: AdditiveCosineMargin("large"), ["'large'"]),
        (lambda: AdditiveAngularMargin(math.pi), ["radians, or a list of them"]),
        (lambda: AdditiveAngularMargin(28.6), ["radians"]),
        (lambda: AdditiveAngularMargin(0.5, detach_margin=1), ["'detach_margin'.*true or false"]),
        (lambda: Annealing(start=-1, gamma=math.inf, power="2"), ["'start'", "'gamma'", "'power'"]),
        (lambda: Annealing(start=0.1, minimum=1.0), ["cannot fall from start=0.1 to the larger minimum=1"]),
        (lambda: Head(D, C, margin=0.5), ["'margin'.*create_head takes the number"]),
        (lambda: Head(D, C, margin=AdditiveCosineMargin()), ["needs classifier='cosine' and a temperature"]),
        (lambda: create_head("lsoftmax", D, C, normalize_logits=True, kappa=2.0), ["normaliz"]),
        (lambda: create_head("arcface", D, C, margin=AdditiveCosineMargin(), detach_margin=True), ["Give them to the"]),
        (lambda: create_head("lsoftmax", D, C, annealing={"begin": 3}), ["'annealing'.*start"]),
    ],
)
def test_faults_are_named(build: Any, messages: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        build()
    for message in messages:
        assert caught.match(f"(?s){message}")


def test_detach_margin_has_arcfaces_value_and_cosfaces_gradient() -> None:
    differ = 0
    for _ in range(20):
        features, target = torch.randn(1, D, dtype=torch.float64), torch.randint(C, (1,))
        arcface, detached = (
            create_head("arcface", D, C, kappa=9.0, detach_margin=detach, dtype=torch.float64)
            for detach in (False, True)
        )
        detached.load_state_dict(arcface.state_dict())
        cosine = arcface.cosine(features)[0, target].detach()
        # The CosFace margin that gives just this value, for this sample.
        same = float(cosine - additive_angular_margin(cosine, 0.5))
        cosface = create_head("cosface", D, C, kappa=9.0, margin=same, dtype=torch.float64)
        cosface.load_state_dict(arcface.state_dict())
        results = []
        for head in (arcface, detached, cosface):
            x = features.clone().requires_grad_()
            loss = head(x, target)
            results.append((loss.detach(), *torch.autograd.grad(loss, [x, head.weight])))
        torch.testing.assert_close(results[1][0], results[0][0])
        for found, expected in zip(results[1], results[2]):
            torch.testing.assert_close(found, expected)
        differ += not torch.allclose(results[1][1], results[0][1], rtol=1e-3)
    assert differ > 15


@pytest.mark.parametrize(
    ("name", "parameters"), [("arcface", {}), ("cosface", {}), ("sphereface", {"annealing": None})]
)
def test_least_squares_looks_at_cosines_without_the_margin(name: str, parameters: dict[str, Any]) -> None:
    features, target = 3 * torch.randn(9, D, dtype=torch.float64), torch.randint(C, (9,))
    head = create_head(name, D, C, temperature="least_squares", dtype=torch.float64, **parameters)
    plain = create_head("cosine_ls", D, C, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(head.weight)
    loss = head(features, target, reduction="none")
    plain(features, target)
    kappa = least_squares_kappa(features, head.weight)
    torch.testing.assert_close(head.kappa_star(features), kappa)
    torch.testing.assert_close(head.kappa, plain.kappa)
    cosine = F.normalize(features) @ F.normalize(head.weight.detach()).T
    own = head.margin(cosine.gather(1, target[:, None])[:, 0], target)
    logits = kappa[:, None] * cosine.scatter(1, target[:, None], own[:, None])
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, reduction="none"), check_dtype=True)


def test_aliases() -> None:
    for alias, name in (("amsoftmax", "cosface"), ("asoftmax", "sphereface")):
        torch.manual_seed(1)
        first = create_head(alias, D, C)
        torch.manual_seed(1)
        second = create_head(name, D, C)
        assert repr(first) == repr(second)
        features, target = torch.randn(3, D), torch.randint(C, (3,))
        assert first(features, target) == second(features, target)
    assert ll.create_head("AMSoftmax".lower(), D, C, margin=0.2).margin.margin == 0.2


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("arcface", {}), ("arcface", {"margin": BY_CLASS, "kappa": 8.0}), ("lsoftmax", {}), ("sphereface", {})],
)
def test_one_graph_equals_eager_as_lambda_falls(name: str, parameters: dict[str, Any]) -> None:
    torch._dynamo.reset()
    eager = create_head(name, D, C, **parameters)
    other = create_head(name, D, C, **parameters)
    other.load_state_dict(eager.state_dict())
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    optimizers = [torch.optim.SGD(head.parameters(), lr=0.5) for head in (eager, other)]
    for _ in range(3):
        features, target = torch.randn(7, D), torch.randint(C, (7,))
        losses = [head(features, target) for head in (eager, compiled)]
        torch.testing.assert_close(*losses)
        for loss, optimizer in zip(losses, optimizers):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(eager.weight, other.weight)
    if "annealing" not in parameters and name != "arcface":
        assert other.margin.annealing.steps == eager.margin.annealing.steps == 3


def test_the_logit_penalty_is_on_the_logits_without_a_margin() -> None:
    features, target = torch.randn(5, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    for name, extra in (("lsoftmax", {"annealing": None}), ("arcface", {"kappa": 5.0})):
        torch.manual_seed(0)
        plain = ll.create_head(name, 8, 3, dtype=torch.float64, **extra)
        torch.manual_seed(0)
        punished = ll.create_head(name, 8, 3, dtype=torch.float64, beta=0.1, **extra)
        added = punished(features, target, reduction="none") - plain(features, target, reduction="none")
        torch.testing.assert_close(added, 0.1 * plain(features).square().sum(-1))


@pytest.mark.parametrize("name", ["lsoftmax", "sphereface"])
@pytest.mark.parametrize("size", [1e-15, 1e25])
def test_lengths_neither_overflow_nor_vanish(name: str, size: float) -> None:
    head = ll.create_head(name, 8, 3, annealing=None)
    features = (torch.randn(4, 8) * size).requires_grad_()
    loss = head(features, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()
    assert (features.grad != 0).any(dim=-1).all() or size > 1


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("arcface", {"kappa": 20}, {"temperature": "fixed", "tau": 0.05}),
        ("arcface", {"margin": 0.3}, {"margin": [0.3, 0.3, 0.3]}),
        ("lsoftmax", {"annealing": 0}, {"annealing": None}),
        ("lsoftmax", {"annealing": 2}, {"annealing": {"start": 2.0, "gamma": 0.0}}),
        ("lsoftmax", {"margin": 1}, {"margin": 1, "annealing": 3}),
        ("sphereface", {}, {"annealing": {"start": 1000.0}}),
        ("ldam", {}, {"class_counts": [5, 5, 5]}),
        ("logit_adjustment", {}, {"class_counts": [7, 7, 7]}),
    ],
)
def test_two_ways_of_asking_are_one_head(name: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical_parameters(name, one) == canonical_parameters(name, other)
    assert canonical_parameters(name, one) != canonical_parameters(name, {"alpha": 0.1})


def test_pickles_of_a_head_without_margins_are_read() -> None:
    head = ll.Head(4, 3)
    state = head.__getstate__()
    del state["margin"], state["centers"]
    restored = ll.Head.__new__(ll.Head)
    restored.__setstate__(state)
    assert restored(torch.ones(2, 4), torch.tensor([0, 1])).isfinite()
