"""How the hyperparameters of each row were found: every point that was tried, and which one was taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logitlab.config.study import SearchConfig
from logitlab.records.study import StudyResults, StudyRow
from logitlab.statistics import Estimate, mean_and_error, present

from .reading import entry_of

# Places of a grid that differ by less than this share are one.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SearchPoint:
    """One point that was tried.

    Attributes:
        settings: axis → value.
        estimate: mean and standard error of what is searched for, over its seeds; None without a value.
        seeds: how many of its trials have a value.
        tried: how many trials it has.
        chosen: the final trials of the row use it.
        part: ``"coarse"``, ``"expansion"`` (outside the coarse grid) or ``"refinement"`` (between its values); empty
            where the method has no grid.
    """

    settings: Mapping[str, float]
    estimate: Estimate | None
    seeds: int
    tried: int
    chosen: bool
    part: str


@dataclass(frozen=True)
class RowSearch:
    """The search of one row.

    Attributes:
        label: of the row.
        place: of the row.
        measure: what was averaged, and which end is best.
        method: in words.
        axes: what was searched.
        points: in the order of their places on the axes.
        words: what became of it, in sentences.
    """

    label: str
    place: int
    measure: str
    method: str
    axes: tuple[str, ...]
    points: tuple[SearchPoint, ...]
    words: str


def searches(results: StudyResults) -> list[RowSearch]:
    """Gather the searches of a study, a row each, from the trials that were planned for them.

    Args:
        results: of the study.
    """
    found = []
    for place, row in enumerate(results.rows):
        search = _search_of(results, row)
        if search is not None and (points := _points(results, row, search)):
            higher = "highest" if search.better == "higher" else "lowest"
            found.append(
                RowSearch(
                    row.label,
                    place,
                    f"{search.measure}, {higher} best",
                    _method(search),
                    tuple(search.parameters),
                    tuple(points),
                    _words(row, search, points),
                )
            )
    return found


def _search_of(results: StudyResults, row: StudyRow) -> SearchConfig | None:
    entry = entry_of(results.definition, row)
    if entry is None or entry.search is None:
        return results.definition.search
    return entry.search or None


def _points(results: StudyResults, row: StudyRow, search: SearchConfig) -> list[SearchPoint]:
    trials: dict[tuple[float, ...], list[float | None]] = {}
    for planned in results.plan.trials:
        if planned.row == row.label and planned.role == "search":
            key = tuple(float(planned.settings.get(axis, math.nan)) for axis in search.parameters)
            measures = results.searched.get(planned.identity)
            value = None if measures is None else measures.get(search.measure)
            trials.setdefault(key, []).append(value if value is not None and math.isfinite(value) else None)
    points = []
    for key in sorted(trials):
        settings = dict(zip(search.parameters, key))
        kept = present(trials[key])
        points.append(
            SearchPoint(
                settings,
                mean_and_error(kept) if kept else None,
                len(kept),
                len(trials[key]),
                _is_chosen(row, settings),
                _part(search, settings),
            )
        )
    return points


def _is_chosen(row: StudyRow, settings: Mapping[str, float]) -> bool:
    chosen: list[tuple[float, Any]] = [(value, row.plan.chosen.get(axis)) for axis, value in settings.items()]
    return all(isinstance(other, (int, float)) and _same(value, other) for value, other in chosen)


def _part(search: SearchConfig, settings: Mapping[str, float]) -> str:
    if search.method != "coarse_to_fine":
        return ""
    parts = set()
    for axis, config in search.parameters.items():
        value, values = settings[axis], config.values
        if any(_same(value, other) for other in values):
            continue
        parts.add("expansion" if not values[0] < value < values[-1] else "refinement")
    # A finer grid may reach beyond the coarse one along one axis: what it is for is to refine.
    return "refinement" if "refinement" in parts else "expansion" if parts else "coarse"


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=1e-12)


def _method(search: SearchConfig) -> str:
    seeds = f"{search.seeds} seed{'s' if search.seeds != 1 else ''} a point"
    if search.method == "optuna":
        return f"Optuna's TPE sampler, {search.trials} points, {seeds}"
    return (
        f"coarse to fine, {seeds}, {_times(search.refinements, 'refinement')}, "
        f"at most {_times(search.expansions, 'expansion')}"
    )


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _words(row: StudyRow, search: SearchConfig, points: Sequence[SearchPoint]) -> str:
    parts = [f"{_times(len(points), 'point')} with {_times(sum(point.tried for point in points), 'trial')} in all"]
    for name in ("expansion", "refinement"):
        count = sum(point.part == name for point in points)
        if count:
            parts.append(f"{count} of the points by {name}")
    sentences = [f"{', '.join(parts)}."]
    taken = [point for point in points if point.chosen]
    if not taken:
        sentences.append("Nothing is chosen yet." if row.plan.blocked is None else f"{row.plan.blocked}")
        return " ".join(sentences)
    for axis, config in search.parameters.items():
        value, tried = taken[0].settings[axis], [point.settings[axis] for point in points]
        for end, low_or_high in ((min(tried), config.low), (max(tried), config.high)):
            if _same(value, end) and not (low_or_high is not None and _same(value, low_or_high)):
                sentences.append(f"The chosen {axis} = {value:g} lies on the edge of what was tried.")
    return " ".join(sentences)
