"""``logitlab.analyze``: several models, every fault at once, and measures that fail alone."""

import json

import numpy
import pytest
import torch
from checkpoints import write_checkpoint

from logitlab.config.errors import ConfigurationError, LogitLabError
from logitlab.heads import Classifier
from logitlab.models import load_checkpoint, save_checkpoint
from logitlab.records.analysis import (
    BETWEEN_NAMES,
    MEASURE_NAMES,
    AnalysedData,
    AnalysedModel,
    Analysis,
    AnalysisFailure,
    read_analysis,
)
from logitlab.studies import analyze, compare
from logitlab.studies.analysis_inputs import check_folder
from logitlab.studies.analysis_text import analysis_text
from logitlab.studies.measuring import BASIC_MEASURES, choose_measures, give_labels, layered_parts, measure_models

_SQUARED = "squared_error:preset=cifar10"


@pytest.fixture
def models(tmp_path):
    """Three models: other backbones, other sizes, and one without probabilities."""
    return [
        write_checkpoint(tmp_path / "mlp", head="cosine"),
        write_checkpoint(tmp_path / "cnn", backbone="small_cnn", parameters={"width": 4}, side=12, channels=3),
        write_checkpoint(tmp_path / "squared", head="squared_error", head_parameters={"preset": "cifar10"}, seed=2),
    ]


@pytest.fixture
def forwards(monkeypatch):
    counted = []
    features = Classifier.features

    def counting(self, batch):
        counted.append(len(batch))
        return features(self, batch)

    monkeypatch.setattr(Classifier, "features", counting)
    return counted


def test_models_of_other_backbones_and_sizes_stand_side_by_side(models, tmp_path, forwards):
    told = []
    arguments = {
        "measures": ["basic", "cka", "agreement", "clustering"],
        "limit": 60,
        "ood": "noise",
        "device": "cpu",
        "out": tmp_path / "out",
        "report": False,
    }
    found = analyze(models, "digits", **arguments, tell=told.append)
    analysis = found.analysis
    assert [model.label for model in analysis.models] == ["cosine", "softmax", _SQUARED]
    assert [model.image_size for model in analysis.models] == [8, 12, 8]
    assert analysis.models[1].layers == ("layers.3", "layers.7", "layers.10")
    assert (analysis.data.part, analysis.data.images) == ("test", 60)
    # Squared error has no probabilities; everything else is there for all.
    assert [(each.model, each.measure) for each in analysis.failures] == [(_SQUARED, "calibration")]
    assert "squared error defines none" in analysis.failures[0].message.lower()
    for name in BASIC_MEASURES:
        expected = {"cosine", "softmax"} | ({_SQUARED} if name != "calibration" else set())
        assert set(analysis.measures[name]) == expected
    assert set(analysis.between) == {"cka", "agreement", "clustering"}
    assert len(analysis.between["cka"]) == 6
    assert set(analysis.ood[_SQUARED]["noise"]) >= {"max_logit", "feature_norm", "mahalanobis"}
    assert "max_probability" not in analysis.ood[_SQUARED]["noise"]
    assert read_analysis(tmp_path / "out") == analysis
    assert found.to_json() == json.loads((tmp_path / "out" / "analysis.json").read_text())
    text = found.to_text()
    assert text.splitlines()[0] == "digits: 60 images (test)"
    assert f"Not measured: {_SQUARED}: calibration: " in text
    assert "OOD AP noise" in text
    assert any("cosine: a pass over 60 images (test)." in line for line in told)
    # Once more, with more measures: no model looks at an image again.
    made = len(forwards)
    again = analyze(models, "digits", **{**arguments, "measures": ["basic", "cka", "hull"]})
    assert len(forwards) == made
    assert again.analysis.measures["accuracy"] == analysis.measures["accuracy"]
    assert again.analysis.between["cka"] == analysis.between["cka"]


def test_every_fault_is_told_at_once(models, tmp_path, forwards):
    other = write_checkpoint(tmp_path / "other", names=("cat", "dog"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as raised:
        analyze(
            [models[0], models[0], tmp_path / "none", other],
            "digits",
            measures=["acuracy", "probe"],
            part="tset",
            pooling="max",
            layers=["layer.3"],
            ood=["nois"],
            limit=0,
            out=tmp_path / "file",
            device="cpu",
            report=False,
        )
    faults = "\n".join(raised.value.faults)
    for fault in (
        "Unknown measure 'acuracy'; did you mean 'accuracy'?",
        "The measure 'probe' needs another data set.",
        "Unknown part 'tset'; did you mean 'test'?",
        "Unknown pooling 'max'",
        "'limit' must be an int of at least 1. Got 0.",
        "is given twice",
        "none'",
        "has 2 classes, 'digits' has 10",
        "Unknown layer 'layer.3'; did you mean 'layers.3'?",
        "OOD set 'nois': it is not known. Did you mean 'noise'?",
        "'out' must be a folder",
    ):
        assert fault in faults
    assert not forwards


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digit", "Unknown data set 'digit'; did you mean 'digits'"),
        ("MODEL", "is a checkpoint; the data set comes last"),
    ],
)
def test_faults_of_the_data(models, tmp_path, data, message):
    name = str(models[1]) if data == "MODEL" else data
    with pytest.raises(ConfigurationError, match=message):
        analyze(models[0], name, out=tmp_path / "out", report=False)
    with pytest.raises(ConfigurationError, match="Unknown data set 'x'"):
        analyze(tmp_path / "none", "x", out=tmp_path / "out", report=False)


def test_layers_are_auto_or_names(models, tmp_path):
    with pytest.raises(ConfigurationError, match="'auto' or names, not both"):
        analyze(models, "digits", layers=["auto", "layers.3"], out=tmp_path / "out", report=False)
    found = analyze(
        models[:2],
        "digits",
        measures="sparsity_by_layer",
        layers=["layers.7"],
        pooling="flatten",
        limit=20,
        out=tmp_path / "out",
        device="cpu",
        report=False,
    ).analysis
    # The perceptron has no such layer.
    assert found.measures["sparsity_by_layer"]["softmax"]["layers"] == ["layers.7"]
    assert [(each.model, each.measure) for each in found.failures] == [("cosine", "sparsity_by_layer")]


def test_a_model_that_cannot_run_does_not_take_the_others_along(models, tmp_path):
    model, description = load_checkpoint(models[1])
    with torch.no_grad():
        model.backbone.layers[0].weight.fill_(torch.nan)
    save_checkpoint(models[1], model, description)
    options = {"measures": ["accuracy", "agreement"], "limit": 20, "device": "cpu", "report": False}
    found = analyze(models, "digits", out=tmp_path / "out", **options)
    analysis = found.analysis
    assert [(each.model, each.measure) for each in analysis.failures] == [("softmax", "pass")]
    assert set(analysis.measures["accuracy"]) == {"cosine", _SQUARED}
    assert analysis.models[1].accuracy is None
    assert analysis.between["agreement"][0]["names"] == ["cosine", _SQUARED]
    with pytest.raises(LogitLabError, match="No model could be run. softmax: The model's features are not finite"):
        analyze(models[1], "digits", out=tmp_path / "out", **options)


def test_every_part(models, tmp_path):
    counts = {}
    for part in ("train", "validation", "all"):
        found = analyze(
            models[0], "digits", measures="accuracy", part=part, out=tmp_path / "out", device="cpu", report=False
        )
        counts[part] = found.analysis.data.images
    assert counts["all"] == 1797
    assert counts["train"] + counts["validation"] == 1797 - 359


def test_models_of_other_splits_have_no_images_in_common(models, tmp_path):
    from logitlab.evaluation.analyses import Request
    from logitlab.evaluation.subjects import Surroundings, open_subject

    measured = {}
    for part in ("validation", "test"):
        around = Surroundings(
            "digits", part, tmp_path / "passes", None, "cpu", ("auto",), frozenset(), "mean", 20, lambda _: None
        )
        subjects = [open_subject(place, around) for place in models[:2]]
        subjects[1].config = {"data": {"split_seed": 1}}
        give_labels(subjects)
        measured[part] = measure_models(subjects, ["accuracy", "agreement"], Request())
    assert set(measured["test"].between) == {"agreement"}
    assert not measured["validation"].between
    assert measured["validation"].failures[0].message == (
        "The models were trained on different splits, so their validation images differ."
    )


def test_measures_are_chosen_by_name():
    everything = choose_measures("all")
    assert set(everything) == {*MEASURE_NAMES, *BETWEEN_NAMES} - {"probe", "corruption"}
    assert choose_measures(["basic"]) == BASIC_MEASURES
    assert choose_measures(["corruption", "accuracy"]) == ("accuracy", "corruption")
    assert choose_measures(["rank"], probes=["digits"]) == ("rank", "probe")
    assert choose_measures(["rank"], control=True) == ("rank", "cka")
    with pytest.raises(ConfigurationError, match="Name at least one measure"):
        choose_measures([])
    assert layered_parts(("separation_by_layer", "cka", "rank"), "all") == {"train", "all"}


def test_corrupted_images_are_measured_when_named(models, tmp_path, monkeypatch):
    from logitlab.evaluation import corruption

    asked = {}

    def few(model, images, prepare, **options):
        asked.update(options, images=len(images))
        return {"gaussian_noise": [0.1, 0.2], "contrast": [0.3, 0.6]}

    monkeypatch.setattr(corruption, "corruption_errors", few)
    found = analyze(
        models[0], "digits", measures="corruption", limit=20, out=tmp_path / "out", device="cpu", report=False
    ).analysis.measures["corruption"]["cosine"]
    assert found["value"] == pytest.approx(100 * numpy.mean([0.15, 0.45]))
    assert found["errors"]["contrast"] == [0.3, 0.6]
    assert (asked["limit"], asked["images"]) == (20, 359)
    assert found["convention"].endswith("; 20 of 359 images")


def test_the_page_is_written(models, tmp_path, monkeypatch):
    options = {"measures": "basic", "limit": 30, "device": "cpu"}
    found = analyze(models[:2], "digits", out=tmp_path / "out", **options)
    assert found.report == tmp_path / "out" / "report.html"
    assert "cosine" in found.report.read_text()
    from logitlab.report import analysis_page

    def full(analysis, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(analysis_page, "write_analysis_page", full)
    found = analyze(models[:2], "digits", out=tmp_path / "out", **options)
    assert (found.report, found.notices) == (
        None,
        (f"The page cannot be written in '{tmp_path / 'out'}': No space left on device.",),
    )


def test_compare_measures_every_finished_trial(tmp_path, forwards):
    arguments = {
        "heads": ["softmax", "cosine"],
        "backbone": "mlp:widths=[16]",
        "seeds": 2,
        "epochs": 1,
        "train_limit": 100,
        "executor": "serial",
        "device": "cpu",
        "ood": "none",
        "out": tmp_path,
    }
    found = compare("digits", **arguments, measure=["accuracy", "agreement", "ensembles"], report=False)
    analysis = found.analysis
    assert analysis == read_analysis(tmp_path / "analysis")
    assert [model.label for model in analysis.models] == [
        "softmax, seed 0",
        "softmax, seed 1",
        "cosine, seed 0",
        "cosine, seed 1",
    ]
    # The numbers of the records again.
    recorded = {record["identity"]: record["result"]["test"]["accuracy"] for record in found.records}
    assert {model.identity: model.accuracy for model in analysis.models} == pytest.approx(recorded)
    assert analysis.between["ensembles"]["names"] == ["softmax", "cosine"]
    made = len(forwards)
    again = compare("digits", **arguments, measure="accuracy", report=False)
    assert len(forwards) == made
    assert again.analysis.measures["accuracy"] == analysis.measures["accuracy"]
    with pytest.raises(ConfigurationError) as raised:
        compare("digits", **{**arguments, "seeds": 0}, measure="acuracy")
    assert len(raised.value.faults) == 2


def test_faulty_arguments_leave_no_folder_behind(models, tmp_path):
    with pytest.raises(ConfigurationError, match="Unknown measure"):
        analyze(models[0], "digits", measures="acuracy", out=tmp_path / "new" / "out", report=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    check_folder(tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []


def test_a_pair_that_cannot_be_compared_leaves_the_others(models, tmp_path):
    model, description = load_checkpoint(models[1])
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
    save_checkpoint(models[1], model, description)
    found = analyze(
        models[:2], "digits", measures="cka", limit=20, out=tmp_path / "out", device="cpu", report=False
    ).analysis
    assert [(each["first"], each["second"]) for each in found.between["cka"]] == [("cosine", "cosine")]
    assert [each.message.partition(": ")[0] for each in found.failures] == [
        "cosine with softmax",
        "softmax with itself",
    ]


def test_of_many_models_one_of_each_head_gets_a_map(models, tmp_path, monkeypatch):
    from logitlab.evaluation import analyses

    monkeypatch.setitem(analyses.MEASURES, "tsne", lambda subject, request: {"value": 1.0, "convention": "none"})
    same = [write_checkpoint(tmp_path / f"same{seed}", seed=seed) for seed in range(8)]
    arguments = {"measures": "tsne", "limit": 8, "out": tmp_path / "out", "device": "cpu", "report": False}
    found = analyze([*same, models[0]], "digits", **arguments).analysis
    assert list(found.measures["tsne"]) == ["softmax, model 1", "cosine, model 9"]
    assert [(each.model, each.measure) for each in found.failures] == [(None, "tsne")]
    assert "Of more than 8 models only the first of each head" in found.failures[0].message
    found = analyze(same, "digits", **arguments).analysis
    assert len(found.measures["tsne"]) == 8
    assert not found.failures


def made_up(labels):
    """An analysis with a wide table, in which the last model is calibrated in another way and has no rank."""
    ways = {label: "one way" if label != labels[-1] else "another way" for label in labels}
    return Analysis(
        data=AnalysedData(name="d", fingerprint="f", part="test", images=3, class_names=("a", "b")),
        models=tuple(AnalysedModel(label=label, checkpoint="c", head="h", backbone="b") for label in labels),
        measures={
            name: {
                label: {"value": 0.5, "convention": ways[label] if name == "calibration" else "plain"}
                for label in labels
            }
            for name in ("accuracy", "calibration", "separation", "class_angle", "span_angle", "rank", "hardness")
        },
        failures=tuple(AnalysisFailure(model=labels[-1], measure=name, message="No.") for name in ("probe", "tsne")),
    )


def test_a_table_fits_the_terminal():
    labels = ["x" * 20, "y", "z"]
    analysis = made_up(labels)
    wide, narrow = (analysis_text(analysis, width).splitlines() for width in (None, 50))
    assert max(map(len, narrow)) <= 50 < max(map(len, wide))
    assert sum(line.startswith("model ") for line in narrow) == 2
    titles = [title for line in narrow if line.startswith("model ") for title in line.split()[1:]]
    assert titles == wide[1].split()[1:]
    # No room for any column: each still has its place.
    assert sum(line.startswith("model ") for line in analysis_text(analysis, 5).splitlines()) == 7


def test_models_that_were_measured_in_other_ways_are_named():
    lines = analysis_text(made_up(["x", "y", "z"])).splitlines()
    assert "calibration: one way" in lines
    assert "calibration (z): another way" in lines
    assert "rank: plain" in lines
    assert "Not measured: z: probe, tsne: No." in lines


def test_compare_tells_what_was_not_measured(tmp_path):
    from logitlab.studies.progress import Silent

    told = []

    class Telling(Silent):
        def notice(self, text):
            told.append(text)

    compare(
        "digits",
        heads=[_SQUARED],
        backbone="mlp:widths=[8]",
        seeds=1,
        epochs=1,
        train_limit=60,
        executor="serial",
        device="cpu",
        ood="none",
        out=tmp_path,
        measure=["accuracy", "calibration", "reliability"],
        progress=Telling(),
        report=False,
    )
    (line,) = [each for each in told if each.startswith("Not measured: ")]
    assert f"{_SQUARED}: calibration, reliability: Expected a link" in line
