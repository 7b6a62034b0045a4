"""The learning rate over a run: torch's schedulers, warm-up first."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from logitlab.config.training import TrainingConfig


def create_schedule(optimizer: Optimizer, config: TrainingConfig, steps_per_epoch: int) -> LRScheduler:
    """Build the schedule of a run; call ``.step()`` after every step of the optimiser.

    With w steps of warm-up, the step k (from 0) of the warm-up takes (k + 1)/(w + 1) of the rate. After it,
    with t steps done of the n that remain and e = floor(t / steps_per_epoch), the rate is multiplied by

    =============== ==================================================
    ``cosine``      (1 + cos(π t/n)) / 2, at every step
    ``polynomial``  (1 - t/n)^power, at every step (TS Table 8: 2)
    ``step``        factor^floor(e / step_epochs), or factor^(number of ``step_milestones`` that are reached)
    ``exponential`` factor^e (W A.1: 0.975 an epoch)
    ``constant``    1
    =============== ==================================================

    Milestones count epochs from the start of training, warm-up included: after so many, the rate is multiplied once
    more.

    Every parameter group keeps its own rate (the head's may differ) and is multiplied alike.

    Args:
        optimizer: what :func:`~logitlab.training.create_optimizer` built.
        config: the recipe.
        steps_per_epoch: optimiser steps in an epoch, at least 1.
    """
    warmup = config.effective_warmup_epochs * steps_per_epoch
    remaining = config.epochs * steps_per_epoch - warmup
    if warmup == 0:
        return _decay(optimizer, config, steps_per_epoch, remaining)
    growth = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    decay = _decay(optimizer, config, steps_per_epoch, remaining)
    return SequentialLR(optimizer, [growth, decay], milestones=[warmup])


def _decay(optimizer: Optimizer, config: TrainingConfig, steps_per_epoch: int, steps: int) -> LRScheduler:
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule == "polynomial":
        return PolynomialLR(optimizer, total_iters=steps, power=config.polynomial_power)
    if config.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if config.step_milestones is not None:
        warmup = config.effective_warmup_epochs
        milestones = [(epoch - warmup) * steps_per_epoch for epoch in config.step_milestones]
        return MultiStepLR(optimizer, milestones=milestones, gamma=config.effective_decay_factor)
    epochs = config.step_epochs if config.schedule == "step" else 1
    return StepLR(optimizer, step_size=epochs * steps_per_epoch, gamma=config.effective_decay_factor)
