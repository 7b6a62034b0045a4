"""Every measurement of a trial against one that is computed another way."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import accuracy_score, average_precision_score, log_loss
from torch import nn

from logitlab.analysis import class_separation, expected_calibration_error
from logitlab.config.errors import InputError
from logitlab.evaluation import MEASURES, Features, Outputs, evaluate, log_probabilities, measure
from logitlab.functional import least_squares_kappa
from logitlab.heads import Classifier, create_head


def make_case(
    name: str, classes: int = 4, count: int = 120, **parameters: object
) -> tuple[Classifier, Outputs, Features]:
    """A head over features that scatter around its weights; the backbone has no part in it."""
    generator = torch.Generator().manual_seed(11)
    model = Classifier(nn.Identity(), create_head(name, 6, classes, **parameters)).eval()

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, classes, (count,), generator=generator)
        weight = nn.functional.normalize(model.head.weight.detach())
        return weight[labels] + 0.5 * torch.randn(count, 6, generator=generator), labels

    with torch.no_grad():
        features, labels = draw()
        star = least_squares_kappa(features, model.head.weight)
        outputs = Outputs(features, labels, model.head(features), model.head.max_logit(features), star)
        return model, outputs, Features(*draw())


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "cosine_ls", "logit_norm"])
def test_equals_scikit_learn_and_scipy(name: str) -> None:
    model, test, train = make_case(name)
    found = evaluate(model, test, train)
    assert tuple(found) == MEASURES
    logits, labels = test.logits.double().numpy(), test.labels.numpy()
    probabilities = special.softmax(logits, axis=1)
    if name == "sigmoid":
        probabilities = special.expit(logits) / special.expit(logits).sum(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == labels
    assert found["accuracy"] == accuracy_score(labels, logits.argmax(axis=1)) == found["miss_base_rate"]
    assert found["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)), rel=1e-10)
    assert found["ece"] == pytest.approx(expected_calibration_error(probabilities, labels).value, abs=1e-12)
    assert found["miss_ap"] == pytest.approx(average_precision_score(right, test.max_logit.numpy()))
    assert found["kappa_star"] == pytest.approx(test.kappa_star.numpy().mean(), rel=1e-6)
    weight = model.head.weight.detach().double().numpy()[labels]
    features = test.features.double().numpy()
    cosine = (weight * features).sum(axis=1) / np.linalg.norm(weight, axis=1) / np.linalg.norm(features, axis=1)
    assert found["class_angle"] == pytest.approx(np.degrees(np.arccos(cosine)).mean(), rel=1e-9)
    json.dumps(found, allow_nan=False)


def test_class_separation_is_that_of_the_training_images() -> None:
    model, test, train = make_case("softmax")
    found = measure(model, test, train)["class_separation"]
    assert found.value == class_separation(train.features, train.labels).value
    assert found.value != class_separation(test.features, test.labels).value
    assert found.split == "train"


def test_every_other_split_is_the_test_split() -> None:
    found = measure(*make_case("cosine"))
    splits = {name: measurement.split for name, measurement in found.items()}
    assert splits.pop("class_separation") == "train"
    assert splits.pop("kappa") is None
    assert set(splits.values()) == {"test"}


def test_kappa_is_what_inference_uses() -> None:
    assert evaluate(*make_case("softmax"))["kappa"] is None
    assert evaluate(*make_case("cosine", kappa=7.0))["kappa"] == pytest.approx(7.0)
    model, test, train = make_case("cosine_2ls")
    kappa = evaluate(model, test, train)["kappa"]
    unit = nn.functional.normalize(test.features) @ nn.functional.normalize(model.head.weight.detach()).T
    assert kappa is not None
    torch.testing.assert_close(test.logits, kappa * unit, atol=1e-5, rtol=1e-5)


def test_squared_error_has_no_probabilities() -> None:
    model, test, train = make_case("squared_error", target_weight=1.0, target_value=1.0)
    found = evaluate(model, test, train)
    assert found["nll"] is None
    assert found["ece"] is None
    assert found["kappa"] is None
    assert found["accuracy"] is not None
    assert found["miss_ap"] is not None
    with pytest.raises(InputError, match="no probabilities"):
        log_probabilities(model.head, test.logits)


def test_without_mistakes_there_is_nothing_to_find() -> None:
    model, test, train = make_case("softmax")
    perfect = Outputs(test.features, test.logits.argmax(dim=1), test.logits, test.max_logit, test.kappa_star)
    found = evaluate(model, perfect, train)
    assert found["miss_ap"] is None
    assert found["miss_base_rate"] == found["accuracy"] == 1.0
    hopeless = Outputs(test.features, (perfect.labels + 1) % 4, test.logits, test.max_logit, test.kappa_star)
    assert evaluate(model, hopeless, train)["miss_ap"] is None


def test_a_dead_backbone_has_no_class_separation() -> None:
    model, test, train = make_case("softmax")
    dead = Features(torch.ones_like(train.features), train.labels)
    assert evaluate(model, test, dead)["class_separation"] is None


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_overconfident_logits_keep_a_finite_likelihood(name: str) -> None:
    model, test, train = make_case(name)
    logits = torch.full((2, 4), -1000.0)
    logits[:, 0] = 1000.0
    steep = Outputs(test.features[:2], torch.tensor([0, 1]), logits, logits.amax(dim=1), test.kappa_star[:2])
    # log p of the wrong class: -2000 under softmax; σ(-1000)/Σσ = e^-1000 under normalised sigmoids.
    expected = {"softmax": 2000.0, "sigmoid": 1000.0}[name] / 2
    assert evaluate(model, steep, train)["nll"] == pytest.approx(expected, rel=1e-9)


def test_log_probabilities_agree_with_the_head() -> None:
    for name in ("softmax", "sigmoid", "cosine_ls"):
        model, test, _ = make_case(name)
        with torch.no_grad():
            expected = model.head.predict_proba(test.features)
        found = log_probabilities(model.head, test.logits)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.exp().float(), expected)
        assert math.isclose(float(found.exp().sum(dim=1).max()), 1.0, rel_tol=1e-12)


def test_labels_that_do_not_fit_are_refused() -> None:
    model, test, train = make_case("softmax")
    wrong = Outputs(test.features, test.labels + 3, test.logits, test.max_logit, test.kappa_star)
    with pytest.raises(InputError, match="0 to 3"):
        evaluate(model, wrong, train)
