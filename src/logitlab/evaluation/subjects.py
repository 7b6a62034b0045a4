"""A checkpoint under analysis: its passes over the parts of a data set, made when a measure first asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from logitlab.analysis import fit_mahalanobis
from logitlab.config.errors import InputError
from logitlab.config.specification import Specification
from logitlab.config.trial import DataConfig
from logitlab.data import DataSet, Images, load_data, load_ood, prepare_batch, split_data
from logitlab.data.channels import match_channels
from logitlab.heads import Classifier, Head
from logitlab.models import ModelDescription, load_checkpoint
from logitlab.models.checkpoint import DESCRIPTION_FILE, WEIGHTS_FILE
from logitlab.serving import record_beside

from .control import initial_model, set_batch_moments
from .layers import Pooling
from .pass_cache import Pass
from .passes import JoinedImages, PassOptions, chosen_images, read_pass, run_pass

#: Where no limit is given, passes over training images look at this many of them.
TRAINING_IMAGES = 10_000


class Surroundings(NamedTuple):
    """What the subjects of an analysis share.

    Attributes:
        data: name of the data set, as ``load_data`` takes it.
        part: ``"test"``, ``"validation"``, ``"train"`` or ``"all"``.
        root: the folder of all passes.
        data_root: the folder that holds data sets.
        device: a torch device.
        layers: names of layers, or ``("auto",)``.
        layered: the parts whose passes shall keep them.
        pooling: of their outputs.
        limit: images of a part, at most.
        tell: receives a sentence before each pass that is run.
    """

    data: str
    part: str
    root: Path
    data_root: str | None
    device: str
    layers: tuple[str, ...]
    layered: frozenset[str]
    pooling: Pooling
    limit: int | None
    tell: Callable[[str], None]


@dataclass
class Subject:
    """One model.

    Attributes:
        label: what tables call it.
        folder: of its checkpoint.
        description: of the model.
        config: of its trial; empty where no record lies beside it.
        identity: of its trial, or None.
        around: what all subjects share.
        group: the models that differ in their seed alone; empty for those of one head and backbone.
        control_seed: of the weights that the control starts with.
        mahalanobis_fault: why there are no Mahalanobis distances, if so.
        kept_scores: folder of a pass → confidence scores, computed once.
    """

    label: str
    folder: Path
    description: ModelDescription
    config: Mapping[str, Any]
    identity: str | None
    around: Surroundings
    group: str = ""
    control_seed: int = 0
    _passes: dict[str, Pass] = field(default_factory=dict, repr=False)
    mahalanobis_fault: str | None = None
    kept_scores: dict[Path, dict[str, Tensor]] = field(default_factory=dict, repr=False)
    _mahalanobis: Any = field(default=None, repr=False)

    @property
    def head_name(self) -> str:
        """The head as it is written on a command line."""
        return str(Specification(self.description.head.name, self.description.head.parameters))

    @property
    def backbone_name(self) -> str:
        """The backbone, likewise."""
        return str(Specification(self.description.backbone.name, self.description.backbone.parameters))

    @property
    def group_key(self) -> tuple[str, ...]:
        """What models share that differ in their seed alone."""
        return (self.group,) if self.group else (self.head_name, self.backbone_name)

    @property
    def seed(self) -> int | None:
        """Of its trial."""
        return self.config.get("seed")

    @cached_property
    def source(self) -> DataConfig:
        """The images, resized for this model and split as in its trial."""
        own = self.config.get("data", {})
        side = self.description.image_size
        return DataConfig.model_validate({**own, "name": self.around.data, "image_size": side})

    @property
    def split_rule(self) -> tuple[int | None, float, int, bool]:
        """What decides which images are in which part."""
        source = self.source
        return source.train_limit, source.validation_fraction, source.split_seed, source.train_on_held_out

    @cached_property
    def head(self) -> Head:
        """The head, on the CPU and in evaluation mode."""
        return self.load().head

    @property
    def link(self) -> Literal["softmax", "normalized_sigmoid", "none"]:
        """How logits become probabilities."""
        return self.description.link

    @cached_property
    def weight(self) -> Tensor:
        """The weight of the head, ``[C, D]`` (``[C · centres, D]``), on the CPU."""
        return self.head.weight.detach().cpu()

    def fitted_mahalanobis(self) -> Any:
        """Class means and shared covariance of training features (`logitlab.analysis.MahalanobisFit`), fitted once.

        None where they cannot be fitted; ``mahalanobis_fault`` then says why.
        """
        if self._mahalanobis is None and self.mahalanobis_fault is None:
            try:
                self._mahalanobis = fit_mahalanobis(self.train["features"], self.train["labels"], split="train")
            except InputError as fault:
                self.mahalanobis_fault = f"No score by Mahalanobis distances: {fault}"
        return self._mahalanobis

    def load(self) -> Classifier:
        """Build the model."""
        return load_checkpoint(self.folder)[0]

    def data(self) -> DataSet:
        """Load the data set at the size of this model."""
        return shared_data(self.around.data, self.description.image_size, self.around.data_root)

    def part(self, name: str) -> Images:
        """Return the images of a part."""
        data = self.data()
        if name == "all":
            return JoinedImages([part for part in (data.train, data.validation, data.test) if part is not None])
        images: Images = getattr(split_data(data, self.source), name)
        return images

    @property
    def measured(self) -> Pass:
        """The pass over the part asked for."""
        return self._pass(self.around.part)

    @property
    def train(self) -> Pass:
        """The pass over training images."""
        return self._pass("train")

    @property
    def validation(self) -> Pass:
        """The pass over validation images."""
        return self._pass("validation")

    def strange(self, name: str) -> Pass:
        """The pass over an out-of-distribution set; its labels mean nothing."""
        found = load_ood(name, **self.shape, root=self.around.data_root)
        essence = {**self._essence, "ood": found.fingerprint}
        return self._run(essence, self.load, lambda: found.images, name, (), self.around.limit)

    def other(self, name: str, part: str, limit: int | None) -> tuple[DataSet, Pass]:
        """The pass over a part of another data set, for a linear probe."""
        data = shared_data(name, self.description.image_size, self.around.data_root)
        essence = {**self._essence, "other": data.fingerprint, "part": part}
        return data, self._run(essence, self.load, lambda: getattr(data, part), f"{name}, {part}", (), limit)

    @property
    def control(self) -> Pass:
        """The pass of W Figure 3a's control: initial weights, moments of batch normalisation from training images."""
        count = self.around.limit or TRAINING_IMAGES
        essence = {**self._part_essence(self.around.part), "control": self.control_seed, "moments": count}
        zero = bool(self.config.get("training", {}).get("zero_init_last", True))

        def load() -> Classifier:
            model = initial_model(self.load(), self.description, self.control_seed, zero_init_last=zero)
            images = self.part("train")
            set_batch_moments(model.backbone, images, chosen_images(len(images), count), self.options)
            return model

        return self._run(
            essence,
            load,
            lambda: self.part(self.around.part),
            f"{self.around.part}, control",
            self.around.layers,
            self.around.limit,
        )

    @property
    def shape(self) -> dict[str, int]:
        """Of the images that the model takes."""
        return {"channels": self.description.channels, "image_size": self.description.image_size}

    @cached_property
    def options(self) -> PassOptions:
        """How the model looks at images: as in its trial."""
        recipe = self.config.get("training", {})
        description = self.description
        normalise = partial(
            prepare_batch, mean=torch.tensor(description.pixel_mean), std=torch.tensor(description.pixel_std)
        )

        def prepare(pixels: Tensor) -> Tensor:
            return normalise(match_channels(pixels, description.channels))

        return PassOptions(
            prepare,
            self.around.device,
            recipe.get("batch_size", 64),
            recipe.get("precision", "float32"),
            self.around.pooling,
        )

    @cached_property
    def _essence(self) -> dict[str, Any]:
        return {
            "model": [_digest(self.folder / name) for name in (WEIGHTS_FILE, DESCRIPTION_FILE)],
            "image_size": self.description.image_size,
        }

    def _part_essence(self, part: str) -> dict[str, Any]:
        return {**self._essence, "data": self.data().fingerprint, "part": part, "split": list(self.split_rule)}

    def _pass(self, part: str) -> Pass:
        """Run or read a pass; one with layers serves those who ask for none."""
        if part not in self._passes:
            limit = self.around.limit
            if part == "train" and self.around.part != "train":
                limit = limit or TRAINING_IMAGES
            essence, layers = self._part_essence(part), self.around.layers
            found = None
            if part not in self.around.layered:
                found = read_pass(self.around.root, essence, self.options, layers=layers, limit=limit)
                layers = ()
            self._passes[part] = found or self._run(essence, self.load, lambda: self.part(part), part, layers, limit)
        return self._passes[part]

    def _run(
        self,
        essence: Mapping[str, Any],
        load: Callable[[], Classifier],
        images: Callable[[], Images],
        what: str,
        layers: tuple[str, ...],
        limit: int | None,
    ) -> Pass:
        def announced() -> Images:
            found = images()
            count = len(found) if limit is None else min(limit, len(found))
            self.around.tell(f"{self.label}: a pass over {count} images ({what}).")
            return found

        return run_pass(self.around.root, essence, load, announced, self.options, layers=layers, limit=limit)


def open_subject(folder: Path, around: Surroundings) -> Subject:
    """Read what a checkpoint is, and see that its weights fit.

    Args:
        folder: with ``model.safetensors`` and ``model.json``.
        around: what all subjects share.

    Raises:
        RecordError: the checkpoint is missing or damaged.
    """
    _, description = load_checkpoint(folder)
    record = record_beside(folder)
    return Subject(
        label=str(folder),
        folder=folder,
        description=description,
        config={} if record is None else record["config"],
        identity=None if record is None else record["identity"],
        around=around,
    )


@lru_cache(maxsize=4)
def shared_data(name: str, side: int, root: str | None) -> DataSet:
    """Load a data set at a size, as ``load_data`` does, and keep it: many models look at the same images."""
    return load_data(name, image_size=side, root=root)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
