"""Training one head: a trial of a comparison that leaves a model to use."""

import json

import pytest
import torch

from logitlab.config.errors import ConfigurationError, RecordError, TrialError
from logitlab.evaluation.checkpoint import evaluate_checkpoint
from logitlab.records import read_outputs
from logitlab.studies import compare, train

SETTINGS = {"backbone": "mlp:widths=[16]", "epochs": 1, "device": "cpu", "ood": ["noise"]}


@pytest.fixture
def trained(tmp_path):
    return train(head="cosine_ls", out=tmp_path / "runs", **SETTINGS)


@pytest.mark.slow
def test_it_leaves_all_that_a_model_needs(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert {"model.safetensors", "model.json", "outputs.npz", "record.json", "README.md"} <= names
    assert trained.measures["accuracy"] > 0.3
    assert f"{100 * trained.measures['accuracy']:.2f} %" in trained.card
    assert "Temperature in Cosine-based Softmax Loss" in trained.card
    assert "| noise |" in trained.card
    assert str(trained.folder) in str(trained)
    assert trained.load().head.link == "softmax"


@pytest.mark.slow
def test_the_predictor_gives_the_outputs_of_the_trial(trained):
    from logitlab.data import load_data

    outputs = read_outputs(trained.folder)
    images = load_data("digits").test
    pixels = next(images.batches(torch.arange(len(images)), len(images)))[0]
    predictor = trained.predictor()
    answers = predictor.predict(pixels)
    assert [answer.label for answer in answers] == outputs["predicted"].tolist()
    assert [answer.confidence for answer in answers] == pytest.approx(outputs["confidence"].tolist(), rel=1e-5)
    chosen = predictor.threshold_for_precision(0.9)
    accepted = outputs["validation_confidence"] >= chosen.threshold
    right = (outputs["validation_labels"] == outputs["validation_predicted"])[accepted]
    assert right.mean() == pytest.approx(chosen.precision)
    assert right.mean() >= 0.9


@pytest.mark.slow
def test_evaluating_it_on_its_data_gives_its_record(trained, tmp_path):
    found = evaluate_checkpoint(trained.folder, "digits", ood=["noise"])
    assert (found.part, found.images, found.same_data) == ("test", 359, True)
    for name, value in trained.measures.items():
        assert found.to_json()["measures"][name] == (None if value is None else pytest.approx(value, rel=1e-9))
    strange = trained.record["ood"]["noise"]
    assert found.ood["noise"] == {name: pytest.approx(value, abs=1e-6) for name, value in strange.items()}
    assert "accuracy " in found.to_text()
    assert "noise: max_logit_ap" in found.to_text()
    everything = evaluate_checkpoint(trained.folder, "digits", part="all")
    assert everything.images == 1797
    assert "trained on these images" in everything.to_text()
    json.loads(everything.to_json_text())
    # A copy of another name keeps its record.
    copy = tmp_path / "copy"
    trained.folder.rename(copy)
    assert evaluate_checkpoint(copy, "digits", part="validation").same_data is True


@pytest.mark.slow
def test_a_trial_of_a_comparison_is_not_run_again(tmp_path):
    comparison = compare(heads=["softmax"], seeds=1, out=tmp_path, executor="serial", **SETTINGS)
    trained = train(head="softmax", out=tmp_path, **SETTINGS)
    assert trained.record["provenance"] == comparison.records[0]["provenance"]
    assert "README.md" in {path.name for path in trained.folder.iterdir()}
    (trained.folder / "model.safetensors").unlink()
    with pytest.raises(RecordError, match="its model is gone. Remove the folder"):
        train(head="softmax", out=tmp_path, **SETTINGS)


@pytest.mark.slow
def test_a_training_that_fails_says_why(tmp_path):
    with pytest.raises(TrialError, match="'softmax' failed: The loss.*learning_rate"):
        train(head="softmax", out=tmp_path, **{**SETTINGS, "epochs": 2}, learning_rate=1e12)


def test_every_fault_is_told_before_training(tmp_path):
    with pytest.raises(ConfigurationError) as fault:
        train(head="sofmax", out=tmp_path / "runs", **{**SETTINGS, "epochs": 0})
    assert len(fault.value.faults) == 2
    assert not (tmp_path / "runs").exists()
