"""How far a study is, told from names of files."""

import json
import os
import time

import pytest
from fabricated import make_config
from fabricated_study import FabricatedStudy, identity, label

from logitlab.config.errors import RecordError
from logitlab.records import Store
from logitlab.records.claims import take_claim
from logitlab.studies import scanning
from logitlab.studies.status import all_status, study_status, trials_status


@pytest.fixture
def study(tmp_path):
    return FabricatedStudy(tmp_path / "runs")


def status(study):
    return study_status(study.root, study.name)


def test_a_study_that_has_not_begun(study):
    found = status(study)
    assert (found.name, found.title) == ("made-up", "A made-up study")
    assert (found.done, found.failed, found.left, found.total) == (0, 0, 8, 8)
    assert found.running == ()
    assert found.seconds_left is None
    assert found.seconds_a_trial is None
    assert [(row.label, row.left) for row in found.rows] == [(label(0), 3), (label(1), 5)]


def test_done_running_failed_and_left_add_up(study):
    study.finish(0, 0)
    study.finish(1, 0, "search")
    study.fail(0, 1)
    with take_claim(study.store.trial_folder(identity(1, 2))) as claim:
        assert claim is not None
        found = status(study)
    assert (found.done, found.failed, found.left, len(found.running), found.total) == (2, 1, 4, 1, 8)
    first, second = found.rows
    assert (first.done, first.running, first.failed, first.left) == (1, 0, 1, 1)
    assert (second.done, second.running, second.failed, second.left) == (1, 1, 0, 3)
    (running,) = found.running
    assert (running.identity, running.row, running.seed, running.role) == (identity(1, 2), label(1), 2, "final")
    assert running.pid == os.getpid()
    assert running.seconds is not None
    assert running.seconds < 60


def test_a_released_or_stale_claim_is_nobody_at_work(study):
    take_claim(study.store.trial_folder(identity(0, 0))).release(done=False)
    folder = study.store.trial_folder(identity(0, 1))
    folder.mkdir()
    stale = folder / "claim.1.json"
    stale.write_text(json.dumps({"host": "gone", "machine": "gone", "pid": 1, "time": "2020-01-01T00:00:00+00:00"}))
    os.utime(stale, (0, 0))
    found = status(study)
    assert found.running == ()
    assert found.left == 8


def test_a_failed_trial_that_is_tried_again_runs(study):
    study.fail(0, 0)
    with take_claim(study.store.trial_folder(identity(0, 0))):
        found = status(study)
    assert (found.failed, len(found.running)) == (0, 1)


def test_a_claim_in_a_folder_that_takes_no_files_counts_by_this_clock(study, monkeypatch):
    folder = study.store.trial_folder(identity(0, 0))
    folder.mkdir(parents=True)
    (folder / "claim.1.json").write_text("{}")

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("logitlab.studies.scanning.holder", refuse)
    assert [(each.identity, each.host) for each in status(study).running] == [(identity(0, 0), None)]
    os.utime(folder / "claim.1.json", (0, 0))
    assert status(study).running == ()


def test_a_trial_is_not_done_before_its_stages_and_ood_sets(tmp_path):
    study = FabricatedStudy(tmp_path, stages=True, ood=True)
    study.finish(0, 0)
    study.finish(0, 1, beside=False)
    study.finish(1, 0, "search")
    study.finish(0, 2, beside=False)
    # The record stands, and a stage failed.
    study.fail(0, 2, "no such folder", "DataError")
    found = status(study)
    assert (found.done, found.failed, found.left) == (2, 1, 5)
    assert found.failures[0].cause == "DataError: no such folder"


def test_failures_stand_together_by_the_first_line_of_their_cause(study):
    for seed in range(3):
        study.fail(0, seed, f"the loss is nan\nat step {seed}")
    study.fail(1, 0, "out of memory", "MemoryError")
    (study.store.trial_folder(identity(1, 1))).mkdir()
    (study.store.trial_folder(identity(1, 1)) / "error.json").write_text("{")
    first, *others = status(study).failures
    assert (first.cause, first.count) == ("TrialError: the loss is nan", 3)
    assert first.examples == tuple(f"{label(0)}, seed {seed}" for seed in range(3))
    assert {group.cause for group in others} == {
        "MemoryError: out of memory",
        "no reason is known; its error.json cannot be read",
    }


def test_the_causes_of_so_many_failures_are_read_and_no_more(study, monkeypatch):
    monkeypatch.setattr(scanning, "FAILURES_READ", 2)
    for seed in range(3):
        study.fail(0, seed)
    found = status(study)
    assert (found.failed, found.unread, found.failures[0].count) == (3, 1, 2)


def test_the_time_left_goes_row_by_row(study):
    # Two workers; rows of 10 and 100 seconds; one and five trials are left.
    study.finish(0, 0, seconds=8.0)
    study.finish(0, 1, seconds=12.0)
    study.finish(1, 0, seconds=100.0)
    found = status(study)
    assert [row.seconds_a_trial for row in found.rows] == [10.0, 100.0]
    assert found.seconds_left == pytest.approx((1 * 10 + 4 * 100) / 2)


def test_a_row_without_a_record_takes_the_mean_of_the_others(study):
    study.finish(0, 0, seconds=10.0)
    assert status(study).seconds_left == pytest.approx(7 * 10 / 2)


def test_the_last_trial_takes_as_long_as_any(study):
    study.finish_all(seconds=30.0)
    (study.store.trial_folder(identity(0, 0)) / "record.json").unlink()
    assert status(study).seconds_left == pytest.approx(30.0)


def test_what_a_running_trial_has_behind_it_is_not_ahead(study, monkeypatch):
    study.finish_all(seconds=30.0)
    folder = study.store.trial_folder(identity(0, 0))
    (folder / "record.json").unlink()
    with take_claim(folder):
        path = next(folder.glob("claim.*.json"))
        values = json.loads(path.read_text())
        from datetime import UTC, datetime, timedelta

        path.write_text(json.dumps({**values, "time": (datetime.now(UTC) - timedelta(seconds=20)).isoformat()}))
        assert status(study).seconds_left == pytest.approx(10.0, abs=5.0)


def test_nothing_left_takes_no_time(study):
    study.finish_all()
    found = status(study)
    assert (found.done, found.left, found.seconds_left) == (8, 0, 0.0)


def test_the_seconds_are_those_of_the_latest_records(study, monkeypatch):
    monkeypatch.setattr(scanning, "RECORDS_READ", 2)
    for seed, (seconds, age) in enumerate([(1000.0, 500), (10.0, 0), (20.0, 5)]):
        name = study.finish(0, seed, seconds=seconds)
        when = time.time() - age
        os.utime(study.store.trial_folder(name) / "record.json", (when, when))
    assert status(study).seconds_a_trial == 15.0


def test_rows_that_wait_count_what_is_sure_to_come_and_blocked_ones_do_not(tmp_path):
    waiting = FabricatedStudy(tmp_path / "a", row_1={"waiting": "It waits for 'κ = 5'."})
    assert status(waiting).rows[1].waiting == "It waits for 'κ = 5'."
    blocked = FabricatedStudy(tmp_path / "b", row_1={"blocked": "'κ = 5' failed."})
    assert status(blocked).rows[1].blocked == "'κ = 5' failed."
    plan = waiting.plan
    from logitlab.records.study import write_plan

    short = plan.model_copy(update={"trials": plan.trials[:2]})
    write_plan(waiting.folder, short)
    write_plan(blocked.folder, short.model_copy(update={"rows": blocked.plan.rows}))
    assert (status(waiting).left, [row.left for row in status(waiting).rows]) == (3 + 5, [3, 5])
    assert (status(blocked).left, [row.left for row in status(blocked).rows]) == (3 + 2, [3, 2])


def test_a_trial_that_two_rows_share_counts_once(study):
    from logitlab.records.study import write_plan

    shared = study.plan.trials[-1].model_copy(update={"row": label(0)})
    write_plan(study.folder, study.plan.model_copy(update={"trials": (*study.plan.trials, shared)}))
    study.finish(1, 2)
    found = status(study)
    assert (found.done, found.left) == (1, 7)
    assert [row.done for row in found.rows] == [1, 1]


def test_trials_of_no_study_are_counted(tmp_path):
    store = Store(tmp_path)
    store.write_record("0" * 16, make_config("softmax", 0), {"test": {"accuracy": 1.0}}, {"seconds": 2.0})
    store.write_error("1" * 16, make_config("softmax", 1), {"kind": "TrialError", "message": "no"})
    (tmp_path / "trials" / ("2" * 16)).mkdir()
    (tmp_path / "trials" / ".probe.tmp").touch()
    (found,) = all_status(tmp_path)
    assert found == trials_status(tmp_path)
    assert (found.name, found.rows, found.done, found.failed, found.left) == (None, (), 1, 1, 1)
    assert found.failures[0].examples == ("1" * 16,)
    assert found.seconds_left == pytest.approx(2.0)


def test_every_study_of_a_folder_has_its_own(tmp_path):
    FabricatedStudy(tmp_path, "one")
    FabricatedStudy(tmp_path, "two").finish_all()
    assert [(each.name, each.done) for each in all_status(tmp_path)] == [("one", 8), ("two", 8)]
    assert [each.name for each in all_status(tmp_path, ["two"])] == ["two"]


def test_a_damaged_plan_is_told(study):
    (study.folder / "plan.json").write_text("{")
    with pytest.raises(RecordError, match="is not whole JSON"):
        status(study)


def test_a_lost_definition_does_without_its_title(study):
    (study.folder / "study.json").unlink()
    assert status(study).title == ""
