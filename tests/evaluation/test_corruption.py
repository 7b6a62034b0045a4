"""Errors on corrupted images against the same counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logitlab.analysis import mean_corruption_error
from logitlab.config.errors import InputError
from logitlab.data.corruptions import SEVERITIES, available_corruptions, corrupt
from logitlab.data.images import MemoryImages
from logitlab.evaluation.corruption import corruption_errors
from logitlab.heads import Classifier, create_head


def prepare(pixels: Tensor) -> Tensor:
    return pixels.float() / 255 - 0.5


@pytest.fixture
def images() -> MemoryImages:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (23, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return MemoryImages(pixels, torch.arange(23) % 3)


@pytest.fixture
def model(images: MemoryImages) -> Classifier:
    """A classifier that is right on clean images: its weight is solved for."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 32))
    model = Classifier(backbone, create_head("softmax", 32, 3))
    with torch.no_grad():
        features = torch.cat([backbone(prepare(images.pixels)), torch.ones(23, 1)], dim=1)
        solution = torch.linalg.lstsq(features, torch.eye(3)[images.labels]).solution
        model.head.weight.copy_(solution[:-1].T)
        if getattr(model.head, "bias", None) is not None:
            model.head.bias.copy_(solution[-1])
    return model


def by_hand(model: Classifier, pixels: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(prepare(pixels)).argmax(dim=1) != labels).double().mean())


def test_equals_the_same_by_hand(model: Classifier, images: MemoryImages) -> None:
    assert by_hand(model, images.pixels, images.labels) == 0
    found = corruption_errors(model, images, prepare, severities=(5, 2), batch_size=5, seed=7)
    assert tuple(found) == available_corruptions()
    for name, errors in found.items():
        expected = [by_hand(model, corrupt(images.pixels, name, s, seed=7), images.labels) for s in (5, 2)]
        assert errors == pytest.approx(expected, abs=1e-12)
    assert max(map(max, found.values())) > 0.2
    result = mean_corruption_error(found)
    assert result.n == 2 * len(found)
    assert 0 < result.value < 200


def test_all_severities_in_any_batches(model: Classifier, images: MemoryImages) -> None:
    found = corruption_errors(model, images, prepare, corruptions=["impulse_noise"], batch_size=23)
    assert found == corruption_errors(
        model, images, prepare, corruptions=["impulse_noise"], severities=SEVERITIES, batch_size=2
    )
    assert len(found["impulse_noise"]) == 5


def test_a_limit_takes_images_evenly_and_corrupts_them_alike(model: Classifier, images: MemoryImages) -> None:
    options = {"corruptions": ["gaussian_noise", "contrast"], "severities": [5, 2]}
    found = corruption_errors(model, images, prepare, limit=6, **options)
    chosen = torch.tensor([0, 3, 7, 11, 15, 19])
    for name in options["corruptions"]:
        expected = [
            by_hand(model, corrupt(images.pixels, name, severity)[chosen], images.labels[chosen])
            for severity in options["severities"]
        ]
        assert found[name] == pytest.approx(expected, abs=1e-12)
    whole = corruption_errors(model, images, prepare, **options)
    assert corruption_errors(model, images, prepare, limit=100, **options) == whole


def test_the_model_keeps_its_mode(model: Classifier, images: MemoryImages) -> None:
    model.train()
    corruption_errors(model, images, prepare, corruptions=["contrast"], severities=[1])
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": []}, "at least one of 'corruptions'"),
        ({"corruptions": ["fog", "fog"]}, "'corruptions', each once"),
        ({"corruptions": ["contrast", "fogg"]}, "Did you mean 'fog'?"),
        ({"severities": []}, "at least one of 'severities'"),
        ({"severities": [1, 7]}, "from 1 to 5. Got 7"),
        ({"limit": 0}, "at least 1 image. Got 0"),
        ({"seed": -1}, "seed of at least 0"),
    ],
)
def test_nonsense_is_refused_before_the_first_pass(
    images: MemoryImages, options: dict[str, object], message: str
) -> None:
    class Untouched(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise AssertionError("a pass began")

    classifier = Classifier(Untouched(), create_head("softmax", 4, 3))
    with pytest.raises(InputError, match=message):
        corruption_errors(classifier, images, prepare, **options)


def test_no_images(model: Classifier, images: MemoryImages) -> None:
    with pytest.raises(InputError, match="Got none"):
        corruption_errors(model, images.select(torch.arange(0)), prepare)
