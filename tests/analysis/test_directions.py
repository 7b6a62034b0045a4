"""Angles between unit vectors against known ones."""

import math

import numpy as np
import pytest
import torch

from logitlab.analysis import directions
from logitlab.analysis.arrays import Rows
from logitlab.analysis.directions import angle_between, pairwise_angles, unit_blocks

# Around all borders: below 1e-8 an arc cosine gives 0, near 2.56 degrees the forms change.
ANGLES = [0.0, 1e-12, 1e-9, 1e-4, 0.04, 0.0447, 0.0448, 0.5, math.pi / 2, 3.0, math.pi - 1e-3, math.pi - 1e-9, math.pi]


@pytest.mark.parametrize("block", [2**20, 3])
def test_known_angles(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "_BLOCK_ELEMENTS", block)
    turned = torch.tensor(ANGLES, dtype=torch.float64)
    unit = torch.stack([turned.cos(), turned.sin()], dim=1)
    axes = torch.eye(2, dtype=torch.float64)
    found = pairwise_angles(unit, axes)
    assert found.shape == (len(ANGLES), 2)
    np.testing.assert_allclose(found[:, 0], turned, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found[:, 1], (math.pi / 2 - turned).abs(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(angle_between(unit, axes[:1]), turned, rtol=1e-12, atol=1e-15)


def test_zero_rows_are_at_right_angles_to_everything() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(pairwise_angles(rows, rows), [[math.pi / 2] * 2, [math.pi / 2, 0]], rtol=1e-15)
    np.testing.assert_allclose(angle_between(rows, torch.zeros_like(rows)), [math.pi / 2] * 2, rtol=1e-15)


def test_blocks_are_bounded_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "_BLOCK_ELEMENTS", 30)
    x = np.random.default_rng(0).normal(size=(17, 3))
    blocks = list(unit_blocks(Rows(x, "x"), 10))
    assert [len(unit) for _, unit in blocks] == [3, 3, 3, 3, 3, 2]
    assert [(where.start, where.stop) for where, _ in blocks][-1] == (15, 17)
    np.testing.assert_allclose(
        torch.cat([unit for _, unit in blocks]), x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-14
    )
