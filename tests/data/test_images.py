from __future__ import annotations

import pickle

import pytest
import torch

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages


@pytest.fixture
def images() -> MemoryImages:
    pixels = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 2, 3, 3).contiguous()
    return MemoryImages(pixels, torch.tensor([0, 1, 0, 1, 2]))


def test_batches_follow_the_indices_and_keep_the_last_batch(images: MemoryImages) -> None:
    batches = list(images.batches(torch.tensor([4, 0, 0, 3, 1]), 2))
    assert [pixels[:, 0, 0, 0].tolist() for pixels, _ in batches] == [[4, 0], [0, 3], [1]]
    assert [labels.tolist() for _, labels in batches] == [[2, 0], [0, 1], [1]]
    assert all(pixels.dtype == torch.uint8 and labels.dtype == torch.int64 for pixels, labels in batches)


def test_no_indices_give_no_batches(images: MemoryImages) -> None:
    assert list(images.batches(torch.arange(0), 2)) == []


def test_select_keeps_order_and_is_independent(images: MemoryImages) -> None:
    chosen = images.select(torch.tensor([3, 0]))
    assert len(chosen) == 2
    assert chosen.labels.tolist() == [1, 0]
    chosen.pixels.zero_()
    assert images.pixels[3, 0, 0, 0] == 3


def test_another_device_gets_one_copy(images: MemoryImages) -> None:
    first, _ = next(images.batches(torch.arange(2), 2, "meta"))
    assert first.device.type == "meta"
    copy = images._on(torch.device("meta"))
    assert images._on(torch.device("meta")) is copy


def test_pickle_keeps_the_images(images: MemoryImages) -> None:
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.pixels, images.pixels)
    assert torch.equal(again.labels, images.labels)


def test_labels_of_other_integer_types_become_int64() -> None:
    labels = torch.tensor([0, 1], dtype=torch.int32)
    assert MemoryImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), labels).labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), r"uint8.*Got torch.float32 \[2, 1, 4, 4\]"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"Got torch.uint8 \[2, 4, 4\]"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "each of 2 images"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.int64), r"\[2, 1\]"),
    ],
)
def test_wrong_tensors_are_refused(pixels: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MemoryImages(pixels, labels)
