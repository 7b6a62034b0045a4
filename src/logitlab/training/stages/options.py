"""The options of the built-in stages: their forms, ranges and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from logitlab.config.training import TrainingConfig
from logitlab.config.trial import DataConfig
from logitlab.config.validation import Configuration, validate

#: The recipe of T's fine-tuning (TS Table 8: 60 epochs, learning rate 0.001 for the backbone and 0.1 for W, cosine,
#: weight decay 1e-4, 128 images a step; TS §7: SGD with momentum 0.9). It names no warm-up and no Nesterov: none here.
#: A change of these is a new revision of the stages.
FINE_TUNING: Final[dict[str, Any]] = {
    "epochs": 60,
    "batch_size": 128,
    "learning_rate": 0.001,
    "head_learning_rate_multiplier": 100.0,
    "schedule": "cosine",
    "weight_decay": 1e-4,
    "warmup_epochs": 0,
    "nesterov": False,
}


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Limit = Annotated[int, Field(ge=2)]


class LinearProbeOptions(Configuration):
    """Options of ``linear_probe``: logistic regression on frozen features (W A.2, Table 5; T Table 4a).

    Attributes:
        data: data sets, as ``load_data`` takes them, resized to the size and channels of the model.
        held_out: learn the classifier of the trial's own images anew as well, from those training images that its
            training held out, and measure it on its test images (W: IN(50k)).
        train_limit: at most this many of their training images; None for all, as in W.
        limit: at most this many of their test images, and of validation images where they bring their own.
        variant: ``"kornblith"`` (W: L2 path of 45 strengths, chosen on a hold-out) or ``"kobayashi"`` (T: one).
        tolerance: of each fit's end, as :func:`~logitlab.analysis.linear_probe` has it. Most of the time goes into the
            weakest strengths; 1e-7 takes a small part of it, and may choose another strength where several are alike.
        max_iterations: of each fit.
    """

    data: Names
    held_out: bool = False
    train_limit: Limit | None = None
    limit: Limit | None = None
    variant: Literal["kornblith", "kobayashi"] = "kornblith"
    tolerance: float = Field(1e-10, gt=0, lt=1)
    max_iterations: int = Field(5000, ge=1)


class FineTuneOptions(Configuration):
    """Options of ``fine_tune``: the whole network trained on other images with a new head (T Table 4b, TS Table 8).

    Attributes:
        data: data sets, as ``load_data`` takes them, resized to the size and channels of the model.
        head: the new head, ``name`` or ``name:key=value``.
        training: fields of ``TrainingConfig`` that differ from ``FINE_TUNING``.
        train_limit: at most this many of their training images, classes balanced; None for all.
        validation_fraction: share of their training images that is held out, where they bring no validation part.
    """

    data: Names
    head: str = Field("softmax", min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    train_limit: Limit | None = None
    validation_fraction: float = Field(0.1, gt=0, lt=1)

    @field_validator("training")
    @classmethod
    def _essential(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Check the whole recipe; keep what differs from the usual one, so that a default written out is no other."""
        recipe = validate(TrainingConfig, whole_recipe(given), "training")
        if recipe.freeze_backbone:
            raise ValueError("fine-tuning trains the backbone; without it, take the stage 'linear_probe'")
        usual = TrainingConfig(**FINE_TUNING).model_dump(mode="json")
        return {key: value for key, value in recipe.model_dump(mode="json").items() if value != usual.get(key)}

    @property
    def recipe(self) -> TrainingConfig:
        """The whole recipe."""
        return TrainingConfig(**whole_recipe(self.training))

    def split(self, name: str) -> DataConfig:
        """Return how the images of a set are split: always the same way, whatever the seed of the trial."""
        own = {"train_limit": self.train_limit, "validation_fraction": self.validation_fraction}
        return DataConfig.model_validate({"name": name, **own})


class AnalyseOptions(Configuration):
    """Options of ``analyse``: numbers of ``logitlab analyze`` for every trained model.

    Attributes:
        measures: names of ``logitlab.records.analysis.MEASURE_NAMES``, or of measurements that users registered.
        part: which images of the trial.
        limit: at most this many of them.
    """

    measures: Names
    part: Literal["test", "validation", "train"] = "test"
    limit: Limit | None = None


class ShiftOptions(Configuration):
    """Options of ``shift``: accuracy on other test images of the trained classes (W Table 2).

    Attributes:
        data: data sets, as ``load_test_data`` takes them, resized to the size and channels of the model; their classes
            are those of the trained model, or some of them, by name.
        limit: at most this many of their test images.
    """

    data: Names
    limit: Limit | None = None


class TimingOptions(Configuration):
    """Options of ``timing``: milliseconds of a training step and of the choice of κ (TS Table 11).

    Attributes:
        repeats: how often each is timed; the median counts.
    """

    repeats: int = Field(20, ge=1)


OPTIONS: Final[dict[str, type[Configuration]]] = {
    "linear_probe": LinearProbeOptions,
    "fine_tune": FineTuneOptions,
    "analyse": AnalyseOptions,
    "shift": ShiftOptions,
    "timing": TimingOptions,
}


def whole_recipe(given: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe of fine-tuning with a user's fields in the place of its own.

    >>> whole_recipe({"scaled_weight_decay": 1e-3}).get("weight_decay") is None
    True
    """
    own = dict(FINE_TUNING)
    if given.get("scaled_weight_decay") is not None:
        # Two ways to say one thing; the user's replaces ours.
        del own["weight_decay"]
    return {**own, **given}
