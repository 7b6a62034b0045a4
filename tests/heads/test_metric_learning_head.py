"""Losses of pytorch-metric-learning as heads: theirs in value, ours in contract."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import logitlab as ll
from logitlab.config.errors import ConfigurationError, InputError, ParameterError
from logitlab.data import MemoryImages
from logitlab.evaluation import collect, evaluate, output_arrays
from logitlab.heads import MetricLearningHead

# They hand tensors to SciPy when they are built.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")

D, C = 6, 4
NAMES = [
    "CosFaceLoss",
    "ArcFaceLoss",
    "SubCenterArcFaceLoss",
    "SphereFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NormalizedSoftmaxLoss",
    "SoftTripleLoss",
]


@pytest.fixture
def losses() -> Any:
    return pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")


@pytest.mark.parametrize("name", NAMES)
def test_value_logits_and_gradients_are_theirs(losses: Any, name: str) -> None:
    loss = getattr(losses, name)(num_classes=C, embedding_size=D)
    theirs = copy.deepcopy(loss)
    head = MetricLearningHead(D, C, loss)
    features, target = torch.randn(8, D), torch.randint(C, (8,))
    ours_x, theirs_x = features.clone().requires_grad_(), features.clone().requires_grad_()
    found, logits = head(ours_x, target, return_logits=True)
    expected = theirs(theirs_x, target)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours_x.grad, theirs_x.grad)
    ((_, parameter),) = head.named_parameters()
    torch.testing.assert_close(parameter.grad, next(theirs.parameters()).grad)
    torch.testing.assert_close(logits, theirs.get_logits(features))
    assert torch.equal(head.predict(features), theirs.get_logits(features).argmax(1))


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_a_head(losses: Any, name: str) -> None:
    weight = [1.0, 2.0, 0.5, 4.0]
    head = MetricLearningHead(D, C, getattr(losses, name), class_weight=weight)
    features, target = torch.randn(2, 3, D), torch.tensor([[0, 1, -100], [3, 2, 2]])
    values = head(features, target, reduction="none")
    assert head(features).shape == (2, 3, C)
    assert values.shape == (2, 3)
    assert values[0, 2] == 0
    kept = target.flatten()[[0, 1, 3, 4, 5]]
    own = torch.tensor(weight)[kept]
    torch.testing.assert_close(head(features, target), values.sum() / own.sum())
    torch.testing.assert_close(head(features, target, reduction="sum"), values.sum())
    bare = MetricLearningHead(D, C, getattr(losses, name))
    bare.load_state_dict({key: value for key, value in head.state_dict().items() if key != "class_weight"})
    plain = bare(features.flatten(0, 1)[[0, 1, 3, 4, 5]], kept, reduction="none")
    torch.testing.assert_close(values.flatten()[[0, 1, 3, 4, 5]], own * plain)
    assert head(features[0, 0], target[0, 0], reduction="none").shape == ()
    empty = torch.empty(0, D, requires_grad=True)
    loss = head(empty, torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in head.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_state_and_precision(losses: Any, name: str) -> None:
    head = MetricLearningHead(D, C, getattr(losses, name))
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    expected = head(features, target)
    other = MetricLearningHead(D, C, getattr(losses, name))
    other.load_state_dict(head.state_dict())
    for copied in (other, copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(copied(features, target), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(features, target), expected)
        assert head(features).dtype == torch.float32
    # Their own forward would cast the weight to the dtype of the features, for good.
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = head(features.to(dtype), target)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert head.weight.dtype == torch.float32
    halved = copy.deepcopy(head).bfloat16()
    halved(features, target).backward()
    assert {(p.dtype, p.grad.dtype) for p in halved.parameters() if p.grad is not None} == {(torch.bfloat16,) * 2}
    torch.testing.assert_close(halved(features), copy.deepcopy(halved).float()(features))


def test_what_a_head_says_of_itself(losses: Any) -> None:
    subcenters = MetricLearningHead(D, C, losses.SubCenterArcFaceLoss)
    assert (subcenters.centers, subcenters.weight.shape) == (3, (3 * C, D))
    features = torch.randn(5, D)
    torch.testing.assert_close(64 * subcenters.cosine(features), subcenters(features))
    torch.testing.assert_close(subcenters.max_logit(features), subcenters.cosine(features).amax(1))
    lsoftmax = MetricLearningHead(D, C, losses.LargeMarginSoftmaxLoss)
    assert (subcenters.classifier, lsoftmax.classifier) == ("cosine", "linear")
    torch.testing.assert_close(lsoftmax(features), features @ lsoftmax.weight.T)
    torch.testing.assert_close(lsoftmax.max_logit(features), lsoftmax(features).amax(1))
    torch.testing.assert_close(lsoftmax.predict_proba(features), lsoftmax(features).softmax(1))
    assert lsoftmax.kappa is None
    assert lsoftmax.link == "softmax"
    assert "6, 4, classifier='linear'" in repr(lsoftmax)
    before = lsoftmax.weight.clone()
    lsoftmax.reset_parameters()
    assert not torch.equal(lsoftmax.weight, before)


def test_regularizers_stand_in_every_sample(losses: Any) -> None:
    regularizers = pytest.importorskip("pytorch_metric_learning.regularizers")
    own = {"weight_regularizer": regularizers.LpRegularizer(), "embedding_regularizer": regularizers.LpRegularizer()}
    loss = losses.CosFaceLoss(C, D, weight_reg_weight=0.3, embedding_reg_weight=0.2, **own)
    theirs = copy.deepcopy(loss)
    head = MetricLearningHead(D, C, loss)
    features, target = torch.randn(8, D), torch.randint(C, (8,))
    torch.testing.assert_close(head(features, target), theirs(features, target))
    torch.testing.assert_close(head(features, target, reduction="none").mean(), theirs(features, target))


def test_it_trains_in_a_classifier_and_can_be_evaluated(losses: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % C
    pixels = torch.randint(60, (60, 1, 4, 4), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, label] += 150  # a bright line says the class
    images = MemoryImages(pixels, labels)
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, D))
    model = ll.Classifier(backbone, MetricLearningHead(D, C, functools.partial(losses.CosFaceLoss, scale=8)))
    groups = ll.param_groups(model, lr=0.05, head_lr_mult=2.0, weight_decay=1e-4)
    assert {group["name"] for group in groups} == {"backbone", "backbone, no decay", "head"}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(pixels.float() / 255, labels)
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.3 * history[0]
    outputs = collect(model.eval(), images, lambda batch: batch.float() / 255)
    found = evaluate(model, outputs, outputs)
    assert found["accuracy"] == 1.0
    # None has a temperature of ours; κ* by least squares is measured on any head.
    assert found["kappa"] is None
    assert found["kappa_star"] > 0
    cosine = F.cosine_similarity(outputs.features, model.head.weight.detach()[labels])
    arrays = output_arrays(model.head, outputs, outputs, images)
    torch.testing.assert_close(torch.from_numpy(arrays["own_cosine"]), cosine)
    model.reset_classifier(7)
    assert model(pixels.float() / 255).shape == (60, 7)
    assert model.head.metric_loss.scale == 8


def test_the_recipe_of_the_docs(losses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})

    @ll.register_head("pml_cosface")
    def pml_cosface(in_features: int, num_classes: int, margin: float = 0.35, scale: float = 64.0) -> ll.Head:
        loss = losses.CosFaceLoss(num_classes, in_features, margin=margin, scale=scale)
        return MetricLearningHead(in_features, num_classes, loss)

    head, ours = ll.create_head("pml_cosface", D, C, scale=9.0), ll.create_head("cosface", D, C, kappa=9.0)
    with torch.no_grad():
        ours.weight.copy_(head.weight)
    features, target = torch.randn(8, D), torch.randint(C, (8,))
    torch.testing.assert_close(head(features, target), ours(features, target))
    with pytest.raises(ParameterError, match="class of the loss, or a functools.partial"):
        head.for_classes(7)


def test_what_it_cannot_do_is_refused(losses: Any) -> None:
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    head = MetricLearningHead(D, C, losses.CosFaceLoss)
    features, target = torch.randn(3, D), torch.tensor([0, 1, 2])
    with pytest.raises(InputError, match="CosFaceLoss takes class indices only"):
        head(features, F.one_hot(target, C).float())
    with pytest.raises(InputError, match="without a temperature"):
        head(features, kappa=3.0)
    with pytest.raises(InputError, match=r"\[..., 6\]"):
        head(torch.randn(3, D + 1))
    with pytest.raises(InputError, match=r"indices in \[0, 4\)"):
        head(features, torch.tensor([0, 1, 4]))
    with pytest.raises(InputError, match="Expected features on cpu"):
        head(features.to("meta"))
    with pytest.raises(ParameterError, match="scale of its own"):
        head.set_temperature(ll.Fixed(3.0))
    wrong: list[tuple[Any, str]] = [
        (losses.ProxyNCALoss, "ProxyNCALoss has none"),
        (losses.TripletMarginLoss(), "TripletMarginLoss has none"),
        (losses.TripletMarginLoss, "could not make a loss from num_classes=4, embedding_size=6"),
        (nn.CrossEntropyLoss(), "a classification loss of pytorch-metric-learning"),
        ("cosface", "a classification loss of pytorch-metric-learning"),
        (losses.CosFaceLoss(C + 1, D), r"to be \[6, 4\], D and C. Got \[6, 5\]"),
        (losses.CosFaceLoss(C, D, reducer=reducers.ThresholdReducer(low=0.1)), "takes no ThresholdReducer"),
    ]
    for loss, words in wrong:
        with pytest.raises(ParameterError, match=words):
            MetricLearningHead(D, C, loss)
    with pytest.raises(ParameterError) as caught:
        MetricLearningHead(0, C, losses.CosFaceLoss, class_weight=[1.0])
    assert len(caught.value.faults) == 2


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'logitlab\[metric-learning\]'"):
        MetricLearningHead(D, C, nn.Identity())
