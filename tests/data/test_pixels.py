from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logitlab.data import MemoryImages, StreamedImages, pixel_statistics


class Greys:
    """A source whose image i is filled with i mod 256."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        self.read += 1
        return torch.full((1, 1, 1), index % 256, dtype=torch.uint8)


def test_statistics_equal_those_of_torch() -> None:
    pixels = torch.randint(256, (700, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = pixel_statistics(MemoryImages(pixels, torch.zeros(700, dtype=torch.int64)))
    values = pixels.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, values.mean(1).float())
    torch.testing.assert_close(std, values.std(1, correction=0).float())


def test_a_constant_channel_can_be_divided_by() -> None:
    _, std = pixel_statistics(MemoryImages(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), torch.arange(4)))
    assert std.item() == pytest.approx(1 / 255)


def test_a_streamed_set_is_sampled_evenly() -> None:
    source = Greys(100_000)
    mean, std = pixel_statistics(StreamedImages(source, torch.zeros(100_000, dtype=torch.int64), workers=0))
    assert source.read == 16_384
    assert mean.item() == pytest.approx(0.5, abs=0.01)
    assert std.item() == pytest.approx(12**-0.5, abs=0.01)


def test_a_small_streamed_set_is_read_whole() -> None:
    source = Greys(256)
    mean, _ = pixel_statistics(StreamedImages(source, torch.zeros(256, dtype=torch.int64), workers=0))
    assert source.read == 256
    assert mean.item() == pytest.approx(0.5)
