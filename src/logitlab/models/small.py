"""Two small backbones that train in seconds on two cores: a perceptron and a convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range, parameter_fault

from .backbone import Backbone


def check_positive(owner: str, name: str, value: object) -> None:
    """Refuse whatever is not a positive int.

    Raises:
        ParameterError: ``value`` is not an int of at least 1.
    """
    if fault := Range(1, integer=True).fault(owner, name, value):
        raise ParameterError(fault)


class Mlp(Backbone):
    """Perceptron over the flattened pixels: (linear, batch normalisation, ReLU) for each width.

    Args:
        channels: channels of an image.
        image_size: height and width of an image, in pixels.
        widths: units of each layer; the last is the number of features.

    Attributes:
        num_features: D, the size of the features.

    Raises:
        ParameterError: ``widths`` is empty or holds something else than positive ints.

    >>> import torch
    >>> Mlp(1, 8)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 128])
    """

    def __init__(self, channels: int, image_size: int, *, widths: Sequence[int] = (256, 128)) -> None:
        super().__init__()
        if not isinstance(widths, (list, tuple)) or not widths:
            raise ParameterError(parameter_fault("mlp", "widths", "a list of ints such as [256, 128]", widths))
        layers: list[nn.Module] = [nn.Flatten()]
        size = channels * image_size**2
        for width in widths:
            check_positive("mlp", "widths", width)
            layers += [nn.Linear(size, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
            size = width
        self.layers = nn.Sequential(*layers)
        self.num_features = size

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, D]``."""
        features: Tensor = self.layers(images)
        return features


class SmallCnn(Backbone):
    """Three 3×3 convolutions with ``width``, 2 ``width`` and 4 ``width`` channels, then the mean over pixels.

    Batch normalisation and ReLU follow each convolution, after max pooling by two for the first two. Features are
    non-negative, as those of the networks in the papers.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels, at least 4 (it is halved twice).
        width: channels of the first convolution.

    Attributes:
        num_features: D = 4 ``width``.

    Raises:
        ParameterError: ``width`` is not a positive int, or images are too small.

    >>> import torch
    >>> SmallCnn(1, 8)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 128])
    """

    def __init__(self, channels: int, image_size: int, *, width: int = 32) -> None:
        super().__init__()
        check_positive("small_cnn", "width", width)
        if image_size < 4:
            raise ParameterError(f"small_cnn takes images of at least 4 x 4 pixels. Got {image_size} x {image_size}.")
        layers: list[nn.Module] = []
        inputs = channels
        for block in range(3):
            outputs = width * 2**block
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers.append(convolution)
            if block < 2:
                # Before the normalisation and not after it: a quarter of the pixels to normalise.
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = inputs

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, D]``."""
        features: Tensor = self.layers(images)
        return features
