"""All-CNN-C of Springenberg et al., "Striving for simplicity: the all convolutional net" (2015), as W trains it."""

from __future__ import annotations

from torch import Tensor, nn

from logitlab.config.errors import ParameterError

from .backbone import Backbone

#: Of each convolution below the classifier: channels, side of the kernel, stride, padding (Springenberg et al., Table 1
#: and its note on strides in the place of pooling).
_LAYERS = (
    (96, 3, 1, 1),
    (96, 3, 1, 1),
    (96, 3, 2, 1),
    (192, 3, 1, 1),
    (192, 3, 1, 1),
    (192, 3, 2, 1),
    (192, 3, 1, 0),
    (192, 1, 1, 0),
)
_SMALLEST = 9


class AllCnnC(Backbone):
    """Eight convolutions without pooling between them, then the mean over pixels (W A.1).

    W's changes to the original are made: batch normalisation between the layers, and "the global average pooling
    operation moved before the final convolutional layer", so that the 1×1 convolution to the classes is a linear head
    on 192 features. With such a head of 10 classes and 3 channels there are 1,370,986 parameters; the original, with
    biases in the place of batch normalisation, has about 1.4 million. Its dropout is left out; W says nothing of it.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels, at least 9: they are halved twice, and the seventh
            convolution is not padded.

    Attributes:
        num_features: D = 192.

    Raises:
        ParameterError: images are too small.

    >>> AllCnnC(3, 32).num_features
    192
    """

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        if image_size < _SMALLEST:
            raise ParameterError(
                f"all_cnn_c takes images of at least {_SMALLEST} x {_SMALLEST} pixels. Got {image_size} x {image_size}."
            )
        layers: list[nn.Module] = []
        inputs = channels
        for outputs, side, stride, padding in _LAYERS:
            convolution = nn.Conv2d(inputs, outputs, side, stride, padding, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = inputs

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, 192]``."""
        features: Tensor = self.layers(images)
        return features
