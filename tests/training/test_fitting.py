"""Whole runs: they learn, repeat bit for bit, pair across heads, and keep the right epoch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import create_backbone
from logitlab.training import derive_seed, fit
from logitlab.training.validation import ValidationStatistics

QUICK = {"epochs": 2, "batch_size": 16}


def build(head="softmax", seed=0, **parameters):
    torch.manual_seed(derive_seed(seed, "backbone"))
    backbone = create_backbone("small_cnn", channels=1, image_size=8, parameters={"width": 2})
    torch.manual_seed(derive_seed(seed, "head"))
    return Classifier(backbone, create_head(head, backbone.num_features, 3, **parameters))


def run(images, head="softmax", *, of_data="none", seed=0, **values):
    config = TrainingConfig(**(QUICK | values))
    return fit(build(head, seed), images, images, config, seed=seed, augmentation=of_data, name=head)


def same(a, b):
    states = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(x, y) for x, y in zip(*(state.values() for state in states), strict=True))


VARIANTS = [
    {},
    {"optimizer": "adamw", "learning_rate": 0.003},
    {"ema_decay": 0.9},
    {"mixup": 0.2},
    {"augmentation": "autoaugment"},
    {"precision": "bfloat16"},
    {"sampler": "class_balanced"},
    {"clip_gradient_norm": 1.0},
    {"early_stopping_epochs": 1},
    {"decay_norms_and_biases": True, "scaled_weight_decay": 1e-5},
    {"head_learning_rate_multiplier": 3.0, "schedule": "polynomial"},
]


@pytest.mark.parametrize("values", VARIANTS, ids=lambda values: ", ".join(values) or "default")
def test_repeats_bit_for_bit_whatever_was_drawn_before(bars, values):
    first = run(bars, "cosine_ls", of_data="crop", **values)
    torch.rand(17)
    second = run(bars, "cosine_ls", of_data="crop", **values)
    assert first.history == second.history
    assert same(first, second)
    assert not same(first, run(bars, "cosine_ls", of_data="crop", seed=1, **values))


@pytest.mark.parametrize("head", ["softmax", "cosine_ls", "sigmoid", "logit_norm"])
def test_learns(bars, head):
    trained = run(bars, head, epochs=12)
    assert trained.history[-1].validation_accuracy > 0.95
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.selected_epoch == 12
    assert not trained.model.training


def test_any_module_serves_as_backbone(bars):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, images):
            return self.layer(images.flatten(1)).relu()

    seen = []
    trained = fit(
        Classifier(Mine(), create_head("softmax", 10, 3)), bars, bars, TrainingConfig(**QUICK), report=seen.append
    )
    assert seen == list(trained.history)
    assert [epoch.epoch for epoch in seen] == [1, 2]


def test_heads_of_one_seed_see_the_same_images_and_the_same_start(bars):
    seen = {}
    for head, parameters in (("softmax", {}), ("cosine_ls", {}), ("dropout", {"keep_probability": 0.5})):
        model = build(head, **parameters)
        batches = seen[head] = [p.detach().clone() for p in model.backbone.parameters()]
        model.backbone.register_forward_pre_hook(lambda module, inputs, b=batches: b.append(inputs[0].clone()))
        fit(model, bars, bars, TrainingConfig(**QUICK, mixup=0.3), augmentation="crop_flip")
    for head in ("cosine_ls", "dropout"):
        assert len(seen[head]) == len(seen["softmax"]) > 20
        assert all(torch.equal(a, b) for a, b in zip(seen[head], seen["softmax"], strict=True))


def test_history(bars):
    trained = run(bars, "cosine", epochs=3, learning_rate=0.05)
    assert [round(epoch.learning_rate, 4) for epoch in trained.history] == [round(0.05 / 7, 4), 0.05, 0.025]
    assert all(epoch.kappa == pytest.approx(20) and epoch.kappa_star > 0 for epoch in trained.history)
    assert all(epoch.kappa is None for epoch in run(bars, "softmax").history)


def test_pixels_are_normalised_by_the_training_images(bars):
    trained = run(bars)
    values = bars.pixels.double() / 255
    assert trained.pixel_mean.tolist() == pytest.approx([values.mean().item()])
    assert trained.pixel_std.tolist() == pytest.approx([values.std(correction=0).item()])


def test_the_recipes_augmentation_wins(bars):
    plain = run(bars)
    assert run(bars, of_data="crop_flip").history != plain.history
    assert run(bars, of_data="crop_flip", augmentation="none").history == plain.history
    assert run(bars, augmentation="crop_flip").history == run(bars, of_data="crop_flip").history


@pytest.mark.parametrize(("size", "batches"), [(33, [16, 16]), (34, [16, 16, 2]), (32, [16, 16])])
def test_a_single_image_makes_no_batch(bars, size, batches):
    sizes = []
    model = build()

    def note(module, inputs):
        if module.training:
            sizes.append(len(inputs[0]))

    model.backbone.register_forward_pre_hook(note)
    fit(model, bars.select(torch.arange(size)), bars, TrainingConfig(epochs=1, batch_size=16))
    assert sizes == batches


def test_the_schedule_counts_the_steps_that_are_taken(bars, monkeypatch):
    # 33 images make two steps an epoch; a schedule over three would end at a higher rate.
    rates = []
    step = torch.optim.SGD.step

    def noted(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    run(bars.select(torch.arange(33)), epochs=3, warmup_epochs=0, learning_rate=0.1)
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 6)) for t in range(6)])


def judged_by(monkeypatch, accuracies):
    """Let validation report these accuracies, epoch after epoch; returns the weights that it saw."""
    weights = []

    def validate(model, batches, autocast=False, combine=None):
        weights.append(model.head.weight.detach().clone())
        return ValidationStatistics(loss=1.0, accuracy=accuracies[len(weights) - 1], kappa_star=1.0)

    monkeypatch.setattr("logitlab.training.fitting.validate", validate)
    return weights


@pytest.mark.parametrize(
    ("patience", "accuracies", "epochs", "selected"),
    [
        (2, [0.1, 0.5, 0.4, 0.5, 0.9, 0.9], 4, 2),  # equal is not better; the 0.9 comes too late
        (3, [0.1, 0.5, 0.4, 0.5, 0.9, 0.8], 6, 5),
        (1, [0.3, 0.2, 0.9, 0.9, 0.9, 0.9], 2, 1),
        (None, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], 6, 6),
    ],
)
@pytest.mark.parametrize("ema", [None, 0.5])
def test_early_stopping_keeps_the_best_epoch(bars, monkeypatch, patience, accuracies, epochs, selected, ema):
    weights = judged_by(monkeypatch, accuracies)
    trained = run(bars, epochs=6, early_stopping_epochs=patience, ema_decay=ema)
    assert len(trained.history) == epochs
    assert trained.selected_epoch == selected
    assert torch.equal(trained.model.head.weight, weights[selected - 1])


def test_the_averaged_model_is_the_one_that_is_judged_and_kept(bars):
    model = build()
    trained = fit(model, bars, bars, TrainingConfig(**QUICK, ema_decay=0.9))
    assert trained.model is not model
    assert not torch.equal(trained.model.head.weight, model.head.weight)


def test_a_run_that_diverges_stops(bars):
    with pytest.raises(TrialError, match="head 'softmax' is (nan|inf) at epoch 1, step"):
        run(bars, learning_rate=1e30)


def test_a_model_that_breaks_in_the_last_step_stops_too(bars, monkeypatch):
    def validate(model, batches, autocast=False, combine=None):
        return ValidationStatistics(loss=float("nan"), accuracy=0.0, kappa_star=1.0)

    monkeypatch.setattr("logitlab.training.fitting.validate", validate)
    with pytest.raises(TrialError, match="'softmax' gives a validation loss of nan after epoch 1. Lower learning_rate"):
        run(bars)


def test_global_generators_come_back(bars):
    model = build()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit(model, bars, bars, TrainingConfig(**QUICK, mixup=0.2), augmentation="autoaugment")
    assert torch.equal(torch.rand(2), expected)


def test_class_balanced_sampling_evens_the_classes(bars):
    rare = torch.cat([torch.nonzero(bars.labels == 0).flatten(), torch.nonzero(bars.labels == 1).flatten()[:4]])
    images = bars.select(rare)
    counts = torch.zeros(3)
    model = build()

    def count(module, inputs):
        if module.training:
            counts.add_(torch.bincount(inputs[1], minlength=3))

    model.head.register_forward_pre_hook(count)
    fit(model, images, images, TrainingConfig(epochs=12, batch_size=16, sampler="class_balanced"))
    assert counts[1] / counts.sum() == pytest.approx(0.5, abs=0.08)  # 4 of 36 images
