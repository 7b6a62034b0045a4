"""Checkpoints: what is written comes back, and what is damaged says so."""

from __future__ import annotations

import json
import os
import stat

import pytest
import torch
from torch import nn

from logitlab.config.errors import ConfigurationError, RecordError
from logitlab.config.trial import ComponentConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, load_checkpoint, save_checkpoint


def describe(head="cosine_ls", **changes):
    values = {
        "backbone": ComponentConfig(name="small_cnn", parameters={"width": 4}),
        "head": ComponentConfig(name=head),
        "channels": 1,
        "image_size": 8,
        "num_features": 16,
        "class_names": ("a", "b", "c"),
        "pixel_mean": (0.25,),
        "pixel_std": (0.5,),
        "link": "softmax",
    }
    return ModelDescription(**(values | changes))


def build(head="cosine_ls"):
    backbone = create_backbone("small_cnn", channels=1, image_size=8, parameters={"width": 4})
    return Classifier(backbone, create_head(head, 16, 3))


def trained(head="cosine_ls"):
    torch.manual_seed(0)
    model = build(head)
    # Moves the statistics of batch normalisation and the running mean of κ off their starts.
    model(torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    return model.eval()


@pytest.mark.parametrize("head", ["cosine_ls", "softmax"])
def test_comes_back_bit_for_bit(tmp_path, head):
    model = trained(head)
    save_checkpoint(tmp_path / "new", model, describe(head))
    loaded, description = load_checkpoint(tmp_path / "new")
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(loaded(images), model(images))
    assert not loaded.training
    assert description == describe(head)
    for (name, a), (_, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.json", "model.safetensors"]


def test_channels_last_weights_come_back(tmp_path):
    model = trained().to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, model, describe())
    images = torch.rand(4, 1, 8, 8)
    assert torch.allclose(load_checkpoint(tmp_path)[0](images), model(images), atol=1e-6)


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    model, folder = trained(), tmp_path / os.fsdecode(b"out\xe9")
    save_checkpoint(folder, model, describe())
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(load_checkpoint(folder)[0](images), model(images))


def test_weights_that_are_shared_come_back_shared(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 64)
            self.second = nn.Linear(64, 64)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x.flatten(1)))

    model = Classifier(Twice(), create_head("softmax", 64, 3)).eval()
    save_checkpoint(tmp_path, model, describe("softmax", num_features=64))
    loaded, _ = load_checkpoint(tmp_path, backbone=Twice())
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(loaded(images), model(images))
    assert loaded.backbone.first.weight is loaded.backbone.second.weight


def test_a_backbone_of_ones_own(tmp_path):
    model = Classifier(nn.Flatten(), create_head("softmax", 64, 3))
    description = describe("softmax", num_features=64, backbone=ComponentConfig(name="mine"))
    save_checkpoint(tmp_path, model, description)
    loaded, _ = load_checkpoint(tmp_path, backbone=nn.Flatten())
    assert torch.equal(loaded.head.weight, model.head.weight)
    with pytest.raises(RecordError, match="Unknown backbone 'mine'"):
        load_checkpoint(tmp_path)


def test_nothing_is_downloaded(tmp_path):
    backbone = create_backbone("test_resnet", channels=1, image_size=32)
    model = Classifier(backbone, create_head("softmax", backbone.num_features, 3)).eval()
    description = describe(
        "softmax",
        backbone=ComponentConfig(name="test_resnet", parameters={"pretrained": True}),
        image_size=32,
        num_features=backbone.num_features,
    )
    save_checkpoint(tmp_path, model, description)
    loaded, _ = load_checkpoint(tmp_path)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b")}, "The head has 3 classes, the description names 2"),
        ({"num_features": 5}, "The head takes 16 features, the description says 5"),
        ({"link": "none"}, "link is 'softmax', the description says 'none'"),
    ],
)
def test_a_description_of_another_model_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        save_checkpoint(tmp_path, trained(), describe(**changes))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, trained(), describe())
    before = (tmp_path / "model.safetensors").read_bytes()

    def save_model(model, path):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", save_model)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, trained(), describe())
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def rewrite(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.json").unlink(), "There is no '.*model.json'"),
        (lambda folder: (folder / "model.safetensors").unlink(), "There is no '.*model.safetensors'"),
        (lambda folder: (folder / "model.json").write_text("{"), "model.json' is damaged"),
        (lambda folder: rewrite(folder, channels=0), "model.json' is damaged: channels: "),
        (lambda folder: rewrite(folder, format_version=2), "model.json' is damaged: format_version: "),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "Cannot read '.*model.safetensors'"),
        (lambda folder: rewrite(folder, num_features=17), "model.safetensors' does not fit 'model.json'"),
        (
            lambda folder: rewrite(folder, head={"name": "theirs", "module": "their.heads"}),
            "Unknown head 'theirs'.* Import the module 'their.heads' first",
        ),
    ],
)
def test_damage_is_said_in_words(tmp_path, damage, message):
    save_checkpoint(tmp_path, trained(), describe())
    damage(tmp_path)
    with pytest.raises(RecordError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_said_in_words(tmp_path):
    save_checkpoint(tmp_path, trained(), describe())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(RecordError, match="Cannot read"):
        load_checkpoint(tmp_path)


def test_a_folder_in_place_of_the_description(tmp_path):
    (tmp_path / "model.json").mkdir()
    with pytest.raises(RecordError, match="Cannot read '.*model.json'"):
        load_checkpoint(tmp_path)


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path, build(), describe())
    finally:
        os.umask(before)
    for name in ("model.safetensors", "model.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
