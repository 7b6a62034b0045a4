"""Wide residual networks for small images of Zagoruyko and Komodakis, "Wide residual networks" (2016), §2."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import parameter_fault

from .backbone import Backbone
from .small import check_positive


class WideResNet(Backbone):
    """WRN-``depth``-``width``: a 3×3 convolution, three groups of pre-activated blocks, ReLU, the mean over pixels.

    The groups have 16k, 32k and 64k channels (k is ``width``) and n blocks each; the depth, 6n + 4, counts the
    convolutions of the shortcuts between groups. A block is (batch normalisation, ReLU, 3×3 convolution) twice beside
    a shortcut; where channels or pixels change, the shortcut is a 1×1 convolution of the normalised input (He et al.
    2016, "Identity mappings"). With a linear head of 100 classes WRN-16-8 has 11.0 million parameters.

    Blocks never start as the identity (``zero_init_last``, W footnote 2, of ImageNet's networks): the last
    normalisation of a pre-activated block stands before a ReLU, and a γ at zero there would get no gradient.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels; any, since the network is convolutional.
        depth: 16, 22, 28, 40 in the paper; any 6n + 4 with n >= 1.
        width: the factor k; 1, 2, 4, 8, 10, 12 in the paper.

    Attributes:
        num_features: D = 64 ``width``.

    Raises:
        ParameterError: ``depth`` is not of the form 6n + 4, or ``width`` is not a positive int.

    >>> WideResNet(3, 32, depth=10, width=1).num_features
    64
    """

    def __init__(self, channels: int, image_size: int, *, depth: int = 16, width: int = 8) -> None:
        super().__init__()
        check_positive("wide_resnet", "depth", depth)
        check_positive("wide_resnet", "width", width)
        if depth < 10 or (depth - 4) % 6:
            expected = "6n + 4 with n of at least 1 (10, 16, 22, 28, 34, 40, …)"
            raise ParameterError(parameter_fault("wide_resnet", "depth", expected, depth))
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inputs = 16
        for group in range(3):
            outputs = 16 * width * 2**group
            for index in range((depth - 4) // 6):
                blocks.append(_Block(inputs, outputs, stride=2 if group and not index else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.num_features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, D]``."""
        features: Tensor = F.relu(self.norm(self.blocks(self.stem(images)))).mean(dim=(2, 3))
        return features


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changed = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changed else None

    def forward(self, x: Tensor) -> Tensor:
        normalised = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(normalised))))
        return out + (x if self.shortcut is None else self.shortcut(normalised))
