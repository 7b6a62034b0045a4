from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.trial import DataConfig
from logitlab.data import DataSet, MemoryImages, split_data
from logitlab.data.splitting import split_off_test, stratified_holdout


def numbered(labels: Tensor) -> MemoryImages:
    """Images whose two pixels spell their own number, so that a choice can be read back."""
    number = torch.arange(len(labels))
    pixels = torch.stack([number // 256, number % 256], 1).to(torch.uint8)
    return MemoryImages(pixels.view(-1, 2, 1, 1), labels)


def numbers(images: object) -> list[int]:
    assert isinstance(images, MemoryImages)
    high, low = images.pixels.flatten(1).long().unbind(1)
    return (high * 256 + low).tolist()


def data_set(counts: list[int], validation: MemoryImages | None = None) -> DataSet:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]
    names = tuple(f"class-{label}" for label in range(len(counts)))
    return DataSet("mine", numbered(labels), numbered(labels[:3]), names, "0", 2, 1, validation=validation)


def test_holdout_is_stratified_and_complete() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([40, 20, 10]))
    kept, held_out = stratified_holdout(labels, 0.1, seed=3)
    assert torch.bincount(labels[held_out]).tolist() == [4, 2, 1]
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(70))
    assert kept.tolist() == sorted(kept.tolist())
    assert held_out.tolist() == sorted(held_out.tolist())


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_each_class_keeps_an_image_on_both_sides(fraction: float) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    kept, held_out = stratified_holdout(labels, fraction, seed=0)
    assert set(labels[kept].tolist()) == set(labels[held_out].tolist()) == {0, 1}


def test_holdout_chooses_every_image_equally_often() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10)
    drawn = torch.zeros(20)
    for seed in range(2000):
        drawn[stratified_holdout(labels, 0.2, seed)[1]] += 1
    # 400 expected, standard deviation sqrt(2000 · 0.2 · 0.8) = 18
    assert drawn.sum() == 2000 * 4
    assert (drawn - 400).abs().max() < 5 * 18


def test_holdout_depends_on_the_seed_alone() -> None:
    labels = torch.tensor([0, 1] * 50)
    state = torch.get_rng_state()
    first = stratified_holdout(labels, 0.2, seed=1)[1]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(first, stratified_holdout(labels, 0.2, seed=1)[1])
    assert not torch.equal(first, stratified_holdout(labels, 0.2, seed=2)[1])


def test_a_single_image_is_named() -> None:
    with pytest.raises(DataError, match=r"Class '1' has 1 image; .* at least 2"):
        split_off_test(torch.tensor([0, 0, 1]))
    with pytest.raises(DataError, match="Class 'dog' has 1 image"):
        split_off_test(torch.tensor([0, 0, 1]), ("cat", "dog"))


def test_split_holds_out_of_train_only() -> None:
    data = data_set([60, 40])
    split = split_data(data, DataConfig(validation_fraction=0.25))
    assert split.test is data.test
    assert torch.bincount(split.validation.labels).tolist() == [15, 10]
    assert sorted(numbers(split.train) + numbers(split.validation)) == list(range(100))


def test_train_limit_is_balanced_nested_and_leaves_validation_alone() -> None:
    data = data_set([60, 40, 300])
    full = split_data(data, DataConfig())
    large = split_data(data, DataConfig(train_limit=50))
    small = split_data(data, DataConfig(train_limit=20))
    assert sorted(torch.bincount(large.train.labels).tolist()) == [16, 17, 17]
    assert len(small.train) == 20
    assert set(numbers(small.train)) < set(numbers(large.train)) < set(numbers(full.train))
    assert numbers(small.validation) == numbers(large.validation) == numbers(full.validation)


def test_train_limit_takes_small_classes_whole() -> None:
    split = split_data(data_set([4, 400]), DataConfig(train_limit=100))
    assert torch.bincount(split.train.labels).tolist() == [3, 97]


def test_train_limit_above_the_number_of_images_takes_all() -> None:
    assert len(split_data(data_set([20, 20]), DataConfig(train_limit=1000)).train) == 36


def test_split_seed_changes_both_choices() -> None:
    data = data_set([50, 50])
    first, second = (split_data(data, DataConfig(train_limit=20, split_seed=seed)) for seed in (0, 1))
    assert numbers(first.validation) != numbers(second.validation)
    assert numbers(first.train) != numbers(second.train)


def test_a_validation_part_of_its_own_is_kept() -> None:
    own = numbered(torch.tensor([0, 1]))
    data = data_set([5, 5], validation=own)
    split = split_data(data, DataConfig(train_limit=4))
    assert split.validation is own
    assert torch.bincount(split.train.labels).tolist() == [2, 2]
    assert split_data(data, DataConfig()).train is data.train


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"at least the number of classes, 3.*Got 2"):
        split_data(data_set([5, 5, 5]), DataConfig(train_limit=2))
