"""Every measure of a model from its passes, against scikit-learn, NumPy, and passes in memory."""

from functools import partial

import numpy
import pytest
import torch
from checkpoints import write_checkpoint

from logitlab import analysis
from logitlab.data import MemoryImages, load_data, prepare_batch
from logitlab.evaluation import between, collect, subjects
from logitlab.evaluation.analyses import MEASURES, Request, out_of_distribution, plain_entry, transfer
from logitlab.evaluation.control import initial_model, set_batch_moments
from logitlab.evaluation.passes import PassOptions, chosen_images
from logitlab.evaluation.subjects import Surroundings, open_subject
from logitlab.models import create_backbone, load_checkpoint
from logitlab.records.analysis import BETWEEN_NAMES, MEASURE_NAMES
from logitlab.studies.measuring import give_labels

LIMIT = 60


def around(root, **changes):
    fields = {
        "data": "digits",
        "part": "test",
        "root": root / "passes",
        "data_root": None,
        "device": "cpu",
        "layers": ("auto",),
        "layered": frozenset({"test", "train"}),
        "pooling": "mean",
        "limit": LIMIT,
        "tell": lambda _: None,
    }
    return Surroundings(**{**fields, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("subjects")


@pytest.fixture(scope="module")
def subject(folder):
    torch.set_num_threads(1)
    found = open_subject(write_checkpoint(folder / "one", head="cosine"), around(folder))
    found.label = "one"
    return found


@pytest.fixture(scope="module")
def outputs(subject):
    """The same images without any cache."""
    model, _ = load_checkpoint(subject.folder)
    images = load_data("digits").test
    images = images.select(chosen_images(len(images), LIMIT))

    def prepare(pixels):
        return prepare_batch(pixels, torch.tensor([0.3]), torch.tensor([0.3]))

    return collect(model, images, prepare)


def entry(subject, name, **request):
    return plain_entry(MEASURES[name](subject, Request(**request)))


def test_the_registry_has_the_names_of_the_file():
    assert tuple(MEASURES) == MEASURE_NAMES
    assert all(callable(getattr(between, name)) for name in BETWEEN_NAMES)


@pytest.mark.parametrize("name", [name for name in MEASURE_NAMES if name not in ("probe", "corruption", "plane")])
def test_every_measure_has_a_value_and_a_convention_and_goes_to_json(subject, name):
    import json

    found = entry(subject, name)
    assert "value" in found
    assert found["convention"]
    json.dumps(found, allow_nan=False)


def test_answers(subject, outputs):
    from sklearn.metrics import average_precision_score, top_k_accuracy_score

    labels, predicted = outputs.labels.numpy(), outputs.logits.argmax(dim=1).numpy()
    found = entry(subject, "accuracy")
    assert found["value"] == pytest.approx((labels == predicted).mean(), abs=1e-12)
    recalls = [(predicted[labels == label] == label).mean() for label in set(labels.tolist())]
    assert found["details"]["balanced"] == pytest.approx(numpy.mean(recalls), abs=1e-12)
    wanted = top_k_accuracy_score(labels, outputs.logits.numpy(), k=5, labels=range(10))
    assert found["details"]["top5"] == pytest.approx(wanted, abs=1e-12)
    found = entry(subject, "misclassification")
    wanted = average_precision_score(labels == predicted, outputs.max_logit.numpy())
    assert found["value"] == found["scores"]["max_logit"]["ap"] == pytest.approx(wanted, abs=1e-9)
    assert set(found["scores"]) >= {"max_probability", "feature_norm", "kappa_star", "mahalanobis"}
    norms = numpy.linalg.norm(outputs.features.numpy().astype(float), axis=1)
    wanted = average_precision_score(labels == predicted, norms)
    assert found["scores"]["feature_norm"]["ap"] == pytest.approx(wanted, abs=1e-9)
    curve = entry(subject, "precision_recall")["scores"]["max_logit"]
    assert len(curve["precision"]) == len(curve["recall"]) <= 300
    assert set(entry(subject, "risk_coverage")["scores"]["energy"]) == {"coverage", "risk", "aurc", "excess"}


def test_calibration_is_fitted_on_validation_images_and_told_of_after_scaling(subject):
    found, diagram = entry(subject, "calibration"), entry(subject, "reliability")
    assert found["fitted_on"] == subject.validation.rows == LIMIT
    assert diagram["value"] == pytest.approx(found["ece_before"], abs=1e-9)
    assert diagram["after"]["value"] == pytest.approx(found["ece_after"], abs=1e-9)
    assert sum(diagram["after"]["counts"]) == LIMIT


def test_representations(subject, outputs):
    train = subject.train
    assert train.rows == LIMIT
    found = entry(subject, "separation")
    wanted = analysis.class_separation(numpy.array(train["features"]), numpy.array(train["labels"]))
    assert found["value"] == found["details"]["cosine"] == wanted.value
    assert found["convention"].endswith("60 of 1295 training images")
    layers = entry(subject, "separation_by_layer")
    assert layers["layers"] == ["layers.3", "layers.6", "features"]
    assert layers["value"][-1] == pytest.approx(found["value"], abs=1e-12)
    classes = len(set(train["labels"].tolist()))
    assert layers["null"] == (classes - 1) / (LIMIT - 1)
    assert "averaged over space" in layers["convention"]
    sparsity = entry(subject, "sparsity_by_layer")
    assert sparsity["layers"] == ["layers.3", "layers.6"]
    assert sparsity["value"][-1] == pytest.approx(float((outputs.features == 0).double().mean()), abs=1e-12)
    spectra = entry(subject, "spectra")
    wanted = numpy.linalg.svd(numpy.array(train["features"], dtype=float), compute_uv=False)
    assert spectra["features"] == pytest.approx(wanted, abs=1e-9)
    assert spectra["value"] == spectra["features"][0]
    assert len(spectra["weight"]) == 10
    assert entry(subject, "rank")["details"].keys() >= {"float32", "entropy"}


def test_the_map_of_features(subject):
    from sklearn.manifold import trustworthiness

    found = entry(subject, "tsne")
    points = numpy.array(found["points"])
    assert points.shape == (LIMIT, 2)
    assert found["labels"] == subject.measured["labels"].tolist()
    wanted = trustworthiness(numpy.array(subject.measured["features"]), points, n_neighbors=5)
    # The points are rounded to three digits.
    assert found["trustworthiness"] == found["value"] == pytest.approx(wanted, abs=5e-3)
    assert found == entry(subject, "tsne")


def test_a_map_of_some_images_says_so(subject, monkeypatch):
    from logitlab.evaluation.analyses import representations

    monkeypatch.setattr(representations, "MAP_POINTS", 12)
    found = entry(subject, "tsne")
    assert len(found["points"]) == len(found["labels"]) == 12
    assert found["convention"].endswith(f"; 12 of {subject.measured.rows} images")


def test_geometry_of_a_head_of_several_centres(folder):
    found = open_subject(write_checkpoint(folder / "centres", head="subcenter_arcface"), around(folder))
    assert found.head.centers > 1
    assert 0 < entry(found, "class_angle")["value"] < 180
    for name in ("angle_histogram", "hardness"):
        with pytest.raises(analysis.UndefinedError, match="weights a class; the measure is defined for one"):
            entry(found, name)


def test_strange_images(subject, outputs):
    from sklearn.metrics import roc_auc_score

    found = out_of_distribution(subject, "noise")
    strange = subject.strange("noise")
    assert strange.rows == LIMIT
    right = outputs.logits.argmax(dim=1) == outputs.labels
    scores = numpy.concatenate([outputs.max_logit[right].numpy(), strange["max_logit"]])
    known = numpy.arange(len(scores)) < int(right.sum())
    assert found["max_logit"]["auroc"] == pytest.approx(roc_auc_score(known, scores), abs=1e-9)
    assert found["max_logit"]["base_rate"] == pytest.approx(known.mean(), abs=1e-12)
    assert set(found) == set(entry(subject, "misclassification")["scores"])


def test_a_probe_on_other_images(subject, monkeypatch):
    # Two strengths and not 45: the path has tests of its own.
    monkeypatch.setattr(transfer, "linear_probe", partial(analysis.linear_probe, strengths=[1.0, 10.0]))
    found = entry(subject, "probe", probes=("digits",))
    assert found["data"] == "digits"
    assert found["sets"]["digits"]["value"] == found["value"]
    assert 0.1 < found["value"] <= 1
    assert "60 of 1438 training images" in found["convention"]


def test_between_models(subject, folder):
    other = open_subject(
        write_checkpoint(folder / "two", backbone="small_cnn", parameters={"width": 4}, side=12, seed=3), around(folder)
    )
    third = open_subject(write_checkpoint(folder / "three", head="cosine", seed=4), around(folder))
    several = [subject, other, third]
    give_labels(several)
    assert [each.label for each in several] == ["cosine, model 1", "softmax, model 2", "cosine, model 3"]
    matrices = [compare() for _, compare in between.cka(several)]
    assert [(each["first"][-1], each["second"][-1]) for each in matrices] == [
        (a, b) for place, a in enumerate("123") for b in "123"[place:]
    ]
    one = matrices[1]
    x, y = (numpy.array(each.measured["features"], dtype=float) for each in (subject, other))
    x, y = x - x.mean(0), y - y.mean(0)
    wanted = numpy.linalg.norm(x.T @ y) ** 2 / (numpy.linalg.norm(x.T @ x) * numpy.linalg.norm(y.T @ y))
    assert one["value"][-1][-1] == pytest.approx(wanted, abs=1e-9)
    assert (one["rows"], one["columns"][:2]) == (["layers.3", "layers.6", "features"], ["layers.3", "layers.7"])
    kinds = between.agreement(several)
    assert [each["kind"] for each in kinds] == ["same", "both_right_or_both_wrong", "same_when_both_wrong"]
    same = (subject.measured["logits"].argmax(1) == third.measured["logits"].argmax(1)).mean()
    assert kinds[0]["value"][0][2] == pytest.approx(same, abs=1e-12)
    assert sorted(between.clustering(several)["order"]) == [0, 1, 2]
    assert between.ensembles([subject, third])["names"] == ["cosine"]
    with pytest.raises(analysis.UndefinedError, match="No head has two models"):
        between.ensembles([subject, other])


def test_many_models_are_compared_by_one_of_each_head(subject):
    several = [subject] * (between.MOST_MODELS + 1)
    assert between.representatives(several) == [subject]
    assert [pair for pair, _ in between.cka(several)] == [f"{subject.label} with itself"]
    assert between.representatives(several[1:]) == several[1:]


def test_the_control_has_initial_weights_and_the_moments_of_training_images(folder):
    place = write_checkpoint(folder / "controlled", backbone="mlp", parameters={"widths": [8]}, seed=9)
    trained, description = load_checkpoint(place)
    model = initial_model(trained, description, 5, zero_init_last=True)
    torch.manual_seed(5)
    fresh = create_backbone("mlp", channels=1, image_size=8, parameters={"widths": [8]})
    assert torch.equal(model.backbone.layers[1].weight, fresh.layers[1].weight)
    assert model.head is trained.head
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator)
    images = MemoryImages(pixels, torch.zeros(20, dtype=torch.int64))
    options = PassOptions(lambda batch: batch.float(), batch_size=8)
    # 8, 8 and 1 image: of one image there is no variance.
    set_batch_moments(model.backbone, images, torch.arange(17), options)
    hidden = pixels[:16].flatten(1).float() @ fresh.layers[1].weight.detach().T
    batches = hidden.split(8)
    mean = torch.stack([batch.mean(dim=0) for batch in batches]).mean(dim=0)
    variance = torch.stack([batch.var(dim=0) for batch in batches]).mean(dim=0)
    layer = model.backbone.layers[2]
    assert torch.allclose(layer.running_mean, mean, rtol=1e-4, atol=1e-3)
    assert torch.allclose(layer.running_var, variance, rtol=1e-4)
    assert (layer.training, layer.momentum) == (False, 0.1)


def test_the_control_is_another_model(subject):
    control = subject.control
    assert control.layers == subject.measured.layers
    assert not numpy.array_equal(control["features"], subject.measured["features"])
    (_, (pair, compare)) = between.cka([subject], control=True)
    assert pair == f"{subject.label} with its control"
    assert compare()["second"] == f"{subject.label} (control)"


def test_a_pass_with_layers_serves_who_asks_for_none(folder):
    place = write_checkpoint(folder / "served", seed=6)
    with_layers = open_subject(place, around(folder)).measured
    without = open_subject(place, around(folder, layered=frozenset())).measured
    assert without.folder == with_layers.folder


def test_without_mahalanobis_the_other_scores_go_on(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise analysis.UndefinedError("Why.")

    monkeypatch.setattr(subjects, "fit_mahalanobis", refuse)
    found = entry(open_subject(write_checkpoint(folder / "no"), around(folder)), "misclassification")
    assert "mahalanobis" not in found["scores"]
    assert found["warnings"] == ["No score by Mahalanobis distances: Why."]
