"""The rows of a study as its report reads them: what is whole, what lacks, what stands on an axis, what compares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logitlab.config.names import nearest_name
from logitlab.config.study import ColumnConfig, EntryConfig, StudyDefinition
from logitlab.records.study import StudyResults, StudyRow
from logitlab.report.columns import COLUMNS, OOD_KEY
from logitlab.statistics import present
from logitlab.statistics.verdicts import Group

from .plain_text import one_line

#: Digits of a measure that no column of the table shows.
_DECIMALS = 4


@dataclass(frozen=True)
class RowGroup:
    """Rows whose numbers may be compared: they stand at the same values of the study's own grid, on the same images.

    Attributes:
        name: what tells them from other groups, such as ``"data = cifar10"``; empty where there is one group alone.
        rows: in the order of the table.
    """

    name: str
    rows: tuple[StudyRow, ...]


def columns_of(results: StudyResults) -> tuple[ColumnConfig, ...]:
    """Return the columns of the table: those of the definition, else those of a comparison that some trial has."""
    if results.definition.columns:
        return results.definition.columns
    measured = measures_of(results)
    found = []
    for column in COLUMNS:
        better = {True: "higher", False: "lower", None: None}[column.higher_is_better]
        keys = [column.key if column.key == "seconds" else f"test.{column.key}"]
        titles = [column.heading]
        if column.key == OOD_KEY:
            keys = [key for key in measured if key.startswith("ood.") and key.endswith(".max_logit_ap")]
            titles = [f"{column.heading} {key.removeprefix('ood.').removesuffix('.max_logit_ap')}" for key in keys]
        for key, title in zip(keys, titles):
            if key in measured or column.key == "accuracy":
                found.append(
                    ColumnConfig.model_validate(
                        {
                            "measure": key,
                            "title": title,
                            "factor": column.scale,
                            "decimals": column.decimals,
                            "better": better,
                        }
                    )
                )
    return tuple(found)


def column_of(results: StudyResults, measure: str) -> ColumnConfig:
    """Return how a measure is written: as the table does, else as the columns of a comparison do."""
    for column in columns_of(results):
        if column.measure == measure:
            return column
    part, _, key = measure.partition(".")
    for known in COLUMNS:
        if known.key == key and part in ("test", "validation"):
            better = {True: "higher", False: "lower", None: None}[known.higher_is_better]
            title = known.heading if part == "test" else f"{known.heading}, validation"
            return ColumnConfig.model_validate(
                {
                    "measure": measure,
                    "title": title,
                    "factor": known.scale,
                    "decimals": known.decimals,
                    "better": better,
                }
            )
    return ColumnConfig(measure=measure, title=measure, decimals=_DECIMALS)


def measures_of(results: StudyResults) -> tuple[str, ...]:
    """Return the keys of all measures that some finished trial has, in order of appearance."""
    return tuple(dict.fromkeys(key for row in results.rows for measures in row.seeds.values() for key in measures))


def unknown_measure(results: StudyResults, measure: str) -> str | None:
    """Say that no finished trial has a measure, and which one it may mean; None where one has, or none has finished."""
    known = measures_of(results)
    if not known or measure in known:
        return None
    suggestion = nearest_name(measure, known)
    return f"no trial has measured '{measure}'" + (f"; did you mean '{suggestion}'?" if suggestion else "")


def finite_values(row: StudyRow, measure: str) -> dict[int, float | None]:
    """Return seed → value; None where it is undefined, NaN or infinite."""
    return {
        seed: float(value) if value is not None and math.isfinite(value) else None
        for seed, value in sorted(row.values(measure).items())
    }


def group_of(row: StudyRow, measure: str) -> Group:
    """Return a row as the rules take it."""
    reason = lacking(row)
    if reason is None and (without := [seed for seed, measures in row.seeds.items() if measure not in measures]):
        reason = f"{seeds_text(without)} {'has' if len(without) == 1 else 'have'} not measured {measure}"
    return Group(row.label, finite_values(row, measure), reason)


def lacking(row: StudyRow) -> str | None:
    """Say in a clause why a row is not whole; None where all of its trials have finished."""
    if row.plan.blocked is not None:
        return f"blocked: {one_line(row.plan.blocked)}"
    if row.plan.waiting is not None:
        return f"waits: {one_line(row.plan.waiting)}"
    parts = []
    if row.failures:
        reason = one_line(next(iter(row.failures.values())))
        parts.append(f"{seeds_text(row.failures)} failed ({reason})")
    if row.missing:
        parts.append(f"{seeds_text(row.missing)} {'has' if len(row.missing) == 1 else 'have'} no result yet")
    if not parts and not row.seeds:
        parts.append("no trial has finished")
    return ", ".join(parts) or None


def expected_seeds(row: StudyRow) -> int:
    """How many final trials a row is known to have."""
    return len({*row.seeds, *row.failures, *row.missing})


def seeds_text(seeds: Iterable[int]) -> str:
    """Name seeds.

    >>> seeds_text([1]), seeds_text([2, 0])
    ('seed 1', 'seeds 0, 2')
    """
    ordered = sorted(seeds)
    return f"seed{'s' if len(ordered) != 1 else ''} {', '.join(map(str, ordered))}"


def resolve(results: StudyResults, labels: Sequence[str]) -> tuple[list[StudyRow], list[str]]:
    """Find rows by their labels, or all rows of an entry by the entry's.

    Returns:
        the rows, each once; and a clause for each label that is neither a row's nor an entry's.
    """
    found: dict[str, StudyRow] = {}
    faults = []
    known = {row.label: row for row in results.rows}
    for label in labels:
        rows = [known[label]] if label in known else [row for row in results.rows if row.plan.entry == label]
        found.update({row.label: row for row in rows})
        if not rows:
            suggestion = nearest_name(label, known)
            faults.append(f"there is no row '{label}'" + (f"; did you mean '{suggestion}'?" if suggestion else ""))
    return list(found.values()), faults


def axis_value(results: StudyResults, row: StudyRow, axis: str) -> float | None:
    """Return where a row stands on an axis; the mean where each seed has a place of its own; None without a number."""
    if axis in row.plan.chosen or axis in row.plan.settings:
        return _number(row.plan.chosen.get(axis, row.plan.settings.get(axis)))
    found = [
        _number(trial.settings.get(axis))
        for trial in results.plan.trials
        if trial.row == row.label and trial.role == "final"
    ]
    known = present(found)
    return sum(known) / len(known) if known and len(known) == len(found) else None


def is_chosen(row: StudyRow, axis: str) -> bool:
    """Whether the place of a row on an axis was chosen within the study: by a search, or by another row."""
    return axis in row.plan.chosen or axis not in row.plan.settings


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def will_stand_on(results: StudyResults, row: StudyRow, axis: str) -> bool:
    """Whether a row has, or will have once it is chosen, a place on an axis."""
    if axis_value(results, row, axis) is not None:
        return True
    if row.plan.waiting is None and row.plan.blocked is None:
        return False
    entry = entry_of(results.definition, row)
    if entry is None:
        return False
    search = results.definition.search if entry.search is None else entry.search
    return axis in entry.depends_on or bool(search and axis in search.parameters)


def entry_of(definition: StudyDefinition, row: StudyRow) -> EntryConfig | None:
    """Return the entry that made a row, by its label or its head; None where several might have."""
    found = [each for each in definition.heads if row.plan.entry in (each.label, each.head)]
    return found[0] if len(found) == 1 else None


def row_groups(results: StudyResults, along: str | None = None) -> tuple[RowGroup, ...]:
    """Gather rows that compare: what differs between groups is the images, or an axis of the study's own grid.

    Args:
        results: of the study.
        along: an axis along which rows are looked at, which therefore keeps none of them apart.
    """
    groups: dict[tuple[tuple[str, str], ...], list[StudyRow]] = {}
    for row in results.rows:
        settings = {**row.plan.settings, **row.plan.chosen}
        apart = [
            (axis, str(settings[axis]))
            for axis in settings
            if axis != along and (axis in results.definition.grid or axis.split(".")[0] == "data")
        ]
        groups.setdefault(tuple(sorted(apart)), []).append(row)
    if len(groups) == 1:
        return tuple(RowGroup("", tuple(rows)) for rows in groups.values())
    return tuple(
        RowGroup(", ".join(f"{axis} = {value}" for axis, value in apart) or "the other rows", tuple(rows))
        for apart, rows in groups.items()
    )


def places(results: StudyResults) -> Mapping[str, int]:
    """Return label → place of a row, which gives it its colour and mark all over the page."""
    return {row.label: place for place, row in enumerate(results.rows)}


def setting_text(results: StudyResults, *, scale: bool = True) -> str:
    """Say in a line on what our numbers were measured: images, backbone, scale unless it is said beside, seeds."""
    definition = results.definition
    parts = [_values(results, "data", str(definition.data.name), "data sets")]
    parts.append(_values(results, "backbone", definition.backbone, "backbones"))
    if scale and definition.scale is not None:
        parts.append(f"scale {definition.scale}")
    counts = sorted({len(row.seeds) for row in results.rows if row.seeds})
    if not counts:
        parts.append("no seed yet")
    else:
        written = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(f"{written} seed{'' if counts == [1] else 's'}")
    return ", ".join(parts)


def _values(results: StudyResults, axis: str, default: str, several: str) -> str:
    found: list[Any] = list(
        dict.fromkeys(str(row.plan.settings[axis]) for row in results.rows if axis in row.plan.settings)
    )
    if len(found) > 1:
        return f"{len(found)} {several}" if len(found) > 3 else " | ".join(found)
    name = found[0] if found else default
    if axis != "data":
        return str(name)
    # A path names the folder of a user; its last part says enough in a heading.
    return str(name).rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or str(name)
