"""ResNet-34 of He et al., "Deep residual learning for image recognition" (2016), Table 1, for small images."""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import Backbone


class ResNet34Cifar(Backbone):
    """timm's ResNet-34 with a first layer of 3×3, stride 1, and without the pooling after it.

    At 32 pixels the original, which is made for 224, would be left with a single one in its last stage. With a linear
    head of 10 classes there are 21,282,122 parameters.

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
        import timm

        super().__init__()
        self.model = timm.create_model("resnet34", in_chans=channels, num_classes=0, zero_init_last=zero_init_last)
        self.model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.model.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.model.maxpool = nn.Identity()
        self.num_features = 512

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, 512]``."""
        features: Tensor = self.model(images)
        return features
