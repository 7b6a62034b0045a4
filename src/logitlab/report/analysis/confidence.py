"""Sections about confidence: its calibration, the errors that it tells, the strange images that it rejects."""

from __future__ import annotations

from ..columns import Column
from ..figures.model_lines import Axis, Line, model_lines
from ..figures.panel import Panel
from ..figures.scaled_reliability import Bins, scaled_reliability
from .reading import MAIN_SCORE, Entry, Reading, alike, curves, number, numbers, ordered_scores, spoken
from .section import Group, Limits, Section, section
from .tables import Table, score_tables, table


def calibration(reading: Reading, limits: Limits) -> list[Section]:
    """Return the reliability of each model before and after temperature scaling."""
    panels: list[Panel] = []
    left_out = []
    for model, entry in reading.measured("reliability", "edges"):
        before = _bins(entry)
        if before is None:
            continue
        if len(panels) == limits.own:
            left_out.append(model.label)
            continue
        scaled = entry.get("after")
        after = _bins(scaled) if isinstance(scaled, dict) else None
        ece = reading.number(model, "calibration", "ece_before")
        ece = number(entry.get("value")) if ece is None else ece
        words = "" if ece is None else f"ECE {ece:.3f}"
        ece_after, temperature = (reading.number(model, "calibration", key) for key in ("ece_after", "temperature"))
        if words and ece_after is not None and temperature is not None:
            words += f", scaled {ece_after:.3f} at T = {temperature:.3g}"
        panels.append(scaled_reliability(f"scaled-{model.index}", model.index, model.label, before, after, words))
    return section(
        "calibration",
        "Calibration",
        "Is the confidence honest, and does scaling mend it?",
        "Thick: as the model is; dashed: after temperature scaling. On the diagonal a confidence of 80 % is right in "
        "80 % of the cases; below it the model is too sure. Grey bars: how the images spread over the confidence.",
        groups=[Group("", tuple(panels), "strip")],
        conventions=reading.conventions("reliability", "calibration"),
        left_out=left_out,
    )


def errors(reading: Reading, limits: Limits) -> list[Section]:
    """Return the measures of every confidence score with the curves behind them."""
    precision = _curves(
        reading,
        "precision_recall",
        "precision and recall",
        ("recall", "precision"),
        Axis("recall", limits=(0, 1.01)),
        Axis("precision"),
    )
    risk = _curves(
        reading,
        "risk_coverage",
        "risk and coverage",
        ("coverage", "risk"),
        Axis("coverage: share of the images that is answered", limits=(0, 1.01)),
        Axis("risk: share of these that is wrong", limits=(0, None)),
    )
    # The score that every head has stands open; the others are there for who asks.
    main = [panel for found in (precision, risk) for score, panel in found if score == MAIN_SCORE]
    main = main or [panel for found in (precision, risk) for _, panel in found[:1]]
    others = [panel for found in (precision, risk) for _, panel in found if panel not in main]
    groups = [
        Group("", tuple(main), "wide", reading.models),
        Group(
            "The same by every other score", tuple(others if limits.scores else ()), "wide", reading.models, folded=True
        ),
    ]
    return section(
        "errors",
        "Errors",
        "Does it know when it is wrong?",
        "A confidence score ranks the images. Precision: the share that is right among the surest; risk: the share "
        "that is wrong when only the surest part (the coverage) is answered. AP depends on the accuracy, so the base "
        "rate, which chance gives, stands beside it.",
        groups=groups,
        tables=[
            *score_tables(reading.misclassification(), "right answers before wrong ones"),
            *_areas(reading),
        ],
        conventions=reading.conventions("misclassification", "precision_recall", "risk_coverage"),
    )


def strange(reading: Reading) -> list[Section]:
    """Return the measures of every score on each set of strange images."""
    tables = [each for name, found in reading.strange() for each in score_tables(found, f"right answers before {name}")]
    return section(
        "strange",
        "Strange images",
        "Does it know what it has never seen?",
        "Right answers on known images are ranked before images of another kind by a confidence score; 1 is perfect, "
        "the base rate is chance, and 0.5 is chance for AUROC.",
        tables=tables,
    )


def _curves(
    reading: Reading, measure: str, title: str, keys: tuple[str, str], x_axis: Axis, y_axis: Axis
) -> list[tuple[str, Panel]]:
    """Return one chart a confidence score, with all models."""
    lines: dict[str, list[Line]] = {}
    for model, entry in reading.measured(measure):
        for score, curve in curves(entry):
            arrays = alike(curve, *keys)
            if arrays is not None:
                lines.setdefault(score, []).append(Line(model.index, model.label, *arrays))
    return [
        (
            score,
            model_lines(
                f"{measure.replace('_', '-')}-{score.replace('_', '-')}",
                f"{title} by {spoken(score)}",
                found,
                x_axis,
                y_axis,
            ),
        )
        for score, found in lines.items()
    ]


def _areas(reading: Reading) -> list[Table]:
    """Return the area under risk and coverage of every score."""
    found = [(model, dict(curves(entry))) for model, entry in reading.measured("risk_coverage")]
    scores = ordered_scores([entry for _, entry in found])
    values = [[_area(entry.get(score, {})) for _, entry in found] for score in scores]
    kept = [place for place, group in enumerate(values) if any(value is not None for value in group)]
    if not kept:
        return []
    columns = [Column(scores[place], spoken(scores[place]), False, 4) for place in kept]
    grid = table([model for model, _ in found], columns, [values[place] for place in kept], ())
    return [Table("AURC, area under risk and coverage", grid, folded=True)]


def _area(curve: Entry) -> float | None:
    area = number(curve.get("aurc"))
    return number(curve.get("value")) if area is None else area


def _bins(entry: Entry) -> Bins | None:
    arrays = alike(entry, "counts", "confidence", "accuracy")
    edges = numbers(entry.get("edges") or ())
    return Bins(edges, *arrays) if arrays is not None and edges.shape == (len(arrays[0]) + 1,) else None
