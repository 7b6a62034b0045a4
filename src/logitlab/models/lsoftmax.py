"""The networks of Liu et al., "Large-margin softmax loss for convolutional neural networks" (2016): L's networks.

L's slides draw no network. The layers are those of Table 1 of the paper behind them (ICML 2016), columns "MNIST (for
Fig. 2)" and "CIFAR100": number, kernel and width of the convolutions, max pooling by two with stride 2 after each
group of them, the size of the fully connected layer.

- Seen elsewhere: a public re-implementation of either column has these same layers. The model files that the authors
  published, for MNIST and CIFAR-10, have batch normalisation between convolution and activation and after the fully
  connected layer, weights that are normal with variance 2 / fan-in (He et al. 2015), no dropout, and Caffe's pooling,
  which keeps the pixels of an odd border (7 x 7 becomes 4 x 4). So it is here.
- Not verified: the paper itself was not at hand, so that Table 1 and the PReLU of its section 5.1 are known from those
  who rebuilt it; the authors' files and the re-implementation of the CIFAR network have ReLU.
- Ours: convolutions have no biases, which the normalisation behind them would take out again; PReLU has a slope a
  channel, from 0.25, as He et al. have it; the two features of the pictures have no activation behind their
  normalisation, since they point in all directions there; the 512 features have one, as in the authors' files.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from logitlab.config.errors import ParameterError

from .backbone import Backbone
from .small import check_positive

_SMALLEST = 8


class LSoftmaxMnist2d(Backbone):
    """L's network of the pictures of MNIST: pairs of 5x5 convolutions of 32, 64 and 128 channels, then 2 features.

    Each pair is followed by max pooling by two. Features may be negative; they can be drawn as they are.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels, at least 8 (it is halved three times).

    Attributes:
        num_features: D = 2.

    Raises:
        ParameterError: images are too small.

    >>> import torch
    >>> LSoftmaxMnist2d(1, 28).eval()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 2])
    """

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        _check_size("lsoftmax_mnist_2d", image_size)
        groups = [(32, 32), (64, 64), (128, 128)]
        self.groups = _groups(channels, groups, 5)
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(128 * _side(image_size) ** 2, 2, bias=False), nn.BatchNorm1d(2)
        )
        self.num_features = 2
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, 2]``."""
        features: Tensor = self.features(self.groups(images))
        return features


class LSoftmaxCifar(Backbone):
    """L's network of CIFAR-100: thirteen 3x3 convolutions in three groups, then a fully connected layer of 512.

    A convolution of ``filters`` channels, then four of ``filters``, four of 2 ``filters`` and four of 4 ``filters``,
    max pooling by two after each four. With 3 channels and 32 pixels there are 9,296,064 parameters below the head.

    Args:
        channels: channels of an image.
        image_size: height and width of an image in pixels, at least 8 (it is halved three times).
        filters: channels of the first group; 96 for CIFAR-100. L's Figure 7 varies the number of filters, and the
            slides do not print which: scaling all groups alike is our reading.

    Attributes:
        num_features: D = 512, whatever ``filters`` is.

    Raises:
        ParameterError: ``filters`` is not a positive int, or images are too small.

    >>> import torch
    >>> LSoftmaxCifar(3, 32, filters=4).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """

    def __init__(self, channels: int, image_size: int, *, filters: int = 96) -> None:
        super().__init__()
        check_positive("lsoftmax_cifar", "filters", filters)
        _check_size("lsoftmax_cifar", image_size)
        groups = [(filters,) * 5, (2 * filters,) * 4, (4 * filters,) * 4]
        self.groups = _groups(channels, groups, 3)
        inputs = 4 * filters * _side(image_size) ** 2
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 512, bias=False), nn.BatchNorm1d(512), nn.PReLU(512)
        )
        self.num_features = 512
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, 512]``."""
        features: Tensor = self.features(self.groups(images))
        return features


def _groups(inputs: int, groups: Sequence[Sequence[int]], kernel: int) -> nn.Sequential:
    """Return groups of convolutions, which keep the size of images, with pooling at the end of each.

    A group is a module of its own: what looks into the network by blocks finds the groups.
    """
    found: list[nn.Module] = []
    for widths in groups:
        layers: list[nn.Module] = []
        for outputs in widths:
            layers += [
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.PReLU(outputs),
            ]
            inputs = outputs
        found.append(nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)))
    return nn.Sequential(*found)


def _side(image_size: int) -> int:
    """Return the side of what is left after three poolings, each of which rounds up."""
    return -(-image_size // 8)


def _check_size(name: str, image_size: int) -> None:
    if image_size < _SMALLEST:
        raise ParameterError(
            f"{name} takes images of at least {_SMALLEST} x {_SMALLEST} pixels. Got {image_size} x {image_size}."
        )


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
