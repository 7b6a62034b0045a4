"""Steps of the learning rate that are not evenly spaced (G B.1)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from logitlab.config.errors import ConfigurationError
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.config.validation import validate
from logitlab.training import create_schedule


def rates(steps_per_epoch, **values):
    """The rate of each epoch's first and last step, over the largest."""
    config = TrainingConfig(learning_rate=0.1, schedule="step", **values)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = create_schedule(optimizer, config, steps_per_epoch)
    seen = []
    for _ in range(config.epochs * steps_per_epoch):
        seen.append(optimizer.param_groups[0]["lr"] / 0.1)
        optimizer.step()
        schedule.step()
    return [(seen[epoch * steps_per_epoch], seen[(epoch + 1) * steps_per_epoch - 1]) for epoch in range(config.epochs)]


def test_the_rate_falls_after_each_milestone():
    # G Table B.1, Food-101: 60, 120 and 150 of 180.
    found = rates(2, epochs=180, step_milestones=(60, 120, 150), warmup_epochs=0)
    for epoch, pair in enumerate(found):
        expected = 1 if epoch < 60 else 0.1 if epoch < 120 else 0.01 if epoch < 150 else 0.001
        assert pair == pytest.approx((expected, expected)), epoch


def test_milestones_count_from_the_start_whatever_the_warm_up():
    found = rates(4, epochs=6, step_milestones=(3, 5), warmup_epochs=2, decay_factor=0.5)
    assert found[0] == pytest.approx((1 / 9, 4 / 9))
    assert found[1] == pytest.approx((5 / 9, 8 / 9))
    assert [first for first, _ in found[2:]] == pytest.approx([1, 0.5, 0.5, 0.25])
    assert [last for _, last in found[2:]] == pytest.approx([1, 0.5, 0.5, 0.25])


def test_even_milestones_are_the_even_steps():
    milestones = rates(3, epochs=7, step_milestones=(2, 4, 6), warmup_epochs=0)
    steps = rates(3, epochs=7, step_epochs=2, warmup_epochs=0)
    for found, expected in zip(milestones, steps):
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "cosine", "step_milestones": [3]}, "belong to the schedule 'step'. Got the schedule 'cosine'"),
        ({"schedule": "step", "step_milestones": [3, 3]}, r"must increase. Got \[3, 3\]"),
        ({"schedule": "step", "step_milestones": [10]}, r"before the end at 10. Got \[10\]"),
        ({"schedule": "step", "step_milestones": [2], "warmup_epochs": 2}, r"after the 2 epoch\(s\) of warm-up"),
        ({"schedule": "step", "step_milestones": []}, "step_milestones"),
        ({"schedule": "step", "step_milestones": [0, 3]}, "step_milestones"),
        ({"schedule": "step", "step_milestones": [2.5]}, "step_milestones"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(TrainingConfig, {"epochs": 10, **values}, "training")


def trial(**values):
    return TrialConfig(
        data=DataConfig(),
        data_fingerprint="f" * 64,
        backbone=ComponentConfig(name="mlp"),
        head=ComponentConfig(name="softmax"),
        training=TrainingConfig(schedule="step", **values),
        seed=0,
    )


def test_a_recipe_without_them_says_nothing_of_them():
    recipe = TrainingConfig(schedule="step")
    assert "step_milestones" not in recipe.essence()
    assert "step_milestones" not in recipe.model_dump()
    assert "step_milestones" not in trial().model_dump(mode="json")["training"]
    assert trial(step_milestones=None).identity == trial().identity


def test_a_recipe_with_them_is_another_trial_and_is_read_back():
    given = trial(step_milestones=(5, 8))
    assert given.identity != trial().identity
    assert given.identity != trial(step_milestones=(5, 9)).identity
    # What is not used does not count.
    assert given.identity == trial(step_milestones=(5, 8), step_epochs=3).identity
    again = TrialConfig.model_validate(given.model_dump(mode="json"))
    assert again.training.step_milestones == (5, 8)
    assert again.identity == given.identity
