"""Searches over hyperparameters as programs: points are asked for, and chosen by what was measured on validation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from ...config.errors import ConfigurationError
from ...config.study import SearchConfig
from ...config.study.axes import takes_whole_numbers
from ...config.trial import TrialConfig
from ...records.study import PlannedTrial
from .grids import Line, Point, best_point, line_of, on_edge, points
from .requests import Outcome, Progress, Trials

Make = Callable[[Point, int], TrialConfig]
Search = Generator[Trials, Mapping[str, Outcome], dict[str, float] | None]


def search_program(progress: Progress, search: SearchConfig, make: Make) -> Search:
    """Search, and return the point that is chosen; None where no point has a value for every seed.

    Args:
        progress: of the row.
        search: what is searched, and how.
        make: makes the trial of a point with a seed, from 0.
    """
    tried = _Tried(progress, search, make)
    if search.method == "optuna":
        from .optuna_search import optuna_program

        return (yield from optuna_program(search, tried.ask))
    return (yield from _coarse_to_fine(progress, search, tried))


def expected_trials(search: SearchConfig) -> int:
    """Return how many trials a search has at least."""
    if search.method == "optuna":
        return search.trials * search.seeds
    count = 1
    for axis in search.parameters.values():
        count *= len(axis.values)
    return count * search.seeds


def _coarse_to_fine(progress: Progress, search: SearchConfig, tried: _Tried) -> Search:
    """W A.1: a coarse grid, expanded while its best point stands on an edge; then grids of double density around it."""
    higher = search.better == "higher"
    lines: dict[str, Line] = {
        axis: line_of(config, whole=takes_whole_numbers(axis)) for axis, config in search.parameters.items()
    }
    best: Point | None = None
    for round_number in range(search.expansions + 1):
        yield from tried.ask(points(lines))
        found = best_point(tried.among(points(lines)), higher_is_better=higher)
        if found is None:
            return None
        best = found[0]
        grown = {axis: line.expanded(best[axis]) for axis, line in lines.items()}
        if grown == lines:
            break
        if round_number == search.expansions:
            edges = [axis for axis in on_edge(lines, best) if grown[axis] != lines[axis]]
            progress.remarks.append(
                f"After {search.expansions} expansions the best point still lies on the edge of "
                f"{', '.join(edges)}: widen the grid."
            )
            break
        lines = grown
    for _ in range(search.refinements):
        assert best is not None
        lines = {axis: line.finer(best[axis]) for axis, line in lines.items()}
        yield from tried.ask(points(lines))
        found = best_point(tried.among(points(lines)), higher_is_better=higher)
        assert found is not None  # the best point so far is one of the finer grid
        best = found[0]
    return None if best is None else dict(best)


class _Tried:
    """The points that were tried, with their values a seed."""

    def __init__(self, progress: Progress, search: SearchConfig, make: Make) -> None:
        self._progress = progress
        self._search = search
        self._make = make
        self._values: dict[tuple[tuple[str, float], ...], list[float | None]] = {}

    def ask(self, wanted: Iterable[Point]) -> Generator[Trials, Mapping[str, Outcome], list[list[float | None]]]:
        """Have points trained that have not been; return the values of each point, a seed each."""
        every = list(wanted)
        new: dict[tuple[tuple[str, float], ...], list[str]] = {}
        trials: list[tuple[TrialConfig, PlannedTrial]] = []
        for point in every:
            key = _key(point)
            if key in self._values or key in new:
                continue
            try:
                made = [self._make(point, number) for number in range(self._search.seeds)]
            except ConfigurationError as fault:
                # An expansion may leave the range of a parameter; the point is as bad as one that diverges.
                self._values[key] = [None]
                self._progress.remarks.append(f"{_written(point)} cannot be tried: {' '.join(fault.faults)}")
                continue
            new[key] = [trial.identity for trial in made]
            trials += [
                (
                    trial,
                    PlannedTrial(
                        identity=trial.identity,
                        row=self._progress.row.label,
                        seed=trial.seed,
                        role="search",
                        settings=dict(point),
                    ),
                )
                for trial in made
            ]
        if trials:
            outcomes = yield Trials(tuple(trials))
            for key, identities in new.items():
                self._values[key] = [_value(outcomes[identity], self._search.measure) for identity in identities]
        return [self._values[_key(point)] for point in every]

    def among(self, wanted: Iterable[Point]) -> list[tuple[Point, list[float | None]]]:
        """Return the points with their values."""
        return [(point, self._values[_key(point)]) for point in wanted]


def _value(outcome: Outcome, measure: str) -> float | None:
    return outcome.get(measure) if isinstance(outcome, Mapping) else None


def _key(point: Point) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(point.items()))


def _written(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} = {value:g}" for axis, value in point.items())
