"""Sentences that claim what the tests show, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from logitlab.config.errors import ParameterError
from logitlab.report import recommendations
from logitlab.report.recommendations import advise

PROXY = (
    "; R² (class separation) is a proxy: features with a lower one transferred better in the papers, "
    "transfer itself was not measured"
)


def test_a_line_a_purpose(make: SimpleNamespace) -> None:
    records = [
        *make.head(
            "a",
            accuracy=[0.97, 0.96, 0.98],
            nll=[0.30, 0.31, 0.32],
            ece=[0.02, 0.03, 0.04],
            miss_ap=[0.90, 0.91, 0.92],
            class_separation=[0.7, 0.71, 0.72],
        ),
        *make.head(
            "b",
            {"kappa": 20},
            accuracy=[0.96, 0.97, 0.97],
            nll=[0.10, 0.11, 0.12],
            ece=[0.05, 0.06, 0.07],
            miss_ap=[0.98, 0.99, 1.0],
            class_separation=[0.5, 0.51, 0.52],
        ),
        *make.head(
            "c",
            accuracy=[0.90, 0.91, 0.92],
            nll=[None] * 3,
            ece=[None] * 3,
            miss_ap=[0.98, 0.99, 0.99],
            class_separation=[0.9, 0.91, 0.92],
        ),
    ]
    assert recommendations(records) == [
        "for accuracy take a (97.00 ± 0.58 %); not significantly worse: b:kappa=20",
        "for calibrated confidence take b:kappa=20 (NLL 0.110 ± 0.006, ECE 0.060 ± 0.006); "
        "every other head is significantly worse by NLL; lowest ECE: a (0.030 ± 0.006); undefined for c",
        "for rejecting its own mistakes take b:kappa=20 (MISS AP 0.990 ± 0.006); not significantly worse: c",
        "for transfer take b:kappa=20 (R² 0.510 ± 0.006, accuracy 96.67 ± 0.33 %); "
        "every other head is significantly higher" + PROXY,
    ]


def test_a_head_that_has_not_learnt_serves_no_transfer(make: SimpleNamespace) -> None:
    records = [
        *make.head("collapsed", accuracy=[0.1, 0.1, 0.1], class_separation=[0.1, 0.1, 0.1]),
        *make.head("a", accuracy=[0.9, 0.91, 0.92], class_separation=[0.7, 0.71, 0.72]),
        *make.head("b", accuracy=[0.88, 0.87, 0.9], class_separation=[0.5, 0.51, 0.52]),
    ]
    lines = recommendations(records)
    assert lines[0].startswith("for accuracy take a (91.00")
    assert lines[3].startswith("for transfer take b (R² 0.510")
    assert lines[3].endswith("; left out, with less than 90% of the best accuracy: collapsed")


def test_a_head_that_learnt_alone_has_no_rival_in_transfer(make: SimpleNamespace) -> None:
    records = [
        *make.head("a", accuracy=[0.9, 0.91], class_separation=[0.7, 0.71]),
        *make.head("dead", accuracy=[0.1, 0.2], class_separation=[0.1, 0.1]),
    ]
    assert recommendations(records)[3] == (
        "for transfer: only a learnt enough to be compared (R² 0.705 ± 0.005, accuracy 90.50 ± 0.50 %)"
        + PROXY
        + "; left out, with less than 90% of the best accuracy: dead"
    )
    records += make.head("b", accuracy=[0.9, 0.91], class_separation=[None, None])
    assert recommendations(records)[3].startswith("for transfer: of the heads that learnt enough only a was measured")


def freeze(record: dict[str, Any], backbone: str = "small_cnn") -> dict[str, Any]:
    config = record["config"]
    backbone_config = {**config["backbone"], "name": backbone}
    training = {**config["training"], "freeze_backbone": True}
    identity = f"{record['identity']}{backbone}"
    return {**record, "identity": identity, "config": {**config, "backbone": backbone_config, "training": training}}


def test_a_frozen_backbone_transfers_alike_whatever_the_head(make: SimpleNamespace) -> None:
    records = [
        *make.head("a", accuracy=[0.9, 0.91, 0.92], class_separation=[0.5, 0.5001, 0.5]),
        *make.head("b", accuracy=[0.9, 0.91, 0.92], class_separation=[0.5, 0.5, 0.5]),
    ]
    lines = recommendations([freeze(record) for record in records])
    assert lines[-1] == "for transfer: the backbone is frozen and transfers alike whatever the head"
    assert len(lines) == 4
    # Two frozen backbones have features of their own, and so has a head that was trained with its backbone.
    others = make.head("c", accuracy=[0.9, 0.91, 0.92])
    for mixed in (others, [freeze(record, "mlp") for record in others]):
        assert "frozen" not in recommendations([*(freeze(record) for record in records), *mixed])[-1]


def test_advice_says_what_its_line_rests_on(make: SimpleNamespace) -> None:
    records = [
        *make.head("a", accuracy=[0.9, 0.91, 0.92], class_separation=[0.7, 0.71, 0.72]),
        *make.head("dead", accuracy=[0.1, 0.1, 0.1]),
    ]
    advice = advise(records)
    assert [each.line for each in advice] == recommendations(records)
    assert [(each.purpose, each.key, each.taken) for each in advice][::3] == [
        ("accuracy", "accuracy", "a"),
        ("transfer", "class_separation", None),
    ]
    assert (advice[0].compared, advice[3].compared) == (("a", "dead"), ("a",))


def test_a_constant_head_is_called_worse_than_a_constant_better_one(make: SimpleNamespace) -> None:
    records = [
        *make.head("good", accuracy=[1.0, 1.0, 1.0]),
        *make.head("dead", accuracy=[0.1, 0.1, 0.1]),
        *make.head("fair", accuracy=[0.99, 1.0, 0.98]),
    ]
    assert recommendations(records)[0] == "for accuracy take good (100.00 ± 0.00 %); not significantly worse: fair"


def test_no_difference_shown(make: SimpleNamespace) -> None:
    records = [*make.head("a", accuracy=[0.90, 0.92]), *make.head("b", accuracy=[0.91, 0.92])]
    lines = recommendations(records)
    assert lines[0] == "for accuracy: no difference shown (highest mean: b, 91.50 ± 0.50 %)"
    assert not any(" take " in line for line in lines)
    assert lines[3].startswith("for transfer: no difference shown (lowest mean: a, R² 0.500 ± 0.000, accuracy")
    assert lines[3].endswith(PROXY)


def test_one_seed(make: SimpleNamespace) -> None:
    lines = recommendations([make.record("a", 0, nll=0.2), make.record("b", 0, accuracy=0.95)])
    assert lines[0] == "for accuracy: one seed shows no difference (highest: b, 95.00 %); run at least 3"
    assert lines[1] == (
        "for calibrated confidence: one seed shows no difference (lowest: a, NLL 0.200, ECE 0.020); run at least 3"
    )


def test_seeds_that_agree_exactly(make: SimpleNamespace) -> None:
    records = [*make.head("a", accuracy=[0.9, 0.9]), *make.head("b", accuracy=[0.8, 0.8])]
    assert recommendations(records)[0] == (
        "for accuracy: seeds that agree exactly allow no test (highest: a, 90.00 ± 0.00 %)"
    )


def test_one_head(make: SimpleNamespace) -> None:
    lines = recommendations([*make.head("a", accuracy=[0.9, 0.8])])
    assert lines[0] == "for accuracy: only a was measured (85.00 ± 5.00 %), nothing to compare it with"


def test_undefined_for_all_and_for_some(make: SimpleNamespace) -> None:
    records = [
        *make.head("a", nll=[None, None], ece=[None, None], miss_ap=[0.9, 0.8]),
        *make.head("b", nll=[None, None], miss_ap=[None, None]),
    ]
    lines = recommendations(records)
    assert lines[1] == "for calibrated confidence: not measured (NLL is undefined for every head)"
    assert lines[2] == (
        "for rejecting its own mistakes: only a was measured (MISS AP 0.850 ± 0.050), nothing to compare it with; "
        "undefined for b"
    )


def test_what_stands_beside_may_be_undefined(make: SimpleNamespace) -> None:
    records = [*make.head("a", ece=[None] * 2, nll=[0.1, 0.2]), *make.head("b", nll=[0.8, 0.9])]
    assert "take a (NLL 0.150 ± 0.050); every" in recommendations(records)[1]


def test_failed_trials_do_not_count(make: SimpleNamespace) -> None:
    records = [make.failure("bad", 0), *make.head("a", accuracy=[0.9, 0.8]), *make.head("b", accuracy=[0.1, 0.2])]
    assert recommendations(records)[0] == (
        "for accuracy take a (85.00 ± 5.00 %); every other head is significantly worse"
    )
    assert recommendations([make.failure("bad", 0)]) == []
    assert recommendations([]) == []


def test_options_reach_the_test(make: SimpleNamespace) -> None:
    records = [*make.head("a", accuracy=[0.9, 0.8]), *make.head("b", accuracy=[0.1, 0.2])]
    assert "no difference" in recommendations(records, level=1e-6)[0]
    with pytest.raises(ParameterError, match="'test'"):
        recommendations(records, test="sign")  # type: ignore[arg-type]
