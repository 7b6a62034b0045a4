"""Measurements of users: in an analysis, its text, its page."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from checkpoints import write_checkpoint

from logitlab.analysis import UndefinedError
from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError, InputError, ParameterError
from logitlab.data import load_data, prepare_batch
from logitlab.evaluation.analyses import MEASURES, find_measures
from logitlab.evaluation.measurements import MEASUREMENTS, measure_by, outputs_of, register_measurement
from logitlab.evaluation.subjects import Surroundings, open_subject
from logitlab.models import load_checkpoint
from logitlab.records.analysis import MEASURE_NAMES
from logitlab.studies import analyze
from logitlab.studies.measuring import choose_measures


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    for name in MEASUREMENTS.names():
        if not name.startswith("doctest"):
            MEASUREMENTS.forget(name)


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "model", head="cosine", head_parameters={"kappa": 7})


@pytest.fixture
def subject(checkpoint, tmp_path):
    around = Surroundings(
        "digits", "test", tmp_path / "passes", None, "cpu", ("auto",), frozenset(), "mean", 40, lambda _: None
    )
    return open_subject(checkpoint, around)


def test_outputs_are_those_of_the_model(subject, checkpoint):
    outputs = outputs_of(subject)
    model, _ = load_checkpoint(checkpoint)
    images = subject.part("test")
    from logitlab.evaluation.passes import chosen_images

    chosen = images.select(chosen_images(len(images), 40))
    pixels, labels = next(chosen.batches(torch.arange(40), 40))
    with torch.no_grad():
        features = model.features(prepare_batch(pixels, torch.tensor([0.3]), torch.tensor([0.3])))
        logits, cosine = model.head(features), model.head.max_logit(features)
    numpy.testing.assert_allclose(outputs.features, features, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    numpy.testing.assert_allclose(outputs.max_logit, cosine, rtol=1e-4, atol=1e-5)
    assert outputs.labels.tolist() == labels.tolist()
    assert (outputs.weight == model.head.weight.detach().numpy()).all()
    assert outputs.kappa == pytest.approx(7)
    assert (outputs.link, outputs.part, len(outputs.class_names)) == ("softmax", "test", 10)
    assert outputs.kappa_star.shape == (40,)


def test_a_number_becomes_an_entry(subject):
    @register_measurement("mean_label")
    def mean_label(outputs):
        """Mean label.

        It says nothing.
        """
        return outputs.labels.mean()

    labels = outputs_of(subject).labels
    assert measure_by("mean_label", subject) == {
        "name": "mean_label",
        "value": pytest.approx(float(labels.mean())),
        "convention": "Mean label",
        "n": 40,
        "split": "test",
        "warnings": [],
    }
    register_measurement("bare")(lambda outputs: torch.tensor(2.0))
    entry = measure_by("bare", subject)
    assert (entry["value"], entry["convention"]) == (2.0, f"registered by {__name__}")
    register_measurement("endless")(lambda outputs: math.inf)
    assert measure_by("endless", subject)["value"] is None
    register_measurement("never")(lambda outputs: None)
    with pytest.raises(UndefinedError, match="The measurement 'never' is not defined here"):
        measure_by("never", subject)


@pytest.mark.parametrize("found", ["high", True, numpy.zeros(2), {"a": 1.0}, [1.0]])
def test_what_is_no_number_is_told(subject, found):
    register_measurement("wrong")(lambda outputs: found)
    with pytest.raises(InputError, match="The measurement 'wrong' must return a number or None. Got "):
        measure_by("wrong", subject)


def test_names_that_are_taken():
    for name in ("accuracy", "cka", "all", "basic"):
        with pytest.raises(ParameterError, match=f"The measurement '{name}' is built in"):
            register_measurement(name)
    register_measurement("mine")(lambda outputs: 1.0)
    with pytest.raises(ParameterError, match="The measurement 'mine' is registered already"):
        register_measurement("mine")
    with pytest.raises(ParameterError, match=r"it must take one argument, the outputs, as in def mine\(outputs\): …"):
        register_measurement("other")(lambda: 1.0)


def test_they_are_chosen_like_others():
    assert tuple(find_measures())[: len(MEASURES)] == MEASURE_NAMES
    register_measurement("mine")(lambda outputs: 1.0)
    assert "mine" in find_measures()
    assert "mine" in choose_measures("all")
    assert "mine" not in choose_measures("basic")
    assert choose_measures(["cka", "mine", "rank"]) == ("rank", "mine", "cka")
    with pytest.raises(ConfigurationError, match="Unknown measure 'mien'; did you mean 'mine'"):
        choose_measures(["mien"])


def test_an_analysis_shows_them_in_its_table_and_on_its_page(checkpoint, tmp_path):
    @register_measurement("label_mean")
    def label_mean(outputs):
        "mean of the labels"
        return outputs.labels.mean()

    @register_measurement("label_fault")
    def label_fault(outputs):
        raise KeyError("labels")

    found = analyze(checkpoint, "digits", measures=["accuracy", "label_mean", "label_fault"], out=tmp_path / "out")
    expected = float(load_data("digits").test.labels.double().mean())
    entry = found.analysis.measures["label_mean"]["cosine:kappa=7"]
    assert entry["value"] == pytest.approx(expected)
    text = found.to_text()
    assert "label mean" in text
    assert f"{expected:.4f}" in text
    assert "label_mean: mean of the labels" in text
    assert "label_fault: KeyError: 'labels'" in text
    page = found.report.read_text(encoding="utf-8")
    assert "label mean" in page
    assert f"{expected:.4f}" in page
    assert "mean of the labels" in page


PLUGIN = """
from logitlab.evaluation.measurements import register_measurement

@register_measurement("from_plugin")
def from_plugin(outputs):
    "how many"
    return len(outputs.labels)
"""


def test_the_command_takes_them_from_a_plugin(checkpoint, tmp_path, capsys):
    plugin = tmp_path / "measurement_plugin_one.py"
    plugin.write_text(PLUGIN)
    arguments = ["analyze", str(checkpoint), "digits", "--plugin", str(plugin), "--measure", "from_plugin"]
    main([*arguments, "--limit", "25", "--out", str(tmp_path / "out")])
    assert "25.0000" in capsys.readouterr().out
