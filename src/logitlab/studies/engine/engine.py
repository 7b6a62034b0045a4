"""Which trials a study has: those that are known at once, and those that become known when others end.

All of it follows from the definition and from what lies in the store, so that a runner that was killed, and a second
one beside the first, come to the same trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...config.specification import Specification
from ...config.study import StudyDefinition
from ...config.study.rows import RowSpecification
from ...config.trial import TrialConfig
from ...records import OodSource, Store, has_ood
from ...records.beside import concerns, files_beside
from ...records.export import ood_measures_of
from ...records.stages import has_stage
from ...records.study import PlannedRow, PlannedTrial, StageSource, StudyPlan, flat_measures
from .making import TrialMaker
from .programs import row_program, sources_of
from .requests import Lost, Outcome, Program, Progress, Rows, Trials

#: Kinds of failures that say nothing of the trial: what ended it may not come again.
PASSING_KINDS = frozenset({"WorkerDied", "MemoryError", "OutOfMemoryError", "NodeDied", "JobDied"})


class StudyEngine:
    """Drives the programs of all rows.

    Args:
        definition: of the study.
        rows: of the table; see :func:`~logitlab.config.study.rows.unfold`.
        maker: of trials.
        store: of the records.
        ood: sets that every final trial is measured on.
        stages: of every final trial.
        retry_failed: try failed trials again, whatever made them fail.
        tell: receives a sentence now and then.
    """

    def __init__(
        self,
        definition: StudyDefinition,
        rows: Sequence[RowSpecification],
        maker: TrialMaker,
        store: Store,
        *,
        ood: Sequence[OodSource] = (),
        stages: Sequence[StageSource] = (),
        retry_failed: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._definition = definition
        self._maker = maker
        self._store = store
        self._ood = tuple(ood)
        self._stages = tuple(stages)
        self._retry_failed = retry_failed
        self._progress = {row.label: Progress(row) for row in rows}
        sources = {row.label: sources_of(row, rows) for row in rows}
        self._programs: dict[str, Program] = {
            label: row_program(progress, maker, sources[label], tell) for label, progress in self._progress.items()
        }
        self._asked: dict[str, Trials | Rows] = {}
        self._outcomes: dict[str, Outcome] = {}
        # Of a row that asked for trials: those that have not ended; and the other way round.
        self._open: dict[str, set[str]] = {}
        self._waiting: dict[str, set[str]] = {}
        self._new: list[TrialConfig] = []
        self.trials: dict[str, TrialConfig] = {}

    def start(self) -> list[TrialConfig]:
        """Begin every row; return the trials that are to be run, seed by seed."""
        for label in self._programs:
            self._advance(label, None)
        order = {label: place for place, label in enumerate(self._progress)}
        place = {
            planned.identity: (planned.seed, order[label])
            for label, progress in reversed(self._progress.items())
            for planned in progress.trials
        }
        return sorted(self._taken(), key=lambda trial: place[trial.identity])

    def ended(self, trial: TrialConfig) -> list[TrialConfig]:
        """Take note that a trial has ended; return the trials that are known, and to be run, by that."""
        identity = trial.identity
        if identity not in self.trials:
            return []
        self._outcomes[identity] = self._outcome(identity)
        for label in sorted(self._waiting.pop(identity, ())):
            self._open[label].discard(identity)
            self._look(label)
        return self._taken()

    @property
    def over(self) -> bool:
        """Whether every row has come to its end."""
        return all(progress.over for progress in self._progress.values())

    def plan(self, workers: int = 1) -> StudyPlan:
        """Return the rows and trials that are known so far."""
        rows, trials = [], []
        for label, progress in self._progress.items():
            row = progress.row
            trials += progress.trials
            rows.append(
                PlannedRow(
                    label=label,
                    entry=row.entry_label,
                    head=str(self._maker.head(row, {**row.axes, **progress.chosen})),
                    settings=self._settings(row, progress.chosen),
                    chosen=progress.chosen,
                    expected=max(progress.expected, len(progress.trials)),
                    waiting=progress.waiting,
                    blocked=progress.blocked,
                    remarks=tuple(progress.remarks),
                    paper_row=row.entry.paper_row,
                )
            )
        return StudyPlan(
            rows=tuple(rows),
            trials=tuple(trials),
            ood=tuple({"name": set.name, "title": set.title, "fingerprint": set.fingerprint} for set in self._ood),
            stages=self._stages,
            workers=workers,
        )

    def _settings(self, row: RowSpecification, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Axis → value of a row, with the parameters of its head as they are written."""
        head: Specification = self._maker.head(row, {**row.axes, **chosen})
        parameters = {f"head.{key}": value for key, value in head.parameters.items()}
        recipe = {f"training.{key}": value for key, value in row.entry.training.items()}
        return {**parameters, **recipe, **row.axes, **chosen}

    def _advance(self, label: str, answer: Any) -> None:
        """Let the program of a row go on until it asks for what is not there yet."""
        program, progress = self._programs[label], self._progress[label]
        try:
            asked = program.send(answer)
        except StopIteration:
            progress.over = True
            progress.expected = len(progress.trials) if progress.blocked is None else progress.expected
            self._end(label)
            return
        self._asked[label] = asked
        if isinstance(asked, Trials):
            self._open[label] = set()
            for trial, planned in asked.wanted:
                progress.trials.append(planned)
                self._discover(trial)
                if trial.identity not in self._outcomes:
                    self._open[label].add(trial.identity)
                    self._waiting.setdefault(trial.identity, set()).add(label)
        self._look(label)

    def _look(self, label: str) -> None:
        """Answer a row, if all that it asked for is there."""
        asked = self._asked.get(label)
        if isinstance(asked, Trials):
            if not self._open[label]:
                found = {trial.identity: self._outcomes[trial.identity] for trial, _ in asked.wanted}
                lost = [identity for identity, outcome in found.items() if isinstance(outcome, Lost)]
                if lost and any(planned.role == "search" for _, planned in asked.wanted):
                    self._stop(label, lost)
                    return
                del self._asked[label]
                self._advance(label, found)
        elif isinstance(asked, Rows) and all(self._progress[other].over for other in asked.labels):
            del self._asked[label]
            resting = [other for other in asked.labels if self._progress[other].lost]
            if resting:
                progress = self._progress[label]
                progress.lost, progress.over = self._progress[resting[0]].lost, True
                self._end(label)
                return
            self._advance(
                label,
                {
                    other: {seed: self._outcomes.get(found) for seed, found in self._progress[other].finals.items()}
                    for other in asked.labels
                },
            )

    def _stop(self, label: str, lost: list[str]) -> None:
        """Let a row rest until the same study is run again: a point that was not tried is no bad point."""
        progress = self._progress[label]
        progress.lost = lost
        progress.waiting = (
            f"{len(lost)} of the trials of its search died with their process, so nothing is chosen yet; run the study "
            "again."
        )
        progress.over = True
        self._end(label)

    def _end(self, label: str) -> None:
        """Look after the rows that wait for one that has ended."""
        for other, request in list(self._asked.items()):
            if isinstance(request, Rows) and label in request.labels:
                self._look(other)

    def _discover(self, trial: TrialConfig) -> None:
        """Look whether a trial that became known is done, has failed for good, or is to be run."""
        identity = trial.identity
        if identity in self.trials:
            return
        self.trials[identity] = trial
        if is_complete(self._store, trial, self._ood, self._stages):
            self._outcomes[identity] = self._outcome(identity)
            return
        if not self._retry_failed and self._failed_for_good(identity):
            self._outcomes[identity] = self._outcome(identity)
            return
        self._new.append(trial)

    def _failed_for_good(self, identity: str) -> bool:
        """Whether a trial, or what this study does with its model, has failed for a reason of its own."""
        failure = self._store.failure(identity)
        if failure is None or failure["error"].get("kind") in PASSING_KINDS:
            return False
        return concerns(failure["error"], files_beside(self._ood, self._stages))

    def _outcome(self, identity: str) -> Outcome:
        if not self._store.is_done(identity):
            failure = self._store.failure(identity)
            passing = failure is None or failure["error"].get("kind") in PASSING_KINDS
            return Lost() if passing else None
        return flat_measures(
            self._store.record(identity), ood_measures_of(self._store.trial_folder(identity)) if self._ood else None
        )

    def _taken(self) -> list[TrialConfig]:
        taken, self._new = self._new, []
        return taken


def is_complete(store: Store, trial: TrialConfig, ood: Sequence[OodSource], stages: Sequence[StageSource]) -> bool:
    """Say whether a trial has left its record and, for a trial of the table, all that is measured after it."""
    if not store.is_done(trial.identity):
        return False
    if not trial.measure_test:
        return True
    folder = store.trial_folder(trial.identity)
    return all(has_ood(folder, source.fingerprint) for source in ood) and all(
        has_stage(folder, stage.identity) for stage in stages
    )


def planned_trials(plan: StudyPlan) -> dict[str, PlannedTrial]:
    """Return identity → trial; one that several rows share counts once."""
    return {planned.identity: planned for planned in reversed(plan.trials)}
