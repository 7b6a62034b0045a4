"""Out-of-distribution sets in a comparison: checked with the rest, measured once, shown in the table."""

from __future__ import annotations

import json

import pytest
from preloaded import ForkedWorkers

from logitlab.config.errors import ConfigurationError
from logitlab.records import OOD_MEASURES, OodRecord, Store, write_ood
from logitlab.studies import compare
from logitlab.studies.ood import DIGITS_OOD, choose_ood


@pytest.fixture
def train(tmp_path, diary):
    def run(**changes):
        values = {
            "heads": ["softmax", "cosine"],
            "backbone": "mlp:widths=[8]",
            "seeds": 2,
            "epochs": 1,
            "train_limit": 40,
            "out": tmp_path / "runs",
            "executor": "serial",
            "report": False,
            "progress": diary,
        }
        return compare("digits", **{**values, **changes})

    return run


def test_digits_have_a_default_and_others_none():
    assert choose_ood(None, "Digits") == DIGITS_OOD == ("patches", "noise")
    assert choose_ood(None, "some/folder") == choose_ood(["none"], "digits") == choose_ood((), "digits") == ()
    assert choose_ood("noise", "mnist") == ("noise",)


def test_sets_come_into_the_table_the_recommendations_and_the_records(train, diary):
    found = train()
    assert [column.key for column in found.table.columns].index("ood_ap") == 5
    for record in found.records:
        assert list(record["ood"]) == ["patches", "noise"]
        assert set(record["ood"]["noise"]) == set(OOD_MEASURES)
    row = found.table.rows[0]
    expected = [
        (record["ood"]["patches"]["max_logit_ap"] + record["ood"]["noise"]["max_logit_ap"]) / 2
        for record in found.records
        if record["config"]["head"]["name"] == row.label
    ]
    assert row.cells[5].estimate.mean == pytest.approx(sum(expected) / 2)
    assert any(line.startswith("for rejecting strange inputs") for line in found.recommendations)
    assert found.best("ood_ap") in ("softmax", "cosine")
    assert not [event for event in diary.events if event[0] == "notice"]


def test_finished_trials_are_measured_without_training(train, diary, monkeypatch, tmp_path):
    train(ood=["none"])
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("record.json")}
    assert len(before) == 4
    diary.events.clear()

    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr("logitlab.training.trial.fit", refuse)
    found = train(ood=["noise"])
    assert not found.failed
    assert {path: path.read_bytes() for path in before} == before
    # The study has four trials and none to run; each is named as it is measured.
    assert diary.events[0] == ("start", 4, 0, 1)
    said = [event[1] for event in diary.events if event[0] == "notice"]
    assert sorted(said) == [
        f"{head}, seed {seed}: measured on noise." for head in ("cosine", "softmax") for seed in "01"
    ]
    assert not [event for event in diary.events if event[0] in ("started", "ended")]
    assert list(found.records[0]["ood"]) == ["noise"]
    diary.events.clear()
    train(ood=["noise", "patches"])
    assert {event[1].rpartition(": ")[2] for event in diary.events if event[0] == "notice"} == {"measured on patches."}
    diary.events.clear()
    again = train(ood=["noise"])
    assert [event[0] for event in diary.events] == ["start", "stop"]
    assert again.table.to_text() == found.table.to_text()


@pytest.mark.slow
def test_a_trial_that_is_trained_again_is_measured_again(train, tmp_path):
    train(ood=["noise"], seeds=1)
    for folder in (tmp_path / "runs" / "trials").iterdir():
        (folder / "record.json").unlink()
        for measured in (folder / "ood").glob("*.json"):
            measured.write_text(measured.read_text().replace('"max_logit_ap": 0.', '"max_logit_ap": 0.1'))
    stale = {path: path.read_text() for path in (tmp_path / "runs").rglob("ood/*.json")}
    again = train(ood=["noise"], seeds=1)
    here = train(ood=["noise"], seeds=1, out=tmp_path / "other")
    assert [record["ood"] for record in again.records] == [record["ood"] for record in here.records]
    assert all(path.read_text() != text for path, text in stale.items())


@pytest.mark.slow
def test_workers_measure_like_this_process(train, tmp_path, diary, monkeypatch):
    monkeypatch.setattr("logitlab.studies.executors.process.multiprocessing", ForkedWorkers())
    train(ood=["none"], seeds=1)
    diary.events.clear()
    beside = train(executor="process", workers=1, ood=["noise"], seeds=2)
    here = train(out=tmp_path / "other", ood=["noise"])
    assert [record["ood"] for record in beside.records] == [record["ood"] for record in here.records]
    assert diary.events[0] == ("start", 4, 2, 1)


def test_all_faults_come_together(train, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        train(heads=["sofmax"], ood=["nois", "digits", str(tmp_path / "empty"), "none", "noise"])
    text = "\n".join(caught.value.faults)
    assert "Unknown head 'sofmax'" in text
    assert "OOD set 'nois': it is not known. Did you mean 'noise'?" in text
    assert "The OOD set 'digits' is the data set itself" in text
    assert "empty' has no images" in text
    assert "'none' stands for no set" in text
    assert len(caught.value.faults) == 5
    assert not (tmp_path / "runs").exists()


def test_sets_are_checked_where_the_data_cannot_be_loaded(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        compare(tmp_path / "nowhere", ood=["nois"], out=tmp_path / "runs")
    assert len(caught.value.faults) == 2
    assert "nois" in caught.value.faults[1]


def test_the_same_set_twice_counts_once_and_namesakes_are_told_apart(train, tmp_path):
    from PIL import Image

    for place, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / place / "images").mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 7), colour).save(tmp_path / place / "images" / f"{number}.png")
    names = [str(tmp_path / place / "images") for place in "ab"]
    found = train(heads=["softmax"], seeds=1, ood=[*names, names[0], "noise", "NOISE"])
    assert list(found.records[0]["ood"]) == [*names, "noise"]


def test_a_model_that_is_gone_costs_its_ood_measures_alone(train, diary, tmp_path):
    first = train(ood=(), heads=["softmax"])
    lost = Store(tmp_path / "runs").trial_folder(first.records[0]["identity"])
    (lost / "model.safetensors").unlink()
    diary.events.clear()
    found = train(heads=["softmax"], ood=["noise"])
    said = sorted(event[1] for event in diary.events if event[0] == "notice")
    assert said[0].startswith("softmax, seed 0: not measured on noise: There is no '")
    assert said[1] == "softmax, seed 1: measured on noise."
    assert not found.failed
    assert [bool(record["ood"]) for record in found.records] == [False, True]
    assert "OOD AP of softmax: over 1 of 2 seeds, else undefined." in found.table.notes


def test_a_finished_study_that_cannot_be_written_is_still_shown(train, diary, monkeypatch):
    train(ood=(), seeds=1)
    diary.events.clear()

    def refuse(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("logitlab.records.Store.prove_writable", refuse)
    found = train(ood=["noise"], seeds=1)
    assert "Read-only file system" in next(event[1] for event in diary.events if event[0] == "notice")
    assert len(found.records) == 2
    assert "ood_ap" not in [column.key for column in found.table.columns]


def test_damaged_measures_are_measured_again(train, tmp_path):
    first = train(heads=["softmax"], seeds=1, ood=["noise"])
    (path,) = (tmp_path / "runs").rglob("ood/*.json")
    value = json.loads(path.read_text())
    path.write_text(path.read_text()[:-20])
    again = train(heads=["softmax"], seeds=1, ood=["noise"])
    assert json.loads(path.read_text()) == value
    assert first.records[0]["ood"] == again.records[0]["ood"]


def test_another_runner_that_measured_meanwhile_is_believed(tmp_path, make_trials):
    from logitlab.records import OodSource
    from logitlab.studies.agenda import Task

    store = Store(tmp_path)
    (trial,) = make_trials("well")
    noise = OodSource("noise", "noise", "a" * 64)
    store.write_record(trial.identity, trial.model_dump(mode="json"), {"test": {}}, {})
    assert Task(trial, 1).ended(store)
    assert not Task(trial, 1, (noise,)).ended(store)
    measures = dict.fromkeys(OOD_MEASURES, 0.5)
    record = OodRecord(name="noise", fingerprint=noise.fingerprint, images=1, measures=measures)
    write_ood(store.trial_folder(trial.identity), record, {key: [0.5] for key in ("max_logit", "feature_norm")})
    assert Task(trial, 1, (noise,)).ended(store)
