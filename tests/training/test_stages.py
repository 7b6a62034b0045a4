"""Stages: planned with every fault at once, run once on a finished trial, the same bit for bit each time."""

from __future__ import annotations

import copy
import json
import random
import warnings

import numpy
import pytest
import torch

from logitlab.analysis import linear_probe
from logitlab.config.errors import DataError, ParameterError, RecordError, TrialError
from logitlab.config.study import StageConfig
from logitlab.config.training import TrainingConfig
from logitlab.data import DataSet, load_data, prepare_batch, register_data_set, split_data
from logitlab.data.registry import DATA_SETS
from logitlab.evaluation.measurements import MEASUREMENTS, register_measurement
from logitlab.evaluation.passes import chosen_images
from logitlab.models import load_checkpoint
from logitlab.records import Store
from logitlab.records.stages import has_stage, read_stage, stage_path
from logitlab.records.study import StageSource
from logitlab.training import derive_seed, execute
from logitlab.training.stages import FINE_TUNING, STAGES, list_stages, plan_stage, register_stage, run_stages, running
from logitlab.training.stages import fine_tune as fine_tuning
from logitlab.training.stages.options import FineTuneOptions


class Faults:
    """What gathers sentences, as that of the studies does."""

    def __init__(self):
        self.sentences = []

    def add(self, *sentences):
        self.sentences.extend(sentences)


def plan(name, *, root=None, **options):
    faults = Faults()
    found = plan_stage(StageConfig(name=name, options=options), image_size=8, data_root=root, faults=faults)
    assert not faults.sentences, faults.sentences
    return found


def faults_of(name, **options):
    faults = Faults()
    assert plan_stage(StageConfig(name=name, options=options), image_size=8, faults=faults) is None
    return faults.sentences


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    for registry in (STAGES, MEASUREMENTS, DATA_SETS):
        for name in registry.names():
            if not name.startswith("doctest"):
                registry.forget(name)


@pytest.fixture(autouse=True)
def blocks():
    """Another data set: three classes of 8 x 8 pixels in colour, which the model gets in grey."""

    @register_data_set("blocks")
    def blocks(root, image_size):
        draw = numpy.random.default_rng(1)
        labels = numpy.arange(90) % 3
        images = draw.integers(0, 130, (90, 8, 8, 3), dtype="uint8")
        images[numpy.arange(90), 2 * labels + 1] = 210
        return DataSet.from_arrays("blocks", images, labels, image_size=image_size)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One trial that has been trained; tests copy what they change."""
    from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig

    torch.set_num_threads(1)
    trial = TrialConfig(
        data=DataConfig(name="digits", train_limit=60),
        data_fingerprint=load_data("digits").fingerprint,
        backbone=ComponentConfig(name="mlp", parameters={"widths": [16]}),
        head=ComponentConfig(name="cosine"),
        training=TrainingConfig(epochs=2, batch_size=16),
        seed=3,
    )
    root = tmp_path_factory.mktemp("finished")
    execute(trial, root)
    return trial, root


@pytest.fixture
def trained(finished, tmp_path):
    import shutil

    trial, root = finished
    shutil.copytree(root, tmp_path / "runs")
    return trial, tmp_path / "runs"


def result(trained, source):
    trial, root = trained
    run_stages(trial, root, [source])
    return read_stage(Store(root).trial_folder(trial.identity), source.identity)["result"]


def features_of(trained, images, *, grey=False):
    """Features by hand: the checkpoint on the pixels, normalised with its own numbers."""
    trial, root = trained
    model, description = load_checkpoint(Store(root).trial_folder(trial.identity))
    pixels, labels = next(images.batches(torch.arange(len(images)), len(images)))
    if grey:
        red, green, blue = pixels.int().unbind(1)
        pixels = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8).unsqueeze(1)
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    with torch.no_grad():
        return model.features(prepare_batch(pixels, mean, std)), labels


def test_the_probe_is_that_of_the_analysis_on_features_by_hand(trained):
    source = plan("linear_probe", data="blocks")
    assert source.module == __name__
    assert plan("linear_probe", data="digits").module is None
    found = result(trained, source)
    data = load_data("blocks", image_size=8)
    train, test = (features_of(trained, images, grey=True) for images in (data.train, data.test))
    expected = linear_probe(*train, *test, seed=derive_seed(3, "stage", source.identity))
    assert list(found) == ["blocks", "mean"]
    assert found["blocks"]["accuracy"] == found["mean"]["accuracy"] == pytest.approx(expected.value)
    assert found["blocks"]["strength"] == pytest.approx(expected.strength)
    assert found["blocks"]["validation_accuracy"] == pytest.approx(max(expected.validation_accuracy.tolist()))
    assert (found["blocks"]["train_images"], found["blocks"]["test_images"]) == (72, 18)
    assert found["blocks"]["convention"] == expected.convention


def test_the_probe_of_several_sets_with_limits_and_one_strength(trained):
    source = plan("linear_probe", data=["blocks", "digits"], train_limit=50, limit=30, variant="kobayashi")
    found = result(trained, source)
    accuracies = []
    for name in ("blocks", "digits"):
        data = load_data(name, image_size=8)
        parts = []
        for images, limit in ((data.train, 50), (data.test, 30)):
            chosen = images.select(chosen_images(len(images), limit))
            parts += features_of(trained, chosen, grey=name == "blocks")
        accuracies.append(linear_probe(*parts, variant="kobayashi").value)
        assert found[name]["accuracy"] == pytest.approx(accuracies[-1])
        assert found[name]["validation_accuracy"] is None
    assert found["mean"] == {"accuracy": pytest.approx(sum(accuracies) / 2)}


def test_the_classifier_is_learned_anew_from_the_images_that_were_held_out(trained):
    trial, _ = trained
    source = plan("linear_probe", data="blocks", held_out=True, limit=40)
    found = result(trained, source)
    split = split_data(load_data(trial.data.name, image_size=trial.data.image_size), trial.data)
    limited = split.test.select(chosen_images(len(split.test), 40))
    # As every limit, it is one of the images that choose too.
    held = split.validation
    train, test = features_of(trained, held, grey=False), features_of(trained, limited, grey=False)
    expected = linear_probe(*train, *test, seed=derive_seed(3, "stage", source.identity))
    assert found["held_out"]["accuracy"] == pytest.approx(expected.value)
    assert (found["held_out"]["train_images"], found["held_out"]["test_images"]) == (len(held), 40)
    assert found["mean"]["accuracy"] == found["blocks"]["accuracy"]
    assert list(found) == ["blocks", "held_out", "mean"]


def test_a_probe_of_before_it_could_learn_anew_stays_the_probe_that_it_was():
    plain, written = plan("linear_probe", data="digits"), plan("linear_probe", data="digits", held_out=False)
    assert plain.identity == written.identity != plan("linear_probe", data="digits", held_out=True).identity
    # As it was before the option came.
    assert plain.identity == "10a2244b72b268f7"


def test_the_probe_is_told_when_to_end(trained):
    exact, quick = plan("linear_probe", data="blocks"), plan("linear_probe", data="blocks", tolerance=0.5)
    assert exact.identity != quick.identity
    data = load_data("blocks", image_size=8)
    train, test = (features_of(trained, images, grey=True) for images in (data.train, data.test))
    seed = derive_seed(3, "stage", quick.identity)
    expected = linear_probe(*train, *test, seed=seed, tolerance=0.5)
    assert result(trained, quick)["blocks"]["strength"] == pytest.approx(expected.strength)
    assert result(trained, plan("linear_probe", data="blocks", max_iterations=1))["blocks"]["accuracy"] >= 0
    trial, root = trained
    folder = Store(root).trial_folder(trial.identity)
    stopped = plan("linear_probe", data="blocks", max_iterations=1)
    assert "Not converged" in read_stage(folder, stopped.identity)["provenance"]["warnings"][0]


@pytest.fixture
def tuning():
    return plan("fine_tune", data="blocks", training={"epochs": 3, "batch_size": 12, "learning_rate": 0.01})


def test_fine_tuning_starts_from_the_trial_and_learns_the_new_task(trained, tuning, monkeypatch):
    seen = []

    def watched(model, *arguments, fit=fine_tuning.fit, **options):
        seen.append((copy.deepcopy(model), options))
        return fit(model, *arguments, **options)

    monkeypatch.setattr(fine_tuning, "fit", watched)
    found = result(trained, tuning)
    trial, root = trained
    own, description = load_checkpoint(Store(root).trial_folder(trial.identity))
    ((model, options),) = seen
    for name, value in own.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    assert model.head.num_classes == 3
    assert options["augmentation"] == "none"
    assert found["blocks"]["accuracy"] == found["mean"]["accuracy"] > 0.6
    assert found["blocks"]["kappa"] is None
    assert set(found["blocks"]) >= {"balanced_accuracy", "nll", "ece", "miss_ap", "class_angle", "kappa_star"}
    # Pixels are normalised as the model knows them.
    data = load_data("blocks", image_size=8)
    stand_in = fine_tuning.ModelImages(data.train, 1, torch.tensor(description.pixel_mean), torch.tensor([0.5]))
    pixels, labels = next(stand_in.select(torch.tensor([4, 1])).batches(torch.arange(2), 2))
    assert pixels.shape == (2, 1, 8, 8)
    assert labels.tolist() == data.train.labels[[4, 1]].tolist()
    assert not list((Store(root).trial_folder(trial.identity) / "stages").glob("*.snapshot"))


@pytest.mark.slow
def test_a_stage_gives_the_same_bits_whatever_was_drawn_before(finished, tmp_path, tuning):
    import shutil

    sources = [tuning, plan("linear_probe", data="blocks"), plan("analyse", measures=["tsne", "densities", "accuracy"])]
    digests = []
    for place in range(2):
        trial, root = finished
        shutil.copytree(root, tmp_path / str(place))
        torch.manual_seed(place)
        random.seed(place)
        before = torch.get_rng_state()
        run_stages(trial, tmp_path / str(place), sources if place else sources[::-1])
        assert torch.equal(torch.get_rng_state(), before)
        folder = Store(tmp_path / str(place)).trial_folder(trial.identity)
        digests.append([read_stage(folder, source.identity)["result_sha256"] for source in sources])
    assert digests[0] == digests[1]


def test_a_killed_fine_tuning_goes_on_from_its_last_epoch(trained, tuning, monkeypatch, tmp_path):
    import shutil

    trial, root = trained
    shutil.copytree(root, tmp_path / "whole")
    run_stages(trial, tmp_path / "whole", [tuning])
    whole = read_stage(Store(tmp_path / "whole").trial_folder(trial.identity), tuning.identity)

    class Killed(BaseException):
        pass

    epochs = []

    def counting(self, trainer, standing, save=fine_tuning.Snapshot.save):
        save(self, trainer, standing)
        epochs.append(standing.epochs)
        if len(epochs) == 2:
            raise Killed

    monkeypatch.setattr(fine_tuning.Snapshot, "save", counting)
    with pytest.raises(Killed):
        run_stages(trial, root, [tuning])
    folder = Store(root).trial_folder(trial.identity)
    assert not has_stage(folder, tuning.identity)
    assert len(list((folder / "stages").glob("*.snapshot"))) == 1
    run_stages(trial, root, [tuning])
    # The third epoch alone was left to train.
    assert epochs == [1, 2, 3]
    assert read_stage(folder, tuning.identity)["result"] == whole["result"]
    assert [path.name for path in (folder / "stages").iterdir()] == [f"{tuning.identity}.json"]


def test_an_analysis_leaves_plain_numbers(trained):
    @register_measurement("norm")
    def norm(outputs):
        "mean length"
        return numpy.linalg.norm(outputs.features, axis=1).mean()

    source = plan("analyse", measures=["accuracy", "norm", "separation_by_layer", "hardness"], part="validation")
    assert source.module == __name__
    found = result(trained, source)
    trial, root = trained
    record = Store(root).record(trial.identity)["result"]
    assert found["accuracy"]["value"] == pytest.approx(record["validation"]["accuracy"])
    assert found["accuracy"]["details"]["balanced"] == pytest.approx(record["validation"]["balanced_accuracy"])
    data = load_data("digits")
    from logitlab.data import split_data

    features, _ = features_of(trained, split_data(data, trial.data).validation)
    assert found["norm"] == {
        "value": pytest.approx(float(features.norm(dim=1).mean()), rel=1e-5),
        "convention": "mean length",
        "n": 143,
    }
    assert found["separation_by_layer"]["layers"]["features"] == pytest.approx(record["test"]["class_separation"])
    limited = result(trained, plan("analyse", measures="accuracy", limit=20))
    assert limited["accuracy"]["n"] == 20


def test_an_undefined_measure_is_none(trained):
    @register_measurement("never")
    def never(outputs):
        return None

    found = result(trained, plan("analyse", measures=["never"]))
    assert found["never"]["value"] is None
    assert "not defined" in found["never"]["convention"]


def test_a_users_stage_gets_all_that_it_asks_for(trained):
    @register_stage("mine")
    def mine(stage, *, part: str = "test", scale: float = 2.0, **rest):
        warnings.warn("careful", UserWarning, stacklevel=1)
        stage.notes.append("well")
        model = stage.load_model()
        outputs = stage.outputs(part, limit=10)
        drawn = [float(torch.rand(())), random.random(), numpy.random.default_rng(stage.seed % 2**32).random()]
        assert stage.options == {"part": "test", "scale": 3, "more": 1}
        return {
            "scale": scale * rest["more"],
            "classes": numpy.int64(model.head.num_classes),
            "train": len(stage.data().train),
            "images": len(outputs.labels),
            "logits": outputs.logits.mean(),
            "mode": torch.tensor(float(model.training)),
            "seed": stage.trial.seed,
            "accuracy": stage.record["result"]["test"]["accuracy"],
            "drawn": dict(zip("abc", drawn)),
            "nothing": None,
        }

    warnings.simplefilter("always")
    source = plan("mine", scale=3, more=1)
    found = result(trained, source)
    trial, root = trained
    record = Store(root).record(trial.identity)["result"]
    assert (found["scale"], found["classes"], found["train"], found["images"]) == (3.0, 10, 60, 10)
    assert (found["mode"], found["seed"], found["nothing"]) == (0.0, 3, None)
    assert found["accuracy"] == record["test"]["accuracy"]
    again = result(trained, plan("mine", scale=3, more=1))
    assert again["drawn"] == found["drawn"]
    folder = Store(root).trial_folder(trial.identity)
    provenance = read_stage(folder, source.identity)["provenance"]
    assert provenance["warnings"] == ["well", "UserWarning: careful"]
    assert (provenance["trial"], provenance["seconds"] >= 0) == (trial.identity, True)
    # The passes are gone.
    assert [path.suffix for path in (folder / "stages").iterdir()] == [".json"]


def test_what_is_there_is_not_run_again_and_what_is_damaged_is(trained):
    calls = []

    @register_stage("counted")
    def counted(stage):
        calls.append(1)
        return {"calls": 1.0}

    trial, root = trained
    source = plan("counted")
    folder = Store(root).trial_folder(trial.identity)
    execute(trial, root, stages=[source])
    execute(trial, root, stages=[source])
    assert len(calls) == 1
    path = stage_path(folder, source.identity)
    path.write_text(path.read_text().replace("1.0", "2.0"))
    execute(trial, root, stages=[source])
    assert len(calls) == 2
    assert read_stage(folder, source.identity)["result"] == {"calls": 1.0}
    # A trial that is trained again forgets what was found on its earlier model.
    (folder / "record.json").write_text("{")
    execute(trial, root, stages=[source])
    assert len(calls) == 3


def test_stages_run_right_after_the_training(tmp_path, make_trial):
    source = plan("analyse", measures="accuracy")
    trial = make_trial(epochs=1)
    execute(trial, tmp_path, stages=[source])
    store = Store(tmp_path)
    found = read_stage(store.trial_folder(trial.identity), source.identity)["result"]
    assert found["accuracy"]["value"] == pytest.approx(store.record(trial.identity)["result"]["test"]["accuracy"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda stage: 1 / 0, r"^The stage 'mine' failed: ZeroDivisionError: division by zero$"),
        (lambda stage: 0.5, r"The stage 'mine' failed: it must return a mapping of names to numbers\. Got float"),
        (lambda stage: {"a": float("nan")}, r"The stage 'mine' failed: .* Expected a finite number.* at 'a'\. Got nan"),
        (lambda stage: {"a": [1.0]}, r"at 'a'\. Got \[1\.0\]"),
        (lambda stage: stage.outputs("tests"), "Unknown part 'tests'; did you mean 'test'"),
    ],
)
def test_a_stage_that_fails_is_named_and_the_training_stays_done(trained, function, words):
    register_stage("good")(lambda stage: {"a": 1})
    register_stage("mine")(function)
    good, mine = plan("good"), plan("mine")
    trial, root = trained
    with pytest.raises(TrialError, match=words):
        execute(trial, root, stages=[good, mine])
    store = Store(root)
    folder = store.trial_folder(trial.identity)
    assert store.is_done(trial.identity)
    assert has_stage(folder, good.identity)
    assert not has_stage(folder, mine.identity)
    assert not (folder / "stages" / "passes").exists()
    # When it has succeeded at last, no note of the failure is left.
    store.write_error(trial.identity, {}, {"kind": "TrialError", "message": "The stage 'mine' failed"})
    register_stage("mine", overwrite=True)(lambda stage: {"a": 2})
    execute(trial, root, stages=[plan("mine")])
    assert store.failure(trial.identity) is None


def test_disks_and_images_that_fail_are_no_fault_of_one_trial(trained):
    def full(stage):
        raise OSError(28, "No space left on device")

    def unreadable(stage):
        raise DataError("Cannot read 'a.png'.")

    trial, root = trained
    register_stage("full")(full)
    with pytest.raises(OSError, match="No space left"):
        run_stages(trial, root, [plan("full")])
    register_stage("unreadable")(unreadable)
    with pytest.raises(DataError, match=r"^The stage 'unreadable' failed: Cannot read 'a\.png'\.$"):
        run_stages(trial, root, [plan("unreadable")])


def test_images_that_changed_since_the_plan_are_refused(trained, tmp_path):
    labels = numpy.arange(20) % 2
    images = numpy.arange(20, dtype=numpy.uint8).repeat(64).reshape(20, 8, 8)
    path = tmp_path / "set.npz"
    numpy.savez(path, x=images, y=labels)
    source = plan("linear_probe", data=f"npz:{path}")
    moved = tmp_path / "elsewhere" / "set.npz"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    assert plan("linear_probe", data=f"npz:{moved}").identity == source.identity
    numpy.savez(path, x=images + 1, y=labels)
    assert plan("linear_probe", data=f"npz:{path}").identity != source.identity
    from logitlab.evaluation.subjects import shared_data

    shared_data.cache_clear()
    with pytest.raises(DataError, match="are not those that the study was planned for. Plan it again"):
        run_stages(*trained, [source])


def test_code_that_changed_since_the_plan_is_refused(trained):
    register_stage("mine")(lambda stage: {"a": 1})
    stale = StageSource(name="mine", identity="0" * 16, options={}, module=__name__)
    with pytest.raises(TrialError, match="'mine' failed: its code is not that which the study was planned for"):
        run_stages(*trained, [stale])
    STAGES.forget("mine")
    with pytest.raises(TrialError, match="'mine' failed: nobody has registered it. Name the module that does in 'plug"):
        run_stages(*trained, [stale])


PLUGIN = """
from logitlab.training.stages import register_stage

@register_stage("imported_stage")
def imported(stage, *, number: int = {number}):
    return {{"number": number}}
"""


def test_its_module_is_imported_where_it_is_not_known_and_an_edit_is_another_stage(trained, tmp_path, monkeypatch):
    import importlib
    import sys

    path = tmp_path / "stage_plugin_one.py"
    path.write_text(PLUGIN.format(number=1))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    importlib.import_module("stage_plugin_one")
    source = plan("imported_stage")
    assert (source.module, source.options) == ("stage_plugin_one", {"number": 1})
    STAGES.forget("imported_stage")
    del sys.modules["stage_plugin_one"]
    assert result(trained, source) == {"number": 1}
    STAGES.forget("imported_stage")
    del sys.modules["stage_plugin_one"]
    path.write_text(PLUGIN.format(number=1) + "# edited\n")
    importlib.invalidate_caches()
    importlib.import_module("stage_plugin_one")
    assert plan("imported_stage").identity != source.identity
    del sys.modules["stage_plugin_one"]


def test_options_that_come_to_the_same_are_the_same_stage():
    first = plan("fine_tune", data=["blocks"], training={"epochs": 60, "weight_decay": 1e-4})
    assert first.identity == plan("fine_tune", data="blocks").identity
    assert first.options["training"] == {}
    assert plan("fine_tune", data="blocks", training={"epochs": 20}).options["training"] == {"epochs": 20}
    others = [
        plan("fine_tune", data="blocks", head="cosine"),
        plan("fine_tune", data="digits"),
        plan("fine_tune", data="blocks", training={"epochs": 20}),
        plan("linear_probe", data="blocks"),
        plan("linear_probe", data="blocks", limit=5),
    ]
    assert len({first.identity, *(other.identity for other in others)}) == 6


def test_the_recipe_of_fine_tuning_is_that_of_the_paper():
    recipe = FineTuneOptions(data="blocks").recipe
    assert (recipe.epochs, recipe.batch_size, recipe.schedule) == (60, 128, "cosine")
    assert recipe.learning_rate * recipe.head_learning_rate_multiplier == pytest.approx(0.1)
    assert (recipe.learning_rate, recipe.effective_weight_decay, recipe.momentum) == (0.001, 1e-4, 0.9)
    assert (recipe.effective_warmup_epochs, recipe.nesterov, recipe.optimizer) == (0, False, "sgd")
    own = FineTuneOptions(data="blocks", training={"scaled_weight_decay": 1e-5, "epochs": 20}).recipe
    assert own.effective_weight_decay == pytest.approx(0.01)
    # 20 is what a trial takes unless told otherwise, and not what fine-tuning takes.
    assert (own.epochs, FineTuneOptions(data="blocks", training=own.model_dump()).recipe) == (20, own)
    assert set(FINE_TUNING) <= set(TrainingConfig.model_fields)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lin_probe", {}, ["Unknown stage 'lin_probe'; did you mean 'linear_probe'? Known: "]),
        ("ood", {}, ["The stage 'ood' is planned with the out-of-distribution sets of a study."]),
        ("linear_probe", {}, ["'stages.linear_probe.data' is missing; give it a value."]),
        ("linear_probe", {"data": []}, ["'stages.linear_probe.data'"]),
        (
            "linear_probe",
            {"data": ["blocs", "digits"], "trainlimit": 3, "variant": "kornblit"},
            [
                "'stages.linear_probe.variant' must be 'kornblith' or 'kobayashi'. Got 'kornblit'; did you mean 'korn",
                "Unknown option 'stages.linear_probe.trainlimit'; did you mean 'train_limit'?",
                "The stage 'linear_probe' cannot be run: Unknown data set 'blocs'; did you mean 'blocks'?",
            ],
        ),
        (
            "linear_probe",
            {"data": ["blocks", "blocks"]},
            ["The stage 'linear_probe' cannot be run: Two of its data sets are called 'blocks'. Name each set once"],
        ),
        (
            "fine_tune",
            {"data": "blocs", "head": "sofmax", "training": {"epoch": 3, "batch_size": 1}},
            [
                "'stages.fine_tune.training.batch_size' must be greater than or equal to 2. Got 1.",
                "Unknown option 'stages.fine_tune.training.epoch'; did you mean 'epochs'?",
                "The stage 'fine_tune' cannot be run: Unknown data set 'blocs'; did you mean 'blocks'?",
                "The stage 'fine_tune' cannot be run: Unknown head 'sofmax'; did you mean 'softmax'?",
            ],
        ),
        (
            "fine_tune",
            {"data": "blocks", "training": {"freeze_backbone": True}},
            ["'stages.fine_tune.training' is wrong: fine-tuning trains the backbone; without it, take the stage 'lin"],
        ),
        (
            "fine_tune",
            {"data": "blocks", "train_limit": 2},
            ["The stage 'fine_tune' cannot be run: blocks: train_limit must be at least the number of classes, 3"],
        ),
        ("fine_tune", {"data": "blocks", "training": 3}, ["'stages.fine_tune.training' must be a valid dictionary"]),
        ("analyse", {}, ["'stages.analyse.measures' is missing; give it a value."]),
        (
            "analyse",
            {"measures": ["acuracy", "cka", "probe"], "part": "tests"},
            [
                "'stages.analyse.part' must be 'test', 'validation' or 'train'. Got 'tests'; did you mean 'test'?",
                "Unknown measure 'acuracy'; did you mean 'accuracy'? Known: ",
                "The measure 'cka' compares several models, and a stage has one. Use 'logitlab analyze'",
                "The measure 'probe' is a stage of its own: 'linear_probe', with its data.",
            ],
        ),
        ("analyse", {"measures": ["rank", "rank"]}, ["'stages.analyse.measures' names a measure twice."]),
        (
            "mine",
            {"par": "test", "number": "three"},
            [
                "'stages.mine.number' must be a valid integer. Got 'three'.",
                "Unknown option 'stages.mine.par'; did you mean",
            ],
        ),
    ],
)
def test_every_fault_is_told_at_once(name, options, expected):
    @register_stage("mine")
    def mine(stage, *, part: str = "test", number: int = 1):
        return {}

    found = faults_of(name, **options)
    assert len(found) == len(expected), found
    for sentence, words in zip(found, expected):
        assert sentence.startswith(words), sentence


def test_an_option_without_default_must_be_given_and_one_without_annotation_takes_anything():
    @register_stage("mine")
    def mine(stage, *, wanted, copy=1):
        return {}

    assert faults_of("mine") == ["'stages.mine.wanted' is missing; give it a value."]
    assert plan("mine", wanted=[1, "a"], copy={"b": None}).options == {"wanted": [1, "a"], "copy": {"b": None}}
    words = "'stages.mine.wanted' must be plain values, as YAML writes them: "
    assert faults_of("mine", wanted=object())[0].startswith(words)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: {}, "it must take the stage as its first argument, as in def mine"),
        (lambda stage, part="test": {}, r"its options must be keyword-only, as in def mine\(stage, \*, part=1\)"),
        (lambda stage, *parts: {}, "its options must be keyword-only"),
    ],
)
def test_functions_that_are_no_stage(function, words):
    with pytest.raises(ParameterError, match=f"The stage 'mine' cannot be registered: {words}"):
        register_stage("mine")(function)


def test_built_in_names_are_taken():
    assert {"analyse", "fine_tune", "linear_probe", "ood"} <= set(list_stages())
    with pytest.raises(ParameterError, match="The stage 'ood' is built in"):
        register_stage("ood")


def test_a_trial_without_a_record_has_no_stages(tmp_path, make_trial):
    with pytest.raises(RecordError):
        run_stages(make_trial(), tmp_path, [plan("analyse", measures="accuracy")])
    run_stages(make_trial(), tmp_path, [])


def test_a_stage_trains_alone_even_where_several_processes_train_together(trained, monkeypatch):
    from logitlab.training import distributed

    seen = []
    register_stage("mine")(lambda stage: seen.append(distributed.current_ranks()) or {})
    monkeypatch.setattr(distributed, "_current", "several")
    run_stages(*trained, [plan("mine")])
    assert seen == [None]
    assert distributed.current_ranks() == "several"


def test_the_signal_that_ends_a_worker_leaves_its_passes(trained, monkeypatch):
    def ended(stage):
        stage.outputs()
        raise SystemExit(143)

    register_stage("mine")(ended)
    trial, root = trained
    with pytest.raises(SystemExit):
        run_stages(trial, root, [plan("mine")])
    passes = Store(root).trial_folder(trial.identity) / "stages" / running._PASSES
    assert json.loads(next(passes.glob("*/state.json")).read_text())["done"] == 359


DATA_PLUGIN = """
import numpy
from logitlab.data import DataSet, register_data_set
from logitlab.evaluation.measurements import register_measurement

@register_data_set("imported_set")
def imported(root, image_size):
    images = numpy.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype="uint8")
    return DataSet.from_arrays("imported_set", images, numpy.arange(40) % 2, image_size=image_size)

@register_measurement("imported_measure")
def measure(outputs):
    return 4.0
"""


def test_the_modules_of_data_sets_and_measurements_are_imported_too(trained, tmp_path, monkeypatch):
    import importlib
    import sys

    (tmp_path / "stage_plugin_two.py").write_text(DATA_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    importlib.import_module("stage_plugin_two")
    sources = [
        plan("linear_probe", data=["digits", "imported_set"], train_limit=30, variant="kobayashi"),
        plan("analyse", measures=["accuracy", "imported_measure"]),
    ]
    assert [source.module for source in sources] == ["stage_plugin_two"] * 2
    for source in sources:
        DATA_SETS.forget("imported_set")
        MEASUREMENTS.forget("imported_measure")
        del sys.modules["stage_plugin_two"]
        found = result(trained, source)
    assert found["imported_measure"]["value"] == 4.0
    del sys.modules["stage_plugin_two"]
