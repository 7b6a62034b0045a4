"""ResNet-34 of He et al., "Deep residual learning for image recognition" (2016), Table 1, for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone

#: Blocks of each stage (He et al., Table 1, "34-layer").
_STAGES = (3, 4, 6, 3)


class ResNet34Cifar(Backbone):
    """ResNet-34 whose first layer is a 3×3 convolution of stride 1 without pooling, then the mean over pixels.

    At 32 pixels the original, which is made for 224, would be left with a single one in its last stage. Stages have 64,
    128, 256 and 512 channels; where channels or pixels change, the shortcut is a 1×1 convolution with batch
    normalisation (option B). With a linear head of 10 classes there are 21,282,122 parameters.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels; any, since the network is convolutional.
        zero_init_last: start the last γ of each block at zero, so that blocks begin as the identity (W footnote 2).

    Attributes:
        num_features: D = 512.

    >>> ResNet34Cifar(3, 32).num_features
    512
    """

    def __init__(self, channels: int, image_size: int, *, zero_init_last: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        blocks: list[nn.Module] = []
        inputs = 64
        for stage, count in enumerate(_STAGES):
            outputs = 64 * 2**stage
            for index in range(count):
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
        """Map images ``[B, channels, H, W]`` to features ``[B, 512]``."""
        features: Tensor = self.blocks(F.relu(self.norm(self.stem(images)))).mean(dim=(2, 3))
        return features


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))
