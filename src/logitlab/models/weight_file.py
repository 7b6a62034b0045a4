"""A file of weights that a timm backbone starts from: which one it is, and how it is read without pickle."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.config.parameters import parameter_fault

#: The parameter of a backbone that names the file.
WEIGHT_FILE = "checkpoint_path"


def weight_file_digest(parameters: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of the file that a backbone's parameters name: what is in it counts, not where it lies.

    Args:
        parameters: of a backbone.

    Returns:
        64 hexadecimal digits; None where no file is named.

    Raises:
        ConfigurationError: the file is missing or cannot be read.
    """
    path = parameters.get(WEIGHT_FILE)
    if path is None:
        return None
    file = check_weight_file("a backbone", path)
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as fault:
        raise ConfigurationError(f"Cannot read the weights in '{path}': {fault.strerror or fault}.") from None


def check_weight_file(name: str, path: Any) -> Path:
    """Return the file's path.

    Args:
        name: of the backbone, for the messages.
        path: as it was given.

    Raises:
        ParameterError: it is no text.
        ConfigurationError: there is no such file, or nobody lets us read it.
    """
    if not isinstance(path, str) or not path:
        raise ParameterError(parameter_fault(name, WEIGHT_FILE, "the path of a file of weights", path))
    file = Path(path)
    try:
        if file.is_file():
            with file.open("rb"):
                return file
        # A pipe or a device can be read, but not twice.
        reason = "it is not a file" if file.exists() else "there is no such file"
    except (OSError, ValueError) as fault:
        reason = str(getattr(fault, "strerror", None) or fault)
    raise ConfigurationError(f"Cannot read the weights in '{path}': {reason}. Check '{WEIGHT_FILE}'.")


def load_weight_file(model: nn.Module, name: str, path: Path, channels: int) -> None:
    """Load weights with timm's names into a timm model without classifier.

    The file's own classifier is left out, whatever its number of classes, and a first convolution over red, green
    and blue is adapted to ``channels`` as timm adapts its pretrained ones. All else must be there and must fit.

    Args:
        model: a timm model.
        name: of the model, for the messages.
        path: of a safetensors file, or of a state dict that ``torch.save`` wrote.
        channels: channels of an image.

    Raises:
        ConfigurationError: the file cannot be read without running what is in it, or is another model's.
    """
    weights, own = _read(path), model.state_dict()
    about: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    classifiers = {layer.split(".")[0] for layer in _names(about.get("classifier"))}
    weights = {key: value for key, value in weights.items() if key in own or key.split(".")[0] not in classifiers}
    for layer in _names(about.get("first_conv")):
        _adapt(weights, f"{layer}.weight", own, channels)
    faults = misfits(weights, own)
    if faults:
        raise ConfigurationError(
            f"The weights in '{path}' are not those of '{name}': {'; '.join(faults)}. Give a file of this model's "
            "weights with timm's names, and images of the size that it was built for."
        )
    # Not strict: only counters of batches, which no feature depends on, can be missing.
    model.load_state_dict(weights, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    from timm.models import load_state_dict

    found: Any
    try:
        # Said aloud, because timm before 1.0.26 unpickles unless it is told not to.
        with warnings.catch_warnings():
            # What torch thinks of an old or foreign file: the sentence below says what matters.
            warnings.simplefilter("ignore")
            found = load_state_dict(str(path), weights_only=True)
    except Exception:  # whatever a damaged or foreign file brings about
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigurationError(
            f"Cannot read weights from '{path}': expected a .safetensors file, or a state dict that torch.save wrote; "
            "other pickled objects are not opened, since they may run code. Save the model's state_dict() alone."
        )
    return found


def _names(layers: Any) -> tuple[str, ...]:
    """Return timm's word for one, several or no layers as a tuple."""
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def _adapt(weights: dict[str, Tensor], key: str, own: Mapping[str, Tensor], channels: int) -> None:
    from timm.models import adapt_input_conv

    weight = weights.get(key)
    if weight is None or key not in own or weight.shape == own[key].shape:
        return
    if weight.ndim == 4 and weight.shape[1] == 3:
        weights[key] = adapt_input_conv(channels, weight)


def misfits(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Say how many tensors are missing, foreign or of another shape, and name the first of each kind.

    Args:
        weights: what shall be loaded.
        own: what the model holds, its counters of batches included, which may be missing.

    Returns:
        a phrase each; empty where all is well.
    """
    faults = []
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    foreign = [key for key in weights if key not in own]
    shapes = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    if missing:
        faults.append(f"{len(missing)} of its {len(own)} tensors are missing, first '{missing[0]}'")
    if foreign:
        faults.append(f"{len(foreign)} are none of its own, first '{foreign[0]}'")
    if shapes:
        came, expected = (" x ".join(map(str, tensors[shapes[0]].shape)) for tensors in (weights, own))
        faults.append(f"{len(shapes)} have another shape, first '{shapes[0]}': {came} instead of {expected}")
    return faults
