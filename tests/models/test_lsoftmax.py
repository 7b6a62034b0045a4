"""L's networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from logitlab.config.errors import ParameterError
from logitlab.evaluation.layers import find_layers
from logitlab.models import LSoftmaxCifar, LSoftmaxMnist2d, create_backbone


def count(backbone):
    return sum(parameter.numel() for parameter in backbone.parameters())


def test_the_network_of_the_pictures_has_the_parameters_of_the_table():
    # 5 x 5 weights between 1, 32, 32, 64, 64, 128 and 128 channels.
    convolutions = 25 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    assert convolutions == 794_400
    # Scale and shift of each channel, and a slope; then 28 pixels, 14, 7, 4, on 2 features with scale and shift.
    expected = convolutions + 3 * (32 + 32 + 64 + 64 + 128 + 128) + 128 * 4 * 4 * 2 + 2 * 2
    assert expected == 799_844
    assert count(LSoftmaxMnist2d(1, 28)) == expected


@pytest.mark.parametrize(("filters", "expected"), [(96, 9_296_064), (48, 3_114_336), (2, 69_964)])
def test_the_cifar_network_has_the_parameters_of_the_table(filters, expected):
    wide = [filters, 2 * filters, 4 * filters]
    weights = (
        3 * wide[0] + 4 * wide[0] ** 2 + wide[0] * wide[1] + 3 * wide[1] ** 2 + wide[1] * wide[2] + 3 * wide[2] ** 2
    )
    by_hand = 9 * weights + 3 * (5 * wide[0] + 4 * wide[1] + 4 * wide[2]) + wide[2] * 16 * 512 + 3 * 512
    with torch.device("meta"):
        backbone = create_backbone("lsoftmax_cifar", channels=3, image_size=32, parameters={"filters": filters})
    assert count(backbone) == by_hand == expected
    assert backbone.num_features == 512


def test_filters_are_96_unless_told_otherwise():
    with torch.device("meta"):
        assert [each.out_channels for each in LSoftmaxCifar(3, 32).modules() if isinstance(each, nn.Conv2d)] == (
            [96] * 5 + [192] * 4 + [384] * 4
        )


@pytest.mark.parametrize("name", ["lsoftmax_mnist_2d", "lsoftmax_cifar"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 11), (1, 28), (3, 32), (1, 35)])
def test_every_part_learns_at_any_size(name, channels, size):
    small = {} if name == "lsoftmax_mnist_2d" else {"filters": 4}
    backbone = create_backbone(name, channels=channels, image_size=size, parameters=small)
    features = backbone(torch.rand(3, channels, size, size))
    assert features.shape == (3, backbone.num_features)
    # Features of a picture point in all directions.
    assert features.min() < 0 < features.max()
    (features * torch.randn_like(features)).sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in backbone.parameters())


def test_a_group_follows_its_formula():
    """Pairs of convolutions with normalisation and PReLU, pooling that keeps an odd border, features as they are."""
    backbone = LSoftmaxMnist2d(1, 11).eval()
    convolutions = [each for group in backbone.groups for each in group if isinstance(each, nn.Conv2d)]
    norms = [each for group in backbone.groups for each in group if isinstance(each, nn.BatchNorm2d)]
    for norm in [*norms, backbone.features[2]]:
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    images = torch.rand(2, 1, 11, 11)
    x = images
    for place, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        x = F.conv2d(x, convolution.weight, padding=2)
        x = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        x = torch.where(x > 0, x, 0.25 * x)
        if place % 2:
            # 11, 6, 3, 2 pixels: what lies beyond the border is below everything.
            x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), value=-torch.inf)
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    assert x.shape == (2, 128, 2, 2)
    _, last, norm = backbone.features
    expected = (x.flatten(1) @ last.weight.T - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=1e-4)


def test_weights_start_with_the_variance_of_he_et_al():
    torch.manual_seed(0)
    backbone = LSoftmaxCifar(3, 32, filters=16)
    for module in backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.numel() > 5000:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
            assert module.bias is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSoftmaxMnist2d(1, 7), r"^lsoftmax_mnist_2d takes images of at least 8 x 8 pixels. Got 7 x 7"),
        (lambda: LSoftmaxCifar(3, 4), r"^lsoftmax_cifar takes images of at least 8 x 8 pixels. Got 4 x 4"),
        (lambda: LSoftmaxCifar(3, 32, filters=0), r"'filters' parameter of lsoftmax_cifar must be an int"),
        (lambda: LSoftmaxCifar(3, 32, filters=1.5), r"'filters' parameter of lsoftmax_cifar must be an int"),
    ],
)
def test_what_they_do_not_take(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize("name", ["lsoftmax_mnist_2d", "lsoftmax_cifar"])
def test_analyses_by_layer_find_the_groups(name):
    small = {} if name == "lsoftmax_mnist_2d" else {"filters": 2}
    backbone = create_backbone(name, channels=1, image_size=8, parameters=small).eval()
    assert list(find_layers(backbone, torch.rand(2, 1, 8, 8))) == ["groups.0", "groups.1", "groups.2"]
