"""Backbones by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from logitlab.config.errors import ConfigurationError
from logitlab.config.names import nearest_name

from .all_cnn import AllCnnC
from .backbone import Backbone
from .lsoftmax import LSoftmaxCifar, LSoftmaxMnist2d
from .resnet34_cifar import ResNet34Cifar
from .resnet_cifar import ResNetCifar
from .small import Mlp, SmallCnn
from .timm_backbone import TimmBackbone
from .wide_resnet import WideResNet

# What the data and the recipe say; a user who gives one of these is told so instead of being overruled.
_DERIVED = ("channels", "image_size", "img_size", "in_chans", "num_classes", "zero_init_last")

_OWN: dict[str, Callable[..., Backbone]] = {
    "all_cnn_c": AllCnnC,
    "lsoftmax_cifar": LSoftmaxCifar,
    "lsoftmax_mnist_2d": LSoftmaxMnist2d,
    "mlp": Mlp,
    "resnet34_cifar": ResNet34Cifar,
    "resnet_cifar": ResNetCifar,
    "small_cnn": SmallCnn,
    "wide_resnet": WideResNet,
}


def list_backbones(*, timm: bool = False) -> list[str]:
    """Return the names that :func:`create_backbone` takes, sorted.

    Args:
        timm: timm's models as well, more than a thousand.

    >>> {"all_cnn_c", "lsoftmax_cifar", "mlp", "resnet_cifar", "wide_resnet"} <= set(list_backbones())
    True
    """
    names = sorted(_OWN)
    if timm:
        from timm import list_models

        names += list_models()
    return names


def create_backbone(
    name: str,
    *,
    channels: int,
    image_size: int,
    parameters: Mapping[str, Any] | None = None,
    zero_init_last: bool = True,
) -> Backbone:
    """Build a network that maps images to features.

    Args:
        name: one of ``list_backbones()``, or any timm model.
        channels: channels of an image.
        image_size: height and width of an image, in pixels.
        parameters: keyword arguments of the backbone, for instance ``{"depth": 32}`` for ``resnet_cifar``, and
            ``{"pretrained": True}`` or ``{"checkpoint_path": "weights.safetensors"}`` for a timm model.
        zero_init_last: start the last γ of each residual block at zero; backbones without such blocks and
            pretrained ones are not touched.

    Returns:
        a network that maps ``[B, channels, H, W]`` to ``[B, num_features]``.

    Raises:
        ConfigurationError: an unknown name, parameters that the backbone does not take, or images that are
            too small for it.

    >>> create_backbone("mlp", channels=1, image_size=8, parameters={"widths": [32]}).num_features
    32
    """
    given = dict(parameters or {})
    for key in given:
        if key in _DERIVED:
            raise ConfigurationError(
                f"The backbone '{name}' gets '{key}' from the data and the recipe. Leave it out of its parameters."
            )
    own = _OWN.get(name)
    if own is None:
        _check_timm_name(name)
        return TimmBackbone(name, channels, image_size, zero_init_last=zero_init_last, **given)
    known = inspect.signature(own).parameters
    taken = [key for key, value in known.items() if value.kind is value.KEYWORD_ONLY and key not in _DERIVED]
    if "zero_init_last" in known:
        own = partial(own, zero_init_last=zero_init_last)
    for key in given:
        if key not in taken:
            near = nearest_name(key, taken)
            raise ConfigurationError(
                f"The backbone '{name}' takes no parameter '{key}'; "
                + (f"did you mean '{near}'? " if near else "")
                + (f"It takes: {', '.join(taken)}." if taken else "It takes none.")
            )
    return own(channels, image_size, **given)


def _check_timm_name(name: str) -> None:
    from timm import is_model, list_models

    if not is_model(name):
        near = nearest_name(name, [*_OWN, *list_models()])
        question = f"; did you mean '{near}'?" if near else "."
        raise ConfigurationError(
            f"Unknown backbone '{name}'{question} Known: {', '.join(sorted(_OWN))}, and any timm model."
        )
