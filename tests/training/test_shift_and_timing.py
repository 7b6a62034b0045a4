"""The stages ``shift`` and ``timing``: other test images of the trained classes, and the machine."""

from __future__ import annotations

import hashlib
import shutil

import numpy
import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError, TrialError
from logitlab.config.study import StageConfig
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.data import DataSet, load_data, load_test_data, prepare_batch, register_data_set
from logitlab.data.registry import DATA_SETS
from logitlab.models import load_checkpoint
from logitlab.records import Store
from logitlab.records.stages import read_stage
from logitlab.training import execute
from logitlab.training.stages import list_stages, plan_stage, run_stages
from logitlab.training.stages import timing as timing_stage  # the module, not its function


class Faults(list):
    def add(self, *sentences):
        self.extend(sentences)


def plan(name, **options):
    faults = Faults()
    trained = [DataConfig(name="digits", train_limit=300)]
    found = plan_stage(StageConfig(name=name, options=options), image_size=8, trained=trained, faults=faults)
    assert not faults, faults
    return found


def faults_of(name, trained=("digits",), **options):
    faults = Faults()
    config = StageConfig(name=name, options=options)
    sources = [DataConfig(name=each) for each in trained]
    assert plan_stage(config, image_size=8, trained=sources, faults=faults) is None
    return faults


def train(root, head):
    trial = TrialConfig(
        data=DataConfig(name="digits", train_limit=300),
        data_fingerprint=load_data("digits").fingerprint,
        backbone=ComponentConfig(name="mlp", parameters={"widths": [16]}),
        head=ComponentConfig(name=head),
        training=TrainingConfig(epochs=2, batch_size=16),
        seed=3,
    )
    execute(trial, root)
    return trial


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("finished")
    return {head: train(root, head) for head in ("cosine_ls", "softmax")}, root


@pytest.fixture
def trained(finished, tmp_path):
    trials, root = finished
    shutil.copytree(root, tmp_path / "runs")
    return trials["cosine_ls"], tmp_path / "runs"


def result(trained, source):
    trial, root = trained
    run_stages(trial, root, [source])
    return read_stage(Store(root).trial_folder(trial.identity), source.identity)["result"]


def logits_of(trained, images):
    """Logits by hand: the checkpoint on grey pixels, normalised with its own numbers."""
    trial, root = trained
    model, description = load_checkpoint(Store(root).trial_folder(trial.identity))
    pixels, labels = next(images.batches(torch.arange(len(images)), len(images)))
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    with torch.no_grad():
        return model.eval()(prepare_batch(pixels, mean, std)), labels


def share_right(logits, labels, classes, k=1):
    """Top-k by sorting the scores of the classes that may be answered."""
    right = 0
    for scores, label in zip(logits.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(classes)), key=lambda place: -scores[classes[place]])
        right += label in order[:k]
    return right / len(labels)


def test_on_the_set_of_the_trial_it_is_the_accuracy_of_the_trial(trained):
    found = result(trained, plan("shift", data="digits"))
    trial, root = trained
    record = Store(root).record(trial.identity)
    assert found["digits"]["accuracy"] == pytest.approx(record["result"]["test"]["accuracy"], abs=1e-12)
    assert 0.1 < found["digits"]["accuracy"] < 1
    logits, labels = logits_of(trained, load_data("digits").test)
    assert found["digits"]["top5"] == pytest.approx(share_right(logits, labels, range(10), 5), abs=1e-12)
    assert found["digits"]["accuracy"] < found["digits"]["top5"]
    assert (found["digits"]["classes"], found["digits"]["images"]) == (10, 359)
    assert found["mean"] == {"accuracy": found["digits"]["accuracy"]}


def test_of_some_classes_the_best_answer_among_these_counts(trained):
    found = result(trained, plan("shift", data=["digits:classes=8+1-3", "digits:classes=4-9"], limit=100))
    few, many = found["digits:classes=8+1-3"], found["digits:classes=4-9"]
    assert "top5" not in few
    assert "among 4 of 10 classes" in few["convention"]
    assert few["images"] == many["images"] == 100
    assert found["mean"]["accuracy"] == pytest.approx((few["accuracy"] + many["accuracy"]) / 2)
    unlimited = result(trained, plan("shift", data="digits:classes=8+1-3"))["digits:classes=8+1-3"]
    logits, labels = logits_of(trained, load_data("digits:classes=8+1-3").test)
    expected = share_right(logits, labels, [8, 1, 2, 3])
    assert unlimited["accuracy"] == pytest.approx(expected, abs=1e-12)
    # The other six may not be answered, so it is easier.
    among_all = (logits.argmax(1) == torch.tensor([8, 1, 2, 3])[labels]).double().mean().item()
    assert expected > among_all


def write_folder(path, counts):
    images = load_data("digits").test
    pixels, labels = next(images.batches(torch.arange(len(images)), len(images)))
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for index in range(count):
            image = pixels[labels == int(name)][index, 0].numpy()
            Image.fromarray(image).save(path / name / f"{index}.png")
    return path


def test_of_a_folder_of_class_folders_all_images_are_measured(trained, tmp_path):
    # One image a class is enough, of which no fifth could be split off.
    folder = write_folder(tmp_path / "again", {"7": 5, "3": 1, "0": 4})
    found = result(trained, plan("shift", data=str(folder)))["again"]
    assert (found["images"], found["classes"]) == (10, 3)
    data = load_test_data(str(folder))
    assert data.class_names == ("0", "3", "7")
    logits, labels = logits_of(trained, data.test)
    assert found["accuracy"] == pytest.approx(share_right(logits, labels, [0, 3, 7]), abs=1e-12)


def test_test_data_of_other_names_is_as_ever(tmp_path):
    folder = write_folder(tmp_path / "whole", {"1": 10, "4": 10, "5": 10})
    assert len(load_data(str(folder)).test) == 6
    assert len(load_test_data(str(folder)).test) == 30
    assert load_test_data(str(folder)).fingerprint != load_data(str(folder)).fingerprint
    chosen = load_test_data(f"{folder}:classes=0+2")
    assert (chosen.class_names, len(chosen.test)) == (("1", "5"), 20)
    # With parts of its own, by name, and as a file.
    for part in ("train", "test"):
        write_folder(tmp_path / "parts" / part, {"1": 3, "4": 3})
    for name in (str(tmp_path / "parts"), "digits", "digits:classes=0-2"):
        assert load_test_data(name).fingerprint == load_data(name).fingerprint
    with pytest.raises(DataError, match="Cannot find the folder"):
        load_test_data(str(tmp_path / "none"))
    with pytest.raises(DataError, match="name of the data set is empty"):
        load_test_data("")


def test_classes_that_the_model_does_not_have_are_told_before_the_first_trial(tmp_path):
    @register_data_set("letters_of_three")
    def letters(root, image_size):
        images = numpy.zeros((30, 8, 8), dtype=numpy.uint8)
        return DataSet.from_arrays(
            "letters_of_three", images, numpy.arange(30) % 3, class_names=["0", "a", "b"], image_size=image_size
        )

    try:
        faults = faults_of("shift", data=["letters_of_three", "digits"], limit=1)
        assert len(faults) == 2
        assert "'stages.shift.limit'" in "".join(faults)
        assert any(
            fault.startswith("The stage 'shift' cannot be run: 'letters_of_three' must have the classes of the trained")
            and "class 'a' is not among these, nor 1 more of its classes" in fault
            for fault in faults
        )
        # Every set that is trained on counts.
        assert len(faults_of("shift", trained=("digits", "digits:classes=0-3"), data="digits:classes=3-4")) == 1
    finally:
        DATA_SETS.forget("letters_of_three")


def test_classes_that_the_model_does_not_have_are_told_when_it_runs(trained, tmp_path):
    # A plan that knew nothing of the trained classes.
    faults = Faults()
    folder = write_folder(tmp_path / "renamed", {"1": 2, "2": 2})
    (folder / "2").rename(folder / "two")
    source = plan_stage(StageConfig(name="shift", options={"data": str(folder)}), image_size=8, faults=faults)
    with pytest.raises(TrialError, match=r"The stage 'shift' failed: 'renamed' must have .* class 'two' is not among"):
        run_stages(*trained, [source])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("shift", {}, "'stages.shift.data'"),
        ("shift", {"data": "digits", "limits": 5}, "did you mean 'limit'"),
        ("shift", {"data": "digit"}, "did you mean 'digits'"),
        ("timing", {"repeats": 0}, "'stages.timing.repeats'"),
        ("timing", {"repeat": 3}, "did you mean 'repeats'"),
    ],
)
def test_wrong_options(name, options, words):
    faults = faults_of(name, **options)
    assert len(faults) == 1
    assert words in faults[0]


def test_they_are_known():
    assert {"shift", "timing"} <= set(list_stages())
    assert plan("timing").identity == plan("timing", repeats=20).identity != plan("timing", repeats=5).identity


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_timing_is_positive_and_leaves_the_model_as_it_is(trained):
    trial, root = trained
    folder = Store(root).trial_folder(trial.identity)
    before = digests(folder)
    found = result(trained, plan("timing", repeats=3))
    assert digests(folder) == before
    assert set(found) == {"step_ms", "energies_ms", "argmin_ms", "candidates", "batch_size", "convention"}
    assert min(found["step_ms"], found["energies_ms"], found["argmin_ms"]) > 0
    assert (found["candidates"], found["batch_size"]) == (20, 16)
    assert found["convention"] == "milliseconds, median of 3 after 3 to warm up, on cpu with 1 threads"


def test_a_head_without_cosines_has_a_step_alone(finished, tmp_path):
    trials, root = finished
    shutil.copytree(root, tmp_path / "runs")
    found = result((trials["softmax"], tmp_path / "runs"), plan("timing", repeats=1))
    assert found["step_ms"] > 0
    assert found["energies_ms"] is found["argmin_ms"] is found["candidates"] is None
    assert "search undefined: the head has no cosine of one weight a class" in found["convention"]


def test_the_median_of_what_was_timed_after_the_warm_up(monkeypatch):
    # Each call takes as many seconds as the list says; the first three are the warm-up.
    seconds = [100, 100, 100, 1, 9, 2]
    clock = [0.0]
    calls = iter(seconds)
    monkeypatch.setattr(timing_stage.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(calls)

    assert timing_stage.median_ms(work, 3, torch.device("cpu")) == pytest.approx(2000)
    assert list(calls) == []


def test_a_step_is_one_of_training_and_the_search_that_of_the_paper(trained, monkeypatch):
    """What is timed: gradients reach every parameter, weights stay, and the arg min is the plain search's κ*."""
    from logitlab.functional.least_squares.plain import plain_search

    works = []
    monkeypatch.setattr(timing_stage, "median_ms", lambda work, repeats, device: works.append(work) or 1.0)
    models = []
    search_inputs = timing_stage._search_inputs

    def inputs(model, images):
        models.append((model, search_inputs(model, images)))
        return models[-1][1]

    monkeypatch.setattr(timing_stage, "_search_inputs", inputs)
    result(trained, plan("timing"))
    (model, (unit_features, unit_weight, cosine, candidates)) = models[0]
    step, energies, smallest = works
    before = [parameter.clone() for parameter in model.parameters()]
    step()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert all(torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before, strict=True))
    kappa, lowest = plain_search(unit_features, unit_weight, candidates, cosine)
    assert energies().shape == (20, 16)
    torch.testing.assert_close(energies().amin(0), lowest)
    torch.testing.assert_close(smallest(), kappa)
