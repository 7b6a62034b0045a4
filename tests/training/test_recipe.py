"""TrainingConfig, optimiser, seeds and the moving average."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from logitlab.config.errors import ConfigurationError
from logitlab.config.training import TrainingConfig
from logitlab.config.validation import validate
from logitlab.heads import Classifier, create_head
from logitlab.training import WeightAverage, create_optimizer, derive_seed
from logitlab.training.seeds import own_random_state


def build(head="softmax"):
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())
    return Classifier(backbone, create_head(head, 6, 3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": -1}, "'epochs' must be greater than or equal to 1. Got -1"),
        ({"batch_size": 1}, "'batch_size' must be greater than or equal to 2"),
        ({"weight_decay": 1e-4, "scaled_weight_decay": 1e-4}, "Give 'weight_decay' or 'scaled_weight_decay'"),
        ({"epochs": 3, "warmup_epochs": 3}, "'warmup_epochs' must be less than 'epochs'. Got 3 and 3"),
        ({"epochs": 1, "warmup_epochs": 1}, "'warmup_epochs' must be less than 'epochs'"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(TrainingConfig, values)


def test_what_none_stands_for():
    assert TrainingConfig(epochs=1).effective_warmup_epochs == 0
    assert TrainingConfig(epochs=2).effective_warmup_epochs == 1
    assert TrainingConfig(epochs=9, warmup_epochs=4).effective_warmup_epochs == 4
    assert TrainingConfig(schedule="step").effective_decay_factor == 0.1
    assert TrainingConfig(schedule="exponential").effective_decay_factor == 0.975
    assert TrainingConfig(decay_factor=0.5).effective_decay_factor == 0.5
    assert TrainingConfig(weight_decay=0.0).effective_weight_decay == 0.0
    assert TrainingConfig().effective_weight_decay == 5e-4


def test_scaled_weight_decay_is_divided_by_the_learning_rate():
    # W Table A.2: the loss holds λ̃/(2η)·‖w‖², whose gradient is λ̃/η·w.
    config = TrainingConfig(learning_rate=0.25, scaled_weight_decay=1e-3)
    optimizer = create_optimizer(build(), config)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {4e-3, 0.0}


def test_one_step_of_sgd_by_hand():
    model = Classifier(nn.Flatten(), create_head("softmax", 4, 2, bias=False))
    before = model.head.weight.detach().clone()
    config = TrainingConfig(learning_rate=0.1, momentum=0.5, nesterov=True, weight_decay=0.01)
    optimizer = create_optimizer(model, config)
    model.head.weight.grad = torch.ones_like(before)
    optimizer.step()
    gradient = 1 + 0.01 * before
    # Nesterov's first step: v = g, and the step is g + momentum·v.
    assert torch.allclose(model.head.weight.detach(), before - 0.1 * 1.5 * gradient)


def test_sgd_without_momentum_needs_no_nesterov():
    group = create_optimizer(build(), TrainingConfig(momentum=0.0, nesterov=True)).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.0, False)
    assert not create_optimizer(build(), TrainingConfig(nesterov=False)).param_groups[0]["nesterov"]


def test_adamw():
    optimizer = create_optimizer(build(), TrainingConfig(optimizer="adamw", weight_decay=0.05))
    assert type(optimizer) is torch.optim.AdamW
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05, 0.0}


@pytest.mark.parametrize("decay_all", [False, True])
def test_norms_and_biases_are_spared_or_not(decay_all):
    model = build("sigmoid")
    optimizer = create_optimizer(model, TrainingConfig(decay_norms_and_biases=decay_all))
    free = {id(p) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    vectors = {id(model.backbone[2].weight), id(model.backbone[2].bias), id(model.head.bias)}
    assert free == (set() if decay_all else vectors)


def test_the_heads_rate():
    model = build()
    optimizer = create_optimizer(model, TrainingConfig(learning_rate=0.1, head_learning_rate_multiplier=10.0))
    of_head = {id(p) for p in model.head.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(1.0 if id(parameter) in of_head else 0.1)


def test_seeds_differ_in_every_argument_and_repeat():
    arguments = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", "1"), (0, "ab"), (0, "a", "b")]
    seeds = [derive_seed(*each) for each in arguments]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(*each) for each in arguments]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_global_generator_comes_back():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with own_random_state(torch.device("cpu")):
        torch.manual_seed(9)
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9999])
def test_average_against_a_sum_by_hand(decay):
    model = build()
    average = WeightAverage(model, decay)
    expected = None
    for step in range(4):
        with torch.no_grad():
            model.backbone[1].weight.fill_(float(step + 1))
            model.backbone[2].running_mean.fill_(10.0 * step)
        average.update(model)
        # The first update copies; then Szegedy's ramp, (1 + n)/(10 + n).
        momentum = min(decay, (1 + step) / (10 + step))
        expected = 1.0 if step == 0 else momentum * expected + (1 - momentum) * (step + 1)
        assert average.model.backbone[1].weight.detach().unique().tolist() == pytest.approx([expected])
        # Buffers follow and are not averaged.
        assert average.model.backbone[2].running_mean.unique().tolist() == [10.0 * step]


def test_average_copies_the_running_mean_of_kappa():
    model = build("cosine_ls")
    average = WeightAverage(model, 0.99)
    start = float(model.head.kappa)
    model.train()
    for _ in range(3):
        model(torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
        average.update(model)
    assert float(model.head.kappa) != start
    assert float(average.model.head.kappa) == float(model.head.kappa)


def test_average_leaves_the_model_alone():
    model = build()
    before = copy.deepcopy(model.state_dict())
    WeightAverage(model, 0.5).update(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
