"""Focal loss, logit adjustment, LDAM and sub-centres as heads of the registry."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.evaluation import Features, Outputs, evaluate, output_arrays
from logitlab.heads import Classifier, Head, canonical_parameters, create_head, register_head
from logitlab.heads.papers import full_source, papers_of
from logitlab.losses import FocalLoss, LogitAdjustment, Loss, SoftmaxCrossEntropy
from logitlab.margins import AdditiveCosineMargin

COUNTS = [400, 60, 9, 2]
WITH_COUNTS = ["logit_adjustment", "ldam"]


def test_the_uniform_default_is_plain() -> None:
    features, target = torch.randn(6, 5), torch.randint(4, (6,))
    softmax, adjusted = create_head("softmax", 5, 4), create_head("logit_adjustment", 5, 4)
    adjusted.load_state_dict(softmax.state_dict())
    assert torch.equal(adjusted(features, target), softmax(features, target))
    ldam, cosface = create_head("ldam", 5, 4), create_head("cosface", 5, 4, kappa=30, margin=0.5)
    ldam.load_state_dict(cosface.state_dict())
    assert torch.equal(ldam(features, target), cosface(features, target))
    focal = create_head("focal_loss", 5, 4, gamma=0)
    focal.load_state_dict(softmax.state_dict())
    torch.testing.assert_close(focal(features, target), softmax(features, target))


def test_adjustment_acts_on_the_loss_and_not_on_the_logits() -> None:
    head = create_head("logit_adjustment", 5, 4, class_counts=COUNTS, adjustment=0.7)
    features, target = torch.randn(6, 5), torch.randint(4, (6,))
    logits = F.linear(features, head.weight, head.bias)
    assert torch.equal(head(features), logits)
    torch.testing.assert_close(head.predict_proba(features), logits.softmax(-1))
    shifted = logits + 0.7 * (torch.tensor(COUNTS) / 471).log()
    torch.testing.assert_close(head(features, target), F.cross_entropy(shifted, target))
    _, shown = head(features, target, return_logits=True)
    assert torch.equal(shown, logits)
    # Beside the other parts: smoothing is of adjusted logits, the penalty of plain ones, the scale of all.
    full = Head(5, 4, adjustment=0.7, class_counts=COUNTS, alpha=0.1, beta=0.01, loss_scale=2.0)
    full.load_state_dict({"weight": head.weight, "bias": head.bias}, strict=False)
    smoothed = F.cross_entropy(shifted, target, label_smoothing=0.1) / 0.9
    expected = 2 * (smoothed + 0.01 * logits.square().sum(-1).mean())
    torch.testing.assert_close(full(features, target), expected)


def test_under_a_margin_everything_is_adjusted() -> None:
    parameters: dict[str, Any] = {"kappa": 8.0, "margin": AdditiveCosineMargin(0.3), "classifier": "cosine"}
    head = Head(5, 4, adjustment=1.0, class_counts=COUNTS, **parameters)
    features, target = torch.randn(6, 5), torch.randint(4, (6,))
    lowered = 8 * (head.cosine(features) - 0.3 * F.one_hot(target, 4)) + (torch.tensor(COUNTS) / 471).log()
    torch.testing.assert_close(head(features, target), F.cross_entropy(lowered, target))
    one_hot = F.one_hot(target, 4).float()
    torch.testing.assert_close(head(features, one_hot), head(features, target))


def test_ldam_can_be_adjusted_by_the_same_counts() -> None:
    head = create_head("ldam", 5, 4, class_counts=COUNTS, adjustment=1.0)
    assert isinstance(head.loss_function, LogitAdjustment)
    assert head.loss_function.log_prior is not None
    torch.testing.assert_close(head.loss_function.log_prior.exp(), torch.tensor(COUNTS) / 471)


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_state_of_counts(name: str) -> None:
    head = create_head(name, 5, 4, class_counts=COUNTS).eval()
    features, target = torch.randn(9, 5), torch.randint(4, (9,))
    expected = head(features, target)
    other = create_head(name, 5, 4, class_counts=COUNTS).eval()
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for copied in (other, copy.deepcopy(head)):
        assert torch.equal(copied(features, target), expected)
    with torch.device("meta"):
        built = create_head(name, 5, 4, class_counts=COUNTS)
    built.to_empty(device="cpu")
    for buffer_of in built.buffers():
        buffer_of.fill_(5.0)  # what lies in memory that nobody wrote
    built.reset_parameters()
    built.load_state_dict(dict(head.named_parameters()), strict=False)  # what stands in buffers came from the counts
    assert torch.equal(built.eval()(features, target), expected)
    on_meta = create_head(name, 5, 4, class_counts=COUNTS, device="meta")
    on_meta(torch.empty(2, 5, device="meta"), torch.empty(2, dtype=torch.long, device="meta")).backward()
    with pytest.raises(ParameterError, match="class_counts"):
        head.for_classes(7)


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_counts_compile_and_permute(name: str) -> None:
    torch._dynamo.reset()
    head = create_head(name, 5, 4, class_counts=COUNTS, dtype=torch.float64)
    features, target = torch.randn(9, 5, dtype=torch.float64), torch.randint(4, (9,))
    expected = head(features, target)
    torch.testing.assert_close(torch.compile(head, fullgraph=True, backend="aot_eager")(features, target), expected)
    order = torch.tensor([2, 0, 3, 1])
    permuted = create_head(name, 5, 4, class_counts=[COUNTS[k] for k in order], dtype=torch.float64)
    with torch.no_grad():
        permuted.weight.copy_(head.weight[order])
        if head.bias is not None and permuted.bias is not None:
            permuted.bias.copy_(head.bias[order])
    torch.testing.assert_close(permuted(features, order.argsort()[target]), expected)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("softmax", {"gamma": 1.0}, "takes 'gamma' with loss='focal' only"),
        ("focal_loss", {"gamma": -1.0}, r"'gamma' parameter of Head must be a float in the range \[0, inf\)"),
        ("softmax", {"class_counts": COUNTS}, "takes 'class_counts' with 'adjustment' only"),
        ("logit_adjustment", {"class_counts": [1, 2]}, "must be 4 positive numbers, one a class. Got 2 numbers"),
        ("logit_adjustment", {"class_counts": [1, 0, 3, 4]}, "Got 0 for class 1"),
        ("logit_adjustment", {"adjustment": -1}, "'adjustment' parameter of Head"),
        ("sigmoid", {"adjustment": 1.0}, "sigmoid is another loss"),
        ("group_softmax", {"adjustment": 1.0, "groups": 1}, "Got adjustment=1.0"),
        ("subcenter_arcface", {"centers": 0}, "'centers' parameter of Head"),
    ],
)
def test_what_means_nothing_is_refused(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        create_head(name, 5, 4, **parameters)


def test_focal_by_its_keyword() -> None:
    assert repr(Head(5, 4, loss="focal")) == repr(create_head("focal_loss", 5, 4))
    assert canonical_parameters("softmax", {"loss": "focal"}) == canonical_parameters("focal_loss", {})
    arcface = create_head("arcface", 5, 4, loss="focal", gamma=1.0, kappa=8)
    assert isinstance(arcface.loss_function, FocalLoss)
    target = torch.randint(4, (6,))
    features = torch.randn(6, 5)
    one_hot = F.one_hot(target, 4).float()
    torch.testing.assert_close(arcface(features, one_hot), arcface(features, target))


def test_a_loss_of_ones_own_can_be_adjusted_if_it_is_a_softmax() -> None:
    class Half(SoftmaxCrossEntropy):
        def per_sample(self, *arguments: Any) -> torch.Tensor:
            return super().per_sample(*arguments) / 2

    features, target = torch.randn(6, 5), torch.randint(4, (6,))
    head = Head(5, 4, loss=Half(), adjustment=1.0, class_counts=COUNTS)
    whole = create_head("logit_adjustment", 5, 4, class_counts=COUNTS)
    whole.load_state_dict(head.state_dict())
    torch.testing.assert_close(2 * head(features, target), whole(features, target))

    class Hinge(Loss):
        link = "none"
        per_sample = SoftmaxCrossEntropy.per_sample

    with pytest.raises(ParameterError, match="Hinge is another loss"):
        Head(5, 4, loss=Hinge(), adjustment=1.0)


def test_readmes_focal_can_still_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    register_head("focal")(lambda in_features, num_classes, gamma=2.0: Head(in_features, num_classes))
    assert create_head("focal", 5, 4).link == "softmax"


def test_sources_beyond_the_five_papers_are_spelt_out() -> None:
    assert list(papers_of("Deng (sub-centres), T §3.4.1, ref. [9]")) == ["Deng", "T"]
    assert full_source("Menon (10)").startswith("Menon (10), where Menon is Aditya Krishna Menon, ")
    # A word that happens to stand before a parenthesis is no paper.
    assert list(papers_of("Table (2), T (11)")) == ["T"]


def test_measures_of_subcentres_are_those_of_the_nearest() -> None:
    head = create_head("subcenter_arcface", 6, 3, centers=4).eval()
    features, labels = torch.randn(50, 6), torch.randint(3, (50,))
    with torch.no_grad():
        outputs = Outputs(features, labels, head(features), head.max_logit(features), torch.ones(50))
    cosines = F.normalize(features) @ F.normalize(head.weight.detach()).T
    own = torch.stack([cosines[i, 4 * y : 4 * y + 4].max() for i, y in enumerate(labels.tolist())])
    found = evaluate(Classifier(torch.nn.Identity(), head), outputs, Features(features, labels))
    assert found["class_angle"] == pytest.approx(own.double().acos().rad2deg().mean().item(), rel=1e-5)

    class Images:
        def batches(self, index: torch.Tensor, size: int) -> Any:
            yield torch.zeros(len(index), 1, 2, 2, dtype=torch.uint8), labels[index]

    arrays = output_arrays(head, outputs, outputs, Images())  # type: ignore[arg-type]
    torch.testing.assert_close(torch.from_numpy(arrays["own_cosine"]), own)


def test_soft_targets_need_probabilities() -> None:
    head = create_head("focal_loss", 5, 4)
    with pytest.raises(InputError, match="sum 1"):
        head(torch.randn(2, 5), torch.ones(2, 4))
