"""A whole run: epochs of training, each followed by validation, and the choice of the epoch to keep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.data import Augmentation, Images, epoch_order, pixel_statistics, prepare_batch
from logitlab.heads import Classifier

from .ema import WeightAverage
from .loop import Trainer, advice
from .optimizer import create_optimizer
from .schedule import create_schedule
from .seeds import derive_seed, own_random_state
from .validation import validate


@dataclass(frozen=True)
class EpochRecord:
    """One line of a run's history.

    Attributes:
        epoch: from 1.
        learning_rate: the backbone's, at the epoch's first step.
        loss: mean training loss while the weights moved.
        accuracy: training accuracy while the weights moved.
        validation_loss: the head's loss on the validation images.
        validation_accuracy: on the validation images; early stopping looks at it.
        kappa: κ that inference uses; None for a head without a temperature.
        kappa_star: mean κ* by least squares over the validation images.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    kappa: float | None
    kappa_star: float


@dataclass(frozen=True)
class Run:
    """What a run leaves.

    Attributes:
        model: the model to use, in evaluation mode: of the selected epoch, with averaged weights if the
            recipe averages.
        history: one entry an epoch.
        selected_epoch: whose weights ``model`` has, from 1.
        pixel_mean: ``[channels]`` that images are normalised with, in [0, 1] units, of the training images.
        pixel_std: ``[channels]``, likewise.
    """

    model: Classifier
    history: tuple[EpochRecord, ...]
    selected_epoch: int
    pixel_mean: Tensor
    pixel_std: Tensor


def fit(
    model: Classifier,
    train: Images,
    validation: Images,
    config: TrainingConfig,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    augmentation: Augmentation = "none",
    name: str = "model",
    report: Callable[[EpochRecord], Any] | None = None,
) -> Run:
    """Train a model by a recipe.

    On a CPU with one thread the same arguments give the same weights bit for bit. torch's global generators
    are left as they were.

    Args:
        model: any backbone with a head; it is moved to ``device`` and trained in place.
        train: images to learn from.
        validation: images to select on.
        config: the recipe.
        seed: of order, augmentation, dropout and Mixup.
        device: where to train.
        augmentation: of the data set; the recipe's own wins.
        name: what errors call the head.
        report: called after every epoch.

    Raises:
        TrialError: the loss is no longer finite.

    >>> from torch import nn
    >>> from logitlab.data import MemoryImages
    >>> from logitlab.heads import create_head
    >>> pixels = torch.arange(64, dtype=torch.uint8).view(4, 1, 4, 4)
    >>> images = MemoryImages(pixels, torch.tensor([0, 1, 0, 1]))
    >>> run = fit(
    ...     Classifier(nn.Flatten(), create_head("softmax", 16, 2)), images, images, TrainingConfig(epochs=3)
    ... )
    >>> len(run.history), run.selected_epoch
    (3, 3)
    """
    device = torch.device(device)
    # Convolutions are faster this way on CPUs and GPUs (small_cnn at 28 pixels, one core: 46 ms a step instead of 63).
    model.to(device).to(memory_format=torch.channels_last)
    mean, std = pixel_statistics(train)
    prepare = partial(prepare_batch, mean=mean, std=std)
    steps = math.ceil(len(_without_single(torch.arange(len(train)), config.batch_size)) / config.batch_size)
    optimizer = create_optimizer(model, config)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        schedule=create_schedule(optimizer, config, steps),
        config=config,
        average=None if config.ema_decay is None else WeightAverage(model, config.ema_decay),
        seed=seed,
        name=name,
    )
    judged = model if trainer.average is None else trainer.average.model
    history: list[EpochRecord] = []
    best, best_weights = 0, None
    with own_random_state(device):
        for epoch in range(config.epochs):
            rate = optimizer.param_groups[0]["lr"]
            order = _without_single(epoch_order(train.labels, seed, epoch, config.sampler), config.batch_size)
            # On the CPU whatever the device: the same augmentation everywhere.
            generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", epoch))
            augment = partial(prepare, augmentation=config.augmentation or augmentation, generator=generator)
            learnt = trainer.epoch(
                ((augment(pixels), labels) for pixels, labels in train.batches(order, config.batch_size, device)),
                epoch,
            )
            everything = torch.arange(len(validation))
            measured = validate(
                judged,
                (
                    (prepare(pixels), labels)
                    for pixels, labels in validation.batches(everything, config.batch_size, device)
                ),
                autocast=config.precision == "bfloat16",
            )
            if not math.isfinite(measured.loss):
                raise TrialError(
                    f"The head '{name}' gives a validation loss of {measured.loss} after epoch {epoch + 1}. "
                    f"{advice(config)}"
                )
            kappa = judged.head.kappa
            history.append(
                EpochRecord(
                    epoch=epoch + 1,
                    learning_rate=rate,
                    loss=learnt.loss,
                    accuracy=learnt.accuracy,
                    validation_loss=measured.loss,
                    validation_accuracy=measured.accuracy,
                    kappa=None if kappa is None else float(kappa),
                    kappa_star=measured.kappa_star,
                )
            )
            if report is not None:
                report(history[-1])
            if config.early_stopping_epochs is None:
                best = epoch
                continue
            if best_weights is None or measured.accuracy > history[best].validation_accuracy:
                best, best_weights = epoch, copy.deepcopy(judged.state_dict())
            elif epoch - best >= config.early_stopping_epochs:
                break
    if best_weights is not None:
        judged.load_state_dict(best_weights)
    return Run(judged.eval(), tuple(history), best + 1, mean, std)


def _without_single(order: Tensor, batch_size: int) -> Tensor:
    """Drop the last index when it would make a batch of its own: batch normalisation needs two images.

    The order is drawn anew every epoch, so it is another image that waits each time.
    """
    return order[:-1] if len(order) % batch_size == 1 else order
