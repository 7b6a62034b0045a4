"""Sections about what models answer: agreement, ensembles, corrupted images, linear probes."""

from __future__ import annotations

from ..columns import Column
from ..figures.dendrogram import dendrogram
from ..figures.heat_map import heat_map
from ..figures.model_lines import Axis, Line, model_lines
from .reading import Reading, alike, conventions_of, number, numbers, spoken
from .section import Group, Section, section
from .tables import Table, table

_KINDS = {
    "same": "same answer",
    "both_right_or_both_wrong": "both right or both wrong",
    "same_when_both_wrong": "same answer where both are wrong",
}
_MOST_CORRUPTIONS = 24


def agreement(reading: Reading) -> list[Section]:
    """Return how often models answer alike, the tree of it, and ensembles."""
    between = reading.analysis.between
    found = between.get("agreement") or []
    matrices = [each for each in ([found] if isinstance(found, dict) else found) if _square(each)]
    panels = []
    for each in matrices:
        values = 100 * numbers(each["value"])
        low, high = _ends(values)
        kind = str(each.get("kind", "same"))
        panels.append(
            heat_map(
                f"agreement-{kind.replace('_', '-')}",
                f"{_KINDS.get(kind, spoken(kind))}, %",
                each["names"],
                each["names"],
                values,
                low=low,
                high=high,
                write=_percent,
                words=f"Colour from {low:.0f} to {high:.0f} %.",
            )
        )
    tree = between.get("clustering") or {}
    trees = []
    if tree.get("names") and tree.get("linkage"):
        cophenetic = number(tree.get("value"))
        words = "" if cophenetic is None else f"Cophenetic correlation {cophenetic:.3f}: 1 where the tree tells all."
        trees.append(
            dendrogram(
                "dendrogram",
                "models that answer alike",
                tree["names"],
                numbers(tree["linkage"]),
                reading.places,
                axis="distance: 1 − similarity",
                words=words,
            )
        )
    return [
        *section(
            "agreement",
            "Agreement",
            "Do they make the same mistakes?",
            "How often two models give the same answer. Two models with 90 % accuracy each agree on 80 % at least; "
            "models that join early in the tree are the most alike.",
            groups=[
                Group("", tuple(panels), "natural strip"),
                Group("", tuple(trees), "natural"),
            ],
            conventions=conventions_of("agreement", matrices) + conventions_of("tree", [tree]),
        ),
        *_ensembles(reading),
    ]


def corruptions(reading: Reading) -> list[Section]:
    """Return the error on each kind of corruption."""
    found = reading.measured("corruption", "by_corruption")
    names = list(dict.fromkeys(name for _, entry in found for name in entry["by_corruption"]))[:_MOST_CORRUPTIONS]
    if not names:
        return []
    columns = [Column("mean", "mean", False, 3), *(Column(name, spoken(name), False, 3) for name in names)]
    values = [[number(entry.get("value")) for _, entry in found]]
    values += [[number(entry["by_corruption"].get(name)) for _, entry in found] for name in names]
    grid = table([model for model, _ in found], columns, values, ())
    return section(
        "corruptions",
        "Corruptions",
        "Does it stand noise, blur and weather?",
        "The error on corrupted images, mean over the severities; lower is better.",
        tables=[Table("Error by corruption", grid)],
        conventions=reading.conventions("corruption"),
    )


def probes(reading: Reading) -> list[Section]:
    """Return how the accuracy of the linear probe moves with its regularisation."""
    lines = []
    for model, entry in reading.measured("probe", "strengths", "validation_accuracy"):
        arrays = alike(entry, "strengths", "validation_accuracy")
        if arrays is not None:
            lines.append(Line(model.index, model.label, arrays[0], 100 * arrays[1]))
    chart = model_lines(
        "probe",
        "accuracy on the hold-out, %",
        lines,
        Axis("λ: strength of the regularisation", log=True),
        Axis("accuracy, %"),
    )
    return section(
        "probe",
        "Linear probe",
        "Do the features serve another task?",
        "A linear classifier on these features for other data, with weak regularisation on the left and strong on the "
        "right; the λ with the best accuracy is taken. Its accuracy on the test images stands in the table on top.",
        groups=[Group("", (chart,), "wide", tuple(model for model, _ in reading.measured("probe")))],
        conventions=reading.conventions("probe"),
    )


def _ensembles(reading: Reading) -> list[Section]:
    found = reading.analysis.between.get("ensembles") or {}
    if not _square(found):
        return []
    values = 100 * numbers(found["value"])
    low, high = _ends(values, diagonal=True)
    size = found.get("size")
    members = f" of {size} models" if size else ""
    chart = heat_map(
        "ensembles",
        f"accuracy of ensembles{members}, %",
        found["names"],
        found["names"],
        values,
        low=low,
        high=high,
        write=lambda value: f"{value:.1f}",
        words=f"Colour from {low:.1f} to {high:.1f} %.",
        outlined=True,
    )
    return section(
        "ensembles",
        "Ensembles",
        "Do they help each other?",
        "Each cell is the accuracy of an ensemble by vote: half of its models have the head of the row, half that of "
        "the column; on the outlined diagonal all have the same head.",
        groups=[Group("", (chart,), "natural")],
        conventions=conventions_of("ensembles", [found]),
    )


def _square(each: object) -> bool:
    if not isinstance(each, dict) or not each.get("names"):
        return False
    count = len(each["names"])
    return count > 1 and numbers(each.get("value")).shape == (count, count)


def _ends(values: object, *, diagonal: bool = False) -> tuple[float, float]:
    """Return the ends of the colours: a model agrees with itself always, which says nothing."""
    import numpy

    assert isinstance(values, numpy.ndarray)
    shown = values.copy()
    if not diagonal:
        numpy.fill_diagonal(shown, numpy.nan)
    known = shown[numpy.isfinite(shown)]
    if not len(known):
        return 0.0, 100.0
    low, high = float(known.min()), float(known.max())
    # A hair of difference must not look like a world.
    margin = max(0.15 * (high - low), 0.5)
    return max(low - margin, 0.0), high if high > low else low + 1.0


def _percent(value: float) -> str:
    return "100" if value >= 99.95 else f"{value:.1f}"
