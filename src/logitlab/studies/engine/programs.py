"""The program of a row: wait for the rows that it depends on, search, then train the trials of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...config.errors import ConfigurationError
from ...config.study import DependenceConfig
from ...config.study.axes import as_axis_value
from ...config.study.rows import RowSpecification
from ...config.trial import TrialConfig
from ...records.study import PlannedTrial
from .making import TrialMaker
from .requests import Outcomes, Program, Progress, Rows, Trials
from .search import expected_trials, search_program

#: Seeds of a search begin here, so that no trial of the table starts as one that was selected by.
FIRST_SEARCH_SEED = 1000

# Digits of a value that another row gives.
_DIGITS = 6


def row_program(
    progress: Progress, maker: TrialMaker, sources: Mapping[str, str], refuse: Callable[[str], None]
) -> Program:
    """Run through the life of a row.

    Args:
        progress: of the row; what becomes known is written here.
        maker: of trials.
        sources: axis → label of the row that gives its value.
        refuse: told why a trial that a search or another row asks for cannot be made.
    """
    row = progress.row
    given: dict[int, dict[str, Any]] = {seed: {} for seed in row.seeds}
    progress.expected = len(row.seeds) + (0 if row.search is None else expected_trials(row.search))
    if sources:
        names = ", ".join(f"'{label}'" for label in dict.fromkeys(sources.values()))
        progress.waiting = f"It waits for {names}."
        answers = yield Rows(tuple(dict.fromkeys(sources.values())))
        for axis, label in sources.items():
            fault = _take(row.entry.depends_on[axis], axis, label, answers[label], given)
            if fault is not None:
                progress.blocked, progress.waiting = fault, None
                return
        progress.chosen |= _common(given)
    if row.search is not None:
        progress.waiting = "Its search goes on."

        def make(point: Mapping[str, float], number: int) -> TrialConfig:
            return maker.trial(row, FIRST_SEARCH_SEED + number, {**progress.chosen, **point}, measure_test=False)

        found = yield from search_program(progress, row.search, make)
        if found is None:
            progress.blocked = "No point of its search has finished with every seed, so nothing can be chosen."
            progress.waiting = None
            return
        progress.chosen |= found
        for values in given.values():
            values |= found
    progress.waiting = None
    try:
        finals = [(seed, maker.trial(row, seed, given[seed])) for seed in row.seeds]
    except ConfigurationError as fault:
        # What was chosen, or given by another row, does not fit the head; the other rows go on.
        progress.blocked = " ".join(fault.faults)
        refuse(f"'{row.label}' cannot be trained: {progress.blocked}")
        return
    wanted = []
    for seed, trial in finals:
        own = {axis: value for axis, value in given[seed].items() if axis not in progress.chosen}
        planned = PlannedTrial(identity=trial.identity, row=row.label, seed=seed, role="final", settings=own)
        progress.finals[seed] = trial.identity
        wanted.append((trial, planned))
    yield Trials(tuple(wanted))


def sources_of(row: RowSpecification, rows: Sequence[RowSpecification]) -> dict[str, str]:
    """Return, for each axis of a row that depends on another row, the label of that row.

    Raises:
        ConfigurationError: the words fit no row, or several.
    """
    found: dict[str, str] = {}
    faults = []
    for axis, dependence in row.entry.depends_on.items():
        exact = [other for other in rows if other.label == dependence.of]
        fitting = exact or [
            other
            for other in rows
            if other.entry_label == dependence.of
            # Under the same values of the axes of the study, as far as both have them.
            and all(row.shared.get(name, value) == value for name, value in other.shared.items())
        ]
        if len(fitting) == 1:
            found[axis] = fitting[0].label
        else:
            words = ", ".join(f"'{other.label}'" for other in fitting) or "none"
            faults.append(
                f"'{row.label}' depends on '{dependence.of}', which must be one row. Got {words}; name one of them."
            )
    if faults:
        raise ConfigurationError(faults)
    return found


def _take(
    dependence: DependenceConfig, axis: str, label: str, outcomes: Outcomes, given: dict[int, dict[str, Any]]
) -> str | None:
    """Write the value that another row gives into ``given``; return why there is none."""
    values = {
        seed: value
        for seed, outcome in outcomes.items()
        if isinstance(outcome, Mapping) and (value := outcome.get(dependence.measure)) is not None
    }
    if not values:
        return f"It depends on '{dependence.measure}' of '{label}', which no trial there has measured."
    failed = sorted(outcomes.keys() - values.keys())
    if failed:
        # A mean over what is left would move with every trial that fails.
        return (
            f"It depends on '{dependence.measure}' of '{label}', which seed {', '.join(map(str, failed))} has not "
            "measured. 'logitlab study retry' tries its failed trials again."
        )
    if dependence.statistic == "same_seed":
        lacking = [seed for seed in given if seed not in values]
        if lacking:
            return f"It depends on '{label}', which has no '{dependence.measure}' for seed {lacking[0]}."
        for seed, own in given.items():
            own[axis] = as_axis_value(axis, _rounded(dependence.times * values[seed]))
        return None
    statistic = statistics.fmean if dependence.statistic == "mean" else statistics.median
    value = as_axis_value(axis, _rounded(dependence.times * statistic(values.values())))
    for own in given.values():
        own[axis] = value
    return None


def _rounded(value: float) -> float:
    """Keep what a reader can write down: the paper's protocol takes such a number from a table."""
    return float(f"{value:.{_DIGITS}g}")


def _common(given: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Axis → value, of those that all seeds share."""
    first, *others = given.values()
    return {axis: value for axis, value in first.items() if all(other.get(axis) == value for other in others)}
