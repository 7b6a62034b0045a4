from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitlab.config.errors import ParameterError
from logitlab.heads import (
    Head,
    canonical_parameters,
    create_head,
    head_module,
    head_source,
    known_parameters,
    list_heads,
    named_head,
    register_head,
    resolve_parameters,
)
from logitlab.temperature import LeastSquares

W_OBJECTIVES = [
    "softmax", "label_smoothing", "dropout", "final_l2", "logit_penalty", "logit_norm", "cosine", "sigmoid",
    "squared_error",
]  # fmt: skip


def test_every_objective_of_w_and_the_temperatures_of_t_are_there() -> None:
    assert set(W_OBJECTIVES) | {"cosine_ls", "cosine_2ls"} <= set(list_heads())


@pytest.mark.parametrize("name", [name for name in W_OBJECTIVES if name != "squared_error"])
def test_every_head_but_squared_error_builds_without_parameters(name: str) -> None:
    assert create_head(name, 8, 4)(torch.zeros(1, 8)).shape == (1, 4)


def test_squared_error_asks_for_its_numbers() -> None:
    with pytest.raises(ParameterError, match="preset='imagenet'"):
        create_head("squared_error", 8, 4)
    assert create_head("squared_error", 8, 4, target_weight=2.0, target_value=3.0).link == "none"


#: Typed from W Tables A.1 and A.2: head, parameter, ImageNet, CIFAR-10, CIFAR-100.
PRESETS: list[tuple[str, str, float, float, float]] = [
    ("label_smoothing", "alpha", 0.1, 0.04, 0.18),
    ("dropout", "keep_probability", 0.7, 0.65, 0.75),
    ("final_l2", "weight_penalty", 8e-4, 0.03162277660168379, 0.0004677351412871983),
    ("logit_penalty", "beta", 6e-4, 0.001479108388168207, 0.001479108388168207),
    ("logit_norm", "tau", 0.04, 0.14, 0.11),
    ("cosine", "tau", 0.05, 0.08, 0.1),
    ("squared_error", "target_weight", 9, 8, 6),
    ("squared_error", "target_value", 60, 0.83, 12),
]


@pytest.mark.parametrize("row", PRESETS, ids=str)
def test_presets_are_the_tables_of_w(row: tuple[str, str, float, float, float]) -> None:
    name, parameter, *values = row
    for preset, value in zip(("imagenet", "cifar10", "cifar100"), values):
        assert resolve_parameters(name, {"preset": preset})[parameter] == pytest.approx(value, rel=1e-9)
        create_head(name, 8, 4, preset=preset)
    if name != "squared_error":
        assert resolve_parameters(name, {})[parameter] == pytest.approx(values[0])


def test_squared_error_of_imagenet_has_loss_scale_ten() -> None:
    head = create_head("squared_error", 8, 4, preset="imagenet")
    assert head.loss_scale == 10.0
    assert create_head("squared_error", 8, 4, preset="cifar10").loss_scale == 1.0


def test_the_callers_temperature_replaces_the_one_of_the_name() -> None:
    kappa = create_head("cosine", 8, 4, kappa=7).kappa
    assert kappa is not None
    assert kappa.item() == 7.0
    adaptive = create_head("cosine", 8, 4, temperature="least_squares", multiplier=3.0, candidates=[1, 2])
    assert isinstance(adaptive.temperature, LeastSquares)
    assert adaptive.temperature.multiplier == 3.0
    assert adaptive.temperature.candidates == (1.0, 2.0)
    trainable = create_head("cosine_2ls", 8, 4, temperature="trainable", kappa=9)
    assert trainable.kappa is not None
    assert trainable.kappa.item() == pytest.approx(9.0)
    kept = create_head("cosine_2ls", 8, 4, temperature=LeastSquares(multiplier=1.5)).temperature
    assert isinstance(kept, LeastSquares)
    assert kept.multiplier == 1.5


def test_twice_least_squares() -> None:
    temperature = create_head("cosine_2ls", 8, 4).temperature
    assert isinstance(temperature, LeastSquares)
    assert temperature.multiplier == 2.0


def test_explicit_parameters_override_a_preset() -> None:
    assert resolve_parameters("label_smoothing", {"preset": "cifar10", "alpha": 0.3})["alpha"] == 0.3


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("sofmax", {}, "Unknown head 'sofmax'; did you mean 'softmax'"),
        ("cosine", {"kapa": 3}, "Unknown parameter 'kapa' of the head 'cosine'; did you mean 'kappa'"),
        ("cosine", {"preset": "cifar1"}, "did you mean 'cifar10'"),
        ("squared_error", {"kappa": 9, "M": 60}, "W's κ and M are 'target_weight' and 'target_value'"),
        ("softmax", {"multiplier": 2.0}, "belongs to temperature='least_squares'"),
        ("softmax", {"zzzzzzz": 2.0}, "Known: classifier"),
        ("cosine_ls", {"kappa": 20}, "'least_squares' chooses κ itself"),
        ("cosine", {"kappa": 20, "temperature": "least_squares"}, "'least_squares' chooses κ itself"),
        ("cosine", {"preset": [1]}, "Unknown preset"),
        ("cosine_ls", {"multiplier": -1}, "'multiplier' parameter of LeastSquares"),
    ],
)
def test_mistakes_get_the_nearest_right_name(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        create_head(name, 8, 4, **parameters)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})

    @register_head("mine")
    def factory(in_features: int, num_classes: int, strength: float = 0.2) -> Head:
        return Head(in_features, num_classes, alpha=strength)

    return "mine"


def test_a_users_head(mine: str) -> None:
    assert mine in list_heads()
    assert "alpha=0.5" in repr(create_head(mine, 8, 4, strength=0.5))
    assert known_parameters(mine) == ["strength"]
    assert head_module(mine) == __name__
    source = head_source(mine)
    assert source is not None
    assert len(source) == 64
    assert named_head(mine) is None
    with pytest.raises(ParameterError, match="did you mean 'strength'"):
        create_head(mine, 8, 4, strenght=0.5)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("cosine", {}, {"kappa": 20.0}),
        ("cosine", {"tau": 0.05}, {"preset": "imagenet", "bias": True}),
        ("cosine", {"preset": "cifar10"}, {"tau": 0.08}),
        ("cosine_ls", {}, {"multiplier": 1, "bias": False}),
        ("softmax", {}, {"bias": True, "alpha": 0.0, "ignore_index": -100}),
        ("sigmoid", {"classifier": "cosine", "kappa": 5}, {"classifier": "cosine", "tau": 0.2, "bias": True}),
    ],
)
def test_two_ways_of_asking_for_one_head_are_one(name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert canonical_parameters(name, first) == canonical_parameters(name, second)
    heads = [create_head(name, 8, 4, **parameters) for parameters in (first, second)]
    assert repr(heads[0]) == repr(heads[1])


def test_another_head_has_other_canonical_parameters(mine: str) -> None:
    found = [canonical_parameters("cosine", parameters) for parameters in ({}, {"kappa": 21}, {"bias": False})]
    assert found == [
        {"bias": True, "classifier": "cosine", "kappa": 20.0},
        {"bias": True, "classifier": "cosine", "kappa": 21},
        {"classifier": "cosine", "kappa": 20.0},
    ]
    assert canonical_parameters(mine, {}) is None


def test_names_are_guarded(mine: str) -> None:
    with pytest.raises(ParameterError, match="registered already"):
        register_head(mine)
    with pytest.raises(ParameterError, match="built in"):
        register_head("softmax")
    with pytest.raises(ParameterError, match="letters, digits"):
        register_head("my:head")
    with pytest.raises(ParameterError, match=r"as in @register_head\('mine'\)"):

        @register_head  # type: ignore[arg-type]
        def without_parentheses() -> None: ...

    register_head(mine, overwrite=True)(lambda in_features, num_classes, **parameters: torch.nn.Linear(2, 2))
    with pytest.raises(ParameterError, match="must return a Head. Got Linear"):
        create_head(mine, 8, 4, anything=1)


def test_a_head_without_source_still_has_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    space: dict[str, Any] = {"Head": Head, "__name__": "nowhere"}
    exec("def factory(in_features, num_classes):\n    return Head(in_features, num_classes)", space)
    register_head("nowhere")(space["factory"])
    source = head_source("nowhere")
    assert source is not None
    assert len(source) == 64


def test_built_in_heads_have_a_source_in_the_papers() -> None:
    assert head_module("softmax") is None
    assert head_source("softmax") is None
    for name in W_OBJECTIVES:
        named = named_head(name)
        assert named is not None
        assert named.source[0] in "WT"


def test_ten_to_the_powers_are_exact() -> None:
    assert resolve_parameters("final_l2", {"preset": "cifar10"})["weight_penalty"] == pytest.approx(1 / math.sqrt(1000))
