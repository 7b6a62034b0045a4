"""The networks of W's CIFAR experiments, and ResNet-34 for small images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.models import AllCnnC, ResNet34Cifar, WideResNet, create_backbone

NAMES = {"all_cnn_c": 192, "wide_resnet": 512, "resnet34_cifar": 512}


def parameters_of(backbone: torch.nn.Module, classes: int) -> int:
    """Count a network's parameters with those of a linear classifier."""
    return sum(p.numel() for p in backbone.parameters()) + (int(backbone.num_features) + 1) * classes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_maps_images_to_features_that_are_not_negative(name, channels, size):
    small = {"depth": 10, "width": 2} if name == "wide_resnet" else {}
    backbone = create_backbone(name, channels=channels, image_size=size, parameters=small)
    features = backbone(torch.rand(3, channels, size, size))
    expected = 128 if small else NAMES[name]
    assert features.shape == (3, expected)
    assert backbone.num_features == expected
    assert features.min() >= 0
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("depth", "width", "classes", "published"),
    # Zagoruyko & Komodakis 2016, Table 4, in millions.
    [(40, 1, 10, 0.6), (40, 8, 10, 35.7), (22, 8, 10, 17.2), (16, 8, 10, 11.0), (28, 10, 10, 36.5), (28, 12, 10, 52.5)],
)
def test_wide_resnets_have_the_published_numbers_of_parameters(depth, width, classes, published):
    with torch.device("meta"):
        backbone = create_backbone(
            "wide_resnet", channels=3, image_size=32, parameters={"depth": depth, "width": width}
        )
    assert parameters_of(backbone, classes) / 1e6 == pytest.approx(published, abs=0.05)
    assert backbone.num_features == 64 * width


def test_wide_resnet_28_10_has_exactly_the_parameters_of_the_authors_code():
    with torch.device("meta"):
        assert parameters_of(WideResNet(3, 32, depth=28, width=10), 10) == 36_479_194


def test_the_default_wide_resnet_is_that_of_w():
    with torch.device("meta"):
        default, named = WideResNet(3, 32), WideResNet(3, 32, depth=16, width=8)
    assert parameters_of(default, 100) == parameters_of(named, 100)
    assert len(named.blocks) == 6


def test_a_block_of_a_wide_resnet_follows_its_formula():
    torch.manual_seed(0)
    first, second = WideResNet(3, 8, depth=16, width=1).eval().blocks[2:4]
    x = torch.randn(2, 16, 8, 8)
    normalised = F.relu(first.norm1(x))
    between = F.conv2d(normalised, first.conv1.weight, stride=2, padding=1)
    residual = F.conv2d(F.relu(first.norm2(between)), first.conv2.weight, padding=1)
    expected = residual + F.conv2d(normalised, first.shortcut.weight, stride=2)
    out = first(x)
    assert out.shape == (2, 32, 4, 4)
    torch.testing.assert_close(out, expected)
    # Where nothing changes the shortcut is the input itself, before its normalisation.
    assert second.shortcut is None
    torch.nn.init.zeros_(second.conv2.weight)
    assert torch.equal(second(out), out)


def test_a_wide_resnet_learns_in_every_part_from_the_first_step():
    torch.manual_seed(0)
    backbone = create_backbone(
        "wide_resnet", channels=3, image_size=8, parameters={"depth": 10, "width": 1}, zero_init_last=True
    )
    backbone(torch.randn(8, 3, 8, 8)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in backbone.parameters())


def test_all_cnn_c_has_exactly_the_parameters_counted_by_hand():
    convolutions = 9 * (3 * 96 + 96 * 96 + 96 * 96 + 96 * 192 + 3 * 192 * 192) + 192 * 192
    normalisations = 2 * (3 * 96 + 5 * 192)
    head = 192 * 10 + 10
    assert convolutions + normalisations + head == 1_370_986
    assert parameters_of(AllCnnC(3, 32), 10) == 1_370_986


def test_all_cnn_c_has_the_layers_of_the_paper():
    # Springenberg et al. 2015, Table 1 (All-CNN-C): 32 -> 16 -> 8 -> 6 pixels, no pooling before the mean.
    backbone = AllCnnC(3, 32).eval()
    seen = []
    for layer in backbone.layers:
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda module, inputs, out: seen.append((*out.shape[1:], *module.kernel_size)))
    features = backbone(torch.rand(1, 3, 32, 32))
    expected = [(96, 32, 32, 3, 3), (96, 32, 32, 3, 3), (96, 16, 16, 3, 3)]
    expected += [(192, 16, 16, 3, 3), (192, 16, 16, 3, 3), (192, 8, 8, 3, 3), (192, 6, 6, 3, 3), (192, 6, 6, 1, 1)]
    assert seen == expected
    kinds = [type(layer).__name__ for layer in backbone.layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 8 + ["AdaptiveAvgPool2d", "Flatten"]
    assert features.shape == (1, 192)


@pytest.mark.parametrize("size", [9, 10, 11, 12, 13])
def test_all_cnn_c_takes_images_from_nine_pixels_on(size):
    assert AllCnnC(1, size)(torch.rand(2, 1, size, size)).shape == (2, 192)


def test_all_cnn_c_refuses_images_that_vanish():
    with pytest.raises(ParameterError, match="all_cnn_c takes images of at least 9 x 9 pixels. Got 8 x 8"):
        create_backbone("all_cnn_c", channels=1, image_size=8)


def test_all_cnn_c_takes_no_parameters():
    with pytest.raises(ConfigurationError, match="'all_cnn_c' takes no parameter 'width'; It takes none"):
        create_backbone("all_cnn_c", channels=3, image_size=32, parameters={"width": 2})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depth": 15}, r"'depth' parameter of wide_resnet must be 6n \+ 4 .* Got 15 instead"),
        ({"depth": 4}, "Got 4 instead"),
        ({"depth": 16.0}, "'depth' parameter of wide_resnet must be an int"),
        ({"width": 0}, "'width' parameter of wide_resnet must be an int .* Got 0 instead"),
    ],
)
def test_wide_resnet_refuses_parameters_out_of_range(parameters, message):
    with pytest.raises(ParameterError, match=message):
        create_backbone("wide_resnet", channels=3, image_size=32, parameters=parameters)


def test_resnet_34_for_small_images_has_the_known_number_of_parameters():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours = parameters_of(ResNet34Cifar(3, 32), 10)
        original = sum(p.numel() for p in timm.create_model("resnet34", num_classes=10).parameters())
    # The first layer alone differs: 3×3 in the place of 7×7.
    assert ours == original - 3 * 64 * (49 - 9) == 21_282_122


def test_resnet_34_for_small_images_keeps_the_pixels_of_the_first_stage():
    backbone = ResNet34Cifar(3, 16).eval()
    sizes = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        module = getattr(backbone.model, stage)
        module.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    backbone(torch.rand(1, 3, 16, 16))
    assert sizes == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


@pytest.mark.parametrize("zero", [True, False])
def test_resnet_34_starts_as_the_recipe_says(zero):
    backbone = create_backbone("resnet34_cifar", channels=3, image_size=8, zero_init_last=zero)
    blocks = [block for stage in range(1, 5) for block in getattr(backbone.model, f"layer{stage}")]
    assert len(blocks) == 16
    assert all(bool((block.bn2.weight == (0 if zero else 1)).all()) for block in blocks)
