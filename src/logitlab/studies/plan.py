"""From a user's arguments to the trials of a study; every fault is found before the first trial starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.errors import ConfigurationError
from ..config.specification import Specification
from ..config.study import EXECUTORS
from ..config.training import TrainingConfig
from ..config.trial import ComponentConfig, DataConfig, TrialConfig
from ..config.validation import validate
from ..records import OodSource
from .components import Shape, check_executor, read_backbone, read_device, read_heads
from .faults import Faults
from .ood import read_ood_sets
from .plugins import import_plugins, plugins_of


@dataclass(frozen=True)
class Plan:
    """The trials of a comparison and what they need.

    Attributes:
        trials: seed by seed, and head by head within a seed, so that a study that is cut short still compares.
        device: the torch device.
        plugins: what a worker imports before its first trial.
        homeless: heads, stages and data sets whose module no other process can import.
        ood: out-of-distribution sets that every trial is measured on.
    """

    trials: tuple[TrialConfig, ...]
    device: str
    plugins: tuple[str, ...]
    homeless: tuple[str, ...]
    ood: tuple[OodSource, ...] = ()


def plan_comparison(
    *,
    data: Mapping[str, Any],
    heads: Sequence[str | Specification],
    backbone: str | Specification,
    training: Mapping[str, Any],
    seeds: int | Sequence[int],
    out: Path,
    executor: str,
    workers: int | None,
    device: str | None,
    data_root: str | None,
    plugins: Sequence[str],
    options: Sequence[str],
    ood: Sequence[str] = (),
) -> Plan:
    """Check everything and lay the trials out.

    Args:
        data: fields of ``DataConfig``.
        heads: ``name`` or ``name:key=value``.
        backbone: ``name`` or ``name:key=value``.
        training: fields of ``TrainingConfig``.
        seeds: how many (0, 1, ...), or which.
        out: the folder of the records.
        executor: one of ``EXECUTORS``.
        workers: trials at a time; None for the executor's rule.
        device: a torch device; None for a GPU where there is one.
        data_root: the folder that holds data sets; None for the default.
        plugins: modules or files that register heads.
        options: the caller's own parameters; an unknown field of ``training`` may have meant one of them.
        ood: names of out-of-distribution sets, as ``logitlab.data.load_ood`` takes them.

    Raises:
        ConfigurationError: all faults at once, a sentence each.
    """
    faults = Faults()
    chosen = "cpu"
    recipe: TrainingConfig | None = None
    source: DataConfig | None = None
    with faults:
        import_plugins(plugins)
    with faults:
        recipe = validate(TrainingConfig, training, beside=options)
    with faults:
        source = validate(DataConfig, data)
    with faults:
        check_folder(out)
    with faults:
        check_executor(executor, EXECUTORS)
    with faults:
        _check_count("workers", workers)
    with faults:
        chosen = read_device(device)
    numbers = _read_seeds(seeds, faults)
    loaded = _load(source, data_root, faults) if source is not None else None
    shape = loaded.shape if loaded is not None else None
    network, in_features = read_backbone(backbone, shape, faults)
    mixed = recipe is not None and recipe.mixup > 0
    components = read_heads(heads, in_features, shape, faults, mixed=mixed)
    sources = read_ood_sets(ood, shape, None if loaded is None else loaded.fingerprint, data_root, faults)
    faults.raise_all()
    assert loaded is not None
    assert recipe is not None
    assert source is not None
    if recipe.augmentation is None:
        # The images alone do not say which augmentation suits them, so the trial does.
        own = "none" if recipe.freeze_backbone else loaded.augmentation
        recipe = recipe.model_copy(update={"augmentation": own})
    trials = tuple(
        TrialConfig(
            data=source,
            data_fingerprint=loaded.fingerprint,
            backbone=network,
            head=component,
            training=recipe,
            seed=seed,
        )
        for seed in numbers
        for component in components
    )
    parts = registered_parts(components, [source.name, *(each.name for each in sources)])
    return Plan(trials, chosen, *worker_plugins(plugins, parts), sources)


@dataclass(frozen=True)
class _Loaded:
    shape: Shape
    fingerprint: str
    augmentation: Any


def _load(source: DataConfig, data_root: str | None, faults: Faults) -> _Loaded | None:
    """Load the data once, to see that it loads and splits and what shape it has."""
    from ..data import load_data, split_data

    with faults:
        data = load_data(source.name, image_size=source.image_size, root=data_root)
        split_data(data, source)
        shape = Shape(data.channels, data.image_size, data.num_classes)
        return _Loaded(shape, data.fingerprint, data.augmentation)
    return None


def _read_seeds(seeds: Any, faults: Faults) -> list[int]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        with faults:
            _check_count("seeds", seeds)
        return list(range(seeds))
    numbers = list(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else []
    wrong = any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in numbers)
    if not numbers or wrong or len(set(numbers)) < len(numbers):
        faults.add(
            f"'seeds' must be a number of at least 1, or a list of different numbers of at least 0. Got {seeds!r}."
        )
    return numbers


def _check_count(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigurationError(f"'{name}' must be an int of at least 1. Got {value!r}.")


def check_folder(out: Path) -> None:
    """See that records can be written below ``out``, without making anything yet."""
    nearest = out
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        is_folder = nearest.is_dir()
    except OSError as fault:
        raise ConfigurationError(
            f"'out' must be a folder that can be written to. '{nearest}': {fault.strerror}; give another path."
        ) from None
    if not is_folder:
        raise ConfigurationError(f"'out' must be a folder. '{nearest}' is a file; give another path.")
    if not os.access(nearest, os.W_OK):
        raise ConfigurationError(f"'out' must be a folder that can be written to. '{nearest}' cannot.")


def worker_plugins(
    plugins: Sequence[str], registered: Iterable[tuple[str, str | None]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what workers import, and what is registered in modules that they cannot import.

    Args:
        plugins: as the user named them.
        registered: name of a head, data set or stage, and the modules that register it, joined by commas; None for
            what is built in.
    """
    needed = [os.path.realpath(plugin) if plugin.endswith(".py") else plugin for plugin in plugins]
    homeless = []
    for name, modules in registered:
        if modules is None:
            continue
        found = plugins_of(modules)
        if found is None:
            homeless.append(name)
        else:
            needed += found
    return tuple(dict.fromkeys(needed)), tuple(dict.fromkeys(homeless))


def registered_parts(components: Iterable[ComponentConfig], data: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return name and modules of heads, backbones and data sets, for :func:`worker_plugins`."""
    from ..data import data_set_module

    return [
        *((component.name, component.module) for component in components),
        *((name, data_set_module(name)) for name in data),
    ]
