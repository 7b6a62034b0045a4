"""The results of a study: its rows with all that their trials have left so far. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..config.errors import RecordError
from ..config.names import printable
from ..config.study import StudyDefinition
from ..records import Store, has_ood, read_ood
from ..records.analysis import ANALYSIS_FILE, Analysis, read_analysis
from ..records.beside import concerns, files_beside
from ..records.stages import has_stage, read_stage
from ..records.study import (
    ANALYSIS_FOLDER,
    PlannedTrial,
    StudyPlan,
    StudyResults,
    StudyRow,
    flat_measures,
    read_definition,
    read_plan,
    study_folder,
)
from .analysis_measures import analysis_measures

_ANEW: Final = "'logitlab study run' makes it anew."


def gather_results(root: Path | str, name: str) -> StudyResults:
    """Read a study and what its trials have left.

    Args:
        root: the folder of the trials (``--out`` of ``study run``).
        name: of the study, as its folder is called.

    Raises:
        RecordError: there is no such study, or its own files are damaged. Damaged records count as missing.
    """
    folder = study_folder(root, name)
    return results_of(Store(root), read_definition(folder), read_plan(folder), folder)


def results_of(store: Store, definition: StudyDefinition, plan: StudyPlan, folder: Path | None = None) -> StudyResults:
    """Gather what the trials of a plan have left; see :func:`gather_results`."""
    records: dict[str, Mapping[str, Any]] = {}
    measured: dict[str, dict[str, float | None]] = {}
    reasons: dict[str, str] = {}
    trials = {planned.identity: planned for planned in plan.trials}
    for identity, planned in trials.items():
        if store.is_done(identity):
            record = store.record(identity)
            if planned.role == "final":
                records[identity] = record
            measured[identity] = _measures(store, plan, planned, record)
        if (reason := _failure(store, plan, planned)) is not None:
            reasons[identity] = reason
    rows = []
    for row in plan.rows:
        finals = [planned for planned in plan.trials if planned.row == row.label and planned.role == "final"]
        rows.append(
            StudyRow(
                plan=row,
                seeds={planned.seed: measured[planned.identity] for planned in finals if planned.identity in measured},
                failures={planned.seed: reasons[planned.identity] for planned in finals if planned.identity in reasons},
                missing=tuple(
                    planned.seed
                    for planned in finals
                    if planned.identity not in measured and planned.identity not in reasons
                ),
            )
        )
    searched = {
        planned.identity: measured.get(planned.identity) for planned in trials.values() if planned.role == "search"
    }
    analysis, fault = None, ""
    if definition.analysis is not None and folder is not None:
        analysis, numbers, fault = analysis_of(plan, folder)
        for identity, found in numbers.items():
            measured.get(identity, {}).update(found)
    return StudyResults(definition, plan, tuple(rows), records, folder, searched, analysis, fault)


def analysis_of(plan: StudyPlan, folder: Path) -> tuple[Analysis | None, dict[str, dict[str, float | None]], str]:
    """Read the analysis of a study.

    Args:
        plan: of the study.
        folder: of the study.

    Returns:
        the analysis, None where there is none or it cannot be used; identity of a trial → what it says of its model;
        and why it cannot be used, in a sentence that is the same wherever the study lies.
    """
    place = folder / ANALYSIS_FOLDER
    if not (place / ANALYSIS_FILE).exists():
        return None, {}, ""
    try:
        found = read_analysis(place)
    except RecordError as fault:
        reason = str(fault).replace(f"{printable(str(place))}{os.sep}", "").replace(f"{place}{os.sep}", "")
        return None, {}, f"{reason.rstrip('.')}. {_ANEW}"
    strange = {model.identity for model in found.models} - {trial.identity for trial in plan.trials}
    if strange:
        return None, {}, f"The analysis is of other trials than the study has now. {_ANEW}"
    labels = {planned.identity: planned.row for planned in plan.trials if planned.role == "final"}
    try:
        return found, analysis_measures(found, labels), ""
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # The form of what lies between models is free; a file that somebody edited may hold anything.
        return None, {}, f"'{ANALYSIS_FILE}' is damaged: what lies between its models has another form. {_ANEW}"


def _measures(
    store: Store, plan: StudyPlan, planned: PlannedTrial, record: Mapping[str, Any]
) -> dict[str, float | None]:
    if planned.role == "search":
        return flat_measures(record)
    place = store.trial_folder(planned.identity)
    ood = {
        source.title: read_ood(place, source.fingerprint)["measures"]
        for source in plan.sources
        if has_ood(place, source.fingerprint)
    }
    stages = {}
    for stage in plan.stages:
        try:
            stages[stage.name] = read_stage(place, stage.identity)["result"]
        except RecordError:
            continue
    return flat_measures(record, ood, stages)


def _failure(store: Store, plan: StudyPlan, planned: PlannedTrial) -> str | None:
    """Why a trial, or what this study does after its training, failed; None where nothing did."""
    if _whole(store, plan, planned):
        # What another study asked of the same model, and did not get, is no fault of this one.
        return None
    failure = store.failure(planned.identity)
    if failure is None or not concerns(failure["error"], files_beside(plan.sources, plan.stages)):
        return None
    return " ".join(str(failure["error"].get("message") or failure["error"].get("kind") or "no reason given").split())


def _whole(store: Store, plan: StudyPlan, planned: PlannedTrial) -> bool:
    if not store.is_done(planned.identity):
        return False
    place = store.trial_folder(planned.identity)
    return planned.role == "search" or (
        all(has_ood(place, source.fingerprint) for source in plan.sources)
        and all(has_stage(place, stage.identity) for stage in plan.stages)
    )
