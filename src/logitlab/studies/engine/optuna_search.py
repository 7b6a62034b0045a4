"""A search by Optuna's TPE sampler. What it asks for hangs on its seed and on what it was told, so a study resumes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from ...config.errors import ConfigurationError
from ...config.study import SearchConfig
from ...config.study.axes import as_axis_value
from .grids import Point, best_point
from .requests import Outcome, Trials

Ask = Callable[[Iterable[Point]], Generator[Trials, Mapping[str, Outcome], list[list[float | None]]]]

# Digits of a value: what is recorded, and trained, is what is read.
_DIGITS = 6


def optuna_program(search: SearchConfig, ask: Ask) -> Generator[Trials, Mapping[str, Outcome], dict[str, float] | None]:
    """Ask Optuna for points, a few at a time; return the best one.

    The first point is the middle of the ranges. A point that failed for a seed is told as a failed one.

    Args:
        search: what is searched, how many points in all, and how many at a time.
        ask: has points trained.
    """
    optuna = check_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if search.better == "higher" else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
    tried: list[tuple[Point, list[float | None]]] = []
    while len(tried) < search.trials:
        asked = [study.ask() for _ in range(min(search.together, search.trials - len(tried)))]
        chosen = [_point(trial, search) for trial in asked]
        answers = yield from ask(chosen)
        for trial, point, values in zip(asked, chosen, answers):
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                study.tell(trial, statistics.fmean(known))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            tried.append((point, values))
    found = best_point(tried, higher_is_better=search.better == "higher")
    return None if found is None else dict(found[0])


def check_optuna() -> Any:
    """Return Optuna.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigurationError(
            "The search method 'optuna' needs Optuna. Install it with: pip install 'logitlab[optuna]', or take "
            "'coarse_to_fine'."
        ) from None
    return optuna


def _point(trial: Any, search: SearchConfig) -> dict[str, float]:
    point: dict[str, float] = {}
    for axis, config in search.parameters.items():
        found = trial.suggest_float(axis, config.values[0], config.values[-1], log=config.scale == "log")
        point[axis] = as_axis_value(axis, float(f"{found:.{_DIGITS}g}"))
    return point
