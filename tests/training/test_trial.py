"""A trial from configuration to record."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError

import numpy
import pytest
import torch

from logitlab.config.errors import ConfigurationError, DataError
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, TrialConfig
from logitlab.data import load_data, prepare_batch
from logitlab.evaluation import MEASURES
from logitlab.models import load_checkpoint
from logitlab.records import Store
from logitlab.training import Progress, build_model, execute
from logitlab.training.provenance import describe_environment

HEADS = ["softmax", "label_smoothing", "logit_norm", "sigmoid", "cosine", "cosine_ls", "cosine_2ls", "dropout"]


def run(trial, root, **options):
    execute(trial, root, **options)
    return Store(root).record(trial.identity)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_leaves_a_whole_record(tmp_path, make_trial, head):
    trial = make_trial(head)
    record = run(trial, tmp_path)
    result = record["result"]
    assert record["config"] == trial.model_dump(mode="json")
    assert set(result["test"]) == set(MEASURES)
    assert set(result["validation"]) == set(MEASURES) - {"class_separation"}
    assert 0 <= result["test"]["accuracy"] <= 1
    assert (result["test"]["kappa"] is None) == (head in ("softmax", "label_smoothing", "sigmoid", "dropout"))
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2]
    assert result["selected_epoch"] == 2
    assert result["link"] == ("normalized_sigmoid" if head == "sigmoid" else "softmax")
    # 64·16 weights, 2·16 of the norm; 10·16 of the head, and 10 biases if it has any.
    assert result["parameters"] - 1216 in (0, 10)
    # 1,797 digits: a fifth for the test, a tenth of the rest for validation, 60 of what remains to train on.
    assert result["images"] == {"train": 60, "validation": 143, "test": 359}


def test_the_same_trial_gives_the_same_result_bit_for_bit(tmp_path, make_trial):
    trial = make_trial("cosine_ls", ema_decay=0.9, mixup=0.2, early_stopping_epochs=1)
    first = run(trial, tmp_path / "a")
    torch.rand(5)
    second = run(trial, tmp_path / "b")
    assert first["result"] == second["result"]
    assert first["result_sha256"] == second["result_sha256"]
    weights = [(tmp_path / name / "trials" / trial.identity / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    other = run(make_trial("cosine_ls", ema_decay=0.9, mixup=0.2, early_stopping_epochs=1, seed=1), tmp_path / "a")
    assert other["result"] != first["result"]


def test_the_record_knows_where_it_comes_from(tmp_path, make_trial):
    provenance = run(make_trial(), tmp_path)["provenance"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["threads"] == 1
    assert provenance["attempt"] == 1
    assert provenance["seconds"] > 0
    assert provenance["started"] <= provenance["finished"]
    assert provenance["device"].startswith("cpu")
    assert str(tmp_path) not in json.dumps(provenance)


def test_the_checkpoint_gives_the_records_accuracy(tmp_path, make_trial):
    trial = make_trial("cosine", epochs=4)
    result = run(trial, tmp_path)["result"]
    model, description = load_checkpoint(Store(tmp_path).trial_folder(trial.identity))
    test = load_data("digits").test
    pixels, labels = next(test.batches(torch.arange(len(test)), len(test)))
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    with torch.no_grad():
        right = model(prepare_batch(pixels, mean, std)).argmax(1) == labels
    assert right.double().mean().item() == pytest.approx(result["test"]["accuracy"])
    assert description.class_names == tuple("0123456789")


def test_progress_comes_every_epoch_and_travels(tmp_path, make_trial):
    trial, seen = make_trial(), []
    result = run(trial, tmp_path, report=seen.append)["result"]
    assert seen == [
        Progress(trial.identity, entry["epoch"], 2, entry["loss"], entry["validation_accuracy"])
        for entry in result["history"]
    ]
    assert pickle.loads(pickle.dumps(seen)) == seen
    assert pickle.loads(pickle.dumps(execute)) is execute


def test_a_finished_trial_is_not_run_again(tmp_path, make_trial):
    trial = make_trial()
    record = run(trial, tmp_path)
    execute(trial, tmp_path, report=lambda progress: pytest.fail("it ran again"))
    assert Store(tmp_path).record(trial.identity) == record


def test_a_run_that_diverges_is_recorded_as_failed(tmp_path, make_trial):
    trial = make_trial(learning_rate=1e30)
    execute(trial, tmp_path)
    store = Store(tmp_path)
    assert not store.is_done(trial.identity)
    error = store.failure(trial.identity)["error"]
    assert error["kind"] == "TrialError"
    assert error["message"].startswith("The loss of the head 'softmax' is ")
    assert error["attempt"] == 1
    execute(trial, tmp_path)
    assert store.failure(trial.identity)["error"]["attempt"] == 2


def test_images_that_changed_are_refused(tmp_path, make_trial):
    trial = make_trial().model_copy(update={"data_fingerprint": "0" * 64})
    with pytest.raises(DataError, match="'digits' are not those that the trial was planned for"):
        execute(trial, tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_that_changed_since_the_last_study_are_read_again(tmp_path, make_trial):
    def study(brightness):
        pixels = numpy.full((40, 8, 8), brightness, dtype=numpy.uint8)
        pixels[::2, :4] = 0
        labels = numpy.arange(40) % 2
        numpy.savez(tmp_path / "mine.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
        name = f"npz:{tmp_path / 'mine.npz'}"
        trial = make_trial(limit=None)
        data = trial.data.model_copy(update={"name": name})
        update = {"data": data, "data_fingerprint": load_data(name).fingerprint}
        return run(trial.model_copy(update=update), tmp_path / "runs")

    assert study(100)["identity"] != study(200)["identity"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("logitlab.training.provenance.version", missing)
    assert describe_environment(torch.device("cpu"))["versions"]["timm"] is None


def test_wrong_parameters_leave_no_record(tmp_path, make_trial):
    with pytest.raises(ConfigurationError):
        execute(make_trial("label_smoothing", parameters={"alpha": 3}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_head_of_a_seed_starts_on_the_same_backbone(make_trial):
    models = [
        build_model(make_trial(head, seed=seed), channels=1, image_size=8, num_classes=10)
        for head, seed in (("softmax", 0), ("cosine_ls", 0), ("softmax", 1))
    ]
    weights = [model.backbone.layers[1].weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(models[0].head.weight, models[1].head.weight)


def test_zero_start_reaches_the_backbone(make_trial):
    for zero in (True, False):
        trial = make_trial(backbone=ComponentConfig(name="resnet_cifar", parameters={"depth": 8}), zero_init_last=zero)
        model = build_model(trial, channels=1, image_size=8, num_classes=10)
        assert model.backbone.blocks[0].norm2.weight.any() == (not zero)


PLUGIN = """
from logitlab.heads import Head, register_head

@register_head("{name}")
def mine(in_features, num_classes, **parameters):
    return Head(in_features, num_classes, alpha=0.3, **parameters)
"""


def test_a_users_head_is_imported_by_its_module(tmp_path, make_trial, monkeypatch):
    (tmp_path / "trial_plugin_one.py").write_text(PLUGIN.format(name="trial_plugin_head"))
    monkeypatch.syspath_prepend(tmp_path)
    trial = make_trial("trial_plugin_head", module="trial_plugin_one", parameters={"beta": 0.001})
    result = run(trial, tmp_path / "runs")["result"]
    assert result["head_parameters"] == {"beta": 0.001}
    # The second time it is known already.
    assert build_model(trial, channels=1, image_size=8, num_classes=10).head.loss_function is not None


def test_the_record_says_what_a_preset_stood_for(tmp_path, make_trial):
    result = run(make_trial("cosine", parameters={"preset": "cifar10"}), tmp_path)["result"]
    assert result["head_parameters"] == {"bias": True, "classifier": "cosine", "kappa": 12.5}
    assert result["test"]["kappa"] == pytest.approx(12.5)


@pytest.mark.slow
def test_the_first_trial_of_a_process_pays_for_no_imports(tmp_path, make_trial):
    code = """if True:
        import pathlib, sys
        from logitlab.config.trial import TrialConfig
        from logitlab.training import trial as module
        def counting(*arguments, run=module._run):
            before = set(sys.modules)
            result = run(*arguments)
            print(len(set(sys.modules) - before))
            return result
        module._run = counting
        module.execute(TrialConfig.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]))
    """
    text = make_trial("cosine_ls").model_dump_json()
    done = subprocess.run([sys.executable, "-c", code, text, str(tmp_path)], capture_output=True, text=True, check=True)
    # Without warm_up some 900 modules of torch's compiler and of scikit-learn came here.
    assert int(done.stdout) < 50


def test_warnings_are_noted_once(tmp_path, make_trial):
    def complain(progress):
        warnings.warn("the same words", UserWarning, stacklevel=1)

    warnings.simplefilter("always")
    noted = run(make_trial(epochs=3), tmp_path, report=complain)["provenance"]["warnings"]
    assert noted == ["UserWarning: the same words"]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "cosine_ls", "logit_norm"])
def test_the_default_recipe_reads_digits(tmp_path, make_trial, head):
    values = make_trial(head, limit=None, backbone=ComponentConfig(name="small_cnn")).model_dump()
    trial = TrialConfig(**(values | {"training": TrainingConfig()}))
    assert run(trial, tmp_path)["result"]["test"]["accuracy"] > 0.96
