"""Every fault at once, each with the nearest right name."""

import pickle
from typing import Literal

import pytest
from pydantic import Field

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.config.names import nearest_name, unknown_name
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import TrialConfig
from logitlab.config.validation import Configuration, validate


def faults_of(kind, values, **options):
    with pytest.raises(ConfigurationError) as fault:
        validate(kind, values, **options)
    return fault.value.faults


def test_right_values_give_the_configuration():
    assert validate(TrainingConfig, {"epochs": 3, "learning_rate": 1}).learning_rate == 1.0


def test_every_fault_is_told():
    assert faults_of(TrainingConfig, {"epochs": -1, "optimiser": "sgd", "momentum": 1.0}) == (
        "'epochs' must be greater than or equal to 1. Got -1.",
        "'momentum' must be less than 1. Got 1.0.",
        "Unknown option 'optimiser'; did you mean 'optimizer'?",
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer": "adam"}, "'optimizer' must be 'sgd' or 'adamw'. Got 'adam'; did you mean 'adamw'?"),
        ({"optimizer": "zzz"}, "'optimizer' must be 'sgd' or 'adamw'. Got 'zzz'."),
        ({"optimizer": 3}, "'optimizer' must be 'sgd' or 'adamw'. Got 3."),
        ({"epochs": "3"}, "'epochs' must be a valid integer. Got '3'."),
        ({"epochs": True}, "'epochs' must be a valid integer. Got True."),
        ({"learning_rate": float("nan")}, "'learning_rate' must be a finite number. Got nan."),
        ({"qqqqq": 1}, "Unknown option 'qqqqq'."),
    ],
)
def test_sentences(values, sentence):
    assert faults_of(TrainingConfig, values) == (sentence,)


def test_a_rule_over_several_fields_speaks_for_itself():
    (sentence,) = faults_of(TrainingConfig, {"weight_decay": 0.1, "scaled_weight_decay": 0.1})
    assert sentence.startswith("Give 'weight_decay' or 'scaled_weight_decay'")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"augmentation": "crop_flip"}, "Got augmentation 'crop_flip'; leave it out or set it to 'none'."),
        ({"mixup": 0.2}, "Got mixup 0.2; set it to 0."),
    ],
)
def test_a_frozen_backbone_refuses_what_would_change_the_images(values, sentence):
    (fault,) = faults_of(TrainingConfig, {"freeze_backbone": True, **values})
    assert fault.startswith("'freeze_backbone' computes the features of each image once, so ")
    assert fault.endswith(sentence)
    assert validate(TrainingConfig, {"freeze_backbone": True, "augmentation": "none", "mixup": 0.0}).freeze_backbone


def test_names_beside_the_fields_are_suggested_too():
    assert faults_of(TrainingConfig, {"seedz": 3}, beside=["seeds"]) == (
        "Unknown option 'seedz'; did you mean 'seeds'?",
    )


class Inner(Configuration):
    width: int = Field(1, ge=1)
    kind: Literal["a", "b"] = "a"


class Outer(Configuration):
    inner: Inner = Inner()
    count: int


def test_nested_fields_are_named_by_their_path():
    values = {"inner": {"widht": 1, "kind": "c"}}
    assert faults_of(Outer, values, where="study") == (
        "'study.inner.kind' must be 'a' or 'b'. Got 'c'.",
        "Unknown option 'study.inner.widht'; did you mean 'width'?",
        "'study.count' is missing; give it a value.",
    )


class Loose(Configuration):
    many: dict[str, Inner] = Field(default_factory=dict)


def test_a_path_through_a_mapping_suggests_nothing():
    assert faults_of(Loose, {"many": {"x": {"widht": 1}}}) == ("Unknown option 'many.x.widht'.",)


def test_a_missing_trial_is_told_field_by_field():
    assert len(faults_of(TrialConfig, {})) == 6


@pytest.mark.parametrize("kind", [ConfigurationError, ParameterError])
def test_faults_survive_the_way_home_from_a_worker(kind):
    found = pickle.loads(pickle.dumps(kind(["one", "two"])))
    assert type(found) is kind
    assert found.faults == ("one", "two")
    assert str(found) == "one\ntwo"


def test_nearest_name_folds_case_and_returns_the_spelling():
    assert nearest_name("svhm", ["SVHN", "mnist"]) == "SVHN"


def test_unknown_name_without_a_neighbour():
    assert unknown_name("head", "zzzz", ["b", "a"]) == "Unknown head 'zzzz'. Known: a, b."
