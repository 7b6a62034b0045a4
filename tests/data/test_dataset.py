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
        (part([-1, 0, 1]), part([0]), None, r"label -1 .*; expected 0 to C - 1 for C classes\.$"),
        (part([-1, 0, 1]), part([0]), ("a", "b", "c"), r"label -1 .*; expected 0 to 2 \(3 classes\)\.$"),
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


def test_names_can_be_printed() -> None:
    assert check_labels("mine", {"train": torch.tensor([1, 0])}, ["caf\udce9", "tea"]) == ("caf\\xe9", "tea")


def test_an_image_must_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.data.dataset.MEMORY_LIMIT", 12**2)
    parts = (part([0, 1]), part([0]))
    assert data_set_from_parts("mine", *parts, image_size=12).image_size == 12
    with pytest.raises(DataError, match=r"^mine: one image resized to 13x13 would take .* at most 12\.$"):
        data_set_from_parts("mine", *parts, image_size=13)


def test_what_memory_does_not_hold_is_enlarged_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (part([0, 1, 1]), part([0]))
    held = data_set_from_parts("mine", *parts, image_size=12)
    monkeypatch.setattr("logitlab.data.dataset.MEMORY_LIMIT", 3 * 12**2)
    read = data_set_from_parts("mine", *parts, image_size=12)
    assert (type(held.train).__name__, type(read.train).__name__) == ("MemoryImages", "EnlargedImages")
    assert read.fingerprint == held.fingerprint
    assert len(read.train) == 3
    order = torch.tensor([2, 0])
    for images, other in ((read.train, held.train), (read.train.select(order), held.train.select(order))):
        for (pixels, labels), (expected, others) in zip(
            images.batches(torch.arange(2), 1), other.batches(torch.arange(2), 1), strict=True
        ):
            assert torch.equal(pixels, expected)
            assert torch.equal(labels, others)


def test_large_images_may_stay_in_memory_and_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.data.dataset.MEMORY_LIMIT", 40**2)
    large = (part([0, 1], size=(40, 40)), part([0], size=(40, 40)))
    assert data_set_from_parts("mine", *large).image_size == 40
    assert type(data_set_from_parts("mine", *large, image_size=20).train).__name__ == "MemoryImages"
