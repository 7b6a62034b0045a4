"""A whole run: epochs of training, each followed by validation, and the choice of the epoch to keep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.data import Augmentation, Images, epoch_order
from logitlab.heads import Classifier

from .distributed import Parallel, current_ranks
from .ema import WeightAverage
from .frozen import image_statistics, preparation
from .loop import Trainer, advice
from .optimizer import create_optimizer
from .schedule import create_schedule
from .seeds import derive_seed, own_random_state
from .snapshot import Snapshot, Standing, own_generators, seed_generators
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
    snapshot: Snapshot | None = None,
) -> Run:
    """Train a model by a recipe.

    On a CPU with one thread the same arguments give the same weights bit for bit, however often the run is killed
    and resumed. The global generators of torch, NumPy and Python are left as they were. Under
    :func:`~logitlab.training.distributed.joined` every process calls this with the same arguments, and they train
    together.

    Args:
        model: any backbone with a head; it is moved to ``device`` and trained in place.
        train: images to learn from.
        validation: images to select on.
        config: the recipe.
        seed: of order, augmentation, dropout and Mixup.
        device: where to train.
        augmentation: of the data set; the recipe's own wins.
        name: what errors call the head.
        report: called after every epoch; in a run that is resumed, first with the last epoch that was kept.
        snapshot: where the run is kept after every epoch, and resumed from if it was killed; None for nowhere. What
            a head or backbone takes from one step to the next must be in its parameters and buffers.

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
    ranks = current_ranks()
    # Convolutions are faster this way on CPUs and GPUs (small_cnn at 28 pixels, one core: 46 ms a step instead of 63).
    model.to(device).to(memory_format=torch.channels_last)
    mean, std = image_statistics(train)
    prepare = preparation(train, mean, std)
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
    with own_random_state(device), own_generators():
        seed_generators(derive_seed(seed, "generators"))
        standing = (None if snapshot is None else snapshot.restore(trainer)) or Standing()
        if ranks is not None:
            ranks.agree(standing.epochs, "the epoch that they go on from", device)
            trainer.parallel = Parallel(model, ranks, config.batch_size, seed)
        if report is not None and standing.history:
            report(EpochRecord(**standing.history[-1]))
        while not _over(standing, config):
            epoch = standing.epochs
            rate = optimizer.param_groups[0]["lr"]
            order = _without_single(epoch_order(train.labels, seed, epoch, config.sampler), config.batch_size)
            # On the CPU whatever the device: the same augmentation everywhere.
            generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", epoch))
            augment = partial(prepare, augmentation=config.augmentation or augmentation, generator=generator)
            learnt = trainer.epoch(
                ((augment(pixels), labels) for pixels, labels in train.batches(order, config.batch_size, device)),
                epoch,
            )
            # Several processes take every so-many-th image each: none is read twice to fill a batch up.
            mine = torch.arange(len(validation)) if ranks is None else torch.arange(len(validation))[ranks.mine]
            measured = validate(
                judged,
                ((prepare(pixels), labels) for pixels, labels in validation.batches(mine, config.batch_size, device)),
                autocast=config.precision == "bfloat16",
                combine=None if ranks is None else ranks.sum,
            )
            if not math.isfinite(measured.loss):
                raise TrialError(
                    f"The head '{name}' gives a validation loss of {measured.loss} after epoch {epoch + 1}. "
                    f"{advice(config)}"
                )
            kappa = judged.head.kappa
            record = EpochRecord(
                epoch=epoch + 1,
                learning_rate=rate,
                loss=learnt.loss,
                accuracy=learnt.accuracy,
                validation_loss=measured.loss,
                validation_accuracy=measured.accuracy,
                kappa=None if kappa is None else float(kappa),
                kappa_star=measured.kappa_star,
            )
            _advance(standing, record, judged, config)
            if snapshot is not None and (ranks is None or ranks.leads):
                snapshot.save(trainer, standing)
            if report is not None:
                report(record)
    if standing.best_weights is not None:
        judged.load_state_dict(standing.best_weights)
    history = tuple(EpochRecord(**entry) for entry in standing.history)
    return Run(judged.eval(), history, standing.best + 1, mean, std)


def _advance(standing: Standing, record: EpochRecord, judged: Classifier, config: TrainingConfig) -> None:
    """Take an epoch that has ended into the standing of the run."""
    if config.early_stopping_epochs is None:
        standing.best = standing.epochs
    elif (
        standing.best_weights is None
        or record.validation_accuracy > standing.history[standing.best]["validation_accuracy"]
    ):
        standing.best, standing.best_weights = standing.epochs, copy.deepcopy(judged.state_dict())
    standing.history.append(asdict(record))
    standing.epochs += 1


def _over(standing: Standing, config: TrainingConfig) -> bool:
    """Whether no epoch is left, or the best one lies too far back."""
    patience = config.early_stopping_epochs
    waited = standing.epochs - 1 - standing.best
    return standing.epochs >= config.epochs or (patience is not None and waited >= patience)


def _without_single(order: Tensor, batch_size: int) -> Tensor:
    """Drop the last index when it would make a batch of its own: batch normalisation needs two images.

    The order is drawn anew every epoch, so it is another image that waits each time.
    """
    return order[:-1] if len(order) % batch_size == 1 else order
