"""A frozen backbone: one pass for all heads, and a model that is whole again in the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from logitlab.config.errors import TrialError
from logitlab.config.trial import ComponentConfig
from logitlab.data import load_data, prepare_batch, split_data
from logitlab.models import TimmBackbone, load_checkpoint
from logitlab.records import Store, read_outputs
from logitlab.studies import compare
from logitlab.training import build_model, execute, frozen
from logitlab.training.frozen import FeatureImages, frozen_split

CPU = torch.device("cpu")


def run(trial, root):
    execute(trial, root)
    return Store(root).record(trial.identity)


def feature_files(root):
    return sorted(path.name for path in (root / "features").iterdir() if path.suffix == ".safetensors")


def predictions(folder, part):
    model, description = load_checkpoint(folder)
    pixels, labels = next(part.batches(torch.arange(len(part)), len(part)))
    mean, std = torch.tensor(description.pixel_mean), torch.tensor(description.pixel_std)
    with torch.no_grad():
        return model(prepare_batch(pixels, mean, std)), labels


@pytest.mark.parametrize("training", [{}, {"ema_decay": 0.9, "early_stopping_epochs": 1}])
def test_the_checkpoint_is_whole_and_reads_images_as_the_record_says(tmp_path, make_trial, training):
    trial = make_trial("cosine_ls", epochs=4, freeze_backbone=True, **training)
    result = run(trial, tmp_path)["result"]
    folder = Store(tmp_path).trial_folder(trial.identity)
    data = load_data("digits")
    logits, labels = predictions(folder, data.test)
    assert (logits.argmax(1) == labels).double().mean().item() == result["test"]["accuracy"] > 0.3
    assert read_outputs(folder)["predicted"].tolist() == logits.argmax(1).tolist()
    assert read_outputs(folder)["example_pixels"].shape[1:] == (1, 8, 8)
    # The backbone is the one that the trial began with, batch statistics and all; the head has moved.
    start = build_model(trial, channels=1, image_size=8, num_classes=10)
    end = load_checkpoint(folder)[0].state_dict()
    for name, value in start.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(end[name], value), name
    assert not torch.equal(end["head.weight"], start.head.weight)
    assert result["parameters"] == sum(parameter.numel() for parameter in start.parameters())
    assert len(result["history"]) <= 4


def test_the_head_learns_as_it_would_on_a_backbone_that_never_moves(tmp_path, make_trial):
    """An oracle beside the cache: the ordinary loop, over a backbone in eval mode whose parameters get no gradient."""
    from logitlab.heads import Classifier
    from logitlab.training import fit

    trial = make_trial("softmax", epochs=3, freeze_backbone=True)
    history = run(trial, tmp_path)["result"]["history"]

    class Still(nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.inner = backbone.eval().requires_grad_(False)

        def train(self, mode=True):
            return self

        def forward(self, images):
            return self.inner(images)

    model = build_model(trial, channels=1, image_size=8, num_classes=10)
    split = split_data(load_data("digits"), trial.data)
    again = fit(
        Classifier(Still(model.backbone), model.head), split.train, split.validation, trial.training, seed=trial.seed
    )
    assert [epoch.loss for epoch in again.history] == pytest.approx([entry["loss"] for entry in history], rel=1e-5)


def test_trials_share_a_file_unless_their_features_differ(tmp_path, make_trial, monkeypatch):
    passes = []
    compute = frozen._compute
    monkeypatch.setattr(frozen, "_compute", lambda *arguments: passes.append(compute(*arguments)))
    options = {"freeze_backbone": True, "epochs": 1}
    for head in ("softmax", "cosine", "sigmoid"):
        run(make_trial(head, **options), tmp_path)
    run(make_trial("softmax", learning_rate=0.01, batch_size=7, **options), tmp_path)
    assert len(passes) == 1
    run(make_trial("softmax", seed=1, **options), tmp_path)
    run(make_trial("softmax", limit=50, **options), tmp_path)
    run(make_trial("softmax", precision="bfloat16", **options), tmp_path)
    assert len(passes) == 4
    assert len(feature_files(tmp_path)) == 4


def test_a_pretrained_backbone_has_one_file_for_all_seeds(tmp_path, make_trial, monkeypatch):
    # The weights cannot be had here; these are the same ones for every seed, as pretrained ones are.
    def pretrained_backbone(*arguments, pretrained, **rest):
        torch.manual_seed(5)
        return TimmBackbone(*arguments, **rest)

    monkeypatch.setattr("logitlab.models.factory.TimmBackbone", pretrained_backbone)
    network = ComponentConfig(name="test_resnet", parameters={"pretrained": True})
    for seed in (0, 1):
        run(make_trial("softmax", seed=seed, backbone=network, freeze_backbone=True, epochs=1, limit=30), tmp_path)
    assert len(feature_files(tmp_path)) == 1


def test_the_file_is_what_safetensors_itself_reads(tmp_path, make_trial):
    from safetensors.torch import load_file

    trial = make_trial("softmax", freeze_backbone=True, epochs=1)
    run(trial, tmp_path)
    (name,) = feature_files(tmp_path)
    found = load_file(tmp_path / "features" / name)
    split = split_data(load_data("digits"), trial.data)
    model = build_model(trial, channels=1, image_size=8, num_classes=10).eval()
    pixels, _ = next(split.test.batches(torch.arange(len(split.test)), len(split.test)))
    with torch.no_grad():
        features = model.backbone(prepare_batch(pixels, found["pixel_mean"], found["pixel_std"]))
    torch.testing.assert_close(found["test"], features)


def test_features_that_are_not_finite_are_refused(tmp_path, make_trial):
    class Broken(nn.Module):
        num_features = 4

        def forward(self, images):
            return torch.full((len(images), 4), float("nan"))

    trial = make_trial(freeze_backbone=True)
    split = split_data(load_data("digits"), trial.data)
    with pytest.raises(TrialError, match="The frozen backbone 'mlp' gives features that are not finite"):
        frozen_split(trial, split, Broken(), tmp_path, CPU)
    assert feature_files(tmp_path) == []


def test_selected_features_keep_their_order():
    images = FeatureImages(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 2]), torch.zeros(1), torch.ones(1))
    chosen = images.select(torch.tensor([2, 0]))
    assert len(chosen) == 2
    batches = [(rows.tolist(), labels.tolist()) for rows, labels in chosen.batches(torch.tensor([1, 0, 1]), 2)]
    assert batches == [([[0, 1], [4, 5]], [0, 2]), ([[0, 1]], [0])]


def test_of_two_that_begin_together_one_computes(tmp_path, make_trial, monkeypatch):
    # Locks of files that are opened twice shut threads out as they do processes.
    passes, gate, compute = [], threading.Barrier(2), frozen._compute

    def slowly(*arguments):
        passes.append(time.sleep(0.3))
        compute(*arguments)

    def take():
        gate.wait(60)
        return frozen_split(trial, split, model.backbone, tmp_path, CPU).test.features

    monkeypatch.setattr(frozen, "_compute", slowly)
    trial = make_trial(freeze_backbone=True)
    split = split_data(load_data("digits"), trial.data)
    model = build_model(trial, channels=1, image_size=8, num_classes=10)
    with ThreadPoolExecutor(2) as pool:
        first, second = (future.result() for future in [pool.submit(take), pool.submit(take)])
    assert len(passes) == 1
    assert torch.equal(first, second)


@pytest.mark.slow
def test_a_comparison_takes_the_option(tmp_path):
    comparison = compare(
        "digits",
        heads=["softmax", "cosine_ls"],
        backbone="mlp",
        seeds=1,
        epochs=2,
        train_limit=100,
        freeze_backbone=True,
        out=tmp_path,
        executor="serial",
        ood=["none"],
        report=False,
    )
    assert not comparison.failed
    assert len(feature_files(tmp_path)) == 1
    assert {record["config"]["training"]["augmentation"] for record in comparison.records} == {"none"}
