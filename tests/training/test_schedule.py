"""Learning rates against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from logitlab.config.training import TrainingConfig
from logitlab.training import create_schedule

STEPS = 5


def rates(multiplier=1.0, **values):
    config = TrainingConfig(learning_rate=0.4, **values)
    groups = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.4},
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.4 * multiplier},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    schedule = create_schedule(optimizer, config, STEPS)
    seen = []
    for _ in range(config.epochs * STEPS):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return [rate[0] / 0.4 for rate in seen], [rate[1] / 0.4 for rate in seen]


CLOSED_FORMS = {
    "cosine": lambda t, n: (1 + math.cos(math.pi * t / n)) / 2,
    "polynomial": lambda t, n: (1 - t / n) ** 2,
    "step": lambda t, n: 0.1 ** (t // STEPS // 3),
    "exponential": lambda t, n: 0.975 ** (t // STEPS),
    "constant": lambda t, n: 1.0,
}


@pytest.mark.parametrize("schedule", CLOSED_FORMS)
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_each_schedule_is_its_closed_form(schedule, warmup):
    epochs = 8
    done, n = warmup * STEPS, (epochs - warmup) * STEPS
    growth = [(k + 1) / (done + 1) for k in range(done)]
    expected = growth + [CLOSED_FORMS[schedule](t, n) for t in range(n)]
    seen, _ = rates(schedule=schedule, warmup_epochs=warmup, epochs=epochs, step_epochs=3)
    assert seen == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", CLOSED_FORMS)
def test_groups_are_multiplied_alike(schedule):
    backbone, head = rates(multiplier=10.0, schedule=schedule, warmup_epochs=2, epochs=5, step_epochs=1)
    assert head == pytest.approx([10 * rate for rate in backbone])


@pytest.mark.parametrize(("schedule", "expected"), [("step", [1, 0.5, 0.25]), ("exponential", [1, 0.5, 0.25])])
def test_the_users_factor_wins(schedule, expected):
    seen, _ = rates(schedule=schedule, warmup_epochs=0, epochs=3, step_epochs=1, decay_factor=0.5)
    assert seen[::STEPS] == pytest.approx(expected)


def test_the_users_power_wins():
    seen, _ = rates(schedule="polynomial", polynomial_power=1.0, warmup_epochs=0, epochs=2)
    assert seen == pytest.approx([1 - t / 10 for t in range(10)])


def test_one_epoch_has_no_warmup_unless_asked():
    assert rates(epochs=1)[0][0] == 1
    assert rates(epochs=2)[0][:5] == pytest.approx([k / 6 for k in range(1, 6)])
