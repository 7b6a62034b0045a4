"""Checkpoints of small networks that nobody trained, for whatever reads checkpoints."""

from pathlib import Path

import torch

from logitlab.config.trial import ComponentConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, save_checkpoint


def write_checkpoint(
    folder: Path,
    *,
    backbone: str = "mlp",
    parameters: dict | None = None,
    head: str = "softmax",
    head_parameters: dict | None = None,
    side: int = 8,
    channels: int = 1,
    names: tuple[str, ...] = tuple(map(str, range(10))),
    seed: int = 0,
) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into ``folder`` and return it."""
    torch.manual_seed(seed)
    given = {"widths": [16, 12]} if backbone == "mlp" and parameters is None else parameters or {}
    network = create_backbone(backbone, channels=channels, image_size=side, parameters=given)
    top = create_head(head, network.num_features, len(names), **(head_parameters or {}))
    description = ModelDescription(
        backbone=ComponentConfig(name=backbone, parameters=given),
        head=ComponentConfig(name=head, parameters=head_parameters or {}),
        channels=channels,
        image_size=side,
        num_features=network.num_features,
        class_names=names,
        pixel_mean=(0.3,) * channels,
        pixel_std=(0.3,) * channels,
        link=top.link,
    )
    save_checkpoint(folder, Classifier(network, top), description)
    return folder
