"""The identity of a trial: what it depends on and what it does not."""

import hashlib
import json

import pytest

from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig, canonical_json


def trial(**changes):
    values = {
        "data": DataConfig(),
        "data_fingerprint": "f" * 64,
        "backbone": ComponentConfig(name="mlp"),
        "head": ComponentConfig(name="cosine", parameters={"kappa": 20}),
        "training": TrainingConfig(),
        "seed": 0,
    }
    return TrialConfig(**{**values, **changes})


def test_the_identity_is_the_digest_of_the_canonical_json_without_the_path():
    values = trial().model_dump(mode="json")
    del values["data"]["name"], values["backbone"]["resolved"], values["head"]["resolved"]
    del values["training"]["scaled_weight_decay"]
    # It came later, and no older trial shall lose its identity: it is told only where it is on.
    del values["training"]["freeze_backbone"]
    # 20 epochs of SGD with the cosine schedule: one of warm-up, λ = 5e-4, and no settings of other schedules.
    values["training"] |= {
        "weight_decay": 5e-4,
        "warmup_epochs": 1,
        "step_epochs": None,
        "decay_factor": None,
        "polynomial_power": None,
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    text = text.replace("0.0,", "0,").replace(":1.0,", ":1,")
    assert trial().identity == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "same",
    [
        trial(data=DataConfig(name="/somewhere/else")),
        trial(head=ComponentConfig(name="cosine", parameters={"kappa": 20.0})),
        trial(training=TrainingConfig(mixup=0)),
        trial(training=TrainingConfig(weight_decay=5e-4, warmup_epochs=1)),
        trial(training=TrainingConfig(scaled_weight_decay=5e-5)),
        trial(training=TrainingConfig(decay_factor=0.5, step_epochs=3, polynomial_power=1)),
        trial(head=ComponentConfig(name="cosine", parameters={"tau": 0.05}, resolved={"kappa": 20})),
        trial(training=TrainingConfig(freeze_backbone=False)),
        TrialConfig.model_validate(json.loads(json.dumps(trial().model_dump(mode="json")))),
    ],
)
def test_equal_trials_share_their_identity(same):
    assert same.identity == trial().identity


@pytest.mark.parametrize(
    "other",
    [
        trial(seed=1),
        trial(data_fingerprint="e" * 64),
        trial(data=DataConfig(train_limit=100)),
        trial(data=DataConfig(split_seed=1)),
        trial(head=ComponentConfig(name="cosine", parameters={"kappa": 21})),
        trial(head=ComponentConfig(name="cosine", parameters={"kappa": True})),
        trial(head=ComponentConfig(name="cosine", parameters={"kappa": 20}, source="a")),
        trial(backbone=ComponentConfig(name="mlp", parameters={"widths": [32]})),
        trial(training=TrainingConfig(learning_rate=0.123)),
        trial(training=TrainingConfig(weight_decay=1e-4)),
        trial(training=TrainingConfig(warmup_epochs=2)),
        trial(training=TrainingConfig(freeze_backbone=True)),
        trial(head=ComponentConfig(name="cosine", parameters={"kappa": 20}, resolved={"kappa": 21})),
    ],
)
def test_different_trials_do_not(other):
    assert other.identity != trial().identity


def test_a_frozen_backbone_has_no_augmentation_however_it_is_said():
    silent, told = (trial(training=TrainingConfig(freeze_backbone=True, augmentation=name)) for name in (None, "none"))
    assert silent.identity == told.identity


def test_the_order_of_parameters_does_not_matter():
    first = trial(head=ComponentConfig(name="a", parameters={"x": 1, "y": 2}))
    second = trial(head=ComponentConfig(name="a", parameters={"y": 2, "x": 1}))
    assert first.identity == second.identity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ([20.0, -0.0, 1e22, 0.1], "[20,0,10000000000000000000000,0.1]"),
        ((1, True, None), "[1,true,null]"),
        ("κ", '"\\u03ba"'),
    ],
)
def test_canonical_json(value, text):
    assert canonical_json(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([value])
