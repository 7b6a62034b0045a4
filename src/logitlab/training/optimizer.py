"""The optimiser of a recipe, over the parameter groups of a model."""

from __future__ import annotations

import torch
from torch import nn

from logitlab.config.training import TrainingConfig
from logitlab.heads import param_groups


def create_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Build torch's SGD or AdamW.

    The head's groups learn at ``head_learning_rate_multiplier`` times the rate. Norms and biases are spared
    the decay unless ``decay_norms_and_biases``; a trainable κ' never decays.

    Args:
        model: a :class:`~logitlab.heads.Classifier`, or any module.
        config: the recipe.

    Returns:
        the optimiser, at the largest learning rate of the schedule.
    """
    groups = param_groups(
        model,
        lr=config.learning_rate,
        head_lr_mult=config.head_learning_rate_multiplier,
        weight_decay=config.effective_weight_decay,
        decay_norms_and_biases=config.decay_norms_and_biases,
    )
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0
    )
