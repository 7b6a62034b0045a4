"""From the stage of a study to what its result depends on; every fault is found before the first trial starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from logitlab.config.errors import ConfigurationError, LogitLabError
from logitlab.config.names import unknown_name
from logitlab.config.specification import parse_specification
from logitlab.config.study import StageConfig
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import DataConfig, canonical_json
from logitlab.config.validation import Configuration, validate
from logitlab.records.analysis import BETWEEN_NAMES, MEASURE_NAMES
from logitlab.records.study import StageSource

from .classes import check_classes
from .options import OPTIONS, AnalyseOptions, FineTuneOptions, LinearProbeOptions, ShiftOptions, whole_recipe
from .registry import STAGES, list_stages, option_form

if TYPE_CHECKING:
    from logitlab.data import DataSet

#: Raised with every change of LogitLab that gives the same stage another result.
STAGE_REVISION: Final = 1

_WITH_DATA: Final = (LinearProbeOptions, FineTuneOptions, ShiftOptions)

# Options that came later, at the value that does what was done before.
_NEWER: Final = (("held_out", False),)

# D, and C where no data set says it, of the head that is built to see that it can be.
_FEATURES, _CLASSES = 64, 10


class FaultList(Protocol):
    """What gathers faults: ``logitlab.studies.faults.Faults``."""

    def add(self, *sentences: str) -> None:
        """Note faults."""


def plan_stage(
    config: StageConfig,
    *,
    image_size: int | None = None,
    data_root: str | None = None,
    trained: Sequence[DataConfig] = (),
    faults: FaultList,
) -> StageSource | None:
    """Check a stage of a study: its name, its options, the data sets that it looks at.

    Plugins are imported before. ``"ood"`` is no stage of this kind: its sets are planned by
    ``logitlab.studies.ood``, and its name is refused here.

    Args:
        config: as the study has it.
        image_size: side of the images of the study's models, in pixels; other data sets are loaded at it. None for
            the size that they have.
        data_root: the folder that holds data sets.
        trained: what the study's models are trained on, for stages whose data must have the same classes.
        faults: gains a sentence for each fault.

    Returns:
        the stage; None where there were faults.
    """
    try:
        return _plan(config, image_size, data_root, trained)
    except ConfigurationError as fault:
        faults.add(*fault.faults)
    except LogitLabError as fault:
        faults.add(f"The stage '{config.name}' cannot be run: {fault}")
    return None


def _plan(
    config: StageConfig, image_size: int | None, data_root: str | None, trained: Sequence[DataConfig]
) -> StageSource:
    from logitlab.data import data_set_module, load_data, load_test_data, split_data

    where = f"stages.{config.name}"
    if config.name == "ood":
        raise ConfigurationError("The stage 'ood' is planned with the out-of-distribution sets of a study.")
    if config.name not in STAGES and config.name not in OPTIONS:
        raise ConfigurationError(unknown_name("stage", config.name, list_stages()))
    form = option_form(config.name) if config.name in STAGES else OPTIONS[config.name]
    faults: list[str] = []
    given = dict(config.options)
    with _noted(faults):
        if form is FineTuneOptions and isinstance(given.get("training"), dict):
            # By itself first: its faults are sentences about its own fields.
            validate(TrainingConfig, whole_recipe(given["training"]), f"{where}.training")
    if faults:
        del given["training"]
    chosen: Configuration | None = None
    with _noted(faults):
        chosen = validate(form, given, where)
    # Names are looked up even where an option is wrong, so that all is said at once.
    sets: list[DataSet] = []
    with _noted(faults, f"The stage '{config.name}' cannot be run: "):
        names = _words(given.get("data")) if form in _WITH_DATA else ()
        sets = _load_sets(names, image_size, data_root, load_test_data if form is ShiftOptions else load_data)
    if form is ShiftOptions:
        for source in trained:
            with _noted(faults, f"The stage '{config.name}' cannot be run: "):
                known = load_data(source.name, image_size=source.image_size, root=data_root).class_names
                check_classes(sets, known)
    if isinstance(chosen, FineTuneOptions):
        for data in sets:
            with _noted(faults, f"The stage '{config.name}' cannot be run: {data.name}: "):
                split_data(data, chosen.split(data.name))
    code: dict[str, str | None] = {}
    modules: list[str] = []
    with _noted(faults, "" if form is AnalyseOptions else f"The stage '{config.name}' cannot be run: "):
        code, modules = _own_code(config.name, given, sets, where)
    if faults or chosen is None:
        raise ConfigurationError(faults)
    options = _plain(chosen, where)
    if form in _WITH_DATA:
        modules += _known([data_set_module(name) for name in options["data"]])
    return StageSource(
        name=config.name,
        identity=stage_identity(config.name, options, sets, code),
        options=options,
        module=",".join(dict.fromkeys(modules)) or None,
    )


def stage_identity(
    name: str, options: Mapping[str, Any], sets: Sequence[DataSet], code: Mapping[str, str | None]
) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all that a stage's result depends on beside its trial.

    Args:
        name: of the stage.
        options: validated, with defaults. Where data sets lie is left out.
        sets: the data sets that they name: their fingerprints and titles count.
        code: name → digest of what users registered.
    """
    essence = {
        "name": name,
        "revision": STAGE_REVISION,
        # Results of before an option existed stay what they were.
        "options": {
            key: value for key, value in options.items() if not (sets and key == "data") and (key, value) not in _NEWER
        },
        "data": [[each.name, each.fingerprint] for each in sets],
        "code": dict(code),
    }
    return hashlib.sha256(canonical_json(essence).encode()).hexdigest()[:16]


def source_identity(source: StageSource, sets: Sequence[DataSet]) -> str:
    """Return the identity that a planned stage has with these data sets and with the code of this process."""
    code, _ = _own_code(source.name, source.options, sets, source.name)
    return stage_identity(source.name, source.options, sets, code)


def _own_code(
    name: str, options: Mapping[str, Any], sets: Sequence[DataSet], where: str
) -> tuple[dict[str, str | None], list[str]]:
    """Return digests and modules of all that users registered and a stage reaches; see that it is there.

    Raises:
        ConfigurationError: a measure or a head is unknown or wrong.
    """
    if name in STAGES:
        return {name: STAGES.source(name)}, _known([STAGES.module(name)])
    if name == "analyse":
        return _measurements(_words(options.get("measures")), where)
    if name == "fine_tune":
        return _head(options.get("head", "softmax"), sets)
    return {}, []


def _words(value: Any) -> list[str]:
    """Return the names among what a user wrote; that others are no names is said where options are checked."""
    listed = [value] if isinstance(value, str) else value
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, (list, tuple)) else []


def _known(modules: Sequence[str | None]) -> list[str]:
    return [module for module in modules if module is not None]


def _plain(chosen: Configuration, where: str) -> dict[str, Any]:
    """Return options as JSON holds them."""
    values = chosen.model_dump()
    plain = {}
    for key, value in values.items():
        value = list(value) if isinstance(value, tuple) else value
        try:
            canonical_json(value)
        except (TypeError, ValueError) as fault:
            raise ConfigurationError(f"'{where}.{key}' must be plain values, as YAML writes them: {fault}.") from None
        plain[key] = value
    return plain


def _measurements(names: Sequence[str], where: str) -> tuple[dict[str, str | None], list[str]]:
    """Check names of measures; return digests and modules of those that users registered."""
    from logitlab.evaluation.measurements import MEASUREMENTS

    known = [name for name in MEASURE_NAMES if name != "probe"] + MEASUREMENTS.names()
    faults = []
    for name in dict.fromkeys(names):
        if name in BETWEEN_NAMES:
            faults.append(
                f"The measure '{name}' compares several models, and a stage has one. Use 'logitlab analyze' with the "
                "checkpoints, or 'logitlab compare --measure'."
            )
        elif name == "probe":
            faults.append("The measure 'probe' is a stage of its own: 'linear_probe', with its data.")
        elif name not in known:
            faults.append(unknown_name("measure", str(name), known))
    if len(set(names)) < len(names):
        faults.append(f"'{where}.measures' names a measure twice. Name each once.")
    if faults:
        raise ConfigurationError(faults)
    own = [name for name in names if name in MEASUREMENTS]
    return {name: MEASUREMENTS.source(name) for name in own}, _known([MEASUREMENTS.module(name) for name in own])


def _head(text: Any, sets: Sequence[DataSet]) -> tuple[dict[str, str | None], list[str]]:
    """Check the head of fine-tuning by building it; return digest and modules of a user's head or temperature."""
    import torch

    from logitlab.heads import create_head, head_module, head_name, head_source

    if not isinstance(text, str) or not text:
        return {}, []  # said where options are checked
    head = parse_specification(text)
    head_name(head.name)
    with torch.random.fork_rng(devices=[]):
        for classes in dict.fromkeys([each.num_classes for each in sets] or [_CLASSES]):
            try:
                create_head(head.name, _FEATURES, classes, **head.parameters)
            except LogitLabError:
                raise
            except Exception as fault:  # a user's factory may raise anything
                raise ConfigurationError(
                    f"The head '{head}' cannot be built: {type(fault).__name__}: {fault}."
                ) from fault
    source, module = head_source(head.name, head.parameters), head_module(head.name, head.parameters)
    return ({} if source is None else {head.name: source}), [] if module is None else module.split(",")


def _load_sets(
    names: Sequence[str], image_size: int | None, data_root: str | None, load: Callable[..., DataSet]
) -> list[DataSet]:
    """Load every data set once, to see that it loads and what it is."""
    faults: list[str] = []
    found = []
    for name in names:
        with _noted(faults):
            found.append(load(name, image_size=image_size, root=data_root))
    titles = [each.name for each in found]
    for title in dict.fromkeys(titles):
        if titles.count(title) > 1:
            faults.append(f"Two of its data sets are called '{title}'. Name each set once, or rename a file or folder.")
        if title in ("mean", "held_out"):
            faults.append(f"A data set is called '{title}', as a result of the stage is. Rename it.")
    if faults:
        raise ConfigurationError(faults)
    return found


@contextmanager
def _noted(faults: list[str], opening: str = "") -> Iterator[None]:
    """Note what is wrong, each sentence after an opening, and go on after the block."""
    try:
        yield
    except LogitLabError as fault:
        sentences = fault.faults if isinstance(fault, ConfigurationError) else (str(fault),)
        faults.extend(f"{opening}{sentence}" for sentence in sentences)
