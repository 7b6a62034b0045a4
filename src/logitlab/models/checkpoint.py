"""A trained model as two files: ``model.safetensors`` (weights) and ``model.json`` (what they belong to). No pickle."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError
from torch import nn

from logitlab.config.errors import ConfigurationError, RecordError
from logitlab.config.trial import ComponentConfig
from logitlab.config.validation import Configuration
from logitlab.heads import Classifier, create_head
from logitlab.records import write_json_atomic

from .factory import create_backbone
from .loading import load_weights
from .weight_file import WEIGHT_FILE

CHECKPOINT_VERSION: Final = 1

WEIGHTS_FILE: Final = "model.safetensors"
DESCRIPTION_FILE: Final = "model.json"


class ModelDescription(Configuration):
    """What it takes to build a model again and to feed it.

    Attributes:
        backbone: the network below the head, by name.
        head: the head, by name.
        channels: channels of an image.
        image_size: height and width of an image, in pixels.
        num_features: D, the size of the features.
        class_names: one name a class, in the order of the logits.
        pixel_mean: mean of each channel that the model was trained with, in [0, 1] units.
        pixel_std: standard deviation of each channel, in [0, 1] units.
        link: how logits become probabilities: ``"softmax"``, ``"normalized_sigmoid"`` or ``"none"``.
        format_version: version of this form.
    """

    backbone: ComponentConfig
    head: ComponentConfig
    channels: int = Field(ge=1)
    image_size: int = Field(ge=1)
    num_features: int = Field(ge=1)
    class_names: tuple[str, ...] = Field(min_length=2)
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    link: Literal["softmax", "normalized_sigmoid", "none"]
    format_version: Literal[1] = CHECKPOINT_VERSION


def save_checkpoint(folder: Path | str, model: Classifier, description: ModelDescription) -> None:
    """Write a model so that :func:`load_checkpoint` builds it again, on any device.

    Each file is either whole or absent: it is written beside its place, flushed to the disk and renamed.

    Args:
        folder: where the two files shall stand; it is made when missing.
        model: the model; weights that several modules share are stored once.
        description: what the weights belong to.

    Raises:
        ConfigurationError: the description does not fit the model.
        OSError: the file system refuses.
    """
    from safetensors.torch import save_model

    if (expected := model.head.num_classes) != (given := len(description.class_names)):
        raise ConfigurationError(f"The head has {expected} classes, the description names {given}. Name each class.")
    if (expected := model.head.in_features) != (given := description.num_features):
        raise ConfigurationError(f"The head takes {expected} features, the description says {given}. Take the head's.")
    if model.head.link != description.link:
        raise ConfigurationError(
            f"The head's link is '{model.head.link}', the description says '{description.link}'. Take the head's."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / WEIGHTS_FILE
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        save_model(model, str(temporary))
        # safetensors lets nobody else read; the umask decides, so that a team can share a folder.
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    # The description comes last, and with it the folder's names are flushed to the disk.
    write_json_atomic(folder / DESCRIPTION_FILE, description.model_dump(mode="json"))


def load_checkpoint(folder: Path | str, *, backbone: nn.Module | None = None) -> tuple[Classifier, ModelDescription]:
    """Build the model that :func:`save_checkpoint` wrote, on the CPU and in evaluation mode.

    Nothing is downloaded, no file but the two is opened, and no code from them runs. A head of your own must be
    registered before: import the module that registers it.

    Args:
        folder: the folder with ``model.safetensors`` and ``model.json``.
        backbone: the network below the head, when it is one of your own that has no name.

    Returns:
        the model and its description.

    Raises:
        RecordError: a file is missing or damaged, or it does not fit the model that it describes.
    """
    folder = Path(folder)
    description = read_description(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise RecordError(f"There is no '{weights}'. A checkpoint is '{WEIGHTS_FILE}' beside '{DESCRIPTION_FILE}'.")
    try:
        model = _build(description, backbone)
    except ConfigurationError as fault:
        module = description.head.module
        advice = f" Import the module '{module}' first: it registers the head." if module else ""
        raise RecordError(f"Cannot build the model of '{folder}': {fault}{advice}") from fault
    load_weights(model, weights)
    return model.eval(), description


def _build(description: ModelDescription, backbone: nn.Module | None) -> Classifier:
    if backbone is None:
        # The weights come from the checkpoint: nothing is downloaded, and no other file that it names is opened.
        given = description.backbone.parameters
        parameters = {key: value for key, value in given.items() if key not in ("pretrained", WEIGHT_FILE)}
        backbone = create_backbone(
            description.backbone.name,
            channels=description.channels,
            image_size=description.image_size,
            parameters=parameters,
        )
    features = description.num_features
    head = create_head(description.head.name, features, len(description.class_names), **description.head.parameters)
    return Classifier(backbone, head)


def read_description(folder: Path | str) -> ModelDescription:
    """Read ``model.json`` alone, without the weights.

    Raises:
        RecordError: it is missing or damaged.
    """
    path = Path(folder) / DESCRIPTION_FILE
    try:
        return ModelDescription.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(
            f"There is no '{path}'. A checkpoint is '{WEIGHTS_FILE}' beside '{DESCRIPTION_FILE}'."
        ) from None
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror}.") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"'{path}' is damaged: {where + ': ' if where else ''}{first['msg']}.") from None
