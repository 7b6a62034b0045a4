"""The model that a trial starts with."""

from __future__ import annotations

import torch

from logitlab.config.errors import ConfigurationError
from logitlab.config.trial import TrialConfig
from logitlab.heads import Classifier, create_head, import_head
from logitlab.models import WEIGHT_FILE, create_backbone, weight_file_digest

from .seeds import derive_seed


def build_model(trial: TrialConfig, *, channels: int, image_size: int, num_classes: int) -> Classifier:
    """Build backbone and head as a trial starts with them, on the CPU.

    Each has a seed of its own, so that all heads of a seed start on the same backbone. torch's global
    generators are left at another place than before.

    Args:
        trial: names, parameters and seed. The module of a user's head is imported if the head is not known yet.
        channels: channels of an image.
        image_size: height and width of an image, in pixels.
        num_classes: C.

    Raises:
        ConfigurationError: a name or a parameter is wrong, or the backbone's file of weights has changed.
    """
    if trial.backbone.source is not None and trial.backbone.source != weight_file_digest(trial.backbone.parameters):
        raise ConfigurationError(
            f"The weights in '{trial.backbone.parameters.get(WEIGHT_FILE)}' are not those that the trial was planned "
            "for. Plan the study again."
        )
    torch.manual_seed(derive_seed(trial.seed, "backbone"))
    backbone = create_backbone(
        trial.backbone.name,
        channels=channels,
        image_size=image_size,
        parameters=trial.backbone.parameters,
        zero_init_last=trial.training.zero_init_last,
    )
    import_head(trial.head.name, trial.head.parameters, trial.head.module)
    torch.manual_seed(derive_seed(trial.seed, "head"))
    head = create_head(trial.head.name, backbone.num_features, num_classes, **trial.head.parameters)
    return Classifier(backbone, head)
