"""An analysis as a table of text: a row a model, a column a measure of one number."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

from ..records.analysis import MEASURE_NAMES, AnalysedModel, Analysis

_BLANK = "–"
_HANGING: dict[str, Any] = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
_MEASURED_IN_TABLE = "max_logit"
# Measures of which a number stands in the table.
_IN_TABLE = (
    "accuracy",
    "calibration",
    "separation",
    "class_angle",
    "span_angle",
    "rank",
    "hardness",
    "hull",
    "misclassification",
    "risk_coverage",
    "probe",
    "corruption",
)


class _Column(NamedTuple):
    """Title, decimals, and what gives the number of a model."""

    title: str
    decimals: int
    number: Callable[[Analysis, AnalysedModel], Any]


def analysis_text(analysis: Analysis, width: int | None = None) -> str:
    """Write the table, the conventions, and what could not be measured.

    Args:
        analysis: of one model or more.
        width: of the terminal, in characters: a wider table goes on below itself; None for one as wide as it gets.

    Returns:
        lines, the last one ended; columns that no model has are left out.
    """
    data = analysis.data
    columns = [*_COLUMNS, *_registered_columns(analysis), *_strange_columns(analysis)]
    cells = [[_written(column, column.number(analysis, model)) for model in analysis.models] for column in columns]
    shown = [(column, cell) for column, cell in zip(columns, cells) if any(text != _BLANK for text in cell)]
    labels = ["model", *(model.label for model in analysis.models)]
    size = max(map(len, labels))
    first = [label.ljust(size) for label in labels]
    grid = []
    for column, cell in shown:
        size = max(len(column.title), *map(len, cell))
        grid.append([text.rjust(size) for text in (column.title, *cell)])
    lines = [f"{data.name}: {data.images} images ({data.part})"]
    for place, block in enumerate(_blocks(first, grid, width)):
        rows = ["  ".join(parts).rstrip() for parts in zip(*block)]
        lines += [*([""] if place else []), rows[0], "-" * max(map(len, rows)), *rows[1:]]
    for sentence in (*_conventions(analysis), *failure_lines(analysis)):
        # A long name of a file or of a layer is never broken.
        wrapped = sentence if width is None else textwrap.fill(sentence, width, **_HANGING)
        lines.append(wrapped)
    return "\n".join(lines) + "\n"


def _blocks(first: list[str], grid: list[list[str]], width: int | None) -> list[list[list[str]]]:
    """Cut columns into tables that a terminal shows without breaking their rows; each begins with the models."""
    blocks = [[first]]
    taken = len(first[0])
    for column in grid:
        size = 2 + len(column[0])
        if width is not None and taken + size > width and len(blocks[-1]) > 1:
            blocks.append([first])
            taken = len(first[0])
        blocks[-1].append(column)
        taken += size
    return blocks


def _value(measure: str, *path: str) -> Callable[[Analysis, AnalysedModel], Any]:
    """Return what looks a number up: of a measure its value, or what stands at a path inside it."""

    def number(analysis: Analysis, model: AnalysedModel) -> Any:
        found: Any = analysis.measures.get(measure, {}).get(model.label)
        for key in path or ("value",):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return number


_COLUMNS = (
    _Column("accuracy", 4, _value("accuracy")),
    _Column("NLL", 4, _value("calibration", "nll_before")),
    _Column("NLL at T", 4, _value("calibration", "nll_after")),
    _Column("ECE", 4, _value("calibration", "ece_before")),
    _Column("ECE at T", 4, _value("calibration", "ece_after")),
    _Column("T", 3, _value("calibration")),
    _Column("R²", 4, _value("separation")),
    _Column("angle", 2, _value("class_angle")),
    _Column("span", 2, _value("span_angle")),
    _Column("rank", 0, _value("rank")),
    _Column("AVH", 4, _value("hardness")),
    _Column("hull", 4, _value("hull")),
    _Column("MISS AP", 4, _value("misclassification")),
    _Column("MISS AUROC", 4, _value("misclassification", "scores", _MEASURED_IN_TABLE, "auroc")),
    _Column("AURC", 4, _value("risk_coverage")),
    _Column("probe", 4, _value("probe")),
    _Column("mCE %", 2, _value("corruption")),
    _Column("κ", 2, lambda analysis, model: model.kappa),
    _Column("κ*", 2, lambda analysis, model: model.kappa_star),
)


def _registered_columns(analysis: Analysis) -> list[_Column]:
    """Measurements that users registered: what the file has beyond LogitLab's own."""
    return [_Column(name.replace("_", " "), 4, _value(name)) for name in analysis.measures if name not in MEASURE_NAMES]


def _strange_columns(analysis: Analysis) -> list[_Column]:
    titles = dict.fromkeys(title for sets in analysis.ood.values() for title in sets)

    def number(title: str) -> Callable[[Analysis, AnalysedModel], Any]:
        def found(analysis: Analysis, model: AnalysedModel) -> Any:
            return analysis.ood.get(model.label, {}).get(title, {}).get(_MEASURED_IN_TABLE, {}).get("ap")

        return found

    return [_Column(f"OOD AP {title}", 4, number(title)) for title in titles]


def _written(column: _Column, value: Any) -> str:
    return f"{value:.{column.decimals}f}" if isinstance(value, (int, float)) else _BLANK


def _conventions(analysis: Analysis) -> list[str]:
    """How each measure of the table was computed, in a line; one for every way where models differ in it."""
    lines = []
    for name, found in analysis.measures.items():
        if name in MEASURE_NAMES and name not in _IN_TABLE:
            continue
        ways: dict[str, list[str]] = {}
        for label, entry in found.items():
            place = f"; {entry['split']}" if entry.get("split") not in (None, analysis.data.part) else ""
            ways.setdefault(f"{entry['convention']}{place}", []).append(label)
        most = max(ways.values(), key=len)
        for way, labels in ways.items():
            # The way of most models goes without their names.
            who = "" if labels is most else f" ({'; '.join(labels)})"
            lines.append(f"{name}{who}: {way}")
    return lines


def failure_lines(analysis: Analysis) -> list[str]:
    """Return a line for each reason why a model could not be measured, with all that it stood against."""
    reasons: dict[tuple[str | None, str], list[str]] = {}
    for failure in analysis.failures:
        reasons.setdefault((failure.model, failure.message), []).append(failure.measure)
    return [
        f"Not measured: {f'{model}: ' if model else ''}{', '.join(measures)}: {message}"
        for (model, message), measures in reasons.items()
    ]
