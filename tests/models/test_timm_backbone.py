"""timm models as backbones."""

from __future__ import annotations

import pytest
import timm
import torch

from logitlab.config.errors import ConfigurationError
from logitlab.models import TimmBackbone, create_backbone


def last_scales(backbone):
    return [m.bn2.weight for m in backbone.modules() if type(m).__name__ == "BasicBlock"]


def test_features_are_those_of_timm_without_its_classifier():
    torch.manual_seed(3)
    backbone = create_backbone("test_resnet", channels=1, image_size=32).eval()
    torch.manual_seed(3)
    same = timm.create_model("test_resnet", num_classes=0, in_chans=1).eval()
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(backbone(images), same(images))
    assert backbone.num_features == same.num_features == backbone(images).shape[1]


def test_num_features_is_measured():
    # MobileNet-v3 ends with a layer that timm's num_features (288) does not count.
    backbone = TimmBackbone("mobilenetv3_small_050", 3, 32)
    assert backbone.num_features == 1024
    assert backbone.training


def test_models_of_one_size_are_built_for_the_images():
    backbone = create_backbone("test_vit", channels=3, image_size=64)
    assert backbone(torch.rand(2, 3, 64, 64)).shape == (2, backbone.num_features)


@pytest.mark.parametrize("zero", [True, False])
def test_last_scales_start_as_asked(zero):
    backbone = create_backbone("resnet18", channels=3, image_size=32, zero_init_last=zero)
    scales = last_scales(backbone)
    assert len(scales) == 8
    assert all((scale == (0 if zero else 1)).all() for scale in scales)


def test_pretrained_weights_are_kept(monkeypatch):
    made = timm.create_model("resnet18", num_classes=0)
    for scale in last_scales(made):
        torch.nn.init.constant_(scale, 0.5)

    def create_model(name, *, pretrained, **parameters):
        assert pretrained
        return made

    monkeypatch.setattr(timm, "create_model", create_model)
    backbone = TimmBackbone("resnet18", 3, 32, pretrained=True, zero_init_last=True)
    assert all((scale == 0.5).all() for scale in last_scales(backbone))


def test_weights_that_cannot_be_had_say_so(monkeypatch):
    def create_model(name, **parameters):
        raise OSError("An error happened while trying to locate the file.\nmore")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ConfigurationError, match=r"locate the file\. Check the connection .* pretrained=false\.$"):
        TimmBackbone("resnet18", 3, 32, pretrained=True)


def test_parameters_that_timm_refuses():
    with pytest.raises(ConfigurationError, match="timm cannot build 'resnet18' with .*nonsense"):
        create_backbone("resnet18", channels=3, image_size=32, parameters={"nonsense": 1})


def test_images_that_are_too_small():
    with pytest.raises(ConfigurationError, match="cannot take 1 x 2 x 2 images: .*larger image size"):
        create_backbone("vgg11", channels=1, image_size=2)


def test_models_that_give_no_vector():
    with pytest.raises(ConfigurationError, match="does not map .* to one vector each"):
        create_backbone("resnet18", channels=3, image_size=32, parameters={"global_pool": ""})


@pytest.mark.parametrize("word", ["no", "yes", 0, None])
def test_pretrained_is_true_or_false(word):
    message = rf"^The 'pretrained' parameter of resnet18 must be true or false\. Got {word!r} instead\.$"
    with pytest.raises(ConfigurationError, match=message):
        create_backbone("resnet18", channels=3, image_size=32, parameters={"pretrained": word})


def test_retries_of_a_download_are_not_told(monkeypatch, caplog):
    from huggingface_hub.utils import logging as downloads

    logger = downloads.get_logger("huggingface_hub.utils._http")
    monkeypatch.setattr(downloads.get_logger("huggingface_hub"), "propagate", True)
    before = downloads.get_verbosity()

    def create_model(name, **parameters):
        logger.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("Cannot reach the Hub")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ConfigurationError, match="Cannot reach the Hub"):
        TimmBackbone("resnet18", 3, 32, pretrained=True)
    assert caplog.text == ""
    assert downloads.get_verbosity() == before
