"""Measures that are made for some models: features in a plane, the loss of cosine heads, the largest κ*."""

import math
from functools import partial

import numpy
import pytest
import torch
from checkpoints import write_checkpoint
from torch.nn import functional

from logitlab import analysis
from logitlab.evaluation import analyses
from logitlab.evaluation.analyses import MEASURES, Request, plain_entry, representations
from logitlab.evaluation.subjects import Surroundings, open_subject
from logitlab.studies import analyze, measuring
from logitlab.studies.measuring import choose_measures, give_labels, measure_models

LIMIT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("subjects")


def subject(folder, name, **checkpoint):
    around = Surroundings(
        "digits", "test", folder / "passes", None, "cpu", ("auto",), frozenset(), "mean", LIMIT, lambda _: None
    )
    place = folder / name
    found = open_subject(place if place.exists() else write_checkpoint(place, **checkpoint), around)
    found.label = name
    return found


FLAT = {"backbone": "mlp", "parameters": {"widths": [16, 2]}}
open_flat = partial(subject, name="flat", head="lsoftmax", **FLAT)


def entry(subject, name, **request):
    return plain_entry(MEASURES[name](subject, Request(**request)))


def test_the_plane_holds_the_features_and_the_weights(folder):
    flat = open_flat(folder)
    found = entry(flat, "plane")
    assert numpy.array(found["points"]) == pytest.approx(numpy.array(flat.measured["features"]), rel=1e-3)
    assert numpy.array(found["weight"]) == pytest.approx(flat.weight.numpy(), rel=1e-3)
    assert numpy.array(found["weight"]).shape == (10, 2)
    assert found["labels"] == flat.measured["labels"].tolist()
    wanted = analysis.class_separation(numpy.array(flat.measured["features"]), numpy.array(flat.measured["labels"]))
    assert found["value"] == wanted.value


def test_a_plane_of_some_images_is_chosen_by_the_seed(folder, monkeypatch):
    from logitlab.evaluation.analyses import plane

    monkeypatch.setattr(plane, "MAP_POINTS", 12)
    flat = open_flat(folder)
    found = entry(flat, "plane")
    assert len(found["points"]) == len(found["labels"]) == 12
    assert found["convention"].endswith(f"; 12 of {LIMIT} images drawn, seed 0")
    # The same images as those of a map.
    monkeypatch.setattr(representations, "MAP_POINTS", 12)
    assert found["labels"] == entry(flat, "tsne")["labels"]
    assert entry(flat, "plane", seed=1)["points"] != found["points"]
    assert entry(flat, "plane", seed=1)["value"] == found["value"]


def test_a_plane_without_class_separation_is_still_one(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise analysis.UndefinedError("One class alone.")

    from logitlab.evaluation.analyses import plane

    monkeypatch.setattr(plane, "class_separation", refuse)
    found = entry(open_flat(folder), "plane")
    assert (found["value"], found["warnings"]) == (None, ["No class separation: One class alone."])
    assert len(found["points"]) == LIMIT


@pytest.mark.parametrize(
    ("head", "parameters"),
    [("cosine", {"kappa": 7.0}), ("cosine_ls", {}), ("cosface", {}), ("cosine", {"inference_kappa": "mean"})],
)
def test_the_loss_is_that_of_the_logits_of_inference(folder, head, parameters):
    one = subject(folder, f"{head}-{'-'.join(parameters)}", head=head, head_parameters=parameters)
    found = entry(one, "loss_by_cosine")
    logits, labels = (torch.from_numpy(numpy.array(one.measured[key])) for key in ("logits", "labels"))
    losses = functional.cross_entropy(logits.double(), labels, reduction="none")
    assert found["value"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found["kappa"] == pytest.approx(float(one.head.kappa))
    assert sum(found["counts"]) == LIMIT
    assert len(found["loss"]) == 20
    assert ("running mean" in found["convention"]) == (head != "cosine")
    at_zero = found["grid"].index(0.0)
    assert found["curve"][at_zero] == pytest.approx(math.log(10))


def test_a_bias_is_part_of_the_loss(folder):
    place = write_checkpoint(folder / "biased", head="cosine")
    from safetensors.torch import load_file, save_file

    weights = load_file(place / "model.safetensors")
    key = next(name for name in weights if name.endswith("head.bias"))
    weights[key] = torch.linspace(-2, 2, 10)
    save_file(weights, place / "model.safetensors")
    one = subject(folder, "biased")
    logits, labels = (torch.from_numpy(numpy.array(one.measured[key])) for key in ("logits", "labels"))
    found = entry(one, "loss_by_cosine")
    assert found["value"] == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert "κ cos + b" in found["convention"]


@pytest.mark.parametrize(
    ("head", "parameters", "why"),
    [
        ("softmax", {}, "this head has no cosines that κ scales"),
        ("logit_norm", {}, "this head has no cosines that κ scales"),
        ("subcenter_arcface", {}, "The head has 3 weights a class"),
        ("sigmoid", {"classifier": "cosine", "kappa": 5.0}, "this head has another"),
    ],
)
def test_other_heads_have_no_such_curve(folder, head, parameters, why):
    one = subject(folder, f"no-{head}", head=head, head_parameters=parameters)
    with pytest.raises(analysis.UndefinedError, match=why):
        entry(one, "loss_by_cosine")


def test_the_image_with_the_largest_kappa(folder):
    one = subject(folder, "no-softmax", head="softmax")
    found = entry(one, "sparse_softmax")
    kappas = numpy.array(one.measured["kappa_star"], dtype=float)
    assert found["value"] == pytest.approx(kappas.max(), rel=1e-5)
    assert found["index"] == int(numpy.flatnonzero(numpy.isclose(kappas, kappas.max(), rtol=1e-4))[0])
    assert found["label"] == int(one.measured["labels"][found["index"]])
    unit = torch.from_numpy(numpy.array(one.measured["features"][found["index"]]))
    wanted = functional.cosine_similarity(unit, one.weight)
    assert found["cosines"] == pytest.approx(wanted.tolist(), abs=1e-6)
    assert sum(found["probabilities"]) == pytest.approx(1)
    with pytest.raises(analysis.UndefinedError, match="weights a class; the measure is defined for one"):
        entry(subject(folder, "no-subcenter_arcface", head="subcenter_arcface"), "sparse_softmax")


def test_only_who_names_a_measure_hears_of_models_that_it_does_not_suit(folder, monkeypatch):
    subjects = [subject(folder, "no-softmax", head="softmax"), open_flat(folder)]
    give_labels(subjects)
    some = {name: MEASURES[name] for name in ("plane", "loss_by_cosine", "sparse_softmax")}
    monkeypatch.setattr(analyses, "find_measures", lambda: some)
    # The others take their time, and have tests of their own.
    monkeypatch.setattr(measuring, "_between", lambda *given: {})
    everything = measure_models(subjects, choose_measures("all"), Request())
    assert [failure.measure for failure in everything.failures if failure.measure in some] == []
    assert list(everything.measures["plane"]) == [subjects[1].label]
    assert list(everything.measures["sparse_softmax"]) == [each.label for each in subjects]
    assert "loss_by_cosine" not in everything.measures
    named = measure_models(subjects, choose_measures(["plane", "loss_by_cosine"]), Request())
    assert [(failure.model, failure.measure) for failure in named.failures] == [
        ("softmax", "plane"),
        ("softmax", "loss_by_cosine"),
        ("lsoftmax", "loss_by_cosine"),
    ]
    assert named.failures[0].message == "Features of 12 dimensions lie in no plane; 'tsne' makes a map of them."


def test_the_command_measures_them_and_draws_them(folder):
    open_flat(folder)
    place = write_checkpoint(folder / "flat-cosine", head="cosine", **FLAT)
    found = analyze(
        [folder / "flat", place],
        "digits",
        measures=["plane", "loss_by_cosine", "sparse_softmax"],
        limit=LIMIT,
        out=folder / "out",
        device="cpu",
    )
    assert [failure.measure for failure in found.analysis.failures] == ["loss_by_cosine"]
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    for key in ("plane", "loss-by-cosine", "sparse-softmax"):
        assert f'id="analysis-{key}"' in page
