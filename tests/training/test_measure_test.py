"""Trials of a search: they choose on the validation images, and the test images are not looked at."""

from __future__ import annotations

import json

import pytest

from logitlab.config.errors import RecordError
from logitlab.config.trial import TrialConfig
from logitlab.data import MemoryImages, load_ood
from logitlab.records import OodSource, Store, has_ood, read_outputs
from logitlab.records.export import rows_of
from logitlab.records.stages import has_stage
from logitlab.records.study import StageSource
from logitlab.report import comparison_table
from logitlab.training import execute
from logitlab.training import trial as module


@pytest.fixture
def search(make_trial):
    def make(*arguments, **options):
        return make_trial(*arguments, **options).model_copy(update={"measure_test": False})

    return make


def test_the_option_is_no_part_of_trials_that_measure_as_ever(make_trial, search):
    usual = make_trial()
    assert "measure_test" not in usual.model_dump()
    assert "measure_test" not in usual.model_dump(mode="json")
    assert "measure_test" not in json.loads(usual.model_dump_json())
    # A record of before has no such key, and one that spells the default out is the same trial.
    old = usual.model_dump(mode="json")
    assert TrialConfig.model_validate(old).measure_test is True
    assert TrialConfig.model_validate({**old, "measure_test": True}).identity == usual.identity
    other = search()
    assert other.model_dump(mode="json") == {**old, "measure_test": False}
    assert TrialConfig.model_validate_json(other.model_dump_json()) == other
    assert other.identity != usual.identity


def test_identities_are_those_of_before():
    trial = TrialConfig.model_validate(
        {
            "data": {},
            "data_fingerprint": "f",
            "backbone": {"name": "mlp"},
            "head": {"name": "softmax"},
            "training": {},
            "seed": 0,
        }
    )
    # From the canonical JSON of the configuration as it was before this option existed.
    assert trial.identity == "cc26b37c0768bd98"


class Untouchable(MemoryImages):
    """Test images that nobody may look at."""

    def batches(self, *arguments, **options):
        raise AssertionError("the test images were looked at")


@pytest.fixture
def guarded(monkeypatch):
    """Let the test part of every trial be one that refuses."""

    def split(data, config, split_data=module.split_data):
        found = split_data(data, config)
        test = Untouchable(found.test.pixels, found.test.labels)
        return type(found)(found.train, found.validation, test)

    monkeypatch.setattr(module, "split_data", split)


def test_the_test_images_are_not_looked_at(tmp_path, make_trial, search, guarded):
    with pytest.raises(AssertionError, match="looked at"):
        execute(make_trial(), tmp_path)
    trial = search()
    execute(trial, tmp_path)
    store = Store(tmp_path)
    result = store.record(trial.identity)["result"]
    assert result["test"] == {}
    assert "per_class_accuracy" not in result
    assert result["validation"]["accuracy"] == result["history"][-1]["validation_accuracy"]
    folder = store.trial_folder(trial.identity)
    with pytest.raises(RecordError, match="There is no"):
        read_outputs(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors", "record.json"]
    assert store.record(trial.identity)["config"]["measure_test"] is False


def test_training_and_validation_are_those_of_the_whole_trial(tmp_path, make_trial, search):
    execute(make_trial("cosine_ls"), tmp_path)
    execute(search("cosine_ls"), tmp_path)
    whole, part = (
        Store(tmp_path).record(trial.identity)["result"] for trial in (make_trial("cosine_ls"), search("cosine_ls"))
    )
    for key in ("validation", "history", "selected_epoch", "parameters", "images", "head_parameters"):
        assert whole[key] == part[key]


def test_neither_ood_sets_nor_stages_run_on_them(tmp_path, search):
    trial = search(epochs=1)
    noise = load_ood("noise", channels=1, image_size=8)
    stage = StageSource(name="analyse", identity="0" * 16, options={"measures": ["accuracy"]})
    for _ in range(2):
        execute(trial, tmp_path, ood=(OodSource("noise", "noise", noise.fingerprint),), stages=(stage,))
    folder = Store(tmp_path).trial_folder(trial.identity)
    assert not has_ood(folder, noise.fingerprint)
    assert not has_stage(folder, stage.identity)


def test_whoever_reads_records_survives_it(tmp_path, make_trial, search):
    from logitlab.cli.progress import outcome

    for seed in (0, 1):
        execute(search(epochs=1, seed=seed), tmp_path)
    records = Store(tmp_path).records()
    rows = rows_of(records)
    assert all("validation.accuracy" in row and "test.accuracy" not in row for row in rows)
    assert outcome(records[0]).startswith("validation accuracy")
    assert [row.label for row in comparison_table(records).rows] == ["softmax"]
    # In a store that holds both, they are rows of their own.
    execute(make_trial(epochs=1), tmp_path)
    table = comparison_table(Store(tmp_path).records())
    assert sorted(row.label for row in table.rows) == ["softmax", "softmax [measure_test=False]"]
    assert "softmax" in table.to_text()
