"""How far the studies below a folder are, without reading what they measured. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..config.errors import RecordError
from ..config.names import printable
from ..records.beside import files_beside
from ..records.claims import Holder
from ..records.study import PlannedTrial, StudyPlan, list_studies, read_definition, read_plan, study_folder
from .scanning import Findings, sample_seconds, scan, trial_names

#: How many failed trials of one cause are named.
_EXAMPLES: Final = 3
#: What trials of no row stand under.
_NO_ROW: Final = ""


@dataclass(frozen=True)
class RunningTrial:
    """A trial that a process holds.

    Attributes:
        identity: of the trial.
        row: its row; None for a trial of no study.
        seed: of the trial; None likewise.
        role: ``"final"`` or ``"search"``; None likewise.
        host: the machine; None where the claim does not tell.
        pid: the process there.
        seconds: since the claim was made, by the clocks of that machine and of this one; None where it does not tell.
    """

    identity: str
    row: str | None
    seed: int | None
    role: str | None
    host: str | None
    pid: int | None
    seconds: float | None


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed for one reason.

    Attributes:
        cause: its kind and the first line of it.
        count: how many trials.
        examples: the first few of them.
    """

    cause: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class RowStatus:
    """How far a row of the table is.

    Attributes:
        label: of the row.
        done: trials that left all that is asked for.
        running: trials that a process holds.
        failed: trials whose last attempt failed.
        left: trials that nobody has begun, those that are sure to come included.
        waiting: why not all of its trials are known; None where they are.
        blocked: why they never will be; None otherwise.
        seconds_a_trial: mean of its latest records; None before the first.
    """

    label: str
    done: int
    running: int
    failed: int
    left: int
    waiting: str | None
    blocked: str | None
    seconds_a_trial: float | None


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes:
        name: of the study's folder; None for trials that belong to none.
        title: of the study.
        done: trials that left all that is asked for.
        failed: trials whose last attempt failed.
        left: trials that nobody has begun, or that were interrupted. What a blocked row will never have is none.
        running: trials that a process holds.
        rows: of the table, in its order.
        failures: the reasons, the most frequent first.
        unread: failures beyond those that were read for their reason.
        workers: trials at a time: of the last runner, or as many as run now.
        seconds_a_trial: mean of the latest records; None before the first.
        seconds_left: an estimate, stages left out; 0 where nothing is left, None while nothing is known.
    """

    name: str | None
    title: str
    done: int
    failed: int
    left: int
    running: tuple[RunningTrial, ...]
    rows: tuple[RowStatus, ...]
    failures: tuple[FailureGroup, ...]
    unread: int
    workers: int
    seconds_a_trial: float | None
    seconds_left: float | None

    @property
    def total(self) -> int:
        """All trials that are known or sure to come."""
        return self.done + self.failed + self.left + len(self.running)


def study_status(root: Path | str, name: str) -> StudyStatus:
    """Say how far a study is.

    Args:
        root: of the store.
        name: of the study's folder.

    Raises:
        RecordError: its plan is missing or damaged.
        OSError: the file system refuses.
    """
    folder = study_folder(root, name)
    plan = read_plan(folder)
    try:
        title = read_definition(folder).title
    except RecordError:
        # The plan alone says what is to be counted.
        title = ""
    beside = files_beside(plan.sources, plan.stages)
    found = scan(
        Path(root) / "trials", {trial.identity: beside if trial.role == "final" else () for trial in plan.trials}
    )
    return _summary(found, plan, name, title)


def trials_status(root: Path | str) -> StudyStatus:
    """Say what has become of all trials below a folder, whatever study they belong to.

    Raises:
        OSError: the file system refuses.
    """
    folder = Path(root) / "trials"
    return _summary(
        scan(folder, dict.fromkeys(trial_names(folder), ())), StudyPlan(rows=(), trials=(), workers=1), None, ""
    )


def all_status(root: Path | str, names: Sequence[str] | None = None) -> list[StudyStatus]:
    """Say how far the studies below a folder are; one without studies counts as one of trials.

    Args:
        root: of the store.
        names: of studies; None for all.

    Raises:
        RecordError: a plan is damaged.
        OSError: the file system refuses.
    """
    chosen = list_studies(root) if names is None else names
    return [study_status(root, name) for name in chosen] if chosen else [trials_status(root)]


def _summary(found: Findings, plan: StudyPlan, name: str | None, title: str) -> StudyStatus:
    members: dict[str, list[str]] = {row.label: [] for row in plan.rows}
    for trial in plan.trials:
        members.setdefault(trial.row, []).append(trial.identity)
    # Rows may share a trial, which is run once: it counts for the first.
    planned = {trial.identity: trial for trial in reversed(plan.trials)}
    sample = sample_seconds(found, members or {_NO_ROW: found.done})
    seconds = {label: mean for label, taken in sample.items() if (mean := _mean(taken)) is not None}
    # Trials that a search or another row is sure to bring.
    coming = {row.label: 0 if row.blocked else max(row.expected - len(members[row.label]), 0) for row in plan.rows}
    left, failed = set(found.left), {*found.failed, *found.unread}
    rows = tuple(
        RowStatus(
            label=row.label,
            done=sum(identity in found.done for identity in members[row.label]),
            running=sum(identity in found.running for identity in members[row.label]),
            failed=sum(identity in failed for identity in members[row.label]),
            left=sum(identity in left for identity in members[row.label]) + coming[row.label],
            waiting=row.waiting,
            blocked=row.blocked,
            seconds_a_trial=seconds.get(row.label),
        )
        for row in plan.rows
    )
    running = tuple(_running(identity, planned.get(identity), held) for identity, held in found.running.items())
    ahead = Counter(planned[identity].row if identity in planned else _NO_ROW for identity in found.left)
    ahead.update(coming)
    workers = max(plan.workers, len(running))
    overall = _mean(seconds.values())
    return StudyStatus(
        name=name,
        title=title,
        done=len(found.done),
        failed=len(failed),
        left=ahead.total(),
        running=running,
        rows=rows,
        failures=_groups(found.failed, planned),
        unread=len(found.unread),
        workers=workers,
        seconds_a_trial=overall,
        seconds_left=_seconds_left(ahead, running, seconds, overall, workers),
    )


def _seconds_left(
    ahead: Mapping[str, int],
    running: Sequence[RunningTrial],
    seconds: Mapping[str, float],
    overall: float | None,
    workers: int,
) -> float | None:
    """Estimate how long the rest takes: each trial as long as those of its row, or as all before its row's first."""
    each = [(seconds.get(row, overall), count) for row, count in ahead.items() if count]
    begun = [(seconds.get(trial.row or _NO_ROW, overall), trial.seconds or 0.0) for trial in running]
    if not each and not begun:
        return 0.0
    if overall is None:
        return None
    rest = [max((mean or 0.0) - passed, 0.0) for mean, passed in begun]
    work = math.fsum([*((mean or 0.0) * count for mean, count in each), *rest])
    # Many workers do not make the last trial shorter.
    return max(work / workers, max([*(mean or 0.0 for mean, _ in each), *rest]))


def _running(identity: str, trial: PlannedTrial | None, held: Holder) -> RunningTrial:
    return RunningTrial(
        identity=identity,
        row=None if trial is None else trial.row,
        seed=None if trial is None else trial.seed,
        role=None if trial is None else trial.role,
        host=held.host,
        pid=held.pid,
        seconds=_age(held.since),
    )


def _age(since: str | None) -> float | None:
    try:
        began = datetime.fromisoformat(since or "")
        return max((datetime.now(UTC) - began).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _groups(failed: Mapping[str, Mapping[str, Any]], planned: Mapping[str, PlannedTrial]) -> tuple[FailureGroup, ...]:
    groups: dict[str, list[str]] = {}
    for identity, error in failed.items():
        trial = planned.get(identity)
        groups.setdefault(_cause(error), []).append(f"{trial.row}, seed {trial.seed}" if trial else identity)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return tuple(FailureGroup(cause, len(names), tuple(names[:_EXAMPLES])) for cause, names in ordered)


def _cause(error: Mapping[str, Any]) -> str:
    r"""Return the first line of why a trial failed.

    >>> _cause({"kind": "TrialError", "message": "The loss is nan.\nAt step 3."})
    'TrialError: The loss is nan.'
    """
    kind = str(error.get("kind") or "")
    lines = str(error.get("message") or "").strip().splitlines()
    text = ": ".join(part for part in (kind, lines[0].strip() if lines else "") if part)
    return printable(text) or "no reason is known; its error.json cannot be read"


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return math.fsum(found) / len(found) if found else None
