"""A file of weights for a timm backbone: read without pickle, checked, and told by its content."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from logitlab.config.errors import ConfigurationError, RecordError
from logitlab.config.trial import ComponentConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, load_checkpoint, save_checkpoint, weight_file_digest


def timm_model(seed=7, name="test_resnet", **options):
    torch.manual_seed(seed)
    model = timm.create_model(name, **options).eval()
    # Off the values that every model starts with.
    for name, value in model.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return model


def build(path, channels=3, name="test_resnet", **parameters):
    return create_backbone(
        name, channels=channels, image_size=32, parameters={"checkpoint_path": str(path), **parameters}
    )


def save(model, path, form):
    state = model.state_dict()
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state": state, "ema": {"state_dict_ema": state, "epoch": 3}}[form], path)


@pytest.mark.parametrize("form", ["state", "ema", "safetensors"])
@pytest.mark.parametrize("classes", [0, 7])
def test_features_are_those_of_the_model_that_was_saved(tmp_path, form, classes):
    model = timm_model(num_classes=classes)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    save(model, path, form)
    backbone = build(path).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone(images), model.forward_head(model.forward_features(images), pre_logits=True))


def test_last_scales_of_the_file_are_kept(tmp_path):
    model = timm_model(name="resnet18", num_classes=0)
    scales = {name: value.fill_(0.5) for name, value in model.state_dict().items() if name.endswith("bn2.weight")}
    torch.save(model.state_dict(), tmp_path / "w.pth")
    built = build(tmp_path / "w.pth", name="resnet18").model.state_dict()
    assert len(scales) == 8
    assert all(torch.equal(built[name], value) for name, value in scales.items())


def test_colour_weights_are_adapted_as_timm_adapts_its_own(tmp_path):
    model = timm_model()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    grey = build(tmp_path / "w.pth", channels=1).eval()
    # The sum over the colours: a grey image gives what the same image in three equal channels gave.
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        coloured = build(tmp_path / "w.pth").eval()(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(image), coloured)


class Evil:
    def __reduce__(self):
        return print, ("code from the file ran",)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"nonsense"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps(Evil())),
        lambda path: torch.save({"state_dict": Evil()}, path),
        lambda path: torch.save(timm_model(), path),
        lambda path: torch.save(torch.zeros(3), path),
        lambda path: torch.save({"fc1": "text"}, path),
    ],
)
def test_what_is_no_state_dict_is_not_opened(tmp_path, write, capfd):
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(
        ConfigurationError, match="Cannot read weights from '.*w.pth': expected a .safetensors"
    ) as caught:
        build(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_timm_is_told_not_to_unpickle(tmp_path, monkeypatch):
    # Before version 1.0.26 it did unless told.
    told, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: told.append(options) or load(*given, **options))
    torch.save(timm_model().state_dict(), tmp_path / "w.pth")
    build(tmp_path / "w.pth")
    assert [options["weights_only"] for options in told] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "1 of its .* are missing, first 'layer1.0.conv1.weight'"),
        (lambda state: state.update(extra=torch.zeros(1)), "1 are none of its own, first 'extra'"),
        (
            lambda state: state.update({"layer1.0.bn1.weight": torch.zeros(5)}),
            "1 have another shape, first 'layer1.0.bn1.weight': 5 instead of",
        ),
    ],
)
def test_weights_of_another_model_say_so(tmp_path, change, message):
    state = timm_model().state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigurationError, match=f"are not those of 'test_resnet': {message}"):
        build(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"checkpoint_path": "gone.pth"}, "Cannot read the weights in 'gone.pth': there is no such file"),
        ({"checkpoint_path": "/"}, "Cannot read the weights in '/': it is not a file"),
        ({"checkpoint_path": "/dev/zero"}, "Cannot read the weights in '/dev/zero': it is not a file"),
        ({"checkpoint_path": "a\0b"}, "Cannot read the weights in"),
        ({"checkpoint_path": True}, "'checkpoint_path' parameter of test_resnet must be the path of a file"),
        ({"checkpoint_path": ""}, "'checkpoint_path' parameter of test_resnet must be the path of a file"),
        ({"checkpoint_path": "w.pth", "pretrained": True}, "takes 'pretrained' or 'checkpoint_path', not both"),
        ({"pretrained_cfg": {"file": "w.pth"}, "pretrained": True}, "does not take 'pretrained_cfg'"),
        ({"pretrained_cfg_overlay": {"file": "w.pth"}}, "does not take 'pretrained_cfg_overlay'"),
        ({"cache_dir": "here"}, "does not take 'cache_dir'.*HF_HOME"),
    ],
)
def test_refusals_are_one_line(parameters, message, capfd):
    with pytest.raises(ConfigurationError, match=message) as caught:
        create_backbone("test_resnet", channels=1, image_size=32, parameters=parameters)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_digest_is_of_the_content(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    assert weight_file_digest({"checkpoint_path": str(path)}) == hashlib.sha256(b"weights").hexdigest()
    assert weight_file_digest({"checkpoint_path": None}) is weight_file_digest({}) is None


def describe(parameters, features):
    return ModelDescription(
        backbone=ComponentConfig(name="test_resnet", parameters=parameters),
        head=ComponentConfig(name="softmax"),
        channels=1,
        image_size=32,
        num_features=features,
        class_names=("a", "b", "c"),
        pixel_mean=(0.25,),
        pixel_std=(0.5,),
        link="softmax",
    )


def test_a_saved_model_opens_no_file_that_its_description_names(tmp_path, monkeypatch):
    backbone = create_backbone("test_resnet", channels=1, image_size=32)
    model = Classifier(backbone, create_head("softmax", backbone.num_features, 3)).eval()
    folder, bait = tmp_path / "model", tmp_path / "bait.pth"
    save_checkpoint(folder, model, describe({"checkpoint_path": str(bait), "pretrained": True}, backbone.num_features))
    torch.save(timm_model(num_classes=0, in_chans=1).state_dict(), bait)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a file was opened"))
    images = torch.rand(2, 1, 32, 32)
    for exists in (True, False):
        bait.touch() if exists else bait.unlink()
        assert torch.equal(load_checkpoint(folder)[0](images), model(images))
    description = json.loads((folder / "model.json").read_text())
    description["backbone"]["parameters"] = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(bait)}}
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(RecordError, match="does not take 'pretrained_cfg_overlay'"):
        load_checkpoint(folder)
