"""The arrays of a trial, each against a computation of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from logitlab.data import MemoryImages
from logitlab.evaluation import Confidence, Outputs, collect, collect_confidence, ood_measures, output_arrays
from logitlab.heads import Classifier, create_head
from logitlab.records import read_outputs, write_outputs


def make_case(name: str, count: int = 40, size: int = 2, **parameters: object) -> tuple[Classifier, MemoryImages]:
    generator = torch.Generator().manual_seed(2)
    model = Classifier(nn.Flatten(), create_head(name, size * size, 3, **parameters)).eval()
    pixels = torch.randint(256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    pixels[0] = 0
    return model, MemoryImages(pixels, torch.randint(3, (count,), generator=generator))


def prepare(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 255


def outputs_of(model: Classifier, images: MemoryImages) -> Outputs:
    return collect(model, images, prepare)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "cosine"])
def test_every_array_is_what_it_says(name: str, tmp_path) -> None:
    model, images = make_case(name)
    test = outputs_of(model, images)
    arrays = output_arrays(model.head, test, test, images)
    write_outputs(tmp_path, arrays)
    arrays = read_outputs(tmp_path)
    features = images.pixels.flatten(1).double().numpy() / 255
    weight = model.head.weight.detach().double().numpy()
    probabilities = model.head.probabilities(test.logits.double()).detach().numpy()
    np.testing.assert_array_equal(arrays["labels"], images.labels)
    np.testing.assert_array_equal(arrays["predicted"], probabilities.argmax(axis=1))
    np.testing.assert_allclose(arrays["confidence"], probabilities.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(arrays["feature_norm"], np.linalg.norm(features, axis=1), rtol=1e-5)
    np.testing.assert_allclose(arrays["logits"], test.logits, rtol=1e-3)
    np.testing.assert_array_equal(arrays["max_logit"], test.max_logit)
    np.testing.assert_array_equal(arrays["validation_confidence"], arrays["confidence"])
    own = weight[images.labels]
    with np.errstate(invalid="ignore"):
        cosine = (features * own).sum(axis=1) / np.linalg.norm(features, axis=1) / np.linalg.norm(own, axis=1)
    # The first image is black: its feature is zero and has no direction.
    assert np.isnan(cosine[0])
    assert arrays["own_cosine"][0] == 0
    np.testing.assert_allclose(arrays["own_cosine"][1:], cosine[1:], atol=1e-6)


def test_examples_are_the_worst_mistakes_and_the_least_confident() -> None:
    model, images = make_case("softmax", count=60)
    arrays = output_arrays(model.head, *[outputs_of(model, images)] * 2, images)
    wrong = np.flatnonzero(arrays["predicted"] != arrays["labels"])
    worst = sorted(wrong, key=lambda index: -arrays["confidence"][index])[:12]
    doubtful = np.argsort(arrays["confidence"], kind="stable")[:12]
    assert arrays["example_kind"].tolist() == [0] * 12 + [1] * 12
    assert arrays["example_index"].tolist() == [*worst, *doubtful]
    np.testing.assert_array_equal(arrays["example_pixels"], images.pixels[arrays["example_index"]])


def test_without_mistakes_there_are_fewer_examples() -> None:
    model, images = make_case("softmax", count=5)
    right = MemoryImages(images.pixels, outputs_of(model, images).logits.argmax(dim=1))
    arrays = output_arrays(model.head, *[outputs_of(model, right)] * 2, right)
    assert arrays["example_kind"].tolist() == [1] * 5


def test_large_images_become_thumbnails() -> None:
    model, images = make_case("softmax", count=3, size=100)
    arrays = output_arrays(model.head, *[outputs_of(model, images)] * 2, images)
    assert arrays["example_pixels"].shape[1:] == (1, 64, 64)


def test_squared_error_has_no_probability_and_ranks_by_max_logit() -> None:
    model, images = make_case("squared_error", preset="cifar10")
    arrays = output_arrays(model.head, *[outputs_of(model, images)] * 2, images)
    assert np.isnan(arrays["confidence"]).all()
    assert np.isnan(arrays["validation_confidence"]).all()
    first = arrays["example_index"][arrays["example_kind"] == 1]
    np.testing.assert_array_equal(first, np.argsort(arrays["max_logit"], kind="stable")[:12])


def test_many_logits_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = make_case("softmax")
    monkeypatch.setattr("logitlab.evaluation.outputs.MOST_LOGITS", 40 * 3 - 1)
    assert "logits" not in output_arrays(model.head, *[outputs_of(model, images)] * 2, images)


def test_huge_logits_stay_finite() -> None:
    model, images = make_case("softmax")
    with torch.no_grad():
        model.head.weight.mul_(1e7)
    arrays = output_arrays(model.head, *[outputs_of(model, images)] * 2, images)
    assert np.isfinite(arrays["logits"]).all()


@pytest.mark.parametrize("name", ["softmax", "cosine"])
def test_confidence_alone_equals_the_whole_pass(name: str) -> None:
    model, images = make_case(name)
    found = collect_confidence(model, images, prepare, batch_size=7)
    whole = outputs_of(model, images)
    torch.testing.assert_close(found.max_logit, whole.max_logit)
    torch.testing.assert_close(found.feature_norm, whole.features.norm(dim=1))


def test_measures_of_a_set_by_hand() -> None:
    known = {
        "labels": np.array([0, 1, 1]),
        "predicted": np.array([0, 1, 0]),
        "max_logit": np.array([0.9, 0.6, 0.8]),
        "feature_norm": np.array([1.0, 2.0, 9.0]),
    }
    strange = Confidence(torch.tensor([0.7]), torch.tensor([0.5]))
    assert ood_measures(known, strange) == {
        "max_logit_ap": pytest.approx((1 + 2 / 3) / 2),
        "max_logit_auroc": 0.5,
        "feature_norm_ap": 1.0,
        "feature_norm_auroc": 1.0,
        "base_rate": 2 / 3,
    }
    known["predicted"] = 1 - known["labels"]
    assert ood_measures(known, strange) == {
        **dict.fromkeys(("max_logit_ap", "max_logit_auroc", "feature_norm_ap", "feature_norm_auroc")),
        "base_rate": 0.0,
    }
