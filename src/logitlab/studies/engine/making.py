"""From a row and the values of its axes to the configuration of a trial; every part is looked at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...config.errors import ConfigurationError, LogitLabError
from ...config.specification import Specification, parse_specification
from ...config.study import StudyDefinition
from ...config.study.checks import without_rival
from ...config.study.rows import RowSpecification
from ...config.training import TrainingConfig
from ...config.trial import ComponentConfig, DataConfig, TrialConfig, canonical_json
from ...config.validation import validate
from ..components import Shape, read_backbone, read_heads
from ..faults import Faults

#: Two ways to say one number of a head: the one that comes later replaces the other.
_RIVALS = {"kappa": ("tau", "temperature"), "tau": ("kappa", "temperature")}


@dataclass(frozen=True)
class Images:
    """What trials need to know of a data set.

    Attributes:
        source: which images, and how they are split.
        shape: of an image, and the number of classes.
        fingerprint: of the images and labels.
        augmentation: the data set's own.
    """

    source: DataConfig
    shape: Shape
    fingerprint: str
    augmentation: Any


class TrialMaker:
    """Makes trials of a study; data sets, backbones and heads are loaded and built once each, to see that they fit.

    Args:
        definition: of the study.
        data_root: the folder that holds data sets; None for the default.
    """

    def __init__(self, definition: StudyDefinition, data_root: str | None) -> None:
        self._definition = definition
        self._data_root = data_root
        self._images: dict[str, Images | ConfigurationError] = {}
        self._backbones: dict[Any, tuple[ComponentConfig, int] | ConfigurationError] = {}
        self._heads: dict[Any, ComponentConfig | ConfigurationError] = {}
        self.components: dict[str, ComponentConfig] = {}

    def trial(
        self, row: RowSpecification, seed: int, given: Mapping[str, Any] | None = None, *, measure_test: bool = True
    ) -> TrialConfig:
        """Make the configuration of one trial.

        Args:
            row: what it belongs to.
            seed: of the trial.
            given: axis → value, beside those of the row: the point of a search, what another row gave.
            measure_test: whether it looks at the test images.

        Raises:
            ConfigurationError: every fault of its parts.
        """
        values = {**row.axes, **(given or {})}
        faults = Faults()
        recipe: TrainingConfig | None = None
        images: Images | None = None
        with faults:
            recipe = self.recipe(row, values)
        with faults:
            images = self.images(values)
        shape = None if images is None else images.shape
        network: ComponentConfig | None = None
        width = 512
        with faults:
            network, width = self._backbone(values, shape)
        with faults:
            head = self._head(row, values, width, shape, mixed=recipe is not None and recipe.mixup > 0)
        faults.raise_all()
        assert recipe is not None
        assert images is not None
        assert network is not None
        if recipe.augmentation is None:
            # The images alone do not say which augmentation suits them, so the trial does.
            own = "none" if recipe.freeze_backbone else images.augmentation
            recipe = recipe.model_copy(update={"augmentation": own})
        source = images.source
        if source.train_on_held_out and not measure_test:
            # It chooses: by images that it has not seen.
            source = source.model_copy(update={"train_on_held_out": False})
        if source.train_on_held_out and recipe.early_stopping_epochs is not None:
            raise ConfigurationError(
                f"'{row.label}' chooses its epoch by images that are held out, and trains on them. Leave "
                "'data.train_on_held_out' out, or train to the last epoch."
            )
        return TrialConfig(
            data=source,
            data_fingerprint=images.fingerprint,
            backbone=network,
            head=head,
            training=recipe,
            seed=seed,
            measure_test=measure_test,
        )

    def images(self, values: Mapping[str, Any]) -> Images:
        """Load the data set that a row uses, once.

        Raises:
            ConfigurationError: it cannot be loaded or split.
        """
        fields = {**self._definition.data.model_dump(), **_fields(values, "data")}
        if "data" in values:
            fields["name"] = values["data"]
        key = canonical_json(fields)
        if key not in self._images:
            try:
                self._images[key] = self._load(validate(DataConfig, fields, "data"))
            except LogitLabError as fault:
                self._images[key] = _configuration_error(fault)
        found = self._images[key]
        if isinstance(found, ConfigurationError):
            raise found
        return found

    @property
    def loaded(self) -> Iterable[Images]:
        """The data sets that have been loaded so far."""
        return [found for found in self._images.values() if isinstance(found, Images)]

    def recipe(self, row: RowSpecification, values: Mapping[str, Any]) -> TrainingConfig:
        """Lay the recipe of the entry over that of the study, and the values of axes over both.

        Raises:
            ConfigurationError: fields that do not fit each other.
        """
        base = self._definition.training.model_dump(exclude_unset=True)
        for over in (row.entry.training, _fields(values, "training")):
            base = {**without_rival(base, over), **over}
        recipe = validate(TrainingConfig, base, f"training of '{row.label}'")
        if self._definition.select_epoch == "best":
            # As patient as the run is long: it never stops early, and keeps the best epoch.
            recipe = recipe.model_copy(update={"early_stopping_epochs": recipe.epochs})
        return recipe

    def head(self, row: RowSpecification, values: Mapping[str, Any]) -> Specification:
        """Write the head of a row with the values of its axes.

        Raises:
            ConfigurationError: the text does not follow the grammar.
        """
        written = parse_specification(row.entry.head)
        parameters = dict(written.parameters)
        for over in (row.entry.parameters, _fields(values, "head")):
            for key, value in over.items():
                for rival in _RIVALS.get(key, ()):
                    if rival in parameters and not (rival == "temperature" and parameters[rival] == "trainable"):
                        del parameters[rival]
                parameters[key] = value
        return Specification(written.name, parameters)

    def _load(self, source: DataConfig) -> Images:
        from ...data import load_data, split_data

        data = load_data(source.name, image_size=source.image_size, root=self._data_root)
        split_data(data, source)
        shape = Shape(data.channels, data.image_size, data.num_classes)
        return Images(source, shape, data.fingerprint, data.augmentation)

    def _backbone(self, values: Mapping[str, Any], shape: Shape | None) -> tuple[ComponentConfig, int]:
        written = parse_specification(str(values.get("backbone", self._definition.backbone)), "backbone")
        network = Specification(written.name, {**written.parameters, **_fields(values, "backbone")})
        key = (str(network), shape)
        if key not in self._backbones:
            faults = Faults()
            found, width = read_backbone(network, shape, faults)
            self._backbones[key] = ConfigurationError(faults.sentences) if faults.sentences else (found, width)
        known = self._backbones[key]
        if isinstance(known, ConfigurationError):
            raise known
        self.components[f"backbone {network}"] = known[0]
        return known

    def _head(
        self, row: RowSpecification, values: Mapping[str, Any], width: int, shape: Shape | None, *, mixed: bool
    ) -> ComponentConfig:
        written = self.head(row, values)
        key = (str(written), width, shape, mixed)
        if key not in self._heads:
            faults = Faults()
            found = read_heads([written], width, shape, faults, mixed=mixed)
            self._heads[key] = ConfigurationError(faults.sentences) if faults.sentences else found[0]
        known = self._heads[key]
        if isinstance(known, ConfigurationError):
            raise known
        self.components[f"head {written}"] = known
        return known


def _fields(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return name → value of the axes of a group."""
    return {axis.split(".", 1)[1]: value for axis, value in values.items() if re.match(rf"{group}\.", axis)}


def _configuration_error(fault: LogitLabError) -> ConfigurationError:
    return fault if isinstance(fault, ConfigurationError) else ConfigurationError(str(fault))
