"""Activation sparsity against NumPy, in one piece and by batches."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from logitlab.analysis import SparsityCounter, activation_sparsity, sparsity
from logitlab.config.errors import InputError


@pytest.mark.parametrize("shape", [(6,), (5, 7), (4, 3, 2), (3, 4, 5, 6), (1, 2, 1, 2, 3)])
def test_equals_numpy(shape: tuple[int, ...]) -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=shape), 0)
    values[0] = 0
    found = activation_sparsity(values, split="val")
    assert found.value == pytest.approx((values == 0).mean(), rel=1e-15)
    # Mean over units of the mean over images, as the order of means does not matter.
    assert found.value == pytest.approx((values == 0).mean(axis=0).mean(), rel=1e-12)
    assert found.details["non_zero"] == pytest.approx((values != 0).mean(), rel=1e-15)
    assert (found.n, found.split, found.warnings) == (shape[0], "val", ())
    assert json.loads(json.dumps(found.to_json()))["details"]["non_zero"] == found.details["non_zero"]


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int16, torch.int64, torch.bool],
)
def test_types(dtype: torch.dtype) -> None:
    found = activation_sparsity(torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0]]).to(dtype))
    assert found.value == 5 / 8


def test_only_exact_zeros_count() -> None:
    # The least subnormals of float32 and bfloat16 are no zeros; minus zero is one; infinity is none.
    assert activation_sparsity(torch.tensor([1e-45, -0.0, math.inf, 0.0])).value == 0.5
    assert activation_sparsity(torch.tensor([9.2e-41, -0.0], dtype=torch.bfloat16)).value == 0.5


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_batches_equal_the_whole(count: int, units: int, batch: int, seed: int) -> None:
    values = torch.relu(torch.randn(count, units, 2, generator=torch.Generator().manual_seed(seed)))
    counter = SparsityCounter()
    for part in values.split(batch):
        counter.update(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsity, "_CHUNK_ELEMENTS", batch)
        assert counter.result(split="val") == activation_sparsity(values, split="val")
    assert counter.result().value == float((values == 0).double().mean())


def test_after_a_block_of_a_network() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    maps = block(torch.randn(2, 3, 8, 8))
    assert activation_sparsity(maps).value == float((maps == 0).double().mean())


def test_memory_map(tmp_path: Path) -> None:
    values = np.lib.format.open_memmap(tmp_path / "maps.npy", "w+", np.float32, (6, 2, 3))
    values[2:] = 1
    values.flush()
    assert activation_sparsity(np.load(tmp_path / "maps.npy", mmap_mode="r")).value == pytest.approx(1 / 3)


def test_no_zero_at_all_is_said() -> None:
    assert "ReLU" in activation_sparsity(torch.ones(2, 2)).warnings[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, 1.0], [math.nan, 1.0]], "without NaN. Got NaN in row 1"),
        (np.empty((0, 3)), "not empty"),
        (np.empty((3, 0)), "not empty"),
        (1.0, r"\[N, ...\]"),
        (torch.ones(2, dtype=torch.complex64), "real numbers"),
        ([[1.0], [1.0, 2.0]], "a list of numbers"),
        ("zeros", "Got str"),
    ],
)
def test_refuses(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        activation_sparsity(values)


def test_counter_refuses() -> None:
    counter = SparsityCounter()
    with pytest.raises(InputError, match="at least one batch"):
        counter.result()
    counter.update(torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"\[N, 3\], as those before. Got \[2, 4\]"):
        counter.update(torch.zeros(2, 4))
    with pytest.raises(InputError, match="NaN"):
        counter.update(torch.full((2, 3), math.nan))
    # What was refused does not count.
    assert (counter.result().value, counter.result().n) == (1, 2)
