"""The residual network for small images of He et al., "Deep residual learning for image recognition" (2016), §4.2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import parameter_fault

from .backbone import Backbone
from .small import check_positive


class ResNetCifar(Backbone):
    """A 3×3 convolution, three stages of n residual blocks with 16, 32 and 64 channels, then the mean over pixels.

    The depth counts weighted layers with the classifier: 6n + 2. The shortcut between stages has no
    parameters (the paper's option A: every second pixel, new channels zero). With a linear classifier of 10
    classes, depth 20 has 269,722 parameters.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels; any, since the network is convolutional.
        depth: 20, 32, 44, 56, 110 in the paper; any 6n + 2 with n >= 1.
        width: channels of the first stage; 16 in the paper.
        zero_init_last: start the last γ of each block at zero, so that blocks begin as the identity
            (W footnote 2, after Goyal et al. 2017).

    Attributes:
        num_features: D = 4 ``width``.

    Raises:
        ParameterError: ``depth`` is not of the form 6n + 2, or ``width`` is not a positive int.

    >>> ResNetCifar(3, 32, depth=20).num_features
    64
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        *,
        depth: int = 20,
        width: int = 16,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        check_positive("resnet_cifar", "depth", depth)
        check_positive("resnet_cifar", "width", width)
        if depth < 8 or (depth - 2) % 6:
            expected = "6n + 2 with n of at least 1 (8, 14, 20, 32, 44, …)"
            raise ParameterError(parameter_fault("resnet_cifar", "depth", expected, depth))
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for index in range((depth - 2) // 6):
                blocks.append(_Block(inputs, outputs, stride=2 if stage and not index else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.num_features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _Block) and zero_init_last:
                nn.init.zeros_(module.norm2.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, D]``."""
        x = F.relu(self.norm(self.stem(images)))
        features: Tensor = self.blocks(x).mean(dim=(2, 3))
        return features


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        shortcut = x[..., :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = torch.cat([shortcut, shortcut.new_zeros(()).expand_as(shortcut[:, : self.new_channels])], 1)
        return F.relu(out + shortcut)
