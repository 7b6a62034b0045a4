"""Small backbones and the factory."""

from __future__ import annotations

import pytest
import torch

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.models import Mlp, ResNetCifar, SmallCnn, create_backbone, list_backbones


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    [
        ("mlp", {}, 128),
        ("mlp", {"widths": [24, 12]}, 12),
        ("small_cnn", {}, 128),
        ("small_cnn", {"width": 4}, 16),
        ("resnet_cifar", {}, 64),
        ("resnet_cifar", {"depth": 8, "width": 4}, 16),
    ],
)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 11)])
def test_maps_images_to_num_features(name, parameters, features, channels, size):
    backbone = create_backbone(name, channels=channels, image_size=size, parameters=parameters)
    out = backbone(torch.rand(5, channels, size, size))
    assert backbone.num_features == features
    assert out.shape == (5, features)
    assert out.min() >= 0  # ends with ReLU, or the mean of it


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_resnet_cifar_has_the_papers_size(depth):
    # He et al. 2016, Table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million parameters with the classifier of 10 classes.
    published = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}[depth]
    parameters = sum(p.numel() for p in ResNetCifar(3, 32, depth=depth).parameters()) + 64 * 10 + 10
    assert parameters / 1e6 == pytest.approx(published, abs=0.05 if depth == 110 else 0.006)
    weighted = [m for m in ResNetCifar(3, 32, depth=depth).modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(weighted) + 1 == depth


def test_resnet_20_has_exactly_the_parameters_counted_by_hand():
    def block(inputs, outputs):
        return 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs + 2 * outputs

    stem = 9 * 3 * 16 + 2 * 16
    stages = 3 * block(16, 16) + block(16, 32) + 2 * block(32, 32) + block(32, 64) + 2 * block(64, 64)
    assert stem + stages + 64 * 10 + 10 == 269_722
    assert sum(p.numel() for p in ResNetCifar(3, 32, depth=20).parameters()) == stem + stages


def test_a_block_that_starts_at_zero_is_its_shortcut():
    torch.manual_seed(0)
    block = ResNetCifar(3, 32, depth=8).eval().blocks[1]
    x = torch.rand(2, 16, 6, 6)
    out = block(x)
    assert out.shape == (2, 32, 3, 3)
    # Option A: every second pixel, the new channels zero.
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()


def test_blocks_that_do_not_start_at_zero_compute_something():
    torch.manual_seed(0)
    block = ResNetCifar(3, 32, depth=8, zero_init_last=False).eval().blocks[0]
    x = torch.rand(2, 16, 6, 6)
    assert not torch.allclose(block(x), x)


def test_small_cnn_pools_twice():
    # 12 -> 6 -> 3 pixels before the mean; the last ReLU's map is what the mean is taken of.
    backbone = SmallCnn(1, 12, width=2).eval()
    sizes = []
    for layer in backbone.layers:
        if isinstance(layer, torch.nn.ReLU):
            layer.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    backbone(torch.rand(1, 1, 12, 12))
    assert sizes == [(2, 6, 6), (4, 3, 3), (8, 3, 3)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mlp(1, 8, widths=[]), "'widths' parameter of mlp must be a list of ints"),
        (lambda: Mlp(1, 8, widths="64"), "'widths' parameter of mlp must be a list of ints"),
        (lambda: Mlp(1, 8, widths=[64, 0]), "'widths' parameter of mlp must be an int .* Got 0 instead"),
        (lambda: SmallCnn(1, 8, width=1.5), "'width' parameter of small_cnn must be an int .* Got 1.5 instead"),
        (lambda: SmallCnn(1, 3), "at least 4 x 4 pixels"),
        (lambda: ResNetCifar(3, 32, depth=21), r"'depth' .* must be 6n \+ 2 .* Got 21 instead"),
        (lambda: ResNetCifar(3, 32, depth=2), "Got 2 instead"),
        (lambda: ResNetCifar(3, 32, depth=True), "Got True instead"),
        (lambda: ResNetCifar(3, 32, width=0), "'width' parameter of resnet_cifar"),
    ],
)
def test_refuses_parameters_out_of_range(build, message):
    with pytest.raises(ParameterError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("smal_cnn", {}, "Unknown backbone 'smal_cnn'; did you mean 'small_cnn'"),
        ("resnet81", {}, "did you mean 'resnet"),
        ("zzzzzzzzzz", {}, "Unknown backbone 'zzzzzzzzzz'. Known: all_cnn_c, .*, wide_resnet, and any timm model"),
        ("mlp", {"width": [8]}, "takes no parameter 'width'; did you mean 'widths'"),
        ("mlp", {"qqq": 1}, "takes no parameter 'qqq'; It takes: widths"),
        ("resnet_cifar", {"zero_init_last": True}, "gets 'zero_init_last' from the data and the recipe"),
        ("resnet18", {"in_chans": 3}, "gets 'in_chans' from the data and the recipe"),
    ],
)
def test_factory_names_what_is_wrong(name, parameters, message):
    with pytest.raises(ConfigurationError, match=message):
        create_backbone(name, channels=1, image_size=8, parameters=parameters)


def test_factory_passes_zero_start_on():
    on, off = (
        create_backbone("resnet_cifar", channels=1, image_size=8, parameters={"depth": 8}, zero_init_last=zero)
        for zero in (True, False)
    )
    assert not on.blocks[0].norm2.weight.any()
    assert (off.blocks[0].norm2.weight == 1).all()


def test_list_backbones_with_and_without_timm():
    assert list_backbones() == [
        "all_cnn_c", "lsoftmax_cifar", "lsoftmax_mnist_2d", "mlp", "resnet34_cifar", "resnet_cifar", "small_cnn",
        "wide_resnet",
    ]  # fmt: skip
    assert {"mlp", "resnet18", "vit_tiny_patch16_224"} < set(list_backbones(timm=True))
