"""What is held out may be trained on, once it has chosen: W A.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from logitlab import studies
from logitlab.config.errors import DataError
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.data import DataSet, load_data, split_data
from logitlab.records import Store

STUDY: dict[str, Any] = {
    "name": "all-of-it",
    "data": {"name": "digits", "train_on_held_out": True},
    "backbone": "mlp:widths=[8]",
    "training": {"epochs": 1, "batch_size": 64},
    "heads": ["softmax"],
    "seeds": 1,
}


def test_the_validation_part_is_one_of_the_training_part() -> None:
    data = load_data("digits")
    apart, together = (split_data(data, DataConfig(name="digits", train_on_held_out=value)) for value in (False, True))
    assert len(together.train) == len(data.train) == len(apart.train) + len(apart.validation)
    for one, other in ((apart.validation, together.validation), (apart.test, together.test)):
        assert torch.equal(one.pixels, other.pixels)
    limited = split_data(data, DataConfig(name="digits", train_on_held_out=True, train_limit=50))
    assert len(limited.train) == 50


def test_trials_of_before_stay_what_they_were() -> None:
    def identity(**data: Any) -> str:
        return TrialConfig(
            data=DataConfig(name="digits", **data),
            data_fingerprint="f",
            backbone=ComponentConfig(name="mlp"),
            head=ComponentConfig(name="softmax"),
            training=TrainingConfig(),
            seed=0,
        ).identity

    assert identity() == identity(train_on_held_out=False) != identity(train_on_held_out=True)
    assert "train_on_held_out" not in DataConfig().model_dump(mode="json")


def test_a_set_with_validation_images_of_its_own_is_refused() -> None:
    images, labels = numpy.zeros((8, 8, 8), dtype=numpy.uint8), numpy.arange(8) % 2
    data = DataSet.from_arrays("mine", images, labels)
    object.__setattr__(data, "validation", data.test)
    with pytest.raises(DataError, match="'mine' brings validation images of its own"):
        split_data(data, DataConfig(name="mine", train_on_held_out=True))


def test_a_search_holds_out_and_the_table_trains_on_all(tmp_path: Path) -> None:
    search = {"parameters": {"training.learning_rate": {"values": [0.05, 0.1], "low": 0.05, "high": 0.1}}}
    search |= {"seeds": 1, "refinements": 0, "expansions": 0}
    outcome = studies.run({**STUDY, "search": search}, executor="serial", out=tmp_path, device="cpu", report=False)
    assert outcome.failed == ()
    store, seen = Store(tmp_path), {"search": set(), "final": set()}
    for planned in outcome.results.plan.trials:
        record = store.record(planned.identity)
        seen[planned.role].add(
            (record["result"]["images"]["train"], record["config"]["data"].get("train_on_held_out", False))
        )
    whole = len(load_data("digits").train)
    held = record["result"]["images"]["validation"]
    assert seen == {"search": {(whole - held, False)}, "final": {(whole, True)}}


def test_an_epoch_cannot_be_chosen_by_images_that_are_trained_on(tmp_path: Path) -> None:
    from logitlab.config.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="'softmax' chooses its epoch by images that are held out, and trains"):
        studies.run({**STUDY, "select_epoch": "best"}, executor="serial", out=tmp_path, device="cpu")


@pytest.mark.parametrize(("on_all", "images"), [(True, "test"), (False, "validation")])
def test_temperature_scaling_is_not_fitted_to_images_that_were_trained_on(
    tmp_path: Path, on_all: bool, images: str
) -> None:
    """Then it is fitted to the images that are measured, as W seems to do."""
    study = {**STUDY, "data": {"name": "digits", "train_on_held_out": on_all}}
    study["stages"] = [{"analyse": {"measures": ["calibration"]}}]
    outcome = studies.run(study, executor="serial", out=tmp_path, device="cpu", report=False)
    (row,) = outcome.results.rows
    (planned,) = outcome.results.plan.trials
    counts = Store(tmp_path).record(planned.identity)["result"]["images"]
    assert counts["test"] != counts["validation"]
    assert row.seeds[0]["analyse.calibration.fitted_on"] == counts[images]
