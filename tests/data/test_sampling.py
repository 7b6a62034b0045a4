from __future__ import annotations

import pytest
import torch

from logitlab.data import epoch_order

LABELS = torch.tensor([3] * 900 + [0] * 90 + [7] * 10)


def test_random_order_visits_each_image_once() -> None:
    order = epoch_order(LABELS, seed=0, epoch=0)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, torch.arange(1000))


@pytest.mark.parametrize("sampler", ["random", "class_balanced"])
def test_order_is_a_function_of_seed_and_epoch(sampler: str) -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(epoch_order(LABELS, seed, epoch, sampler).tolist())  # type: ignore[arg-type]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = order(1, 2)
    torch.rand(5)
    torch.set_rng_state(state)
    assert order(1, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    # 12 + 3 must not be 1 + 23, nor may seed and epoch be exchangeable.
    orders = [order(*pair) for pair in [(1, 2), (2, 1), (1, 3), (2, 2), (12, 3), (1, 23)]]
    assert len(set(orders)) == 6


def test_class_balanced_draws_classes_uniformly_and_images_uniformly() -> None:
    drawn = torch.cat([epoch_order(LABELS, 0, epoch, "class_balanced") for epoch in range(90)])
    share = torch.bincount(LABELS[drawn], minlength=8) / len(drawn)
    # 90,000 draws: standard deviation of a share sqrt(2/9 / 90,000) = 0.0016
    torch.testing.assert_close(share[[0, 3, 7]], torch.full((3,), 1 / 3), atol=0.008, rtol=0)
    assert share.sum() == pytest.approx(1)
    each = torch.bincount(drawn, minlength=1000)
    # each image of the smallest class is expected 3,000 times, of the middle class 333 times
    assert (each[990:] - 3000).abs().max() < 5 * 54
    assert (each[900:990] - 333).abs().max() < 5 * 18.5
    assert each[:900].double().mean() == pytest.approx(33.3, abs=0.6)


def test_class_balanced_draws_as_many_as_there_are_images() -> None:
    assert len(epoch_order(LABELS, 0, 0, "class_balanced")) == 1000
