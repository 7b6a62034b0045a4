"""Which modules are taken for the blocks of a network, and what is kept of their outputs."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from logitlab.analysis import activation_sparsity
from logitlab.config.errors import InputError
from logitlab.evaluation.layers import (
    MOST_LAYERS,
    LayerOutputs,
    check_layers,
    find_layers,
    has_channels_last,
    named_layers,
)
from logitlab.models import create_backbone

# Stages that are no sequences: their blocks are children with names of their own.
_REGNET = [
    f"model.s{stage}.b{block + 1}" for stage, depth in ((1, 1), (2, 1), (3, 4), (4, 7)) for block in range(depth)
]


def blocks(name, side, **parameters):
    backbone = create_backbone(name, channels=3, image_size=side, parameters=parameters)
    return backbone, find_layers(backbone, torch.zeros(2, 3, side, side))


@pytest.mark.parametrize(
    ("name", "side", "parameters", "expected"),
    [
        ("mlp", 8, {"widths": [8, 8, 4]}, ["layers.3", "layers.6", "layers.9"]),
        ("small_cnn", 8, {"width": 4}, ["layers.3", "layers.7", "layers.10"]),
        ("resnet_cifar", 8, {"depth": 14, "width": 4}, [f"blocks.{place}" for place in range(6)]),
        ("resnet10t", 32, {}, [f"model.layer{place}.0" for place in (1, 2, 3, 4)]),
        ("vit_tiny_patch16_224", 32, {"depth": 3}, [f"model.blocks.{place}" for place in range(3)]),
        ("regnetx_002", 32, {}, _REGNET),
    ],
)
def test_blocks_are_found(name, side, parameters, expected):
    assert list(blocks(name, side, **parameters)[1]) == expected


def test_stages_and_inner_blocks_are_told_apart():
    # EfficientNets: sequences of sequences of blocks; the inner ones are taken.
    found = list(blocks("mobilenetv3_small_050", 32)[1])
    assert found[0] == "model.blocks.0.0"
    assert all(name.count(".") == 3 for name in found)


def test_of_a_deep_network_some_are_taken_and_the_last_is_among_them():
    found = list(blocks("resnet_cifar", 8, depth=182, width=1)[1])
    assert len(found) == MOST_LAYERS
    assert found[-1] == "blocks.89"
    places = [int(name.split(".")[1]) for name in found]
    assert max(b - a for a, b in pairwise(places)) <= 4


def test_finding_leaves_modes_and_moments_alone():
    backbone = create_backbone("mlp", channels=1, image_size=8, parameters={"widths": [8]})
    backbone.train()
    backbone.layers[1].eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    find_layers(backbone, torch.randn(2, 1, 8, 8))
    assert [module.training for module in backbone.layers] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not any(module._forward_hooks for module in backbone.modules())


class _Shared(nn.Module):
    """A block that calls one in-place ReLU three times, as torchvision's do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.relu(self.second(self.relu(self.first(x)))) + x)


def test_a_shared_activation_is_not_taken():
    network = nn.Sequential(_Shared(), _Shared())
    assert list(find_layers(network, torch.randn(2, 6))) == ["0", "1"]
    heard = LayerOutputs(named_layers(network, ("0.relu",)), "mean")
    with heard.listening(), pytest.raises(InputError, match="'0.relu' is called several times"):
        network(torch.randn(2, 6))
    # The hooks are gone, whatever happened.
    assert not network[0].relu._forward_hooks


def test_what_is_kept_is_what_the_layer_gave_and_not_what_became_of_it():
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(x).mul_(0)

    network = Changing()
    for pooling in ("mean", "flatten"):
        images = torch.rand(2, 3, 4, 4) + 0.5
        expected = images.clone()
        heard = LayerOutputs({"layer": network.layer}, pooling)
        with heard.listening():
            network(images)
        assert images.abs().sum() == 0
        wanted = expected.mean(dim=(2, 3)) if pooling == "mean" else expected.flatten(1)
        assert torch.equal(heard.vectors["layer"], wanted)
        assert heard.zeros["layer"].tolist() == [0, 0]


def test_sparsity_is_counted_before_pooling():
    backbone, found = blocks("small_cnn", 8, width=4)
    backbone.eval()
    images = torch.randn(5, 3, 8, 8)
    heard = LayerOutputs(found, "mean")
    with torch.no_grad(), heard.listening():
        backbone(images)
        heard.check()
    for name, place in (("layers.3", 4), ("layers.7", 8), ("layers.10", 11)):
        with torch.no_grad():
            maps = backbone.layers[:place](images)
        assert heard.zeros[name].mean().item() == pytest.approx(activation_sparsity(maps).value, abs=1e-12)
        assert torch.equal(heard.vectors[name], maps.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("output", "channels_last", "expected"),
    [
        (torch.arange(24.0).reshape(1, 2, 3, 4), False, [[5.5, 17.5]]),
        (torch.arange(24.0).reshape(1, 2, 3, 4), True, [[10.0, 11.0, 12.0, 13.0]]),
        (torch.arange(6.0).reshape(1, 3, 2), False, [[2.0, 3.0]]),
        (torch.arange(3.0).reshape(1, 3), False, [[0.0, 1.0, 2.0]]),
    ],
)
def test_means_are_over_places_and_tokens(output, channels_last, expected):
    layer = nn.Identity()
    heard = LayerOutputs({"layer": layer}, "mean", channels_last=channels_last)
    with heard.listening():
        layer(output)
    assert heard.vectors["layer"].tolist() == expected


def test_timm_tells_where_channels_come_last():
    backbone = nn.Sequential(nn.Identity())
    assert not has_channels_last(backbone)
    backbone[0].output_fmt = "NHWC"
    assert has_channels_last(backbone)


def test_layers_that_are_not_called_or_give_no_tensor_are_refused():
    layer = nn.Identity()
    heard = LayerOutputs({"idle": layer}, "mean")
    with heard.listening(), pytest.raises(InputError, match="'idle' is not called"):
        heard.check()
    with heard.listening(), pytest.raises(InputError, match="does not return a tensor"):
        layer((torch.zeros(2), 1))


def test_unknown_layers_are_told_with_the_nearest_name():
    backbone = create_backbone("mlp", channels=1, image_size=8)
    check_layers(("layers.3",), [nn.Identity(), backbone])
    with pytest.raises(InputError, match=r"Unknown layer 'layer.3'; did you mean 'layers.3'\? Known: .*layers.0"):
        check_layers(("layer.3",), [backbone])
