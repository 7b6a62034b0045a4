"""What a trial leaves behind, and how it is read back with suspicion."""

import json
import math
import os
import time

import pytest

from logitlab.config.errors import RecordError
from logitlab.records import FORMAT_VERSION, Store, read_record, result_digest

ONE, TWO, THREE = "1" * 16, "2" * 16, "3" * 16
CONFIG = {"seed": 0, "head": {"name": "softmax", "parameters": {"alpha": 0.5}}}
RESULT = {"test": {"accuracy": 0.1 + 0.2, "kappa": 20.0, "nll": None}, "history": [{"epoch": 1}]}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def test_an_empty_store(store):
    assert store.identities() == []
    assert store.records() == []
    assert not store.is_done(ONE)
    assert store.damage(ONE) is None
    assert store.failure(ONE) is None
    assert store.next_attempt(ONE) == 1
    assert not store.root.exists()
    with pytest.raises(RecordError, match="There is no"):
        store.record(ONE)


def test_a_record_comes_back_as_it_was_written(store):
    store.write_record(ONE, CONFIG, RESULT, {"seconds": 1.5})
    assert store.is_done(ONE)
    assert store.damage(ONE) is None
    assert store.record(ONE) == {
        "format_version": FORMAT_VERSION,
        "identity": ONE,
        "config": CONFIG,
        "result": RESULT,
        "result_sha256": result_digest(RESULT),
        "provenance": {"seconds": 1.5},
    }


def test_records_are_ordered_as_asked_and_failures_stand_among_them(store):
    store.write_record(TWO, CONFIG, RESULT, {})
    store.write_error(ONE, CONFIG, {"kind": "TrialError", "message": "loss is nan"})
    (store.trial_folder(THREE)).mkdir()
    assert [record["identity"] for record in store.records()] == [ONE, TWO]
    assert [record["identity"] for record in store.records([TWO, THREE, ONE])] == [TWO, ONE]
    assert store.records([ONE])[0]["error"] == {"kind": "TrialError", "message": "loss is nan", "attempt": 1}
    assert not store.is_done(ONE)


def test_attempts_are_counted_and_success_removes_the_failure(store):
    store.write_error(ONE, CONFIG, {"kind": "A", "message": "first"})
    assert store.next_attempt(ONE) == 2
    store.write_error(ONE, CONFIG, {"kind": "B", "message": "second"})
    assert store.failure(ONE)["error"]["attempt"] == 2
    store.write_record(ONE, CONFIG, RESULT, {})
    assert store.failure(ONE) is None
    assert "error" not in store.records()[0]


def test_a_record_cut_in_half_is_not_done_and_says_so(store):
    store.write_record(ONE, CONFIG, RESULT, {})
    path = store.trial_folder(ONE) / "record.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:length])
        assert not store.is_done(ONE), length
        assert "is not whole JSON" in store.damage(ONE)
        assert store.records() == []
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not whole JSON" in store.damage(ONE)


def _edit(**changes):
    def change(values):
        values.update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda values: values["result"]["test"].update(accuracy=0.99), "does not match its checksum"),
        (lambda values: values.pop("provenance"), "provenance: Field required"),
        (_edit(extra=1), "extra: Extra inputs"),
        (_edit(identity="nonsense"), "identity: String should match"),
        (_edit(identity=TWO), f"belongs to trial {TWO}, not to {ONE}"),
        (_edit(format_version=FORMAT_VERSION + 1), "has format version 2; this LogitLab reads up to 1"),
        (_edit(format_version="one"), "format_version"),
    ],
)
def test_a_record_changed_by_hand_is_not_done(store, change, complaint):
    store.write_record(ONE, CONFIG, RESULT, {})
    path = store.trial_folder(ONE) / "record.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    assert not store.is_done(ONE)
    assert complaint in store.damage(ONE)


def test_a_folder_in_the_place_of_a_record(store):
    (store.trial_folder(ONE) / "record.json").mkdir(parents=True)
    assert not store.is_done(ONE)
    path = store.trial_folder(ONE) / "record.json"
    assert store.damage(ONE) == f"Cannot read '{path}': Is a directory."


def test_a_proof_that_records_can_be_written_leaves_the_folder_alone(store):
    store.prove_writable()
    store.prove_writable()
    assert [path.name for path in store.root.rglob("*")] == ["trials"]
    assert store.identities() == []


def test_the_proof_fails_where_records_would(tmp_path):
    (tmp_path / "trials").touch()
    with pytest.raises(OSError, match="File exists"):
        Store(tmp_path).prove_writable()


def test_json_that_is_no_record(store):
    folder = store.trial_folder(ONE)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("[1, 2]")
    with pytest.raises(RecordError, match="is damaged"):
        read_record(folder / "record.json")


def test_an_unreadable_failure_counts_as_none(store):
    store.write_error(ONE, CONFIG, {"kind": "A", "message": "first"})
    (store.trial_folder(ONE) / "error.json").write_text("{")
    assert store.failure(ONE) is None
    assert store.next_attempt(ONE) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, {1}])
def test_a_result_that_json_cannot_hold_is_refused(store, value):
    with pytest.raises(RecordError, match=f"result of trial {ONE} is not JSON"):
        store.write_record(ONE, CONFIG, {"test": {"nll": value}}, {})
    assert not store.is_done(ONE)


def test_what_killed_writers_left_is_swept(store):
    folder = store.trial_folder(ONE)
    folder.mkdir(parents=True)
    for name in ("snapshot.pt", ".snapshot.pt.ab.tmp"):
        (folder / name).touch()
    store.sweep(ONE)
    assert [path.name for path in folder.iterdir()] == ["snapshot.pt"]
    store.write_record(ONE, CONFIG, RESULT, {})
    store.sweep(ONE)
    assert [path.name for path in folder.iterdir()] == ["record.json"]
    # Beside a record somebody may be writing at this moment.
    for name, age in ((".a.tmp", 0), (".b.tmp", 120)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    store.sweep(ONE)
    assert sorted(path.name for path in folder.iterdir()) == [".a.tmp", "record.json"]


def test_what_an_earlier_model_measured_is_forgotten(store):
    folder = store.trial_folder(ONE)
    (folder / "ood").mkdir(parents=True)
    for name in ("ood/0123456789abcdef.json", "outputs.npz", "README.md", "snapshot.pt", "error.json"):
        (folder / name).touch()
    store.forget_measures(ONE)
    assert sorted(path.name for path in folder.iterdir()) == ["error.json", "snapshot.pt"]
    store.forget_measures(ONE)


def test_equal_results_have_equal_digests():
    assert result_digest({"a": 1.0, "b": [0.1]}) == result_digest({"b": [0.1], "a": 1})
    assert result_digest({"a": 1}) != result_digest({"a": 1.0000000001})
