"""A small untrained checkpoint, images, and made-up outputs on validation images."""

from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image

from logitlab.config.trial import ComponentConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, save_checkpoint
from logitlab.records import write_outputs


@pytest.fixture
def make_checkpoint(tmp_path):
    def make(folder="checkpoint", head="softmax", channels=3, side=8, **parameters):
        torch.manual_seed(3)
        backbone = create_backbone("mlp", channels=channels, image_size=side, parameters={"widths": [16]})
        model = Classifier(backbone, create_head(head, 16, 3, **parameters)).eval()
        description = ModelDescription(
            backbone=ComponentConfig(name="mlp", parameters={"widths": [16]}),
            head=ComponentConfig(name=head, parameters=parameters),
            channels=channels,
            image_size=side,
            num_features=16,
            class_names=("cat", "dog", "owl"),
            pixel_mean=tuple([0.4] * channels),
            pixel_std=tuple([0.2] * channels),
            link=model.head.link,
        )
        save_checkpoint(tmp_path / folder, model, description)
        return tmp_path / folder, model

    return make


def draw(path, size=(8, 8), mode="RGB", seed=0):
    generator = numpy.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(generator.integers(0, 256, shape, dtype=numpy.uint8)).save(path)
    return str(path)


@pytest.fixture
def images(tmp_path):
    """Five images of several sizes and modes."""
    folder = tmp_path / "images"
    folder.mkdir()
    sizes = [(8, 8), (20, 12), (5, 9), (8, 8), (64, 64)]
    return [
        draw(folder / f"{number}.png", size, "L" if number == 3 else "RGB", number) for number, size in enumerate(sizes)
    ]


@pytest.fixture
def write_validation():
    """Leave outputs of which only the validation part matters."""

    def write(folder, confidence, correct):
        none = numpy.zeros(0, numpy.float32)
        index = numpy.zeros(0, numpy.int32)
        right = numpy.asarray(correct, dtype=bool)
        write_outputs(
            folder,
            {
                "labels": index,
                "predicted": index,
                **dict.fromkeys(("confidence", "max_logit", "feature_norm", "own_cosine", "kappa_star"), none),
                "validation_labels": numpy.zeros(len(right), numpy.int32),
                "validation_predicted": (~right).astype(numpy.int32),
                "validation_confidence": numpy.asarray(confidence, numpy.float32),
                "validation_max_logit": numpy.asarray(confidence, numpy.float32) * 10,
                "example_index": index,
                "example_pixels": numpy.zeros((0, 1, 8, 8), numpy.uint8),
                "example_kind": numpy.zeros(0, numpy.int8),
            },
        )

    return write
