"""Records gathered into rows."""

from types import SimpleNamespace

import pytest

from logitlab.config.errors import InputError
from logitlab.report import HeadRecords, Trial, group_by_head


def test_rows_keep_the_order_of_heads_and_sort_seeds(make: SimpleNamespace) -> None:
    records = [make.record("softmax", 2), make.record("cosine", 0, {"kappa": 20}), make.record("softmax", 0)]
    rows = group_by_head(records)
    assert [(row.label, [trial.seed for trial in row.trials]) for row in rows] == [
        ("softmax", [0, 2]),
        ("cosine:kappa=20", [0]),
    ]


def test_values_come_from_the_test_measures_and_the_clock(make: SimpleNamespace) -> None:
    (row,) = group_by_head([make.record("softmax", 0, nll=None, seconds=12.5)])
    assert row.values("accuracy") == [0.9]
    assert row.values("nll") == [None]
    assert row.values("seconds") == [12.5]
    assert row.values("no such measure") == [None]


def test_a_record_without_a_clock(make: SimpleNamespace) -> None:
    record = make.record("softmax", 0)
    record["provenance"] = {}
    assert group_by_head([record])[0].values("seconds") == [None]


def test_a_trial_that_comes_twice_counts_once(make: SimpleNamespace) -> None:
    (row,) = group_by_head([make.record("softmax", 0), make.record("softmax", 0)])
    assert len(row.trials) == 1


def test_failures_are_kept_apart_on_one_line(make: SimpleNamespace) -> None:
    (row,) = group_by_head([make.failure("softmax", 1, "first\n  second"), make.record("softmax", 0)])
    assert [trial.failure for trial in row.trials] == [None, "first second"]
    assert [trial.seed for trial in row.finished] == [0]


@pytest.mark.parametrize(("error", "said"), [({}, "no reason given"), ({"kind": "KeyError"}, "KeyError")])
def test_a_failure_without_a_message(make: SimpleNamespace, error: dict[str, str], said: str) -> None:
    record = {**make.failure("softmax", 0), "error": error}
    assert group_by_head([record])[0].trials == (Trial("softmaxNone0", 0, {}, said),)


def test_recipes_that_share_a_head_get_rows_of_their_own(make: SimpleNamespace) -> None:
    slow = make.record("softmax", 0)
    slow["identity"] = "slow"
    slow["config"] = make.config("softmax", 0, learning_rate=0.01)
    rows = group_by_head([make.record("softmax", 0), slow, make.record("cosine", 0)])
    assert [row.label for row in rows] == [
        "softmax [training.learning_rate=0.05]",
        "softmax [training.learning_rate=0.01]",
        "cosine",
    ]


def test_where_the_images_lay_makes_no_new_row(make: SimpleNamespace) -> None:
    moved = make.record("softmax", 1)
    moved["config"]["data"]["name"] = "/elsewhere/digits"
    assert len(group_by_head([make.record("softmax", 0), moved])) == 1


def test_two_data_sets_are_refused(make: SimpleNamespace) -> None:
    other = make.record("softmax", 1)
    other["config"]["data_fingerprint"] = "cd" * 32
    with pytest.raises(InputError, match="one data set.*Got 2"):
        group_by_head([make.record("softmax", 0), other])


def test_a_row_knows_its_trials_and_what_they_share(make: SimpleNamespace) -> None:
    (row,) = group_by_head([make.record("softmax", 1), make.record("softmax", 0)])
    assert [trial.identity for trial in row.trials] == ["softmaxNone0", "softmaxNone1"]
    assert row.config["training"] == {"epochs": 30, "learning_rate": 0.05}
    assert "seed" not in row.config


def test_no_records() -> None:
    assert group_by_head([]) == []
    assert HeadRecords("softmax", ()).values("accuracy") == []
