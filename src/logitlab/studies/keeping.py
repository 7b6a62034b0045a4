"""A comparison, kept as the study that it is: what looks at studies and continues them knows it as well."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.specification import Specification
from ..config.study import StudyDefinition
from ..config.trial import ComponentConfig, TrialConfig
from ..records.study import PlannedRow, PlannedTrial, StudyPlan, study_folder, write_definition, write_plan
from .plan import Plan

#: What the last comparison in a folder is called.
COMPARISON_NAME = "compare"


def keep_plan(plan: Plan, folder: Path, plugins: Sequence[str] = ()) -> None:
    """Write the study of a comparison; a folder that takes no files does without.

    Args:
        plan: of the comparison.
        folder: of the records.
        plugins: as the user named them.
    """
    with suppress(OSError):
        place = study_folder(folder, COMPARISON_NAME)
        write_definition(place, _definition(plan, plugins))
        write_plan(place, _plan(plan))


def _definition(plan: Plan, plugins: Sequence[str]) -> StudyDefinition:
    first = plan.trials[0]
    heads: dict[str, dict[str, Any]] = {}
    for trial in plan.trials:
        heads.setdefault(_written(trial.head), {"head": _written(trial.head)})
    values: dict[str, Any] = {
        "name": COMPARISON_NAME,
        "title": f"Heads on {first.data.name}",
        "plugins": tuple(dict.fromkeys([*plugins, *plan.plugins])),
        "data": first.data,
        "backbone": _written(first.backbone),
        "training": first.training,
        "heads": tuple(heads.values()),
        "seeds": tuple(dict.fromkeys(trial.seed for trial in plan.trials)),
        "stages": ({"name": "ood", "options": {"sets": [source.name for source in plan.ood]}},) if plan.ood else (),
    }
    return StudyDefinition.model_validate(values)


def _plan(plan: Plan) -> StudyPlan:
    rows: dict[str, list[TrialConfig]] = {}
    for trial in plan.trials:
        rows.setdefault(_written(trial.head), []).append(trial)
    return StudyPlan(
        rows=tuple(
            PlannedRow(
                label=label,
                entry=label,
                head=label,
                settings={f"head.{key}": value for key, value in trials[0].head.parameters.items()},
                expected=len(trials),
            )
            for label, trials in rows.items()
        ),
        trials=tuple(
            PlannedTrial(identity=trial.identity, row=_written(trial.head), seed=trial.seed) for trial in plan.trials
        ),
        ood=tuple(
            {"name": source.name, "title": source.title, "fingerprint": source.fingerprint} for source in plan.ood
        ),
    )


def _written(component: ComponentConfig) -> str:
    return str(Specification(component.name, component.parameters))
