"""A checkpoint and data that do not fit each other."""

import numpy
import pytest

from logitlab.config.errors import DataError, RecordError
from logitlab.config.trial import ComponentConfig
from logitlab.evaluation.checkpoint import evaluate_checkpoint
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    backbone = create_backbone("mlp", channels=3, image_size=8, parameters={"widths": [16]})
    model = Classifier(backbone, create_head("softmax", 16, 2))
    description = ModelDescription(
        backbone=ComponentConfig(name="mlp", parameters={"widths": [16]}),
        head=ComponentConfig(name="softmax"),
        channels=3,
        image_size=8,
        num_features=16,
        class_names=("cat", "dog"),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.2, 0.2, 0.2),
        link="softmax",
    )
    save_checkpoint(tmp_path / "checkpoint", model, description)
    return tmp_path / "checkpoint"


@pytest.fixture
def data(tmp_path):
    def write(side=8, names=("cat", "dog")):
        generator = numpy.random.default_rng(0)
        labels = numpy.arange(20) % len(names)
        pixels = generator.integers(0, 256, (20, side, side), dtype=numpy.uint8)
        path = tmp_path / "data.npz"
        numpy.savez(path, x=pixels, y=labels, class_names=numpy.array(names))
        return f"npz:{path}"

    return write


def test_grey_images_serve_a_model_of_colour(checkpoint, data):
    found = evaluate_checkpoint(checkpoint, data(), part="all")
    assert (found.images, found.same_data) == (20, None)
    assert 0 <= found.measures["accuracy"].value <= 1


def test_another_size_is_said_and_can_be_mended(checkpoint, data):
    with pytest.raises(DataError, match="takes images of 8x8 pixels.*are 12x12; pass --image-size 8"):
        evaluate_checkpoint(checkpoint, data(12))
    assert evaluate_checkpoint(checkpoint, data(12), image_size=8).images > 0


def test_other_classes_are_said(checkpoint, data):
    with pytest.raises(DataError, match="has 2 classes, 'data' has 3"):
        evaluate_checkpoint(checkpoint, data(names=("a", "b", "c")))
    with pytest.raises(DataError, match="number 1 is 'dog' in the checkpoint .* and 'owl'"):
        evaluate_checkpoint(checkpoint, data(names=("cat", "owl")))


def test_sets_of_one_name_are_told_apart(checkpoint, data, tmp_path):
    from PIL import Image

    for parent, grey in (("x", 0), ("y", 255)):
        (tmp_path / parent / "test").mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), abs(grey - number)).save(tmp_path / parent / "test" / f"{number}.png")
    names = [str(tmp_path / parent / "test") for parent in ("x", "y")]
    assert list(evaluate_checkpoint(checkpoint, data(), ood=names).ood) == names
    # The same images twice count once.
    assert list(evaluate_checkpoint(checkpoint, data(), ood=[names[0], f"{names[0]}/"]).ood) == ["test"]


def test_the_table_says_what_the_measurements_say(checkpoint, data):
    from logitlab.evaluation.table import CONVENTIONS

    found = evaluate_checkpoint(checkpoint, data(), part="all").measures
    assert set(found) == set(CONVENTIONS)
    for name, measured in found.items():
        assert measured is None or measured.convention == CONVENTIONS[name]
    assert sum(measured is not None for measured in found.values()) >= 8


def test_other_faults(checkpoint, data, tmp_path):
    with pytest.raises(DataError, match="Unknown part 'tset'; did you mean 'test'"):
        evaluate_checkpoint(checkpoint, data(), part="tset")
    with pytest.raises(RecordError, match="Expected a checkpoint"):
        evaluate_checkpoint(tmp_path / "none", data())
