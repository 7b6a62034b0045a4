"""Stages, run on the trained model of a finished trial."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from logitlab.config.errors import DataError, LogitLabError, TrialError
from logitlab.config.trial import TrialConfig
from logitlab.config.validation import validate
from logitlab.evaluation.measurements import MEASUREMENTS
from logitlab.heads import import_head
from logitlab.records import Store
from logitlab.records.analysis import MEASURE_NAMES
from logitlab.records.files import remove_leftovers
from logitlab.records.stages import STAGES_FOLDER, has_stage, write_stage
from logitlab.records.study import StageSource

from ..distributed import apart
from ..provenance import describe_environment, now
from ..seeds import derive_seed, own_random_state
from ..snapshot import own_generators, seed_generators
from .analyse import analyse
from .context import StageContext
from .fine_tune import fine_tune
from .linear_probe import linear_probe
from .planning import source_identity
from .registry import STAGES, option_form
from .shift import shift
from .timing import timing

_PASSES: Final = "passes"

_BUILT_IN: Final[dict[str, Callable[[StageContext, StageSource], Mapping[str, Any]]]] = {
    "linear_probe": linear_probe,
    "fine_tune": fine_tune,
    "analyse": analyse,
    "shift": shift,
    "timing": timing,
}


def run_stages(
    trial: TrialConfig,
    root: Path,
    stages: Sequence[StageSource],
    *,
    device: str = "cpu",
    data_root: str | Path | None = None,
) -> None:
    """Run every stage that the model of a finished trial lacks, in order; nothing is trained again.

    Each leaves ``stages/<identity>.json`` in the folder of the trial, whole or not at all; one that is there, whole,
    does not run. Its random numbers hang on the seed of the trial and on the stage alone: on a CPU with one thread its
    result is the same bit for bit each time, but for ``timing``, which measures the machine.

    Args:
        trial: whose record is there.
        root: the folder of the study.
        stages: from :func:`~logitlab.training.stages.plan_stage`.
        device: a torch device.
        data_root: the folder that holds data sets; None for the default.

    Raises:
        DataError: images are missing, cannot be read, or are not those that the study was planned for.
        TrialError: a stage fails; the message names it. Those before it keep their results.
        OSError: the file system refuses.
    """
    store = Store(root)
    folder = store.trial_folder(trial.identity)
    missing = [source for source in stages if not has_stage(folder, source.identity)]
    if not missing:
        return
    place = torch.device(device)
    import_head(trial.head.name, trial.head.parameters, trial.head.module)
    record = store.record(trial.identity)
    passes = folder / STAGES_FOLDER / _PASSES
    # What a process left that was killed while it wrote.
    remove_leftovers(folder / STAGES_FOLDER)
    try:
        for source in missing:
            context = StageContext(
                name=source.name,
                identity=source.identity,
                options=dict(source.options),
                trial=trial,
                record=record,
                folder=folder,
                seed=derive_seed(trial.seed, "stage", source.identity),
                device=place,
                data_root=None if data_root is None else str(data_root),
                passes=passes,
            )
            _run(context, source)
    except Exception:
        # A signal leaves the passes for the next attempt; after a failure nobody knows whether there will be one.
        shutil.rmtree(passes, ignore_errors=True)
        raise
    shutil.rmtree(passes, ignore_errors=True)


def _run(context: StageContext, source: StageSource) -> None:
    started, clock = now(), time.perf_counter()
    with (
        warnings.catch_warnings(record=True) as caught,
        own_random_state(context.device),
        own_generators(),
        apart(),
        _named(source.name),
    ):
        torch.manual_seed(context.seed)
        seed_generators(context.seed)
        result = dict(_function(source)(context, source))
        provenance = {
            **describe_environment(context.device),
            "trial": context.trial.identity,
            "started": started,
            "finished": now(),
            "seconds": time.perf_counter() - clock,
            "warnings": list(
                dict.fromkeys([*context.notes, *(f"{entry.category.__name__}: {entry.message}" for entry in caught)])
            ),
        }
        write_stage(context.folder, source, result, provenance)
    for leftover in (context.folder / STAGES_FOLDER).glob(f"{source.identity}-*"):
        # Snapshots of the stage, which it needs no more.
        leftover.unlink(missing_ok=True)


def _function(source: StageSource) -> Callable[[StageContext, StageSource], Mapping[str, Any]]:
    """Find what runs a stage; the modules of users are imported where their names are not known yet."""
    if source.module is not None and not _is_known(source):
        for module in source.module.split(","):
            importlib.import_module(module)
    if source.name not in STAGES and source.name not in _BUILT_IN:
        raise TrialError("nobody has registered it. Name the module that does in 'plugins'.")
    if source.name in (*STAGES.names(), "analyse") and source_identity(source, ()) != source.identity:
        raise TrialError("its code is not that which the study was planned for. Plan the study again.")
    if source.name in STAGES:
        return _registered
    return _BUILT_IN[source.name]


def _is_known(source: StageSource) -> bool:
    """Whether all that users registered for a stage is known in this process."""
    if source.name == "analyse":
        return all(name in MEASUREMENTS for name in source.options["measures"] if name not in MEASURE_NAMES)
    if source.name in _BUILT_IN:
        # Of data sets and heads the names alone do not say whose they are.
        return all(module in sys.modules for module in str(source.module).split(","))
    return source.name in STAGES


def _registered(context: StageContext, source: StageSource) -> Mapping[str, Any]:
    """Call a user's function with its options as keywords."""
    chosen = validate(option_form(source.name), source.options, f"stages.{source.name}")
    options = {name: getattr(chosen, name) for name in (*type(chosen).model_fields, *(chosen.model_extra or {}))}
    found = STAGES[source.name](context, **options)
    if not isinstance(found, Mapping):
        raise TrialError(f"it must return a mapping of names to numbers. Got {type(found).__name__}.")
    return {key: _plain(value) for key, value in found.items()}


def _plain(values: Any) -> Any:
    """Turn the numbers of NumPy and torch into Python's."""
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    if hasattr(values, "item") and getattr(values, "ndim", None) == 0:
        return values.item()
    return values


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let every failure say in which stage it happened; a disk that refuses, and images, concern all trials."""
    try:
        yield
    except OSError:
        raise
    except DataError as fault:
        raise DataError(f"The stage '{name}' failed: {fault}") from fault
    except LogitLabError as fault:
        raise TrialError(f"The stage '{name}' failed: {fault}") from fault
    except Exception as fault:  # a user's stage may raise anything
        words = " ".join(str(fault).split())
        raise TrialError(f"The stage '{name}' failed: {type(fault).__name__}{f': {words}' if words else ''}") from fault
