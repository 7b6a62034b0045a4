"""Any timm model as a backbone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.config.parameters import parameter_fault

from .backbone import Backbone
from .weight_file import check_weight_file, load_weight_file

# Other ways to say which weights: neither a trial's identity nor a checkpoint could tell them apart.
_REFUSED = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


class TimmBackbone(Backbone):
    """A timm model without its classifier (``num_classes=0``).

    The size of the features is measured with one blank image and not read from the model: some models
    (MobileNet-v3) end with a layer that ``num_features`` does not count.

    Args:
        name: a timm model, with or without a pretrained tag, for instance ``"resnet18.a1_in1k"``.
        channels: channels of an image; timm adapts pretrained first layers to it.
        image_size: height and width of an image, in pixels; models of one fixed size are built for it.
        pretrained: load timm's weights. Their residual γ are kept as they are.
        checkpoint_path: load the weights of this file instead; see :func:`~.weight_file.load_weight_file`.
        zero_init_last: start the last γ of each residual block at zero (W footnote 2), or at one.
        parameters: further keyword arguments of ``timm.create_model``, for instance ``drop_path_rate``.

    Attributes:
        model: the timm model.
        num_features: D, the size of the features.

    Raises:
        ConfigurationError: ``pretrained`` is no bool, timm refuses the parameters, the weights cannot be had or are
            another model's, or the model cannot take images of this size.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int,
        *,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        zero_init_last: bool = True,
        **parameters: Any,
    ) -> None:
        import timm

        super().__init__()
        if not isinstance(pretrained, bool):
            # On the command line "no" is a word like any other, and every word counts as true.
            raise ParameterError(parameter_fault(name, "pretrained", "true or false", pretrained))
        _check_parameters(name, parameters, both=pretrained and checkpoint_path is not None)
        file = None if checkpoint_path is None else check_weight_file(name, checkpoint_path)
        if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
            parameters["img_size"] = image_size
        try:
            with _quiet_downloads():
                self.model: nn.Module = timm.create_model(
                    name, pretrained=pretrained, num_classes=0, in_chans=channels, **parameters
                )
        except TypeError as fault:
            raise ConfigurationError(f"timm cannot build '{name}' with {parameters}: {_first_line(fault)}.") from fault
        except (OSError, RuntimeError, ValueError, AssertionError) as fault:
            advice = " Check the connection and the tag after the dot, or set pretrained=false." if pretrained else ""
            raise ConfigurationError(
                f"timm cannot build '{name}' for {channels} x {image_size} x {image_size} images: "
                f"{_first_line(fault)}.{advice}"
            ) from fault
        if not pretrained:
            _start_last_scales(self.model, zero=zero_init_last)
        if file is not None:
            load_weight_file(self.model, name, file, channels)
        self.num_features = _measure_features(self.model, name, channels, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, channels, H, W]`` to features ``[B, D]``."""
        features: Tensor = self.model(images)
        return features


def _check_parameters(name: str, parameters: dict[str, Any], *, both: bool) -> None:
    if both:
        raise ParameterError(f"The backbone '{name}' takes 'pretrained' or 'checkpoint_path', not both. Give one.")
    for key in _REFUSED:
        if key in parameters:
            raise ParameterError(
                f"The backbone '{name}' does not take '{key}'. Name timm's weights after a dot, as in "
                "resnet18.a1_in1k:pretrained=true, or give a file with 'checkpoint_path'; the environment variable "
                "HF_HOME says where downloads are kept."
            )


@contextmanager
def _quiet_downloads() -> Iterator[None]:
    """Keep Hugging Face from writing two lines for each of its retries: the error that follows says it in one."""
    from huggingface_hub.utils import logging as downloads

    before = downloads.get_verbosity()
    downloads.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        downloads.set_verbosity(before)


def _start_last_scales(model: nn.Module, *, zero: bool) -> None:
    """Set the last γ of each residual block to zero or to one, in the models whose blocks name them."""
    for block in model.modules():
        # timm's residual blocks have a method of this name that zeroes the right γ and nothing else. It is
        # the only thing that knows which γ is the last, so one is set by way of zero.
        start_at_zero = getattr(block, "zero_init_last", None)
        if not callable(start_at_zero):
            continue
        start_at_zero()
        if zero:
            continue
        for layer in block.children():
            scale = getattr(layer, "weight", None)
            if isinstance(scale, nn.Parameter) and scale.ndim == 1 and not scale.detach().any():
                nn.init.ones_(scale)


def _measure_features(model: nn.Module, name: str, channels: int, image_size: int) -> int:
    model.eval()
    shape = f"{channels} x {image_size} x {image_size}"
    try:
        with torch.no_grad():
            features = model(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as fault:
        raise ConfigurationError(
            f"The backbone '{name}' cannot take {shape} images: {_first_line(fault)}. "
            "Give a larger image size, or another backbone."
        ) from fault
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ConfigurationError(
            f"The backbone '{name}' does not map {shape} images to one vector each. Give another backbone."
        )
    model.train()
    return features.shape[1]


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(fault).__name__
