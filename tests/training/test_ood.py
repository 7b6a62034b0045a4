"""Out-of-distribution sets measured on finished trials, without training them again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from logitlab.config.errors import DataError, RecordError
from logitlab.data import load_data, load_ood, prepare_batch
from logitlab.models import load_checkpoint
from logitlab.records import OodSource, Store, has_ood, read_ood, read_ood_scores, read_outputs
from logitlab.training import execute
from logitlab.training.ood import measure_ood


def source(name):
    found = load_ood(name, channels=1, image_size=8)
    return OodSource(name, found.name, found.fingerprint)


def test_a_trial_leaves_outputs_and_measures_of_each_set(tmp_path, make_trial):
    trial = make_trial("cosine")
    noise, patches = source("noise"), source("patches")
    execute(trial, tmp_path, ood=(noise, patches))
    folder = Store(tmp_path).trial_folder(trial.identity)
    outputs = read_outputs(folder)
    result = Store(tmp_path).record(trial.identity)["result"]
    right = outputs["predicted"] == outputs["labels"]
    assert right.mean() == pytest.approx(result["test"]["accuracy"])
    shares = [right[outputs["labels"] == label].mean() for label in range(10)]
    assert result["per_class_accuracy"] == pytest.approx(shares)
    assert result["test"]["balanced_accuracy"] == pytest.approx(np.mean(shares))
    assert outputs["validation_labels"].shape == (143,)
    # The model as it is loaded gives what was kept, and the measures follow from it.
    model, description = load_checkpoint(folder)
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    for found in (noise, patches):
        images = load_ood(found.name, channels=1, image_size=8).images
        with torch.no_grad():
            features = model.features(prepare_batch(next(images.batches(torch.arange(1000), 1000))[0], mean, std))
        scores = read_ood_scores(folder, found.fingerprint)
        np.testing.assert_allclose(scores["max_logit"], model.head.max_logit(features).detach(), atol=1e-5)
        np.testing.assert_allclose(scores["feature_norm"], features.norm(dim=1), rtol=1e-4)
        measures = read_ood(folder, found.fingerprint)["measures"]
        for score in ("max_logit", "feature_norm"):
            expected = average_precision_score(
                np.r_[np.ones(right.sum()), np.zeros(1000)], np.r_[outputs[score][right], scores[score]]
            )
            assert measures[f"{score}_ap"] == pytest.approx(expected, rel=1e-9)
        assert measures["base_rate"] == right.sum() / (right.sum() + 1000)


def test_ood_sets_are_no_part_of_the_result(tmp_path, make_trial):
    trial = make_trial()
    execute(trial, tmp_path / "with", ood=(source("noise"),))
    execute(trial, tmp_path / "without")
    first, second = (Store(tmp_path / name).record(trial.identity) for name in ("with", "without"))
    assert first["result"] == second["result"]


def test_a_finished_trial_is_measured_and_not_trained(tmp_path, make_trial, monkeypatch):
    trial, noise = make_trial(), source("noise")
    execute(trial, tmp_path / "later")
    execute(trial, tmp_path / "at once", ood=(noise,))
    folders = [Store(tmp_path / name).trial_folder(trial.identity) for name in ("later", "at once")]
    before = (folders[0] / "record.json").read_bytes()

    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr("logitlab.training.trial.fit", refuse)
    state = torch.get_rng_state()
    execute(trial, tmp_path / "later", ood=(noise,))
    assert torch.equal(torch.get_rng_state(), state)
    assert (folders[0] / "record.json").read_bytes() == before
    first, second = (read_ood(folder, noise.fingerprint) for folder in folders)
    assert first == second
    # A third time there is nothing to do: not even the checkpoint is read.
    (folders[0] / "model.safetensors").unlink()
    execute(trial, tmp_path / "later", ood=(noise,))


def test_outputs_that_are_gone_are_made_again(tmp_path, make_trial):
    trial, noise = make_trial("sigmoid"), source("noise")
    execute(trial, tmp_path)
    folder = Store(tmp_path).trial_folder(trial.identity)
    before = read_outputs(folder)
    (folder / "outputs.npz").write_bytes(b"half")
    measure_ood(trial, tmp_path, (noise,))
    after = read_outputs(folder)
    assert set(after) == set(before)
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-5)
    assert has_ood(folder, noise.fingerprint)


def test_a_trial_without_its_model_is_told(tmp_path, make_trial):
    trial = make_trial()
    execute(trial, tmp_path)
    folder = Store(tmp_path).trial_folder(trial.identity)
    (folder / "model.safetensors").unlink()
    with pytest.raises(RecordError, match="There is no"):
        measure_ood(trial, tmp_path, (source("noise"),))


def test_images_that_changed_since_the_plan_are_refused(tmp_path, make_trial):
    trial = make_trial()
    execute(trial, tmp_path)
    with pytest.raises(DataError, match="not those that the study was planned for"):
        measure_ood(trial, tmp_path, (OodSource("noise", "noise", "0" * 64),))


def test_the_data_of_old_trials_is_read_where_the_trial_says(tmp_path, make_trial, monkeypatch):
    trial = make_trial()
    execute(trial, tmp_path)
    (Store(tmp_path).trial_folder(trial.identity) / "outputs.npz").unlink()
    asked = []
    monkeypatch.setattr(
        "logitlab.training.ood.load_data", lambda name, **options: asked.append((name, options)) or load_data(name)
    )
    measure_ood(trial, tmp_path, (source("noise"),), data_root="somewhere")
    assert asked == [("digits", {"image_size": None, "root": "somewhere"})]
