"""A head split over ranks against the same head on one process with all samples: loss, gradients and κ*."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ranks import run_ranks
from split_heads import Batch, assert_equals_dense, far, split_steps, step
from torch import nn
from torch.nn.functional import normalize

import logitlab as ll
from logitlab.config.errors import ParameterError
from logitlab.heads import Head, ShardedHead, create_head, list_heads

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

DOUBLE, SINGLE, HALF = torch.float64, torch.float32, torch.bfloat16
D, C = 12, 41
#: Samples of each rank.
SIZES = {2: (5, 4), 3: (4, 2, 3)}
EXACT = 1e-9

#: What of the registry needs more of the other ranks than a few numbers a sample.
REFUSED = {"group_softmax", "label_smoothing", "logit_adjustment", "logit_norm", "logit_penalty", "sigmoid"}
REFUSED |= {"squared_error"}

COUNTS = [5 + 7 * (i % 6) for i in range(C)]
WEIGHTS = [0.5 + i % 3 for i in range(C)]

#: By a name: a head of the registry or ``Head``, and its parameters.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {"class_counts": COUNTS} if name == "ldam" else {})
    for name in list_heads()
    if name not in (*REFUSED, "dropout")
}
CASES |= {
    f"{name} {temperature}": (name, {"temperature": temperature})
    for name in ("cosine", "cosface", "arcface")
    for temperature in ("trainable", "least_squares", "maximum_likelihood", "rule_of_thumb")
}
CASES |= {
    "adacos": ("cosine", {"temperature": "adacos"}),
    "adacos_dynamic": ("cosine", {"temperature": "adacos_dynamic"}),
    "arcface adacos_dynamic": ("arcface", {"temperature": "adacos_dynamic"}),
    "exact normalizer": ("cosine", {"temperature": ll.MaximumLikelihood(normalizer="exact")}),
    "least squares, multiplier": ("arcface", {"temperature": ll.LeastSquares(multiplier=1.7)}),
    "least squares, few candidates": ("cosine", {"temperature": ll.LeastSquares(candidates=[1.0, 20.0, 90.0])}),
    "least squares, one candidate": ("cosine", {"temperature": ll.LeastSquares(candidates=[7.0])}),
    "least squares, bias": ("cosine_ls", {"bias": True}),
    "least squares, bias, multiplier": ("cosine_2ls", {"bias": True}),
    "least squares, class weight": ("cosface", {"temperature": "least_squares", "class_weight": WEIGHTS}),
    "bias": ("cosine", {"bias": True, "temperature": "trainable"}),
    "centers": ("subcenter_arcface", {"centers": 4, "kappa": 9.0}),
    "centers, bias": ("subcenter_arcface", {"centers": 2, "bias": True}),
    "centers, trainable": ("cosine", {"centers": 2, "temperature": "trainable"}),
    "centers, adacos_dynamic": ("cosine", {"centers": 2, "temperature": "adacos_dynamic"}),
    "focal": ("arcface", {"loss": "focal", "gamma": 1.5, "class_weight": WEIGHTS}),
    "penalty": ("cosine_ls", {"weight_penalty": 0.03, "loss_scale": 3.0}),
    "penalty, class weight": ("cosine", {"weight_penalty": 0.03, "class_weight": WEIGHTS, "bias": True}),
    "unit weight": ("head", {"classifier": "unit_weight"}),
    "unit weight, bias": ("head", {"classifier": "unit_weight", "bias": True}),
    "linear without a bias": ("head", {"bias": False}),
    "linear, margin": ("lsoftmax", {"bias": True}),
    "annealed": ("sphereface", {"margin": 3}),
    "large kappa": ("arcface", {"kappa": 700.0}),
    "small kappa": ("arcface", {"kappa": 1e-3}),
}


def build(name: str, num_classes: int = C, dtype: torch.dtype = DOUBLE, **parameters: Any) -> Head:
    torch.manual_seed(3)
    parameters = copy.deepcopy(parameters)
    maker = Head if name == "head" else lambda *sizes, **rest: create_head(name, *sizes, **rest)
    head = maker(D, num_classes, dtype=dtype, **parameters)
    if head.bias is not None:
        nn.init.normal_(head.bias)
    return head


def samples(head: Head, sizes: tuple[int, ...], noise: float = 0.7, ignored: tuple[int, ...] = (3,)) -> Batch:
    """Samples about the rows of their classes; the first two of one class."""
    number = sum(sizes)
    target = torch.randint(head.num_classes, (number,))
    target[1:2] = target[:1]
    rows = normalize(head.weight.detach().float())[target * head.centers]
    features = (3 * (rows + noise * normalize(torch.randn(number, D)))).to(head.weight.dtype)
    target[[place for place in ignored if place < number]] = head.ignore_index
    return Batch(features, target, sizes)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_every_head_and_temperature(case: str, ranks: int) -> None:
    name, parameters = CASES[case]
    try:
        head = build(name, **parameters)
    except ParameterError as fault:
        pytest.fail(f"{case}: {fault}")
    assert_equals_dense(head, samples(head, SIZES[ranks]), EXACT)


@pytest.mark.parametrize("ranks", [2, 3])
def test_dropout_of_equal_seeds(ranks: int) -> None:
    """Each rank drops features of its own, so that the dense head is given what each has kept."""
    head = build("dropout", keep_probability=0.6)
    batch = samples(head, SIZES[ranks])
    found = split_steps(head, batch)
    kept = []
    for rank in range(ranks):
        torch.manual_seed(0)  # that of every rank of ``run_ranks``
        kept.append(nn.functional.dropout(batch.of(rank)[0], 0.4))
    head.keep_probability = 1.0
    whole = step(head, torch.cat(kept), batch.target)
    for rank, part in enumerate(found):
        assert far(part.loss, whole.loss) <= EXACT
        expected = whole.features.split(batch.sizes)[rank] * (kept[rank] != 0) / 0.6
        assert far(part.features, expected) <= EXACT
    assert far(torch.cat([part.weight for part in found]), whole.weight) <= EXACT


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "fixed": ("arcface", {}),
    "least squares": ("cosine_ls", {"weight_penalty": 0.1}),
    "trainable": ("cosine", {"temperature": "trainable", "bias": True}),
    "likelihood": ("cosface", {"temperature": "maximum_likelihood"}),
    "thumb": ("cosine", {"temperature": "rule_of_thumb"}),
    "adacos": ("cosine", {"temperature": "adacos_dynamic"}),
    "centers": ("subcenter_arcface", {}),
    "linear": ("lsoftmax", {"bias": True, "class_weight": WEIGHTS}),
    "softmax": ("softmax", {"weight_penalty": 0.1, "class_weight": WEIGHTS}),
}


def form(name: str, num_classes: int = C, **more: Any) -> Head:
    kind, parameters = FORMS[name]
    parameters = parameters | more
    if "class_weight" in parameters:
        parameters["class_weight"] = parameters["class_weight"][:num_classes]
    return build(kind, num_classes, **parameters)


@pytest.mark.parametrize("name", FORMS)
def test_batches_and_classes_of_any_size(name: str) -> None:
    for num_classes, sizes, ignored in (
        (C, (1, 0), ()),
        (C, (0, 6, 1), (2,)),
        (C, (0, 0, 3), ()),
        (C, (3, 2), (0, 1, 2)),  # all of a rank
        (3, (2, 2, 2), ()),
        (3, (1, 3), ()),
        (2, (3, 1), ()),
        (4, (1, 1, 1), (1,)),
    ):
        if name == "adacos" and num_classes == 2:
            continue  # its closed form is log(C - 1) = 0 there
        head = form(name, num_classes)
        assert_equals_dense(head, samples(head, sizes, ignored=ignored), EXACT)


@pytest.mark.parametrize("name", FORMS)
def test_nothing_counts(name: str) -> None:
    """All samples ignored, or none there at all: no loss, no gradient, and no mean moves."""
    head = form(name)
    batch = samples(head, (2, 1), ignored=(0, 1, 2))
    assert_equals_dense(head, batch, EXACT)
    empty = Batch(batch.features[:0], batch.target[:0], (0, 0))
    for part in split_steps(head, empty):
        assert part.loss == 0
        assert not part.weight.any()
        assert part.features.shape == (0, D)
        if head.kappa is not None and "thumb" not in name:
            assert part.kappa == head.kappa


@pytest.mark.parametrize("name", ["fixed", "least squares", "centers", "linear", "softmax"])
def test_every_reduction(name: str) -> None:
    head = form(name, loss_scale=2.5, ignore_index=4)
    batch = samples(head, (4, 3))
    for reduction in ("mean", "sum"):
        assert_equals_dense(head, batch, EXACT, reduction=reduction)
    by = torch.randn(7, dtype=DOUBLE)
    assert_equals_dense(head, batch, EXACT, reduction="none", by=by)


def test_the_sum_of_the_losses_of_the_samples_is_that_of_all_ranks() -> None:
    head = form("least squares")
    batch = samples(head, (4, 3))
    apart = split_steps(head, batch, reduction="none", by=torch.ones(7, dtype=DOUBLE))
    total = split_steps(head, batch, reduction="sum")
    for one, other in zip(apart, total, strict=True):
        assert far(torch.cat([part.loss for part in apart]).sum(), other.loss) <= EXACT
        assert far(one.features, other.features) <= EXACT
        assert far(one.weight, other.weight) <= EXACT


@pytest.mark.parametrize("name", ["fixed", "least squares", "trainable", "likelihood", "adacos", "centers"])
def test_a_kappa_that_is_given(name: str) -> None:
    head = form(name)
    batch = samples(head, (4, 3))
    for kappa in (17.0, torch.tensor(3.0), 1 + 30 * torch.rand(7)):
        found = assert_equals_dense(head, batch, EXACT, kappa=kappa)
        assert all(part.kappa == head.kappa for part in found)


@pytest.mark.parametrize("name", ["fixed", "least squares", "trainable", "adacos", "linear", "centers"])
def test_batches_of_several_dimensions(name: str) -> None:
    head = form(name)
    batch = samples(head, (6, 6))
    sizes = (1, 1)
    shaped = Batch(batch.features.view(2, 3, 2, D), batch.target.view(2, 3, 2), sizes)
    assert_equals_dense(head, shaped, EXACT)
    if head.temperature is not None:
        assert_equals_dense(head, shaped, EXACT, kappa=1 + 9 * torch.rand(2, 3, 2))
    by = torch.randn(2, 3, 2, dtype=DOUBLE)
    assert_equals_dense(head, shaped, EXACT, reduction="none", by=by)


@pytest.mark.parametrize("name", FORMS)
def test_evaluation(name: str) -> None:
    for inference_kappa in ("mean", "per_sample"):
        head = form(name, inference_kappa=inference_kappa).eval()
        found = assert_equals_dense(head, samples(head, (3, 2, 3)), EXACT)
        assert all(part.kappa is None or part.kappa == head.kappa for part in found)


@pytest.mark.parametrize("name", FORMS)
def test_rows_of_any_length(name: str) -> None:
    """Zero rows have no direction and no gradient; long and short ones those of their direction."""
    head = form(name)
    batch = samples(head, (4, 3))
    with torch.no_grad():
        head.weight[2] = 0
        head.weight[-1] = 0
        if head.classifier == "cosine":
            head.weight[5] *= 1e12
            head.weight[6] *= 1e-11
            batch.features[2] *= 1e100
            batch.features[5] *= 1e-100
    batch.features[1] = 0
    batch.features[4] = 0
    batch.target[0] = 2
    batch.target[6] = C - 1
    # Gradients of short rows are long.
    assert_equals_dense(head, batch, EXACT)


@pytest.mark.parametrize("name", FORMS)
def test_classes_that_are_the_same(name: str) -> None:
    """The same row on several ranks, and features upon it."""
    head = form(name)
    batch = samples(head, (4, 2, 3))
    with torch.no_grad():
        head.weight[[1, 15, 16, 30, 40]] = head.weight[14].clone()
        if head.bias is not None:
            head.bias[[1, 15, 16, 30, 40]] = head.bias[14].clone()
    batch.target[:5] = torch.tensor([1, 14, 30, 40, 16])
    batch.features[:3] = 2 * head.weight.detach()[14]
    if name == "fixed":  # the angle of its margin takes the root of what rounding makes of a cosine of one
        batch.features[:3] += 0.1 * torch.randn(3, D)
    assert_equals_dense(head, batch, EXACT)


@pytest.mark.parametrize("name", FORMS)
def test_many_blocks(name: str) -> None:
    """Several blocks of classes a rank, whose scores are kept or computed anew, in processes of one size of block."""
    head = form(name)
    batch = samples(head, (4, 3))
    assert_equals_dense(head, batch, EXACT, extra={"blocks": (3, True)})
    assert_equals_dense(head, batch, EXACT, extra={"blocks": (4, False)})


@pytest.mark.parametrize("name", FORMS)
def test_float32(name: str) -> None:
    head = form(name).float()
    batch = samples(head, (4, 3))
    reference = copy.deepcopy(head).double()
    exact = Batch(batch.features.double(), batch.target, batch.sizes)
    assert_equals_dense(head, batch, 1e-6, exact=(reference, exact))


@pytest.mark.parametrize("data_parallel", [True, False])
def test_the_gradient_of_the_backbone(data_parallel: bool) -> None:
    head = form("fixed")
    batch = samples(head, (4, 3))
    assert_equals_dense(head, batch, EXACT, extra={"data_parallel": data_parallel})


BROAD = [name for name in FORMS if name not in ("softmax", "thumb")]


@pytest.mark.parametrize("name", BROAD)
def test_bfloat16_beside_float32(name: str) -> None:
    """Only one of features and weight is bfloat16: products in float32, as in the dense head."""
    for of_weight in (False, True):
        head = form(name).float()
        if of_weight:
            head.weight.data = head.weight.data.bfloat16()
            if head.bias is not None:
                head.bias.data = head.bias.data.bfloat16()
        batch = samples(head, (4, 3))
        features = batch.features.float() if of_weight else batch.features.bfloat16()
        batch = batch._replace(features=features)
        reference = copy.deepcopy(head).double()
        exact = batch._replace(features=features.double())
        # A gradient comes in the dtype of what it belongs to.
        assert_equals_dense(head, batch, 1e-6, exact=(reference, exact), rounded=2**-8)


@pytest.mark.parametrize("name", BROAD)
def test_bfloat16_of_both(name: str) -> None:
    """Products of bfloat16 add up in float32: the loss is that of the rounded inputs, gradients round once more."""
    head = form(name).bfloat16()
    batch = samples(head, (14, 13))
    reference = copy.deepcopy(head).double()
    exact = batch._replace(features=batch.features.double())
    assert_equals_dense(head, batch, 2e-6, exact=(reference, exact), rounded=2**-6)


def optimizer_of(kind: str, modules: list[nn.Module]) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=0.3, momentum=0.9, weight_decay=1e-3)
    return torch.optim.AdamW(parameters, lr=0.03)


def trained(rank: int, head: Head, backbone: nn.Linear, batches: list[Batch], kind: str) -> dict[str, Any]:
    """Steps of a backbone whose gradients are averaged, as DistributedDataParallel does it."""
    split = ShardedHead(head)
    optimizer = optimizer_of(kind, [backbone, split])
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        features, target = batch.of(rank)
        loss = split(backbone(features), target)
        loss.backward()
        for parameter in backbone.parameters():
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= split.ranks.size
        optimizer.step()
        losses.append(float(loss.detach()))
    others = [part.detach() for name, part in split.named_parameters() if name not in ("weight", "bias")]
    return {
        "losses": losses,
        "weight": split.weight.detach(),
        "backbone": backbone.weight.detach(),
        "kappa": split.kappa,
        "others": others,
        "steps": getattr(getattr(split.margin, "annealing", None), "steps", None),
    }


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("case", ["fixed", "least squares", "trainable", "likelihood", "adacos", "annealed"])
def test_training_for_some_steps(case: str, kind: str) -> None:
    head = build("sphereface") if case == "annealed" else form(case)
    backbone = nn.Linear(D, D).double()
    batches = [samples(head, SIZES[3]) for _ in range(6)]
    found = run_ranks(trained, 3, head, backbone, batches, kind)
    optimizer = optimizer_of(kind, [backbone, head])
    head.fused = False
    for index, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = head(backbone(batch.features), batch.target)
        loss.backward()
        optimizer.step()
        for part in found:
            assert part["losses"][index] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert far(torch.cat([part["weight"] for part in found]), head.weight.detach()) <= 1e-6
    expected = [part.detach() for name, part in head.named_parameters() if name not in ("weight", "bias")]
    for part in found:
        assert far(part["backbone"], backbone.weight.detach()) <= 1e-6
        if head.kappa is not None:
            assert far(part["kappa"], head.kappa) <= 1e-6
        for ours, dense in zip(part["others"], expected, strict=True):
            assert far(ours, dense) <= 1e-6
        if case == "annealed":
            assert head.margin is not None
            assert part["steps"] == head.margin.annealing.steps == 6
