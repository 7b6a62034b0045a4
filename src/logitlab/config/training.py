"""How one network is trained: optimiser, schedule, regularisation, precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from .validation import Configuration


class TrainingConfig(Configuration):
    """The recipe of one training run. Every field takes part in the identity of a trial.

    Attributes:
        epochs: passes over the training set, at least 1.
        batch_size: images a step, at least 2 (batch normalisation needs two). An epoch's last batch may be
            smaller; a single image left over waits for the next epoch's order.
        optimizer: ``"sgd"`` or ``"adamw"``.
        learning_rate: the largest value of the schedule, reached after the warm-up.
        momentum: of SGD, in [0, 1).
        nesterov: Nesterov's form of the momentum.
        weight_decay: coefficient λ of the optimiser's decay (SGD adds λw to the gradient). Exclusive with
            ``scaled_weight_decay``.
        scaled_weight_decay: W's λ̃ (Table A.2), the product of learning rate and weight decay; the optimiser
            gets λ̃ / learning_rate.
        decay_norms_and_biases: apply the decay to normalisation parameters and biases as well. W spares
            them for ImageNet and CIFAR-10 and decays them for CIFAR-100.
        head_learning_rate_multiplier: the head's learning rate is this many times the backbone's.
        schedule: decay after the warm-up: ``"cosine"`` to zero, ``"step"``, ``"exponential"``,
            ``"polynomial"`` or ``"constant"``.
        warmup_epochs: epochs of linear growth from near zero to ``learning_rate``, fewer than ``epochs``;
            None for one epoch, or for none when there is only one to train.
        step_epochs: for ``"step"``, epochs between two decays.
        step_milestones: for ``"step"``, after how many epochs each decay comes, counted from the start of training, in
            the place of ``step_epochs`` (G B.1: 60, 120, 150 of 180); increasing, more than the warm-up and fewer than
            ``epochs``. None for even steps.
        decay_factor: for ``"step"`` the factor of one decay, for ``"exponential"`` the factor of one epoch;
            None for 0.1 and for W's 0.975.
        polynomial_power: for ``"polynomial"``, the exponent (TS Table 8 uses 2).
        zero_init_last: start the last γ of each residual block at zero (W footnote 2).
        ema_decay: exponential moving average of the weights with this momentum (W uses 0.9999); None for none.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast of the backbone; heads stay in float32).
        clip_gradient_norm: largest norm of the gradient; None for none.
        mixup: α of Mixup's Beta distribution; 0 for none.
        augmentation: ``"none"``, ``"crop"``, ``"crop_flip"``, ``"resized_crop_flip"`` (W A.1 for ImageNet) or
            ``"autoaugment"``, or ``"resized_autoaugment"`` (W Tables C.2, C.3); None takes the data set's own.
        sampler: ``"random"`` permutation or ``"class_balanced"`` draws with replacement.
        early_stopping_epochs: stop when validation accuracy has not improved for this many epochs, and keep
            the best epoch; None trains to the end and keeps the last epoch.
        freeze_backbone: keep the backbone as it starts (pretrained, as a rule) and train the head alone on its
            features, which are computed once for all heads. No augmentation and no Mixup.
    """

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(32, ge=2)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float | None = Field(None, ge=0)
    scaled_weight_decay: float | None = Field(None, ge=0)
    decay_norms_and_biases: bool = False
    head_learning_rate_multiplier: float = Field(1.0, gt=0)
    schedule: Literal["cosine", "step", "exponential", "polynomial", "constant"] = "cosine"
    warmup_epochs: int | None = Field(None, ge=0)
    step_epochs: int = Field(10, ge=1)
    step_milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] | None = None
    decay_factor: float | None = Field(None, gt=0, le=1)
    polynomial_power: float = Field(2.0, gt=0)
    zero_init_last: bool = True
    ema_decay: float | None = Field(None, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_gradient_norm: float | None = Field(None, gt=0)
    mixup: float = Field(0.0, ge=0)
    augmentation: (
        Literal["none", "crop", "crop_flip", "resized_crop_flip", "autoaugment", "resized_autoaugment"] | None
    ) = None
    sampler: Literal["random", "class_balanced"] = "random"
    early_stopping_epochs: int | None = Field(None, ge=1)
    freeze_backbone: bool = False

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.weight_decay is not None and self.scaled_weight_decay is not None:
            raise ValueError("Give 'weight_decay' or 'scaled_weight_decay' (their product form), not both.")
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"'warmup_epochs' must be less than 'epochs'. Got {self.warmup_epochs} and {self.epochs}.")
        if (fault := self._fault_of_milestones()) is not None:
            raise ValueError(fault)
        if self.freeze_backbone and self.augmentation not in (None, "none"):
            raise ValueError(
                "'freeze_backbone' computes the features of each image once, so no augmentation can change the image. "
                f"Got augmentation '{self.augmentation}'; leave it out or set it to 'none'."
            )
        if self.freeze_backbone and self.mixup > 0:
            raise ValueError(
                "'freeze_backbone' computes the features of each image once, so Mixup cannot blend images. "
                f"Got mixup {self.mixup:g}; set it to 0."
            )
        return self

    def _fault_of_milestones(self) -> str | None:
        given = self.step_milestones
        if given is None:
            return None
        if self.schedule != "step":
            return (
                f"'step_milestones' belong to the schedule 'step'. Got the schedule '{self.schedule}'; set it to "
                "'step' or leave them out."
            )
        if any(first >= second for first, second in pairwise(given)):
            return f"'step_milestones' must increase. Got {list(given)}."
        if given[0] <= self.effective_warmup_epochs or given[-1] >= self.epochs:
            return (
                f"'step_milestones' must lie after the {self.effective_warmup_epochs} epoch(s) of warm-up and before "
                f"the end at {self.epochs}. Got {list(given)}."
            )
        return None

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes without milestones say nothing of them, as before this option existed."""
        values: dict[str, Any] = serialize(self)
        if self.step_milestones is None:
            values.pop("step_milestones", None)
        return values

    @property
    def effective_weight_decay(self) -> float:
        """The coefficient that the optimiser gets: W's λ̃ divided by the learning rate, or ``weight_decay``."""
        if self.scaled_weight_decay is not None:
            return self.scaled_weight_decay / self.learning_rate
        return 5e-4 if self.weight_decay is None else self.weight_decay

    @property
    def effective_warmup_epochs(self) -> int:
        """Epochs of warm-up: ``warmup_epochs``, or one if that is None and more than one is trained."""
        return min(1, self.epochs - 1) if self.warmup_epochs is None else self.warmup_epochs

    @property
    def effective_decay_factor(self) -> float:
        """The factor of ``"step"`` or ``"exponential"``: ``decay_factor``, or the schedule's own if that is None."""
        if self.decay_factor is not None:
            return self.decay_factor
        return 0.975 if self.schedule == "exponential" else 0.1

    def essence(self) -> dict[str, Any]:
        """Return the recipe with its rules of thumb resolved: a default that is written out is the same recipe."""
        values = self.model_dump(mode="json", exclude={"scaled_weight_decay"})
        if self.freeze_backbone:
            values["augmentation"] = "none"
        else:
            # Recipes of before this option existed say nothing of it; their trials stay the trials that they were.
            del values["freeze_backbone"]
        return {
            **values,
            "weight_decay": self.effective_weight_decay,
            "warmup_epochs": self.effective_warmup_epochs,
            "decay_factor": self.effective_decay_factor if self.schedule in ("step", "exponential") else None,
            "step_epochs": self.step_epochs if self.schedule == "step" and self.step_milestones is None else None,
            "polynomial_power": self.polynomial_power if self.schedule == "polynomial" else None,
        }
