from __future__ import annotations

import pytest
import torch

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages
from logitlab.data.dataset import Part, check_labels, data_set_from_parts


def part(labels: list[int], size: tuple[int, int] = (8, 8), channels: int = 1, value: int = 0) -> Part:
    return Part(torch.full((len(labels), channels, *size), value, dtype=torch.uint8), torch.tensor(labels))


def test_a_data_set_describes_itself() -> None:
    data = data_set_from_parts("mine", part([0, 1, 2]), part([2, 0]), class_names=("a", "b", "c"))
    assert (data.name, data.num_classes, data.channels, data.image_size) == ("mine", 3, 1, 8)
    assert data.validation is None
    assert data.augmentation == "none"
    assert len(data.fingerprint) == 64


def test_fingerprint_sees_pixels_labels_parts_and_shape_but_no_names() -> None:
    base = (part([0, 1]), part([0]))
    variants = [
        base,
        (part([0, 1], value=1), part([0])),
        (part([1, 0]), part([0])),
        (part([0, 1]), part([1])),
        (part([0, 1, 0]), part([0])),
        (part([0, 1], size=(4, 4), channels=4), part([0], size=(4, 4), channels=4)),
    ]
    prints = [data_set_from_parts("a", *variant).fingerprint for variant in variants]
    assert len(set(prints)) == len(variants)
    assert data_set_from_parts("b", *base, class_names=("x", "y")).fingerprint == prints[0]
    with_validation = data_set_from_parts("a", *base, validation=part([1]))
    assert with_validation.fingerprint not in prints
    assert with_validation.validation is not None
    assert with_validation.validation.labels.tolist() == [1]


def test_images_are_resized_and_the_fingerprint_is_that_of_the_originals() -> None:
    small = data_set_from_parts("mine", part([0, 1]), part([0]))
    large = data_set_from_parts("mine", part([0, 1]), part([0]), image_size=12)
    assert large.image_size == 12
    assert isinstance(large.train, MemoryImages)
    assert large.train.pixels.shape == (2, 1, 12, 12)
    assert large.fingerprint == small.fingerprint


def test_wide_images_are_refused_or_resized() -> None:
    wide = (part([0, 1], size=(6, 9)), part([0], size=(6, 9)))
    with pytest.raises(DataError, match=r"mine: expected square images. Got 9x6; pass --image-size N"):
        data_set_from_parts("mine", *wide)
    assert data_set_from_parts("mine", *wide, image_size=8).image_size == 8


@pytest.mark.parametrize(
    ("train", "test", "names", "message"),
    [
        (part([0, 1]), part([0], channels=3), None, "train images are 8x8 with 1 channel and test .* 3 channels"),
        (part([0, 1]), part([0], size=(4, 4)), None, "test images 4x4"),
        (part([0, 1]), part([]), None, "the test part has no images"),
        (part([]), part([0]), None, "the train part has no images"),
        (part([0, 1]), part([0, 2]), None, "label 2 of test image 1 is out of range; expected 0 to 1"),
        (part([0, -1, 1]), part([0]), None, "label -1 of train image 1 is out of range"),
        (part([0, 1, 2]), part([0]), ("a", "b"), "label 2 of train image 2 .*2 classes"),
        (part([0, 2]), part([0]), None, "label 1 has no training image, though labels go up to 2"),
        (part([0, 10**12]), part([0]), None, "label 1 has no training image"),
        (part([0, 1]), part([0]), ("a", "b", "c"), r"label 2 \(class 'c'\) has no training image"),
        (part([0, 0]), part([0]), None, "at least 2 classes. Got 1"),
    ],
)
def test_inconsistent_parts_are_refused(train: Part, test: Part, names: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: .*{message}") as caught:
        data_set_from_parts("mine", train, test, class_names=names)
    assert "\n" not in str(caught.value)


def test_names_default_to_numbers() -> None:
    assert check_labels("mine", {"train": torch.tensor([1, 0])}) == ("0", "1")
    assert check_labels("mine", {"train": torch.tensor([1, 0])}, ["x", "y"]) == ("x", "y")
