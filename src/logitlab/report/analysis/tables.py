"""The tables of an analysis: every number of every model, and its confidence scores one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from logitlab.records.analysis import MEASURE_NAMES

from ..columns import Column
from ..sections import Cell, Grid
from .reading import MAIN_SCORE, Model, Reading, number, ordered_scores, spoken

Read = Callable[[Reading, Model], float | None]


@dataclass(frozen=True)
class Scalar:
    """One column of the first table.

    Attributes:
        column: heading, direction and decimals.
        read: finds the number of a model.
        meaning: one sentence for the list below the table.
    """

    column: Column
    read: Read
    meaning: str = ""


def _of(measure: str, *path: str) -> Read:
    return lambda reading, model: reading.number(model, measure, *path)


def _accuracy(reading: Reading, model: Model) -> float | None:
    measured = reading.number(model, "accuracy", "value")
    if measured is None:
        kept = next(each for each in reading.analysis.models if each.label == model.label)
        return number(kept.accuracy)
    return measured


def _kappa_star(reading: Reading, model: Model) -> float | None:
    return number(next(each for each in reading.analysis.models if each.label == model.label).kappa_star)


def _miss(key: str) -> Read:
    return lambda reading, model: reading.number(model, "misclassification", "scores", MAIN_SCORE, key)


#: Every number that a model may have, in the order of the table.
SCALARS: tuple[Scalar, ...] = (
    Scalar(Column("accuracy", "accuracy %", True, 2, scale=100), _accuracy),
    Scalar(Column("top5", "top-5 %", True, 2, scale=100), _of("accuracy", "details", "top5")),
    Scalar(Column("balanced", "balanced %", True, 2, scale=100), _of("accuracy", "details", "balanced")),
    Scalar(Column("nll", "NLL", False, 3), _of("calibration", "nll_before")),
    Scalar(Column("ece", "ECE", False, 3), _of("calibration", "ece_before")),
    Scalar(
        Column("temperature", "T", None, 3),
        _of("calibration", "temperature"),
        "T: the temperature that the logits are divided by so that the NLL is least; 1 where none is needed.",
    ),
    Scalar(
        Column("nll_after", "NLL scaled", False, 3),
        _of("calibration", "nll_after"),
        "NLL scaled, ECE scaled: the same after division by T.",
    ),
    Scalar(Column("ece_after", "ECE scaled", False, 3), _of("calibration", "ece_after")),
    Scalar(
        Column("separation", "R²", None, 3),
        _of("separation", "value"),
        "R²: how far classes lie apart in the features; large values go with worse transfer to other tasks.",
    ),
    Scalar(Column("kappa", "κ", None, 2), lambda _, model: model.kappa),
    Scalar(
        Column("kappa_star", "κ*", None, 2), _kappa_star, "κ*: the κ that least squares finds for each image, its mean."
    ),
    Scalar(
        Column("class_angle", "class angle", None, 2, unit="°"),
        _of("class_angle", "value"),
        "Class angle: between a feature and the weight of its class, degrees.",
    ),
    Scalar(
        Column("span_angle", "span angle", None, 2, unit="°"),
        _of("span_angle", "value"),
        "Span angle: between a feature and the space that the class weights span, degrees; 0 where the features hold "
        "nothing that the classes do not ask for.",
    ),
    Scalar(
        Column("rank", "rank", None, 0),
        _of("rank", "value"),
        "Rank: how many directions the features use, by the rule of the section below.",
    ),
    Scalar(
        Column("miss_ap", "MISS AP", True, 4),
        _miss("ap"),
        "MISS AP: right answers ranked before wrong ones by max logit; MISS base: what chance gives, which is the "
        "accuracy.",
    ),
    Scalar(Column("miss_auroc", "MISS AUROC", True, 4), _miss("auroc")),
    Scalar(Column("miss_base", "MISS base", None, 3), _miss("base_rate")),
    Scalar(
        Column("ood_ap", "OOD AP", True, 4),
        lambda reading, model: reading.ood_mean(model, "ap"),
        "OOD AP: right answers ranked before strange images by max logit, mean over the sets of strange images.",
    ),
    Scalar(Column("ood_auroc", "OOD AUROC", True, 4), lambda reading, model: reading.ood_mean(model, "auroc")),
    Scalar(Column("hardness", "AVH", False, 3), _of("hardness", "value"), "AVH: angular visual hardness, mean."),
    Scalar(
        Column("hull", "hull residual", None, 3),
        _of("hull", "value"),
        "Hull residual: half the squared distance of a feature's direction to the hull of the class weights, mean.",
    ),
    Scalar(
        Column("probe", "probe accuracy %", True, 2, scale=100),
        _of("probe", "value"),
        "Probe accuracy: of a linear classifier on these features for other data.",
    ),
    Scalar(
        Column("corruption", "corruption error", False, 3),
        _of("corruption", "value"),
        "Corruption error: mean over the corruptions; its section says relative to what.",
    ),
)

_IN_CARD = ("separation", "rank", "span_angle", "miss_ap", "ood_ap", "probe")

#: Those of the specialise–generalise card.
CARD = tuple(scalar for key in _IN_CARD for scalar in SCALARS if scalar.column.key == key)


@dataclass(frozen=True)
class Table:
    """A table with its heading.

    Attributes:
        title: what it holds.
        grid: headings and rows.
        folded: whether the page opens with it closed.
    """

    title: str
    grid: Grid
    folded: bool = False


def scalar_table(reading: Reading) -> Grid:
    """Return every number that some model has, a row a model."""
    shown, notes, columns = [], [], []
    for scalar in (*SCALARS, *_registered(reading)):
        values = [scalar.read(reading, model) for model in reading.models]
        if any(value is not None for value in values):
            shown.append(values)
            columns.append(scalar.column)
            if scalar.meaning:
                notes.append(scalar.meaning)
    return table(reading.models, columns, shown, tuple(notes))


def _registered(reading: Reading) -> list[Scalar]:
    """Measurements that users registered: what the file has beyond LogitLab's own."""
    found = []
    for name in reading.analysis.measures:
        if name in MEASURE_NAMES:
            continue
        ways = dict.fromkeys(way for _, way in reading.conventions(name))
        meaning = f"{spoken(name)}: {'; '.join(ways)}." if ways else ""
        found.append(Scalar(Column(name, spoken(name), None, 4), _of(name, "value"), meaning))
    return found


def table(
    models: Sequence[Model], columns: Sequence[Column], values: Sequence[Sequence[float | None]], notes: tuple[str, ...]
) -> Grid:
    """Return a sortable table.

    Args:
        models: the rows.
        columns: what each column is.
        values: one list a column, one value a model; None where it is undefined.
        notes: sentences below.
    """
    written = [[_cell(column, value) for value in group] for column, group in zip(columns, values)]
    return Grid(
        tuple((column.title, "ascending" if column.higher_is_better is False else "descending") for column in columns),
        tuple((model.index, model.label, tuple(group[row] for group in written)) for row, model in enumerate(models)),
        notes,
    )


def score_tables(found: Sequence[tuple[Model, Mapping[str, Mapping[str, float | None]]]], what: str) -> list[Table]:
    """Return a table a measure, a column a confidence score.

    Args:
        found: score → ``ap``, ``auroc``, ``fpr95``, ``base_rate``, for each model.
        what: the task, for the headings.
    """
    scores = ordered_scores([entry for _, entry in found])
    tables = []
    for key, better in (("ap", True), ("auroc", True), ("fpr95", False)):
        columns = [Column(score, spoken(score), better, 4) for score in scores]
        values = [[number(entry.get(score, {}).get(key)) for _, entry in found] for score in scores]
        kept = [place for place, group in enumerate(values) if any(value is not None for value in group)]
        columns, values = [columns[place] for place in kept], [values[place] for place in kept]
        if not columns:
            continue
        if key == "ap":
            columns.append(Column("base_rate", "base rate", None, 3))
            values.append([_base_rate(entry) for _, entry in found])
        grid = table([model for model, _ in found], columns, values, ())
        tables.append(Table(f"{spoken(key)}, {what}", grid, folded=key != "ap"))
    return tables


def _base_rate(entry: Mapping[str, Mapping[str, float | None]]) -> float | None:
    return next((rate for score in entry.values() if (rate := number(score.get("base_rate"))) is not None), None)


def _cell(column: Column, value: float | None) -> Cell:
    if value is None:
        return Cell("–", "")
    # A rank by entropy is no whole number; a residual may be far below a thousandth.
    shown = column.scale * value
    places = column.decimals if column.decimals or shown == round(shown) else 1
    written = f"{shown:.{places}f}"
    if shown != 0 and float(written) == 0:
        written = f"{shown:.1e}"
    return Cell(written, repr(float(value)))
