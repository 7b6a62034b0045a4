"""One epoch of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.heads import Classifier

from .distributed import Parallel
from .ema import WeightAverage
from .seeds import derive_seed

# How often the losses come to the host to be looked at. Asking at every step would make a GPU wait for each.
_STEPS_BETWEEN_CHECKS = 50


@dataclass(frozen=True)
class EpochStatistics:
    """What one epoch of training looked like, while the weights were moving.

    Attributes:
        loss: mean of the head's loss over the images, penalties included.
        accuracy: share of images whose class had the largest logit; under Mixup, the class of the larger part.
    """

    loss: float
    accuracy: float


@dataclass
class Trainer:
    """A model with all that moves it: what one epoch takes from the last.

    Attributes:
        model: the model that trains; in training mode while an epoch runs.
        optimizer: moves its parameters.
        schedule: moves the learning rate, at every step.
        config: the recipe; precision, clipping and Mixup are read here.
        average: exponential moving average of the weights; None for none.
        seed: of the trial. Step s of epoch e draws (dropout, stochastic depth, Mixup) from a stream of its
            own, so that heads that draw differently still see the same backbone dropout in the next step.
        name: what the error about a loss that is not finite calls the head.
        parallel: the model as several processes train it; None for one process.
    """

    model: Classifier
    optimizer: Optimizer
    schedule: LRScheduler
    config: TrainingConfig
    average: WeightAverage | None = None
    seed: int = 0
    name: str = "model"
    parallel: Parallel | None = None

    def epoch(self, batches: Iterable[tuple[Tensor, Tensor]], epoch: int) -> EpochStatistics:
        """Train on each batch once.

        torch's global generators are seeded anew at every step; whoever needs their old state keeps it.

        Args:
            batches: images, float ``[B, channels, H, W]``, and labels, int64 ``[B]``, on the model's device.
            epoch: number of the epoch, from 0.

        Raises:
            TrialError: the loss is no longer finite. The message names head, epoch and step.
        """
        self.model.train()
        losses: list[float] = []
        sizes: list[int] = []
        unchecked: list[Tensor] = []
        correct: Tensor | int = 0
        for step, (images, labels) in enumerate(batches):
            torch.manual_seed(derive_seed(self.seed, "step", epoch, step))
            loss, right = self._step(images, labels, epoch, step)
            unchecked.append(loss)
            sizes.append(len(labels))
            correct = correct + right
            if len(unchecked) == _STEPS_BETWEEN_CHECKS:
                losses += self._finite(unchecked, epoch, first_step=len(losses))
                unchecked.clear()
        losses += self._finite(unchecked, epoch, first_step=len(losses))
        count = sum(sizes)
        if not count:
            raise TrialError("The epoch has no batches: there is nothing to train on. Give more training images.")
        if self.parallel is not None:
            correct = self.parallel.ranks.sum(torch.as_tensor(correct))
        total = math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True))
        return EpochStatistics(loss=total / count, accuracy=int(correct) / count)

    def _step(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Take one step of the optimiser; return the loss and the number of right answers, on the device."""
        target = labels
        if self.config.mixup > 0:
            images, target = _mix(images, labels, self.config.mixup, self.model.head.num_classes)
        autocast = self.config.precision == "bfloat16"
        if self.parallel is not None:
            told, loss, right = self.parallel.forward(images, target, epoch, step, autocast)
        else:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
                loss, logits = self.model(images, target, return_logits=True)
            asked = target.argmax(1) if target.ndim == 2 else target
            told, right = loss.detach(), (logits.detach().argmax(1) == asked).sum()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.parallel is not None:
            self.parallel.share_buffers()
        if self.config.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.model)
        return told, right

    def _finite(self, losses: list[Tensor], epoch: int, *, first_step: int) -> list[float]:
        """Bring losses to the host; refuse the first that is not finite."""
        together = torch.stack(losses) if losses else None
        if together is not None and self.parallel is not None:
            # Each process holds its share of every loss; the sum is the same for all, and so is what follows.
            together = self.parallel.ranks.sum(together)
        values: list[float] = [] if together is None else together.tolist()
        for step, value in enumerate(values, first_step):
            if not math.isfinite(value):
                raise TrialError(
                    f"The loss of the head '{self.name}' is {value} at epoch {epoch + 1}, step {step + 1}. "
                    f"{advice(self.config)}"
                )
        return values


def advice(config: TrainingConfig) -> str:
    """Say what helps when a run diverges.

    >>> advice(TrainingConfig(learning_rate=0.5))
    'Lower learning_rate (0.5 now), set clip_gradient_norm, or warm up longer.'
    """
    clipping = config.clip_gradient_norm
    clip = "set clip_gradient_norm" if clipping is None else f"lower clip_gradient_norm ({clipping:g} now)"
    return f"Lower learning_rate ({config.learning_rate:g} now), {clip}, or warm up longer."


def _mix(images: Tensor, labels: Tensor, alpha: float, classes: int) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018): each image with its neighbour in the batch, the same λ for all."""
    from torchvision.transforms import v2

    mixed, target = v2.MixUp(alpha=alpha, num_classes=classes)(images, labels)
    return mixed, target
