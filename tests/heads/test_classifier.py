from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import least_squares_kappa
from logitlab.heads import Classifier, CosineHead, Head, create_head, param_groups, update_kappa
from logitlab.temperature import LeastSquares, Trainable


def model(name: str = "cosine_ls", **parameters: Any) -> Classifier:
    return Classifier(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8)), create_head(name, 8, 4, **parameters))


def test_one_forward_gives_logits_or_loss() -> None:
    classifier = model().eval()
    images, target = torch.randn(6, 5), torch.randint(4, (6,))
    logits = classifier(images)
    torch.testing.assert_close(logits, classifier.head(classifier.features(images)))
    loss, same = classifier(images, target, return_logits=True)
    torch.testing.assert_close(same, logits)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, target))
    torch.testing.assert_close(classifier.predict_proba(images), logits.softmax(-1))


def test_timms_names() -> None:
    classifier = model("label_smoothing", alpha=0.3)
    assert (classifier.num_features, classifier.num_classes) == (8, 4)
    assert classifier.get_classifier() is classifier.head
    classifier.eval().reset_classifier(7)
    assert classifier.num_classes == 7
    assert not classifier.head.training
    assert "alpha=0.3" in repr(classifier.head)


@pytest.mark.parametrize("name", ["softmax", "cosine", "logit_norm", "cosine_2ls", "sigmoid"])
def test_reset_keeps_the_kind_of_head(name: str) -> None:
    head = create_head(name, 8, 4)
    other = head.for_classes(9)
    assert (other.classifier, other.link, other.normalize_logits) == (head.classifier, head.link, head.normalize_logits)
    assert repr(other.temperature) == repr(head.temperature)
    assert (other.bias is None) == (head.bias is None)
    assert other(torch.zeros(1, 8)).shape == (1, 9)


def test_reset_refuses_what_cannot_be() -> None:
    with pytest.raises(ParameterError, match="'num_classes'"):
        model().reset_classifier(0)
    weighted = Classifier(nn.Identity(), Head(8, 2, class_weight=[1.0, 2.0]))
    with pytest.raises(ParameterError, match="3 positive numbers"):
        weighted.reset_classifier(3)


def test_cosine_head_resets_into_a_cosine_head() -> None:
    head = CosineHead(8, 4, temperature=LeastSquares(multiplier=2.0)).for_classes(6)
    assert type(head) is CosineHead
    assert head.classifier == "cosine"
    assert isinstance(head.temperature, LeastSquares)
    assert head.temperature.multiplier == 2.0


def test_every_trainable_parameter_stands_in_one_group() -> None:
    classifier = model("cosine", temperature="trainable")
    classifier.backbone[0].bias.requires_grad_(False)
    groups = param_groups(classifier, lr=0.1, head_lr_mult=10, weight_decay=1e-3)
    together = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in classifier.parameters() if parameter.requires_grad]
    assert sorted(together) == sorted(trainable)
    by_name = {group["name"]: group for group in groups}
    assert by_name["backbone"]["params"] == [classifier.backbone[0].weight]
    assert by_name["head"]["lr"] == pytest.approx(1.0)
    assert by_name["backbone"]["lr"] == pytest.approx(0.1)
    assert isinstance(classifier.head.temperature, Trainable)
    assert any(parameter is classifier.head.temperature.log_kappa for parameter in by_name["head, no decay"]["params"])
    torch.optim.SGD(groups, momentum=0.9)


def test_norms_and_biases_can_decay_but_kappa_never_does() -> None:
    classifier = model("cosine", temperature="trainable")
    groups = param_groups(classifier, weight_decay=1e-3, decay_norms_and_biases=True)
    spared = [parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]]
    assert isinstance(classifier.head.temperature, Trainable)
    assert len(spared) == 1
    assert spared[0] is classifier.head.temperature.log_kappa
    assert all("lr" not in group for group in groups)


def test_param_groups_name_every_fault() -> None:
    with pytest.raises(ParameterError) as caught:
        param_groups(model(), head_lr_mult=2, weight_decay=-1)
    assert len(caught.value.faults) == 2
    with pytest.raises(ParameterError, match="'lr'"):
        param_groups(model(), lr=-1)


def test_update_kappa_is_the_mean_over_the_loader() -> None:
    classifier = model("cosine_2ls")
    classifier.backbone.eval()
    batches = [(torch.randn(n, 5), torch.zeros(n)) for n in (4, 7)]
    update_kappa(classifier, batches, device="cpu")
    features = torch.cat([classifier.backbone(images) for images, _ in batches])
    expected = least_squares_kappa(features, classifier.head.weight).mean()
    assert isinstance(classifier.head.temperature, LeastSquares)
    torch.testing.assert_close(classifier.head.temperature.mean.value, expected)
    assert classifier.head.training
    assert not classifier.backbone[1].training
    assert not classifier.head._forward_pre_hooks
    update_kappa(classifier, [torch.cat([images for images, _ in batches])])
    torch.testing.assert_close(classifier.head.temperature.mean.value, expected)


def test_update_kappa_leaves_other_heads_alone_and_refuses_nothing() -> None:
    update_kappa(model("cosine"), [])
    update_kappa(model("softmax"), [])
    with pytest.raises(InputError, match="at least one sample"):
        update_kappa(model(), [])
    with pytest.raises(InputError, match="Got dict"):
        update_kappa(model(), [{"images": torch.zeros(1, 5)}])


def test_update_kappa_measures_a_compiled_model_too() -> None:
    torch._dynamo.reset()
    classifier = model()
    compiled = torch.compile(classifier, backend="aot_eager")
    images = torch.randn(6, 5)
    compiled.eval()
    with torch.no_grad():
        compiled(images)
    update_kappa(compiled, [images])
    expected = least_squares_kappa(classifier.features(images), classifier.head.weight).mean()
    assert isinstance(classifier.head.temperature, LeastSquares)
    torch.testing.assert_close(classifier.head.temperature.mean.value, expected.detach())


def test_update_kappa_follows_features_given_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = create_head("cosine_ls", 8, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(features=images)

    named, images = Named(), torch.randn(6, 8)
    update_kappa(named, [images])
    assert isinstance(named.head.temperature, LeastSquares)
    expected = least_squares_kappa(images, named.head.weight).mean()
    torch.testing.assert_close(named.head.temperature.mean.value, expected)
