"""What one trial is: data, backbone, head, recipe and seed. Its hash is its identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from .training import TrainingConfig
from .validation import Configuration

REVISION: Final = 2


class DataConfig(Configuration):
    """Which images, and how they are split.

    Attributes:
        name: a known name (``"digits"``), a folder, or ``"npz:FILE"``, with ``":classes=0-6"`` behind it for some
            classes alone. A path is not part of the identity of a trial: the fingerprint is.
        image_size: side to which images are resized, in pixels; None keeps their size.
        train_limit: at most this many training images (a class-balanced choice by ``split_seed``); None
            for all.
        validation_fraction: share of the training images that is held out, in (0, 1).
        train_on_held_out: train on the images that are held out as well, once they have chosen what there is to choose
            (W A.1: on a hold-out, and then on all). They are measured all the same, and these measures are then of
            images that were trained on. The trials of a search hold them out whatever stands here.
        split_seed: seed of the held-out choice, and of ``train_limit``'s.
    """

    name: str = "digits"
    image_size: int | None = Field(None, ge=4)
    train_limit: int | None = Field(None, ge=2)
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    train_on_held_out: bool = False
    split_seed: int = Field(0, ge=0)

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Trials of before this option existed stay the trials that they were."""
        values: dict[str, Any] = serialize(self)
        if not self.train_on_held_out:
            values.pop("train_on_held_out", None)
        return values


class ComponentConfig(Configuration):
    """A registered head or backbone with its parameters.

    Attributes:
        name: its name in the registry.
        parameters: keyword arguments of its factory.
        module: for a user's head, or a head with a user's temperature, the module whose import registers it; where
            the two have different modules, both, joined by a comma. None for built-in ones.
        source: for a user's head or temperature, the SHA-256 of the code that makes it, so that an edited head is a
            new trial; for a backbone that starts from a file of weights, the SHA-256 of that file.
        resolved: all that the parameters stand for, presets and defaults included; None where nothing is known
            beyond them. The identity of a trial rests on it: ``cosine`` and ``cosine:tau=0.05`` are one trial,
            and a preset whose numbers change makes another. Where a file of weights lies is left out.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    module: str | None = None
    source: str | None = None
    resolved: dict[str, Any] | None = None

    def essence(self) -> dict[str, Any]:
        """Return what tells this component from others, however it was written."""
        values = self.model_dump(mode="json", exclude={"parameters", "resolved"})
        return {**values, "parameters": self.parameters if self.resolved is None else self.resolved}


class TrialConfig(Configuration):
    """One training run with its evaluation.

    Attributes:
        data: the images.
        data_fingerprint: SHA-256 of the images and labels used (see ``logitlab.data``).
        backbone: the network below the head.
        head: the head.
        training: the recipe.
        seed: fixes initialisation, order and augmentation, alike for every head (paired seeds).
        revision: raised with every change of LogitLab that gives the same configuration another result, so that
            old records are not taken for new ones.
        measure_test: whether the finished model is measured on the test images. False for the trials of a search,
            which choose and therefore look at the validation images alone. Where it is True it is left out of the
            configuration that a record holds, and so of the identity: trials of before this option stay the trials
            that they were.
    """

    data: DataConfig
    data_fingerprint: str
    backbone: ComponentConfig
    head: ComponentConfig
    training: TrainingConfig
    seed: int = Field(ge=0)
    revision: Literal[1, 2] = REVISION
    measure_test: bool = True

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if values.get("measure_test"):
            del values["measure_test"]
        return values

    @property
    def identity(self) -> str:
        """First 16 hexadecimal digits of the canonical JSON's SHA-256; paths and devices stay outside."""
        values = self.model_dump(mode="json")
        # Where the images lie does not matter; what they are does.
        del values["data"]["name"]
        values["backbone"], values["head"] = self.backbone.essence(), self.head.essence()
        values["training"] = self.training.essence()
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """Serialise so that equal values give equal bytes: sorted keys, no spaces, and 20.0 written as 20.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value has no JSON form.

    >>> canonical_json({"b": 20.0, "a": [1.5, None]})
    '{"a":[1.5,null],"b":20}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Turn whole floats into integers: ``kappa=20`` and ``kappa=20.0`` are one trial."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
