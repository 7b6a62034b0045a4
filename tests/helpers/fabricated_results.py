"""A whole study as its report reads it, made up: rows with what their seeds measured, records, searches, a paper."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from logitlab.config.study import StudyDefinition
from logitlab.records.papers import PaperCell, PaperTable
from logitlab.records.study import PlannedRow, PlannedTrial, StudyPlan, StudyResults, StudyRow, flat_measures

ACCURACY = {"measure": "test.accuracy", "title": "accuracy %", "factor": 100, "decimals": 2, "better": "higher"}
NLL = {"measure": "test.nll", "title": "NLL", "decimals": 3, "better": "lower"}


def identity_of(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def make_row(
    label: str,
    accuracy: Sequence[float | None] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    chosen: Mapping[str, Any] | None = None,
    failures: Mapping[int, str] | None = None,
    missing: Sequence[int] = (),
    entry: str | None = None,
    waiting: str | None = None,
    blocked: str | None = None,
    paper_row: str | None = None,
    **measures: Sequence[float | None],
) -> StudyRow:
    """A row with an accuracy a seed; further measures as ``nll=[…]``, keys with points in ``**{"a.b": […]}``."""
    every: dict[str, Sequence[float | None]] = {}
    if accuracy:
        every["test.accuracy"] = accuracy
    every.update({key if "." in key else f"test.{key}": values for key, values in measures.items()})
    count = max((len(values) for values in every.values()), default=0)
    seeds = {seed: {key: values[seed] for key, values in every.items()} for seed in range(count)}
    plan = PlannedRow(
        label=label,
        entry=entry or label,
        head=label.lower().replace(" ", "_"),
        settings=dict(settings or {}),
        chosen=dict(chosen or {}),
        expected=count,
        waiting=waiting,
        blocked=blocked,
        paper_row=paper_row,
    )
    return StudyRow(plan, seeds, dict(failures or {}), tuple(missing))


def make_results(rows: Sequence[StudyRow], **definition: Any) -> StudyResults:
    """A study of these rows; ``definition`` holds fields of ``StudyDefinition``."""
    fields = {
        "name": "made-up",
        "title": "A made-up study",
        "heads": [{"head": label} for label in dict.fromkeys(row.plan.entry for row in rows)] or [{"head": "softmax"}],
        **definition,
    }
    trials = [
        PlannedTrial(identity=identity_of(row.label, seed), row=row.label, seed=seed)
        for row in rows
        for seed in sorted({*row.seeds, *row.failures, *row.missing})
    ]
    plan = StudyPlan(rows=tuple(row.plan for row in rows), trials=tuple(trials))
    return StudyResults(StudyDefinition.model_validate(fields), plan, tuple(rows))


def make_paper(columns: Mapping[str, Mapping[str, Any]], name: str = "made-up-table") -> PaperTable:
    """A paper's table; a cell is a number, or (number, error, bold)."""
    cells = {}
    for column, values in columns.items():
        for row, given in values.items():
            value, error, bold = given if isinstance(given, tuple) else (given, None, False)
            printed = f"{value}" if error is None else f"{value} ± {error}"
            cells[row, column] = PaperCell(float(value), error, bold, printed, "P Table 1")
    rows = tuple(dict.fromkeys(row for row, _ in cells))
    return PaperTable(name, rows, tuple(columns), cells)


LONG = "a head with a name that no phone is wide enough for"

#: Of the example: label, κ, accuracy on our images, accuracy that the paper prints.
EXAMPLE = (
    ("softmax", None, 0.905, 95.6),
    ("κ = 1", 1.0, 0.861, 92.1),
    ("κ = 5", 5.0, 0.898, 94.8),
    ("κ = 10", 10.0, 0.909, 95.5),
    ("κ = 20", 20.0, 0.914, 95.7),
    ("κ = 40", 40.0, 0.903, 95.2),
    (LONG, None, 0.900, None),
    ("2κ*", None, 0.912, 95.8),
)

_SEARCH = {"parameters": {"training.learning_rate": {"values": [0.01, 0.1, 1.0]}}, "seeds": 2}

_DEFINITION: dict[str, Any] = {
    "name": "t-table-2",
    "title": "Temperatures of cosine softmax, and the κ that least squares finds <T Table 2>",
    "description": "Does the **best** κ follow from `κ*`?\n\n- fixed κ\n- κ = 2κ*, *chosen* by <us>\n\n"
    "| scale | images |\n| --- | --- |\n| `small` | 10,000 of Fashion-MNIST |",
    "source": "T Table 2; settings T §4",
    "scale": "small",
    "data": {"name": "fashion_mnist"},
    "heads": [
        {"head": "softmax", "search": _SEARCH},
        {"head": "cosine_softmax", "label": "κ = {head.kappa:g}", "grid": {"head.kappa": [1, 5, 10, 20, 40]}},
        {"head": "squared_error", "label": LONG},
        {
            "head": "cosine_softmax",
            "label": "2κ*",
            "depends_on": {"head.kappa": {"of": "softmax", "measure": "validation.kappa_star", "times": 2}},
        },
    ],
    "columns": [
        {**ACCURACY, "paper": "CIFAR-10"},
        NLL,
        {"measure": "test.class_separation", "title": "R²", "decimals": 3},
    ],
    "paper": {"table": "t-table-2", "title": "T Table 2", "setting": "CIFAR-10, ResNet-18, one run a number"},
    "claims": [
        {
            "text": "A small κ costs accuracy",
            "source": "T §4.1",
            "rule": "below",
            "measure": "test.accuracy",
            "rows": ["κ = 1"],
            "than": "softmax",
        },
        {
            "text": "Class separation falls with κ.",
            "rule": "decreases",
            "measure": "test.class_separation",
            "along": "head.kappa",
        },
        {"text": "2κ* is best.", "rule": "best_among", "measure": "test.accuracy", "rows": ["2κ*", "κ = 20"]},
        {"text": "The order is T's.", "rule": "paper_order", "measure": "test.accuracy", "paper": "CIFAR-10"},
    ],
    "figures": [
        {
            "title": "Accuracy and NLL along κ",
            "kind": "lines",
            "measures": ["test.accuracy", "test.nll"],
            "along": "head.kappa",
            "logarithmic": True,
        },
        {"title": "Every seed", "kind": "dots", "measures": ["test.accuracy", "test.class_separation"]},
        {
            "title": "Class separation costs accuracy",
            "kind": "scatter",
            "measures": ["test.class_separation", "test.accuracy"],
        },
    ],
}


def example(*, seeds: int = 3, epochs: int = 6, finished: bool = True) -> tuple[StudyResults, PaperTable]:
    """A study with all that a page can show: κ, a chosen κ, a search, a paper, claims, figures.

    With ``finished=False`` one trial has failed, and the chosen κ is not known yet.
    """
    draw = random.Random(0)
    rows, records, planned = [], {}, []
    for label, kappa, accuracy, _ in EXAMPLE:
        waits = label == "2κ*" and not finished
        values: dict[int, dict[str, float | None]] = {}
        failures = {}
        for seed in range(0 if waits else seeds):
            identity = identity_of(label, seed)
            planned.append(PlannedTrial(identity=identity, row=label, seed=seed))
            if label == "softmax" and seed == seeds - 1 and not finished:
                failures[seed] = "TrialError: The loss of epoch 2 is not finite: lower the learning rate."
                continue
            record = _record(draw, identity, label, seed, accuracy, epochs, kappa)
            records[identity] = record
            values[seed] = flat_measures(record)
        chosen: dict[str, Any] = {"training.learning_rate": 0.1} if label == "softmax" else {}
        if label == "2κ*" and finished:
            chosen = {"head.kappa": 24.6}
        plan = PlannedRow(
            label=label,
            entry="κ = {head.kappa:g}" if kappa is not None else label,
            head="softmax" if label == "softmax" else "cosine_softmax",
            settings={
                **({} if kappa is None else {"head.kappa": kappa}),
                "training.learning_rate": 0.05,
                **chosen,
            },
            chosen=chosen,
            expected=seeds,
            waiting="κ* of the row 'softmax' is not known yet." if waits else None,
        )
        rows.append(StudyRow(plan, values, failures))
    searched = _search(draw)
    definition = StudyDefinition.model_validate({**_DEFINITION, "seeds": seeds})
    plans = StudyPlan(rows=tuple(row.plan for row in rows), trials=(*planned, *(trial for trial, _ in searched)))
    measures = {trial.identity: found for trial, found in searched}
    paper = make_paper(
        {
            "CIFAR-10": {label: (value, 0.03, value == 95.7) for label, _, _, value in EXAMPLE if value is not None},
            "CIFAR-100": {"softmax": 79.07, "κ = 10": 78.9, "2κ*": (79.3, None, True)},
        }
    )
    return StudyResults(definition, plans, tuple(rows), records, None, measures), paper


def _search(draw: random.Random) -> list[tuple[PlannedTrial, Any]]:
    found = []
    for place, rate in enumerate((0.01, 0.1, 1.0, 0.0316227766, 0.316227766)):
        for seed in (1000, 1001):
            trial = PlannedTrial(
                identity=identity_of("search", rate, seed),
                row="softmax",
                seed=seed,
                role="search",
                settings={"training.learning_rate": rate},
            )
            value = 0.9 - 0.02 * abs(place - 1) + draw.gauss(0, 0.002)
            found.append((trial, None if rate == 1.0 and seed == 1001 else {"validation.accuracy": value}))
    return found


def _record(
    draw: random.Random, identity: str, label: str, seed: int, accuracy: float, epochs: int, kappa: float | None
) -> dict[str, Any]:
    measured = accuracy + draw.gauss(0, 0.002)
    separation = 0.3 + 0.1 * (0.91 - accuracy) + 0.01 * (kappa or 10.0) ** 0.5
    history = [
        {
            "epoch": epoch,
            "loss": 1.2 / epoch,
            "validation_loss": 1.3 / epoch + draw.gauss(0, 0.01),
            "validation_accuracy": measured - 0.3 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    return {
        "identity": identity,
        "config": {
            "data": {"name": "fashion_mnist", "validation_fraction": 0.1},
            "data_fingerprint": "ab" * 32,
            "backbone": {"name": "small_cnn", "parameters": {}},
            "head": {"name": "softmax", "parameters": {} if kappa is None else {"kappa": kappa}},
            "training": {"epochs": epochs, "learning_rate": 0.05},
            "seed": seed,
        },
        "result": {
            "test": {
                "accuracy": measured,
                "nll": None if label == LONG else 0.3 + (0.92 - measured) * 2,
                "class_separation": separation + draw.gauss(0, 0.002),
            },
            "validation": {"accuracy": measured + 0.01},
            "parameters": 123_456,
            "selected_epoch": epochs,
            "history": history,
        },
        "provenance": {
            "seconds": 12.5,
            "started": f"2026-01-0{seed + 1}T00:00:00+00:00",
            "finished": f"2026-01-0{seed + 1}T00:01:00+00:00",
            "device": "cpu",
            "versions": {"logitlab": "0.1", "torch": "2.15"},
            "warnings": ["The images are few."] if seed == 0 else [],
        },
    }
