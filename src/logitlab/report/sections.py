"""What each section of the page shows, gathered from the heads; the template only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitlab.statistics import Estimate, mean_and_error, present

from . import classwise, figures
from .artefacts import HeadArtefacts
from .columns import COLUMNS, Column, decimals_for, write_estimate
from .content import TableContent
from .figures import Panel
from .multiples import strange_names
from .rendering import sentences
from .rows import Record
from .thumbnails import LEAST_CONFIDENT, WORST_MISTAKES, Thumbnail, thumbnails

if TYPE_CHECKING:
    import numpy

BALANCED = Column("balanced_accuracy", "balanced accuracy %", True, 2, scale=100, unit=" %")
_WORST = Column("worst_class", "worst class %", True, 1, scale=100, unit=" %")
_OOD_MEASURES = ("max_logit_ap", "max_logit_auroc", "feature_norm_ap", "feature_norm_auroc", "base_rate")


@dataclass(frozen=True)
class Cell:
    """One cell of a sortable table: mean and standard error as texts, what is sorted by, whether it is marked."""

    mean: str
    value: str
    error: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: headings with the direction that puts the best on top, rows of a head's place, label and cells."""

    headings: tuple[tuple[str, str], ...]
    rows: tuple[tuple[int, str, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examples:
    """The images of one head: the seed that they are from, and the pictures or the reason for none."""

    index: int
    label: str
    seed: int | None
    groups: tuple[tuple[str, str, tuple[Thumbnail, ...]], ...]
    words: str

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page the images take."""
        return sum(len(each.source) for _, _, pictures in self.groups for each in pictures)


def overview(records: Sequence[Record], heads: Sequence[HeadArtefacts], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the facts below the heading of the page."""
    finished = [record for record in records if "error" not in record]
    facts = []
    if records:
        config = records[0]["config"]
        facts.append(("data", str(config["data"].get("name", "–"))))
        facts.append(("backbone", str(config["backbone"].get("name", "–"))))
        epochs = config["training"].get("epochs")
        facts.append(("epochs", str(epochs) if epochs is not None else "–"))
    facts.append(("heads", str(len(heads))))
    trials = f"{len(finished)} finished"
    if len(finished) < len(records):
        trials += f", {len(records) - len(finished)} failed"
    facts.append(("trials", trials))
    if names:
        facts.append(("classes", str(len(names))))
    images = finished[0]["result"].get("images") if finished else None
    if isinstance(images, Mapping):
        facts.append(("images", " + ".join(f"{count:,} {part}" for part, count in images.items())))
    return facts


def sortable(table: TableContent, heads: Sequence[HeadArtefacts]) -> Grid:
    """Return the table of heads with the numbers that it is sorted by."""
    headings = [("seeds", "descending")]
    headings += [
        (column.title, "ascending" if column.higher_is_better is False or column.key == "seconds" else "descending")
        for column in table.columns
    ]
    places = [
        decimals_for(column, [found for row in table.rows if (found := row.cells[index].estimate)])
        for index, column in enumerate(table.columns)
    ]
    rows = []
    for head, row in zip(heads, table.rows, strict=True):
        cells = [Cell(str(row.seeds), str(row.seeds))]
        for column, cell, decimals in zip(table.columns, row.cells, places):
            cells.append(_cell(column, cell.estimate, decimals, marked=cell.marked))
        rows.append((head.index, row.label, tuple(cells)))
    return Grid(tuple(headings), tuple(rows), tuple(sentences(table, "Bold")))


def dots(heads: Sequence[HeadArtefacts]) -> list[Panel]:
    """Return a panel for every measure that some head has."""
    labels = [head.label for head in heads]
    panels = []
    for column in (*COLUMNS, *(() if any(each.key == BALANCED.key for each in COLUMNS) else (BALANCED,))):
        values = [head.head.values(column.key) for head in heads]
        if any(present(group) for group in values):
            panels.append(figures.seed_dots(column, [head.index for head in heads], labels, values))
    return panels


def curves(heads: Sequence[HeadArtefacts]) -> list[Panel]:
    """Return accuracy, loss and κ* through the epochs."""
    return figures.learning_curves(
        {head.index: [seed.record["result"].get("history") or [] for seed in head.seeds] for head in heads}
    )


def classes(heads: Sequence[HeadArtefacts], names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy class by class, balanced accuracy, and the most confused pairs."""
    import numpy

    counts = [classwise.confusion_counts(head, len(names)) if head.readable else None for head in heads]
    found = [None if each is None else classwise.accuracies(each) for each in counts]
    measured = [each for each in found if each is not None]
    panel = Panel("accuracy of each class", words="No outputs could be read.")
    if measured:
        mean = numpy.mean(measured, axis=0)
        # Classes without a test image have no accuracy and no place.
        order = [int(place) for place in numpy.argsort(mean, kind="stable") if numpy.isfinite(mean[place])]
        if order:
            panel = figures.class_accuracy({head.index: each for head, each in zip(heads, found)}, names, order)
    number = 3 if len(names) <= figures.MOST_LABELS else 10
    pairs = [
        (head.index, pair)
        for head, each in zip(heads, counts)
        if each is not None
        for pair in classwise.most_confused(head.label, each, number)
    ]
    return {"panel": panel, "pairs": pairs, "names": names, "balanced": _balanced(heads, found)}


def examples(head: HeadArtefacts, names: Sequence[str], number: int, side: int) -> Examples:
    """Return the worst mistakes and the least confident images of one seed of a head."""
    seed = next(iter(head.readable), None)
    if seed is None or seed.outputs is None:
        return Examples(head.index, head.label, None, (), head.excuse)
    sure = "highest confidence" if head.link != "none" else "largest max logit: this head has no confidence"
    groups = (
        (
            "Worst mistakes",
            f"wrong, with the {sure}",
            tuple(thumbnails(seed.outputs, WORST_MISTAKES, names, number=number, side=side)),
        ),
        (
            "Least confident",
            "right or wrong",
            tuple(thumbnails(seed.outputs, LEAST_CONFIDENT, names, number=number, side=side)),
        ),
    )
    words = "" if any(pictures for _, _, pictures in groups) else "The trial kept no images."
    return Examples(head.index, head.label, seed.seed, groups, words)


def ood_table(heads: Sequence[HeadArtefacts]) -> list[tuple[str, Grid]]:
    """Return for each OOD set a table of its measures, a row a head."""
    tables = []
    for name in strange_names(heads):
        columns = [
            Column(key, key.replace("_", " ").replace("auroc", "AUROC").replace(" ap", " AP"), True, 3)
            for key in _OOD_MEASURES
        ]
        rows = []
        for head in heads:
            measured = [(seed.record.get("ood") or {}).get(name) or {} for seed in head.seeds]
            if any(measured):
                rows.append((head, [[each.get(column.key) for each in measured] for column in columns]))
        tables.append((name, _grid(columns, rows)))
    return tables


def failed(heads: Sequence[HeadArtefacts]) -> list[tuple[str, int, str]]:
    """Return label, seed and reason of every failed trial."""
    return [
        (head.label, trial.seed, trial.failure)
        for head in heads
        for trial in head.head.trials
        if trial.failure is not None
    ]


def unreadable(heads: Sequence[HeadArtefacts]) -> list[tuple[str, int, str]]:
    """Return label, seed and reason of every finished trial whose outputs cannot be read."""
    return [(head.label, seed.seed, seed.missing) for head in heads for seed in head.seeds if seed.outputs is None]


def remedy(heads: Sequence[HeadArtefacts]) -> str:
    """Name an OOD set that makes outputs again: a generated one that none of these trials was measured on."""
    known = {name for head in heads for seed in head.seeds if seed.outputs is None for name in seed.measured}
    return next((name for name in ("noise", "patches") if name not in known), "SET")


def _grid(columns: Sequence[Column], rows: Sequence[tuple[HeadArtefacts, list[list[float | None]]]]) -> Grid:
    """Build a table whose columns share their number of decimals."""
    written: list[list[Cell]] = []
    for place, column in enumerate(columns):
        found = [mean_and_error(kept) if (kept := present(values[place])) else None for _, values in rows]
        decimals = decimals_for(column, [each for each in found if each])
        written.append([_cell(column, each, decimals) for each in found])
    headings = tuple((column.title if column.unit else column.heading, "descending") for column in columns)
    return Grid(
        headings,
        tuple((head.index, head.label, tuple(each[row] for each in written)) for row, (head, _) in enumerate(rows)),
    )


def _cell(column: Column, estimate: Estimate | None, decimals: int | None = None, *, marked: bool = False) -> Cell:
    if estimate is None:
        return Cell("–", "")
    mean, error = write_estimate(column, estimate, decimals)
    return Cell(mean, repr(float(estimate.mean)), error, marked)


def _balanced(heads: Sequence[HeadArtefacts], found: Sequence[numpy.ndarray | None]) -> Grid:
    """Return plain and balanced accuracy with the worst class; records from before it was measured fall back."""
    import numpy

    plain = COLUMNS[0]
    rows = []
    for head, shares in zip(heads, found):
        values = head.head.values(BALANCED.key)
        worst: list[float | None] = []
        if shares is not None and numpy.isfinite(shares).any():
            worst = [float(numpy.nanmin(shares))]
            values = values if present(values) else [float(numpy.nanmean(shares))]
        rows.append((head, [head.head.values(plain.key), values, worst]))
    return _grid((plain, BALANCED, _WORST), rows)
