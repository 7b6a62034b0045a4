"""check_head passes what is right, names what is wrong, and says what it left out."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest
import torch

from logitlab.config.errors import ParameterError
from logitlab.heads import Head, create_head
from logitlab.testing import CHECKS, HeadCheckError, HeadTraits, check_head, traits_of
from logitlab.testing.checks import generated

from .broken_heads import PLANTED, SumForMean
from .users_head import UsersHead

# What takes longer than all the others together.
SLOW = (
    "compiled",
    "exported",
    "no_host_sync",
    "generated_inputs",
    "moved",
    "zero_features",
    "huge_features",
    "duplicated_weights",
)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named(fault: str) -> None:
    factory, name = PLANTED[fault]
    with pytest.raises(HeadCheckError) as caught:
        check_head(factory, skip=[slow for slow in SLOW if slow != name])
    assert caught.value.failures[name]
    assert not caught.value.failures[name].startswith("raised")
    # One fault, few checks that fail: what else depends on the same thing.
    assert len(caught.value.failures) <= 4


def test_a_users_head_of_twenty_lines_passes() -> None:
    report = check_head(UsersHead)
    assert set(report.switched_off) == {
        "class_weight", "kappa_argument", "kappa_detached", "kappa_regret", "probabilities", "feature_length",
    }  # fmt: skip
    assert set(report.ran) == {name for name, check in CHECKS.items() if not check.optional} - set(report.switched_off)
    assert "off: kappa_argument (takes_kappa=False)" in str(report)


def test_all_failures_come_at_once_with_how_to_run_them_again() -> None:
    with pytest.raises(HeadCheckError) as caught:
        check_head(SumForMean, only=["reduction", "accumulation", "one_by_one"], seed=3)
    assert list(caught.value.failures) == ["reduction", "accumulation"]
    assert "SumForMean" in str(caught.value)
    assert "fails 2 checks" in str(caught.value)
    assert "check_head(factory, only=['accumulation'], seed=3)" in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.failures == caught.value.failures
    assert str(again) == str(caught.value)


def test_checks_are_chosen_by_name() -> None:
    report = check_head(UsersHead, only=["reduction", "contract"], skip=["contract"])
    assert report.ran == ("reduction",)
    assert "skipped: contract" in str(report)
    with pytest.raises(ParameterError, match="did you mean 'reduction'"):
        check_head(UsersHead, skip=["reductoin"])
    # An optional check runs if it is asked for, or named.
    assert CHECKS["inductor"].optional


def test_the_random_state_of_the_caller_stays() -> None:
    before = torch.get_rng_state()
    check_head(partial(create_head, "dropout"), only=["reduction", "generated_inputs", "leading_shapes"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (partial(Head, 8, 3), {"cross_entropy": True}),
        (partial(create_head, "dropout", 8, 3), {"cross_entropy": True, "stochastic": True}),
        (partial(create_head, "label_smoothing", 8, 3), {}),
        (partial(create_head, "squared_error", 8, 3, preset="cifar10"), {"link": "none"}),
        (partial(create_head, "sigmoid", 8, 3), {"link": "normalized_sigmoid"}),
        (partial(create_head, "logit_norm", 8, 3), {"cross_entropy": True, "takes_kappa": True}),
        (
            partial(create_head, "arcface", 8, 3, kappa=9, detach_margin=True),
            {"cross_entropy": True, "takes_kappa": True, "margin": True, "scale_free": True, "straight_through": True},
        ),
        (
            partial(create_head, "cosface", 8, 3, kappa=9, alpha=0.1),
            {"takes_kappa": True, "margin": True, "scale_free": True, "soft_targets": False},
        ),
        (partial(create_head, "lsoftmax", 8, 3, margin=1), {"cross_entropy": True}),
        (
            partial(create_head, "cosine", 8, 3, temperature="adacos_dynamic"),
            {
                "cross_entropy": True, "takes_kappa": True, "adaptive_kappa": True, "batch_dependent": True,
                "scale_free": True,
            },
        ),
        (
            partial(create_head, "group_softmax", 8, 3, groups=4, grouping="random"),
            {"feature_multiple": 4, "stochastic": True},
        ),
    ],
)  # fmt: skip
def test_traits_follow_from_the_parts(build: Any, expected: dict[str, Any]) -> None:
    assert traits_of(build()) == HeadTraits(**expected)


def test_traits_may_be_declared_in_two_ways() -> None:
    declared = HeadTraits(stochastic=True)

    class Declares(Head):
        traits = declared

    class Gives(Head):
        def traits(self) -> HeadTraits:
            return declared

    class Wrong(Head):
        traits = "stochastic"

    assert traits_of(Declares(2, 2)) is traits_of(Gives(2, 2)) is declared
    with pytest.raises(TypeError, match="Expected 'traits' of Wrong as a HeadTraits. Got 'stochastic'"):
        traits_of(Wrong(2, 2))


def test_no_trait_switches_everything_off() -> None:
    every = HeadTraits(
        stochastic=True, batch_dependent=True, straight_through=True, soft_targets=False, adaptive_kappa=False
    )  # fmt: skip
    off = [name for name, check in CHECKS.items() if check.off(every)]
    assert len(off) <= 6


def test_without_hypothesis_a_fixed_set_of_cases_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "has_hypothesis", lambda: False)
    monkeypatch.setattr("logitlab.testing.runner.has_hypothesis", lambda: False)
    report = check_head(UsersHead, only=["generated_inputs"])
    assert not report.hypothesis
    assert "pip install hypothesis" in str(report)

    class Overflows(UsersHead):
        def forward(self, features, target=None, **options):  # type: ignore[no-untyped-def]
            return super().forward(features * features * features.abs().exp(), target, **options)

    with pytest.raises(HeadCheckError, match="generated_inputs"):
        check_head(Overflows, only=["generated_inputs"])


def test_every_check_says_what_it_means() -> None:
    assert len(CHECKS) >= 30
    for name, check in CHECKS.items():
        assert check.name == name
        assert check.meaning.endswith(".")
