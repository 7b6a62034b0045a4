"""The fused step of a head against plain autograd: losses, gradients, what moves on the way, and which way is taken."""

from __future__ import annotations

import copy
import io
import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from ranks import run_ranks
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import Reduction
from logitlab.functional import class_chunks as chunks_module
from logitlab.heads import Classifier, CosineHead, Head, create_head
from logitlab.losses import FocalLoss, Loss, SoftmaxCrossEntropy
from logitlab.margins import Margin
from logitlab.temperature import LeastSquares, Temperature

D, C, N = 6, 23, 9

#: Every head that has a fused step, with what may be varied.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("softmax", {}),
    "softmax without bias": ("softmax", {"bias": False}),
    "focal": ("focal_loss", {"gamma": 1.5}),
    "sphereface": ("sphereface", {}),
    "lsoftmax": ("lsoftmax", {}),
    "lsoftmax with bias": ("lsoftmax", {"bias": True}),
    "ldam": ("ldam", {"class_counts": list(range(1, C + 1))}),
    "cosine": ("cosine", {"kappa": 12.0}),
    "cosine with bias": ("cosine", {"kappa": 12.0, "bias": True}),
    "cosine, focal": ("cosine", {"kappa": 7.0, "loss": "focal"}),
    "trainable": ("cosine", {"temperature": "trainable", "kappa": 6.0}),
    "trainable arcface": ("arcface", {"temperature": "trainable", "kappa": 6.0}),
    "adacos": ("cosine", {"temperature": "adacos"}),
    "cosface": ("cosface", {}),
    "arcface": ("arcface", {}),
    "cosine_ls": ("cosine_ls", {}),
    "cosine_ls with bias": ("cosine_ls", {"bias": True}),
    "cosine_2ls": ("cosine_2ls", {}),
    "arcface_ls": ("arcface", {"temperature": "least_squares"}),
    "cosface_2ls": ("cosface", {"temperature": LeastSquares(multiplier=2)}),
    "focal_ls": ("cosine_ls", {"loss": "focal"}),
    "unit weight": ("unit_weight", {}),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "class_weight": {"class_weight": [0.5 + c / C for c in range(C)]},
    "ignore_index": {"ignore_index": 3},
    "ignore_index that is no class": {"ignore_index": 255},
    "penalties": {"weight_penalty": 0.3, "loss_scale": 2.5, "class_weight": [0.5 + c / C for c in range(C)]},
    "dropout": {"keep_probability": 0.7},
}


def pair(name: str = "cosine", **parameters: Any) -> tuple[Head, Head]:
    """The same head twice, plain and fused, in float64 unless another dtype is given."""
    name, own = HEADS.get(name, (name, {}))
    parameters = {"dtype": torch.float64, **own, **parameters}
    plain = build(name, {**parameters, "fused": False})
    fused = build(name, {**parameters, "fused": True})
    fused.load_state_dict(plain.state_dict())
    return plain, fused


def build(name: str, parameters: dict[str, Any]) -> Head:
    parameters = dict(parameters)
    for key in ("temperature", "margin"):
        # A module belongs to one head.
        if isinstance(parameters.get(key), nn.Module):
            parameters[key] = copy.deepcopy(parameters[key])
    in_features, num_classes = parameters.pop("in_features", D), parameters.pop("num_classes", C)
    if name == "unit_weight":
        head = Head(in_features, num_classes, classifier="unit_weight", **parameters)
    else:
        head = create_head(name, in_features, num_classes, **parameters)
    if head.bias is not None:
        nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(3))
    return head


def batch(*leading: int, dtype: torch.dtype = torch.float64, classes: int = C) -> tuple[Tensor, Tensor]:
    leading = leading or (N,)
    return torch.randn(*leading, D, dtype=dtype), torch.randint(classes, leading)


def outcome(
    head: Head, features: Tensor, target: Tensor, upstream: Tensor | None = None, **options: Any
) -> dict[str, Tensor]:
    """Loss, gradients, and what moved."""
    features = features.detach().clone().requires_grad_()
    head.zero_grad()
    torch.manual_seed(5)  # of dropout
    loss = head(features, target, **options)
    found = {"loss": loss.detach()}
    loss.backward(upstream)
    found |= {f"gradient of {key}": value.grad for key, value in head.named_parameters() if value.grad is not None}
    assert features.grad is not None
    found["gradient of features"] = features.grad
    return found | {key: value.clone() for key, value in head.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
        assert second[key].dtype == value.dtype


def equal(heads: tuple[Head, Head], features: Tensor, target: Tensor, tolerance: float = 1e-9, **options: Any) -> None:
    plain, fused = heads
    assert not plain.path(features, target, kappa=options.get("kappa")).fused
    path = fused.path(features, target, kappa=options.get("kappa"))
    assert path.fused, path.reason
    same(outcome(plain, features, target, **options), outcome(fused, features, target, **options), tolerance)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certified search, and blocks of classes, for fewer classes than in earnest."""
    monkeypatch.setattr(chunks_module, "BLOCK", 1)
    monkeypatch.setattr(chunks_module, "_FEWEST", 50)
    for module in ("least_squares.search", "rival_terms", "rival_operator"):
        monkeypatch.setattr(sys.modules[f"logitlab.functional.{module}"], "GRAM_CLASSES", 50)


# --- the same numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_are_those_of_the_plain_path(name: str, variant: str) -> None:
    heads = pair(name, **VARIANTS[variant])
    features, target = batch()
    features += 2 * heads[0].weight.detach()[target]
    ignored = heads[0].ignore_index
    for case in (target, torch.where(torch.arange(N) % 3 == 0, ignored, target)):
        equal(heads, features, case)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_any_reduction_and_any_gradient_of_it(name: str, reduction: Reduction) -> None:
    """Gradients that differ by sample are the bug of fused losses whose gradients are made in the forward pass."""
    heads = pair(name, class_weight=[0.5 + c / C for c in range(C)], weight_penalty=0.1)
    features, target = batch()
    target[2] = -100
    upstream = torch.randn(N if reduction == "none" else (), dtype=torch.float64)
    if reduction == "none":
        upstream[1::4] = 0
    equal(heads, features, target, reduction=reduction, upstream=upstream)


@pytest.mark.parametrize("name", ["cosine_ls", "cosine_2ls", "cosine_ls with bias", "arcface_ls", "focal_ls"])
@pytest.mark.usefixtures("small_blocks")
def test_many_classes_take_the_certified_search(name: str) -> None:
    heads = pair(name, num_classes=141)
    start = kappa_of(heads[0])
    for _ in range(3):
        features, target = batch(20, classes=141)
        target[4] = -100
        equal(heads, features, target)
        assert [temperature_of(head).search_report.method for head in heads] == ["certified"] * 2  # type: ignore[union-attr]
    # Three steps moved both means alike.
    assert kappa_of(heads[1]) == pytest.approx(kappa_of(heads[0]), rel=1e-12)
    assert kappa_of(heads[1]) != pytest.approx(start, rel=1e-3)


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
@pytest.mark.parametrize("classes", [C, 141])
def test_the_surrogate_is_an_estimate_in_both(multiplier: float, classes: int) -> None:
    """Its sums hold the target apart where there is one, so that its estimates differ by a step of its refinement."""
    heads = pair("cosine_ls", num_classes=classes, search="surrogate", multiplier=multiplier)
    features, target = batch(40, classes=classes)
    found = [outcome(head, features, target) for head in heads]
    same(found[0], found[1], 0.05)
    assert found[1]["loss"].item() == pytest.approx(found[0]["loss"].item(), rel=5e-3)
    assert kappa_of(heads[1]) == pytest.approx(kappa_of(heads[0]), rel=2e-3)


@pytest.mark.parametrize("name", ["cosine_ls", "cosine_2ls", "cosface_2ls"])
def test_the_running_mean_moves_alike(name: str) -> None:
    heads = pair(name)
    start = heads[0].kappa.item()
    optimizers = [torch.optim.SGD(head.parameters(), lr=0.5) for head in heads]
    for step in range(3):
        features, target = batch()
        features[step] = 0  # has no direction
        target[step + 1] = -100
        equal(heads, features, target)
        for optimizer in optimizers:
            optimizer.step()
    assert heads[1].kappa.item() == pytest.approx(heads[0].kappa.item(), rel=1e-12)
    assert heads[1].kappa.item() != pytest.approx(start, rel=1e-3)


@pytest.mark.parametrize("broken", ["tiny features", "not a number in features", "not a number in the weight"])
@pytest.mark.parametrize("classes", [C, 300])
def test_samples_without_a_direction_move_no_mean(broken: str, classes: int) -> None:
    heads = pair("cosine_ls", dtype=torch.float32, num_classes=classes)
    features, target = batch(dtype=torch.float32, classes=classes)
    target[:2] = 1
    if broken == "tiny features":
        features[0] = 1e-30
    elif broken == "not a number in features":
        features[0, 1] = math.nan
    else:
        for head in heads:
            head.weight.data[1, 1] = math.nan
    for head in heads:
        head(features, target, reduction="none")
    torch.testing.assert_close(heads[1].kappa, heads[0].kappa)
    assert heads[1].kappa.isfinite()


@pytest.mark.parametrize("leading", [(2, 3), (), (1,), (2, 1, 4)])
@pytest.mark.parametrize("name", ["softmax", "cosine", "cosine_ls", "arcface", "sphereface"])
def test_any_leading_dimensions(name: str, leading: tuple[int, ...]) -> None:
    heads = pair(name)
    features, target = torch.randn(*leading, D, dtype=torch.float64), torch.randint(C, leading)
    equal(heads, features, target)
    equal(heads, features, target, reduction="none", upstream=torch.randn(leading, dtype=torch.float64))
    if heads[0].temperature is not None:
        kappa = 1 + 9 * torch.rand(leading, dtype=torch.float64)
        equal(heads, features, target, kappa=kappa)
    assert heads[1](features, target, reduction="none").shape == leading


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface", "ldam"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_samples_ignored(name: str, reduction: Reduction) -> None:
    heads = pair(name)
    features, _ = batch()
    target = torch.full((N,), -100)
    upstream = torch.ones(N if reduction == "none" else (), dtype=torch.float64)
    found = [outcome(head, features, target, reduction=reduction, upstream=upstream) for head in heads]
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface"])
def test_an_empty_batch_goes_the_plain_way(name: str) -> None:
    plain, fused = pair(name)
    features, target = torch.randn(0, D, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
    assert fused.path(features, target) == ("plain", "no sample, or no rival")
    for reduction in ("sum", "none"):
        torch.testing.assert_close(
            fused(features, target, reduction=reduction), plain(features, target, reduction=reduction)
        )


@pytest.mark.parametrize("name", HEADS)
def test_zero_rows(name: str) -> None:
    heads = pair(name)
    features, target = batch()
    target[:3] = torch.tensor([1, 2, 2])
    features[0] = 0
    for head in heads:
        head.weight.data[2] = 0
    found = [outcome(head, features, target) for head in heads]
    assert all(value.isfinite().all() for value in found[1].values())
    same(*found)


def test_a_target_on_its_weight_keeps_its_digits() -> None:
    for head in pair("cosine", kappa=148.0, dtype=torch.float32, bias=False):
        head.weight.data = torch.cat([torch.eye(D)[:1], -torch.eye(D)[:1].repeat(C - 1, 1)])
        features = torch.eye(D)[:1].clone().requires_grad_()
        loss = head(features, torch.tensor([0]))
        # 22 e^-296: nothing in float32; at κ = 20 it is 22 e^-40.
        assert loss.item() == pytest.approx(0, abs=1e-30)
        loss = head(features, torch.tensor([0]), kappa=20.0)
        assert loss.item() == pytest.approx(22 * math.exp(-40), rel=1e-5)


# --- κ that the caller gives, and faults --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cosine", "cosine_ls", "arcface_ls", "trainable", "cosine with bias"])
def test_a_given_kappa(name: str) -> None:
    heads = pair(name)
    features, target = batch()
    single = torch.tensor(5.0, dtype=torch.float32)
    for kappa in (4, 7.5, single, torch.rand(N, dtype=torch.float64) + 2, torch.rand(N) + 2):
        equal(heads, features, target, kappa=kappa)
    for shape in ((), (N,)):
        gradients = []
        for head in heads:
            kappa = torch.full(shape, 3.0, dtype=torch.float64, requires_grad=True)
            head(features, target, kappa=kappa).backward()
            gradients.append(kappa.grad)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)
        assert gradients[0].shape == shape
        assert gradients[0].any()


def kappa_of(head: Head) -> float:
    assert head.kappa is not None
    return head.kappa.item()


def message(head: Head, features: Tensor, target: Tensor, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        head(features, target, **options)
    return str(caught.value)


@pytest.mark.parametrize("kappa", [0, -1.0, math.nan, math.inf, torch.ones(3), torch.ones(N, 1), "ten", True])
def test_a_wrong_kappa_is_refused_alike(kappa: Any) -> None:
    heads = pair("cosine")
    features, target = batch()
    try:
        first = message(heads[0], features, target, kappa=kappa)
    except (TypeError, AssertionError):
        pytest.skip("the plain path takes it otherwise")
    assert message(heads[1], features, target, kappa=kappa) == first


@pytest.mark.parametrize("name", ["softmax", "sphereface", "lsoftmax"])
def test_a_kappa_without_a_temperature_is_refused_alike(name: str) -> None:
    plain, fused = pair(name)
    features, target = batch()
    assert message(fused, features, target, kappa=3.0) == message(plain, features, target, kappa=3.0)


@pytest.mark.parametrize(
    "target",
    [
        torch.full((N,), C),
        torch.full((N,), -1),
        torch.zeros(N - 1, dtype=torch.long),
        torch.zeros(N, 1, dtype=torch.long),
        torch.zeros(N, dtype=torch.bool),
        torch.zeros(N),
        torch.zeros(N, C),
        torch.zeros(N, dtype=torch.complex64),
    ],
)
@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface"])
def test_a_wrong_target_is_refused_alike(name: str, target: Tensor) -> None:
    plain, fused = pair(name)
    features, _ = batch()
    assert message(fused, features, target) == message(plain, features, target)


@pytest.mark.parametrize("name", ["softmax", "cosine"])
def test_wrong_features_and_a_wrong_reduction_are_refused_alike(name: str) -> None:
    plain, fused = pair(name)
    features, target = batch()
    for other in (features[:, :-1], features.long()):
        assert message(fused, other, target) == message(plain, other, target)
    assert message(fused, features, target, reduction="median") == message(plain, features, target, reduction="median")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_any_integer_dtype_of_the_target(dtype: torch.dtype) -> None:
    features, target = batch()
    equal(pair("cosine_ls"), features, target.to(dtype))


# --- which way ----------------------------------------------------------------------------------------------------


class Halved(Margin):
    """A margin of a user's own, with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        return cosine - self.factor * (1 + 0.1 * target) * (1 - cosine)


class Brier(Loss):
    """A loss of a user's own that says nothing of gaps."""

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        own = torch.nn.functional.one_hot(target, logits.shape[-1])
        return (logits.softmax(-1) - own).square().sum(-1)


class Truncated(Loss):
    """A loss of a user's own that depends on the gap alone."""

    of_gap = True

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        own = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        rivals = logits.scatter(-1, target.unsqueeze(-1), -math.inf).logsumexp(-1)
        return self.per_sample_of_gap(rivals - own)

    def per_sample_of_gap(self, gap: Tensor) -> Tensor:
        return torch.tanh(gap).exp()


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"alpha": 0.1}, "needs the logits of every class"),
    ({"beta": 0.1}, "needs the logits of every class"),
    ({"loss": "sigmoid"}, "needs the logits of every class"),
    ({"loss": "squared_error", "target_weight": 6.0, "target_value": 12.0}, "needs the logits of every class"),
    ({"adjustment": 1.0, "class_counts": list(range(1, C + 1))}, "needs the logits of every class"),
    ({"loss": Brier()}, "Brier needs the logits of every class"),
    ({"normalize_logits": True, "kappa": 4.0}, "normalized logits"),
    ({"classifier": "cosine", "kappa": 4.0, "centers": 2}, "several centers a class"),
    ({"classifier": "cosine", "temperature": "maximum_likelihood"}, "MaximumLikelihood needs all cosines"),
    ({"classifier": "cosine", "temperature": LeastSquares(search="continuous")}, "LeastSquares needs all cosines"),
    ({"classifier": "cosine", "temperature": "adacos_dynamic"}, "learns from the cosines of the targets"),
]


@pytest.mark.parametrize(("parameters", "reason"), REASONS, ids=[next(reversed(given)) for given, _ in REASONS])
@pytest.mark.parametrize("forced", [True, "auto"])
def test_what_cannot_be_fused_says_why_and_goes_the_plain_way(
    parameters: dict[str, Any], reason: str, forced: bool | str
) -> None:
    torch.manual_seed(1)
    plain = Head(D, C, fused=False, **copy.deepcopy(parameters))
    fused = Head(D, C, fused=forced, **copy.deepcopy(parameters))  # type: ignore[arg-type]
    fused.load_state_dict(plain.state_dict())
    features, target = batch(dtype=torch.float32)
    path = fused.path(features, target)
    assert path.name == "plain"
    assert not path.fused
    assert reason in path.reason
    same(outcome(plain, features, target), outcome(fused, features, target), 0)


def test_the_way_depends_on_what_is_asked() -> None:
    _, fused = pair("cosine_ls", dtype=torch.float32)
    features, target = batch(dtype=torch.float32)
    soft = torch.full((N, C), 1 / C)
    assert fused.path(features, target) == ("fused", "fused=True")
    assert fused.path(features) == ("plain", "logits are asked for")
    assert fused.path(features, target, return_logits=True) == ("plain", "logits are asked for")
    assert fused.path(features, soft) == ("plain", "soft targets need the logits of every class")
    assert fused.path(torch.zeros(0, D), target[:0]) == ("plain", "no sample, or no rival")
    assert fused.path(features, target, kappa=3.0).fused
    assert pair("cosine_ls")[0].path(features, target) == ("plain", "fused=False")
    assert build("cosine", {"kappa": 3.0, "num_classes": 1, "fused": True}).path(features, target).name == "plain"
    loss, logits = fused(features, target, return_logits=True)
    assert logits.shape == (N, C)
    torch.testing.assert_close(fused(features, target), loss)
    torch.testing.assert_close(fused(features, torch.nn.functional.one_hot(target, C).float()), loss)


SHAPES = [(128, 10, 512), (128, 100, 512), (256, 101, 2048), (256, 1000, 2048), (256, 8142, 2048), (128, 93431, 512)]


@pytest.mark.parametrize("name", ["cosine", "cosine_ls", "arcface", "cosface"])
def test_auto_takes_the_faster_way(name: str) -> None:
    own = {"kappa": 9.0} if name == "cosine" else {}
    for samples, classes, size in SHAPES:
        # Never initialised: only the shapes are looked at.
        head = create_head(name, size, classes, device="meta", **own).to_empty(device="cpu")
        path = head.path(torch.empty(samples, size), torch.zeros(samples, dtype=torch.long))
        assert path.name == ("plain" if classes <= 101 else "fused")
        assert "classes" in path.reason
    for fused in (True, "auto"):
        head = create_head(name, 2048, 1000, device="meta", fused=fused, **own)
        path = head.path(torch.empty(4, 2048, device="meta"), torch.zeros(4, dtype=torch.long, device="meta"))
        assert path.name == "plain"
        assert "meta" in path.reason


def test_what_auto_has_chosen_changes_nothing() -> None:
    head = create_head("cosine_ls", 600, 1000)
    plain = copy.deepcopy(head)
    plain.fused = False
    features, target = torch.randn(4, 600), torch.randint(1000, (4,))
    assert head.path(features, target).fused
    same(outcome(plain, features, target), outcome(head, features, target), 1e-5)


def test_in_eval_mode_the_running_mean_is_a_fixed_kappa() -> None:
    heads = pair("cosine_ls")
    features, target = batch()
    equal(heads, features, target)
    for head in heads:
        head.eval()
    equal(heads, features, target)
    for temperature in ("adacos_dynamic", "maximum_likelihood", LeastSquares(search="continuous")):
        heads = pair("cosine", kappa=None, temperature=temperature)
        assert not heads[1].path(features, target).fused
        for head in heads:
            head.eval()
        equal(heads, features, target)
    heads = pair("cosine_ls", inference_kappa="per_sample")
    for head in heads:
        head.eval()
    equal(heads, features, target)


def test_annotations_of_a_users_own() -> None:
    features, target = batch()
    for parameters in ({"margin": Halved()}, {"margin": Halved(), "temperature": LeastSquares(), "kappa": None}):
        equal(pair("cosine", **parameters), features, target)
    for classifier, extra in (("linear", {}), ("cosine", {"kappa": 3.0})):
        for weights in (None, [0.5 + c / C for c in range(C)]):
            heads = tuple(
                Head(
                    D,
                    C,
                    classifier=classifier,
                    loss=Truncated(),
                    class_weight=weights,
                    weight_penalty=0.1,  # type: ignore[arg-type]
                    fused=forced,
                    dtype=torch.float64,
                    **extra,
                )
                for forced in (False, True)
            )
            heads[1].load_state_dict(heads[0].state_dict())
            equal(heads, features, target)  # type: ignore[arg-type]


class Squared(SoftmaxCrossEntropy):
    """Changes the loss of a sample, and knows nothing of gaps."""

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        return super().per_sample(logits, target, class_weight).square()


class SquaredUnderMargin(SoftmaxCrossEntropy):
    def per_sample_of_target(
        self, logits: Tensor, bent: Tensor, target: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        return super().per_sample_of_target(logits, bent, target, class_weight).square()


class Doubled(FocalLoss):
    def forward(self, logits: Tensor, target: Tensor, **options: Any) -> Tensor:  # type: ignore[override]
        return 2 * super().forward(logits, target, **options)


@pytest.mark.parametrize("loss", [Squared, SquaredUnderMargin, Doubled])
def test_a_loss_that_overrides_a_builtin_one_is_heard(loss: Callable[[], Loss]) -> None:
    heads = pair("cosface", loss=loss())
    features, target = batch()
    same(outcome(heads[0], features, target), outcome(heads[1], features, target))


class Halving(LeastSquares):
    """Overrides what κ is."""

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        return super().forward(cosine, unit_features, unit_weight, per_sample=per_sample) / 2


class Shifted(LeastSquares):
    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        return super().kappa_star(cosine, unit_features, unit_weight) + 1


@pytest.mark.parametrize("temperature", [Halving, Shifted])
def test_a_temperature_that_overrides_least_squares_is_heard(temperature: Callable[[], Temperature]) -> None:
    heads = pair("cosine", kappa=None, temperature=temperature())
    features, target = batch()
    same(outcome(heads[0], features, target), outcome(heads[1], features, target))


@pytest.mark.parametrize("fused", ["maybe", 1, None, "yes"])
def test_another_value_is_refused_beside_the_other_faults(fused: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        Head(D, 0, fused=fused, beta=-1.0)
    text = str(caught.value)
    assert "fused" in text
    assert "true, false or 'auto'" in text
    assert "num_classes" in text
    assert "beta" in text


def test_it_shows_where_it_was_given() -> None:
    assert "fused" not in repr(Head(D, C))
    assert "fused=True" in repr(Head(D, C, fused=True))
    assert "fused=False" in repr(Head(D, C, fused=False))
    assert Head(D, C, fused=False).for_classes(4).fused is False
    assert create_head("arcface", D, C, fused=True).for_classes(4).fused is True


# --- the search report --------------------------------------------------------------------------------------------


def temperature_of(head: Head) -> LeastSquares:
    assert isinstance(head.temperature, LeastSquares)
    return head.temperature


@pytest.mark.parametrize("fused", [False, True])
def test_the_last_search_is_reported(fused: bool) -> None:
    for classes, search, method in ((C, "grid", "gram"), (300, "grid", "certified"), (300, "surrogate", "surrogate")):
        head = pair("cosine_ls", num_classes=classes, search=search)[fused]
        temperature = temperature_of(head)
        assert temperature.search_report is None
        features, target = batch(50, classes=classes)
        head(features, target)
        report = temperature.search_report
        assert report is not None
        assert report.method == method
        assert report.certified.shape == (50,)
        assert report.certified.dtype == torch.bool
        assert report.share_certified == pytest.approx(report.certified.sum().item() / 50)
        if method != "certified":
            assert report.share_certified == float(method == "gram")
        head.eval()
        head(features, target)
        assert temperature.search_report is report
        assert not report.certified.requires_grad


def test_both_ways_certify_mostly() -> None:
    heads = pair("cosine_ls", in_features=D, num_classes=400)
    features, target = batch(200, classes=400)
    features = heads[0].weight.detach()[target] + 0.1 * features
    shares = []
    for head in heads:
        head(features, target)
        report = temperature_of(head).search_report
        assert report is not None
        shares.append(report.share_certified)
    # The bound and the choice know the target as a class like any other.
    assert abs(shares[0] - shares[1]) < 0.1
    assert min(shares) > 0.3


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface", "sphereface"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    features, target = batch(dtype=torch.float32)
    for heads in (pair(name, dtype=torch.float32), pair(name, dtype=dtype)):
        narrow = heads[0].weight.dtype == dtype
        found = [outcome(head, features.to(dtype), target) for head in heads]
        for key, value in found[0].items():
            other = found[1][key]
            assert other.dtype == value.dtype
            tolerance = 2 * torch.finfo(dtype).eps if narrow or value.dtype == dtype else 1e-5
            torch.testing.assert_close(other.float(), value.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface"])
def test_autocast_changes_nothing(name: str) -> None:
    _, fused = pair(name, dtype=torch.float32)
    features, target = batch(dtype=torch.float32)
    other = copy.deepcopy(fused)
    expected = outcome(fused, features, target)
    with torch.autocast("cpu", torch.bfloat16):
        found = outcome(other, features, target)
    same(expected, found, 0)
    assert found["loss"].dtype == torch.float32


def test_float32_beside_float64() -> None:
    for name in ("softmax", "cosine_ls", "lsoftmax", "arcface"):
        heads = pair(name, dtype=torch.float32)
        features, target = batch()
        found = [outcome(head, features, target) for head in heads]
        same(found[0], found[1], 1e-6)
        assert found[1]["loss"].dtype == torch.float64
        torch.testing.assert_close(found[1]["loss"], found[0]["loss"], rtol=1e-12, atol=1e-12)


# --- autograd and its company -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface", "trainable"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(name: str, reentrant: bool) -> None:
    heads = pair(name)
    features, target = batch()
    found = []
    for head, checkpointed in ((heads[0], False), (heads[1], True)):
        leaf = features.clone().requires_grad_()
        if checkpointed:
            loss = torch.utils.checkpoint.checkpoint(head, leaf, target, use_reentrant=reentrant)
        else:
            loss = head(leaf, target)
        loss.backward()
        assert leaf.grad is not None
        found.append({"loss": loss.detach(), "features": leaf.grad})
        found[-1] |= {key: value.grad for key, value in head.named_parameters() if value.grad is not None}
        # The reentrant kind runs its first pass without gradients, which moves no mean.
        found[-1] |= {} if reentrant else dict(head.named_buffers())
    same(*found)


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "cosine_2ls", "arcface", "sphereface"])
def test_two_forwards_before_one_backward(name: str) -> None:
    heads = pair(name)
    features, target = batch()
    for head in heads:
        (head(features, target) * head(features.flip(0), target)).backward()
    for first, second in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(second.grad, first.grad, rtol=1e-9, atol=1e-9)


def test_no_gradients_no_cost() -> None:
    for name in ("cosine", "cosine_ls", "arcface", "softmax"):
        heads = pair(name)
        features, target = batch()
        expected = heads[1](features, target)
        before = heads[1].kappa
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                loss = heads[1](features, target)
                plain = heads[0](features, target)
            assert not loss.requires_grad
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(loss, plain)
        assert before is None or torch.equal(before, heads[1].kappa)
        heads[1].requires_grad_(False)
        assert not heads[1](features, target).requires_grad


@pytest.mark.parametrize("name", ["softmax", "cosine", "cosine_ls", "arcface", "lsoftmax", "trainable"])
def test_second_derivatives(name: str) -> None:
    features, target = batch()
    found = []
    for head in pair(name):
        leaf = features.clone().requires_grad_()
        first = torch.autograd.grad(head(leaf, target), [leaf, *head.parameters()], create_graph=True)
        total = torch.stack([part.sin().sum() for part in first]).sum()
        found.append(torch.autograd.grad(total, [leaf, *head.parameters()]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["softmax", "cosine", "cosine_ls", "arcface"])
def test_jacobians(name: str) -> None:
    plain, fused = pair(name)
    features, target = batch()
    leaf = features.requires_grad_()

    def losses(head: Head) -> Callable[[Tensor], Tensor]:
        return lambda rows: head(rows, target, reduction="none")

    expected = torch.autograd.functional.jacobian(losses(plain), leaf)
    for vectorize in (False, True):
        found = torch.autograd.functional.jacobian(losses(fused), leaf, vectorize=vectorize)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.func.jacrev(losses(fused))(features.detach()), expected, rtol=1e-9, atol=1e-9)
    batched = torch.eye(N, dtype=torch.float64)
    (found,) = torch.autograd.grad(losses(fused)(leaf), leaf, batched, is_grads_batched=True)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["softmax", "cosine", "cosine_ls", "arcface"])
def test_transforms_of_functions_go_the_plain_way(name: str) -> None:
    plain, fused = pair(name)
    features, target = batch()
    ways = []

    def losses(head: Head) -> Callable[..., Tensor]:
        def of_one(weight: Tensor, row: Tensor, label: Tensor) -> Tensor:
            ways.append(head.path(row, label))
            return torch.func.functional_call(head, {"weight": weight}, (row, label))

        return torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))

    found = [losses(head)(head.weight.detach(), features, target) for head in (plain, fused)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    assert ways[-1].name == "plain"
    assert ways[-1].reason.startswith("torch.func")
    # A parameter that is swapped for another tensor is one like any other.
    other = {"weight": torch.randn(C, D, dtype=torch.float64)}
    losses_of_other = [torch.func.functional_call(head, other, (features, target)) for head in (plain, fused)]
    torch.testing.assert_close(*losses_of_other)


@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning", "ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["softmax", "cosine", "cosine_ls", "arcface"])
def test_forward_mode(name: str) -> None:
    features, target = batch()
    tangents = []
    for head in pair(name):
        head.requires_grad_(False)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(features, torch.ones_like(features))
            tangents.append(forward_ad.unpack_dual(head(dual, target)).tangent)
    assert tangents[0] is not None
    torch.testing.assert_close(tangents[1], tangents[0], rtol=1e-9, atol=1e-9)


def test_who_watches_each_operation_sees_the_formula() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    _, fused = pair("cosine")
    features, target = batch()
    with FlopCounterMode(display=False) as counter:
        assert fused.path(features, target).name == "plain"
        fused(features, target)
    assert counter.get_total_flops() == 2 * N * C * D


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface"])
def test_copies_and_pickles(name: str) -> None:
    _, fused = pair(name)
    features, target = batch()
    fused(features, target).backward()
    buffer = io.BytesIO()
    torch.save(fused, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(fused),
        pickle.loads(pickle.dumps(fused)),
        torch.load(buffer, weights_only=False),
    ]
    expected = outcome(fused, features, target)
    for other in copies:
        assert other.fused is True
        same(expected, outcome(other, features, target), 0)


def test_pickles_of_before_know_nothing_of_it() -> None:
    head = create_head("cosine_ls", 600, 1000)
    state = copy.deepcopy(head.__dict__)
    del state["fused"]
    del state["_arguments"]["fused"]
    state["_modules"]["temperature"].__dict__.pop("search_report", None)
    old = CosineHead.__new__(CosineHead)
    old.__setstate__(state)
    assert old.fused == "auto"
    assert temperature_of(old).search_report is None
    features, target = torch.randn(4, 600), torch.randint(1000, (4,))
    assert old.path(features, target).fused
    same(outcome(head, features, target), outcome(old, features, target), 0)
    assert old.for_classes(5).fused == "auto"
    assert copy.deepcopy(old).fused == "auto"


def test_the_state_is_that_of_before() -> None:
    for first, second in (pair("cosine_ls"), pair("softmax"), pair("trainable")):
        assert first.state_dict().keys() == second.state_dict().keys()
        assert not [key for key in second.state_dict() if "report" in key or "fused" in key]


# --- torch.compile ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes"),
    [("softmax", C), ("cosine_ls", C), ("cosine_ls", 300), ("cosine_2ls", 300), ("arcface", C), ("lsoftmax", C)],
)
def test_compiles_into_one_graph_with_the_operator(name: str, classes: int) -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        from torch._dynamo.backends.debugging import aot_eager

        return aot_eager(graph, inputs)

    _, fused = pair(name, num_classes=classes)
    other = copy.deepcopy(fused)
    compiled = torch.compile(other, fullgraph=True, backend=backend)
    for _ in range(2):
        features, target = batch(classes=classes)
        target[0] = -100
        found = outcome(compiled, features, target)
        expected = outcome(fused, features, target)
        same(expected, {key.removeprefix("_orig_mod.").replace("of _orig_mod.", "of "): v for key, v in found.items()})
    # torch hands the backend an empty graph too.
    called = [
        names for graph in graphs if (names := [str(node.target) for node in graph.graph.nodes if node.op != "output"])
    ]
    assert len(called) == 1
    (names,) = called
    assert sum("rival_terms" in name for name in names) == 1
    assert not any("linear" in name or "softmax" in name for name in names)


@pytest.mark.slow
def test_compiles_by_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    for name, transposed in (("cosine_ls", False), ("softmax", True)):
        plain, fused = pair(name, dtype=torch.float32, num_classes=141)
        features, target = batch(dtype=torch.float32, classes=141)
        features = features.T.contiguous().T if transposed else features
        compiled = torch.compile(fused, fullgraph=True)
        found = {key.replace("_orig_mod.", ""): value for key, value in outcome(compiled, features, target).items()}
        same(outcome(plain, features, target), found, 2e-5)


@pytest.mark.slow
def test_compiles_for_any_number_of_samples() -> None:
    torch._dynamo.reset()
    plain, fused = pair("cosine_ls", num_classes=141)
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager", dynamic=True)
    for samples in (7, 12, 30):
        features, target = batch(samples, classes=141)
        found = {key.replace("_orig_mod.", ""): value for key, value in outcome(compiled, features, target).items()}
        same(outcome(plain, features, target), found)


# --- several processes --------------------------------------------------------------------------------------------

RANKS = 2
DISTRIBUTED = ["softmax", "cosine", "cosine_ls", "arcface", "trainable", "lsoftmax"]


def model_of(name: str) -> Classifier:
    torch.manual_seed(0)
    name, parameters = HEADS[name]
    return Classifier(nn.Linear(5, D), create_head(name, D, 141, **parameters, weight_penalty=0.1, fused=True))


def images_and_target() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2 * RANKS, 5, generator=generator), torch.randint(141, (2 * RANKS,), generator=generator)


def gradients_of_ranks(rank: int) -> dict[str, dict[str, Tensor | None]]:
    found = {}
    for name in DISTRIBUTED:
        model = DistributedDataParallel(model_of(name))
        images, target = (part.chunk(RANKS)[rank] for part in images_and_target())
        (model(images, target) + model(2 * images, target)).backward()
        found[name] = {key: parameter.grad for key, parameter in model.module.named_parameters()}
    return found


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_give_the_gradients_of_one() -> None:
    together, _ = run_ranks(gradients_of_ranks, RANKS)
    for name in DISTRIBUTED:
        model = model_of(name)
        images, target = images_and_target()
        assert model.head.path(model.backbone(images), target).fused
        (model(images, target) + model(2 * images, target)).backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(together[name][key], parameter.grad, rtol=1e-4, atol=1e-6, msg=f"{name} {key}")
