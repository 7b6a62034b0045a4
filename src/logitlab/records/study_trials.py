"""The trials of a study with all that they have left, one by one, for exporters. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ..config.errors import RecordError
from ..config.names import printable
from .export import Row, rows_of
from .ood import read_ood
from .stages import read_stage
from .store import Store
from .study import PlannedRow, PlannedTrial, StudyPlan, flat_measures


@dataclass(frozen=True)
class StudyTrial:
    """A trial that has ended.

    Attributes:
        study: name of the study.
        plan: its place in it.
        axes: axis → value: all that tells its row from others, what was chosen for it, and the point of the search.
        record: of a finished trial (see :class:`~logitlab.records.Record`), or the failure of another.
        ood: title of a set → its measures.
        stages: name of a stage → its result.
        analysis: what the analysis of its study says of its model: key → number.
    """

    study: str
    plan: PlannedTrial
    axes: Mapping[str, Any]
    record: Mapping[str, Any] = field(repr=False)
    ood: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict, repr=False)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    analysis: Mapping[str, float | None] = field(default_factory=dict, repr=False)

    @property
    def failed(self) -> bool:
        """Whether it left no record."""
        return "error" in self.record

    @property
    def title(self) -> str:
        """Row, seed and, for a trial of a search, that it is one: what lists of runs call it."""
        role = "" if self.plan.role == "final" else f", {self.plan.role}"
        return f"{self.plan.row}, seed {self.plan.seed}{role}"

    @property
    def measures(self) -> dict[str, float | None]:
        """Every number that it measured under one key each; empty for a failed one."""
        return {} if self.failed else {**flat_measures(self.record, self.ood, self.stages), **self.analysis}

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """What each epoch measured; empty for a failed one."""
        found = self.record.get("result", {}).get("history") or ()
        return [epoch for epoch in found if isinstance(epoch, Mapping) and isinstance(epoch.get("epoch"), int)]


def gather_trials(root: Path, study: str, plan: StudyPlan) -> tuple[list[StudyTrial], list[str]]:
    """Return the ended trials of a study, with what their stages and OOD sets measured.

    Args:
        root: of the store.
        study: name of the study.
        plan: its trials.

    Returns:
        the trials in the order of the plan, finished and failed; and a sentence for each file that is damaged.
    """
    store = Store(root)
    rows = {row.label: row for row in plan.rows}
    found: list[StudyTrial] = []
    damage: list[str] = []
    for planned in plan.trials:
        record = _outcome(store, planned.identity, damage)
        if record is None:
            continue
        folder = store.trial_folder(planned.identity)
        measured = planned.role == "final" and "error" not in record
        found.append(
            StudyTrial(
                study,
                planned,
                axes_of(rows.get(planned.row), planned),
                record,
                _ood(folder, plan, damage) if measured else {},
                _stages(folder, plan, damage) if measured else {},
            )
        )
    return found, list(dict.fromkeys(damage))


def axes_of(row: PlannedRow | None, trial: PlannedTrial) -> dict[str, Any]:
    """Return axis → value of a trial: its row's settings, what was chosen for the row, and its own.

    The values that a search chose belong to the final trials alone; each trial of the search has a point of its own.
    """
    settings = {} if row is None else dict(row.settings)
    chosen = {} if row is None or trial.role == "search" else row.chosen
    return {**settings, **chosen, **trial.settings}


def study_rows(trials: Sequence[StudyTrial]) -> list[Row]:
    """Flatten trials, a row each: their place in the study, their axes, every number, and all of their records.

    What the columns ``study``, ``row``, ``role`` and ``AXIS`` do not say is as in
    :func:`~logitlab.records.export.rows_of`.
    """
    rows = []
    # Every axis has its column in front, whichever trial has it first.
    axes: Row = dict.fromkeys(axis for trial in trials for axis in trial.axes)
    for trial in trials:
        head = {"study": trial.study, "row": trial.plan.row, "role": trial.plan.role}
        (flat,) = rows_of([{**trial.record, "ood": trial.ood}])
        # An axis may be called as a column of the record is ("backbone"), which says no less.
        rows.append({**head, **axes, **_cells(trial.axes), **flat, **trial.measures})
    return rows


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether a value is a finite number, and no truth value.

    >>> is_number(0.5), is_number(True), is_number(float("nan")), is_number(None)
    (True, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _cells(axes: Mapping[str, Any]) -> Row:
    return {
        axis: value if value is None or isinstance(value, (bool, int, float)) else printable(str(value))
        for axis, value in axes.items()
    }


def _outcome(store: Store, identity: str, damage: list[str]) -> dict[str, Any] | None:
    try:
        return store.record(identity)
    except RecordError as fault:
        if (store.trial_folder(identity) / "record.json").exists():
            damage.append(str(fault))
    return store.failure(identity)


def _ood(folder: Path, plan: StudyPlan, damage: list[str]) -> dict[str, dict[str, float | None]]:
    found = {}
    for source in plan.sources:
        try:
            found[source.title] = read_ood(folder, source.fingerprint)["measures"]
        except RecordError as fault:
            _note(fault, damage)
    return found


def _stages(folder: Path, plan: StudyPlan, damage: list[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for stage in plan.stages:
        try:
            result = read_stage(folder, stage.identity)["result"]
        except RecordError as fault:
            _note(fault, damage)
            continue
        # One stage may run twice, with other options.
        found[stage.name if stage.name not in found else f"{stage.name} {stage.identity[:8]}"] = result
    return found


def _note(fault: RecordError, damage: list[str]) -> None:
    # What was not measured yet is no damage.
    if not str(fault).startswith("There is no "):
        damage.append(str(fault))
