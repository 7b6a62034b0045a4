"""``analysis.json``: what is written is read, and what is damaged is said."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from logitlab.config.errors import RecordError
from logitlab.records.analysis import (
    ANALYSIS_FILE,
    AnalysedData,
    AnalysedModel,
    Analysis,
    AnalysisFailure,
    read_analysis,
    write_analysis,
)


def analysis(**changes):
    fields = {
        "data": AnalysedData(name="d", fingerprint="f", part="test", images=3, class_names=("a", "b")),
        "models": (AnalysedModel(label="m", checkpoint="c", head="softmax", backbone="mlp", kappa=2.0, layers=("x",)),),
        "measures": {"accuracy": {"m": {"value": 0.5, "convention": "top-1", "points": [[0.0, 1.5]]}}},
        "between": {"cka": [{"first": "m", "second": "m", "value": [[1.0]]}]},
        "ood": {"m": {"noise": {"max_logit": {"ap": 0.25, "auroc": None}}}},
        "failures": (AnalysisFailure(model=None, measure="cka", message="Why."),),
    }
    return Analysis(**{**fields, **changes})


def test_what_is_written_is_read(tmp_path):
    written = analysis()
    path = write_analysis(tmp_path / "new", written)
    assert path == tmp_path / "new" / ANALYSIS_FILE
    assert read_analysis(path) == read_analysis(tmp_path / "new") == written
    assert json.loads(path.read_text()) == written.to_json()
    # A line a measure, and no leftovers.
    assert ' "measures": {\n  "accuracy": {"m": {"value": 0.5' in path.read_text()
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == [ANALYSIS_FILE]


def test_nothing_is_written_that_json_cannot_hold(tmp_path):
    for value in (float("nan"), {1, 2}):
        wrong = analysis(measures={"accuracy": {"m": {"value": value}}})
        with pytest.raises(RecordError, match=r"Cannot write '.*analysis.json' as JSON"):
            write_analysis(tmp_path, wrong)
    assert not list(tmp_path.iterdir())


def test_labels_must_be_those_of_the_models():
    with pytest.raises(ValidationError, match="measures 'other', which is none of its models"):
        analysis(measures={"accuracy": {"other": {"value": 1.0}}})
    with pytest.raises(ValidationError, match="measures 'other'"):
        analysis(ood={"other": {}})
    model = analysis().models[0]
    with pytest.raises(ValidationError, match="two models share a label"):
        analysis(models=(model, model))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no '.*'. 'logitlab analyze' makes one."),
        ("{", "it is not whole JSON"),
        ("[]", "is damaged"),
        ('{"version": 2}', "has version 2; this LogitLab reads up to 1. Update it."),
        ('{"version": 1}', "is damaged: data: Field required."),
    ],
)
def test_damage_is_told(tmp_path, content, message):
    if content is not None:
        (tmp_path / ANALYSIS_FILE).write_text(content)
    with pytest.raises(RecordError, match=message):
        read_analysis(tmp_path)


def test_a_measure_of_no_model_is_damage(tmp_path):
    path = write_analysis(tmp_path, analysis())
    path.write_text(path.read_text().replace('{"m": {"value"', '{"n": {"value"'))
    with pytest.raises(RecordError, match="is damaged: it measures 'n', which is none of its models."):
        read_analysis(tmp_path)


def test_reading_needs_no_torch():
    script = "import sys, logitlab.records.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
