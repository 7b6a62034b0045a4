"""Which modules of a backbone are its blocks, and what they put out while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name

Pooling = Literal["mean", "flatten"]

#: How the outputs of layers become vectors.
POOLINGS: tuple[str, ...] = ("mean", "flatten")

#: Of a deeper network these many blocks are taken, evenly spaced, the last among them.
MOST_LAYERS = 24

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Hardswish, nn.Mish)


def find_layers(backbone: nn.Module, images: Tensor) -> dict[str, nn.Module]:
    """Find the blocks of a backbone: what W Figures 2 to 4 look at, "after the residual connection and nonlinearity".

    A block is a module with at least two weight layers inside that stands in a sequence of such modules, and holds no
    further block: ResNet's and ViT's blocks, the inverted residuals of EfficientNet. Where there is none (our ``mlp``
    and ``small_cnn``, VGG), the stages that a timm model tells are taken, and where it tells none the activation
    functions that are modules of their own. Only modules that one forward pass calls once and that return a tensor
    count: a ReLU that a block uses three times says nothing about any of them.

    Args:
        backbone: any network; it is run once, in evaluation mode, and left as it was.
        images: what it takes, ``[2, channels, height, width]``: one image would not show which outputs are per image.

    Returns:
        name → module in the order of the forward pass, at most ``MOST_LAYERS``. It may be empty.
    """
    calls = _count_calls(backbone, images)
    names = {module: name for name, module in backbone.named_modules() if name}
    usable = [module for module, (count, whole) in calls.items() if count == 1 and whole and module in names]
    in_sequence = {
        child
        for parent in backbone.modules()
        if isinstance(parent, (nn.Sequential, nn.ModuleList)) or type(parent).__name__.endswith("Stage")
        for child in parent.children()
    }
    found = [module for module in usable if module in in_sequence and _weight_layers(module) > 1]
    chosen = [module for module in found if not any(other in _inside(module) for other in found)]
    if not chosen:
        stages = _stages_of_timm(backbone)
        chosen = [module for module in usable if names[module] in stages]
    if not chosen:
        chosen = [module for module in usable if isinstance(module, _ACTIVATIONS)]
    if len(chosen) > MOST_LAYERS:
        # Evenly spaced, and so that the last stays.
        places = {round((place + 1) * len(chosen) / MOST_LAYERS) - 1 for place in range(MOST_LAYERS)}
        chosen = [module for place, module in enumerate(chosen) if place in places]
    return {names[module]: module for module in chosen}


def named_layers(backbone: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """Return modules by their names, in the order of the network.

    Args:
        backbone: the network.
        names: as ``named_modules`` has them; those that the network does not have are left out.
    """
    return {name: module for name, module in backbone.named_modules() if name in names}


def check_layers(names: tuple[str, ...], backbones: list[nn.Module]) -> None:
    """See that every name is a module of at least one network.

    Raises:
        InputError: it is not; the nearest right name is told.
    """
    known = {name for backbone in backbones for name, _ in backbone.named_modules() if name}
    for name in names:
        if name not in known:
            first, _, known_ones = unknown_name("layer", name, known).partition(" Known:")
            few = known_ones.split(", ")
            raise InputError(f"{first} Known:{', '.join(few[:12])}{', …' if len(few) > 12 else ''}")


class LayerOutputs:
    """What layers put out during the last forward pass.

    Args:
        modules: by name; each must be called once in a forward pass.
        pooling: ``"mean"`` over the places of feature maps ``[B, C, H, W]`` or the tokens of ``[B, T, C]``, or
            ``"flatten"``.
        channels_last: feature maps are ``[B, H, W, C]``, as in Swin transformers.

    Attributes:
        vectors: float32 ``[B, D]`` a layer.
        zeros: share of units that are exactly zero in each image before pooling, float64 ``[B]`` a layer.
    """

    def __init__(self, modules: Mapping[str, nn.Module], pooling: Pooling, *, channels_last: bool = False) -> None:
        self._modules = dict(modules)
        self._pooling = pooling
        self._channels_last = channels_last
        self.vectors: dict[str, Tensor] = {}
        self.zeros: dict[str, Tensor] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the modules; each forward pass begins with :meth:`forget`."""
        handles = [module.register_forward_hook(self._hook(name)) for name, module in self._modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Drop what was heard."""
        self.vectors, self.zeros = {}, {}

    def check(self) -> None:
        """See that every layer was heard.

        Raises:
            InputError: a forward pass goes by one.
        """
        for name in self._modules:
            if name not in self.vectors:
                raise InputError(f"The layer '{name}' is not called in the forward pass. Choose another.")

    def _hook(self, name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if name in self.vectors:
                raise InputError(
                    f"The layer '{name}' is called several times in one forward pass: its outputs are those of several "
                    "places. Choose the block that contains it."
                )
            if not isinstance(output, Tensor) or output.ndim < 2:
                raise InputError(f"The layer '{name}' does not return a tensor [B, …]. Choose another.")
            # At once: a later layer may change the tensor in place.
            self.zeros[name] = (output == 0).flatten(1).double().mean(dim=1)
            self.vectors[name] = self._vector(output.float())

        return note

    def _vector(self, output: Tensor) -> Tensor:
        if self._pooling == "mean" and output.ndim == 4:
            return output.mean(dim=(1, 2) if self._channels_last else (2, 3))
        if self._pooling == "mean" and output.ndim == 3:
            return output.mean(dim=1)
        return output.flatten(1).clone()


def has_channels_last(backbone: nn.Module) -> bool:
    """Say whether feature maps are ``[B, H, W, C]``; timm's models tell."""
    return any(str(getattr(module, "output_fmt", "")).endswith("NHWC") for module in backbone.modules())


@torch.no_grad()
def _count_calls(backbone: nn.Module, images: Tensor) -> dict[nn.Module, tuple[int, bool]]:
    """Run once and count: module → calls, and whether each returned a row an image, in order of return."""
    found: dict[nn.Module, tuple[int, bool]] = {}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        count, whole = found.get(module, (0, True))
        found[module] = (
            count + 1,
            whole and isinstance(output, Tensor) and output.ndim >= 2 and len(output) == len(images),
        )

    modes = [(module, module.training) for module in backbone.modules()]
    handles = [module.register_forward_hook(note) for module, _ in modes]
    backbone.eval()
    try:
        backbone(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found


def _weight_layers(module: nn.Module) -> int:
    """Count the layers inside that hold a matrix or a kernel; not the module itself."""
    return sum(any(parameter.ndim > 1 for parameter in inner.parameters(recurse=False)) for inner in _inside(module))


def _inside(module: nn.Module) -> list[nn.Module]:
    return [inner for inner in module.modules() if inner is not module]


def _stages_of_timm(backbone: nn.Module) -> set[str]:
    """Names of the modules that end a stage, as ``feature_info`` of a timm model has them."""
    model = getattr(backbone, "model", None)
    told = getattr(model, "feature_info", None)
    entries = told if isinstance(told, list) else getattr(told, "info", [])
    return {f"model.{entry['module']}" for entry in entries if isinstance(entry, dict) and entry.get("module")}
