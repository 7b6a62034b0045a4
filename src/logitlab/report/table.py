"""The table of heads: a row a head, mean ± standard error over seeds, the best ones marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logitlab.statistics import Correction, Test, compare_to_best, mean_and_error, present

from . import rendering
from .columns import COLUMNS, OOD_KEY
from .content import Cell, Row, TableContent
from .rows import HeadRecords, Record, group_by_head

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table


@dataclass(frozen=True)
class ComparisonTable(TableContent):
    """Heads beside each other; ``str(table)`` is the plain text, notebooks show HTML, rich prints it in bold."""

    def to_text(self) -> str:
        """Plain text, a head a line, never wrapped; ``*`` marks the best."""
        return rendering.to_text(self)

    def to_markdown(self) -> str:
        """A Markdown table with the best in bold, and the notes below it."""
        return rendering.to_markdown(self)

    def to_html(self) -> str:
        """An HTML table with the best in bold, and the notes below it; no script, no style sheet."""
        return rendering.to_html(self)

    def to_rich(self, width: int | None = None) -> Table:
        """A rich table without the notes, the best in bold.

        Args:
            width: columns of the terminal; where they do not hold the table, each standard error moves below
                its mean. None never moves it.
        """
        return rendering.to_rich(self, width)

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.to_rich(options.max_width)
        yield from rendering.footer(self, "bold")


def comparison_table(
    records: Iterable[Record],
    *,
    test: Test = "pooled",
    correction: Correction | None = None,
    level: float = 0.05,
) -> ComparisonTable:
    """Build the table of heads from records.

    Args:
        records: finished and failed trials of one data set; see :func:`~logitlab.report.group_by_head`.
        test: ``"pooled"`` or ``"welch"``; see :func:`~logitlab.statistics.compare_to_best`.
        correction: None or ``"holm"``.
        level: p at and below which a head differs from the best.

    Raises:
        InputError: the records are of more than one data set, or hold an infinite value.
        ParameterError: an option outside its range.
    """
    heads = group_by_head(records)
    columns = tuple(column for column in COLUMNS if column.key != OOD_KEY or any(head.ood for head in heads))
    estimates, marked, tested = [], [], False
    for column in columns:
        groups = {head.label: head.values(column.key) for head in heads}
        estimates.append(
            {label: mean_and_error(values) if present(values) else None for label, values in groups.items()}
        )
        better = column.higher_is_better
        found = compare_to_best(
            groups if better is not None else {},
            higher_is_better=bool(better),
            test=test,
            correction=correction,
            level=level,
        )
        marked.append(found.not_worse)
        tested = tested or found.tested
    rows = tuple(
        Row(
            head.label,
            len(head.finished),
            tuple(Cell(estimate[head.label], head.label in best) for estimate, best in zip(estimates, marked)),
        )
        for head in heads
    )
    legend = (
        *_legend(rows, tested=tested, test=test, correction=correction, level=level),
        *_ood_legend(heads),
    )
    return ComparisonTable(columns, rows, legend, _notes(heads))


def _legend(
    rows: tuple[Row, ...], *, tested: bool, test: Test, correction: Correction | None, level: float
) -> tuple[str, ...]:
    counts = {row.seeds for row in rows if row.seeds}
    if not counts:
        first = "No trial has finished."
    elif counts == {1}:
        first = "One seed a head: no standard error and no test, nothing is marked. Run at least 3 seeds."
    else:
        over = f"{counts.pop()} seeds" if len(counts) == 1 else "the seeds of each head"
        first = f"Mean ± standard error over {over}."
        if tested:
            name = {"pooled": "pooled", "welch": "Welch's"}[test]
            first += (
                f" {{mark}}: not significantly different from the best of the column "
                f"(p > {level:g}, {name} t-test, {'Holm-corrected' if correction else 'uncorrected'})."
            )
        else:
            first += " Nothing could be tested, nothing is marked."
    return (
        first,
        "R²: class separation, on the training images; all else on the test images. "
        "MISS AP: correct answers ranked by max logit; chance gives the accuracy.",
        "κ: the inverse temperature that inference uses; κ*: what least squares measures on the test images. "
        "–: not measured, or not defined for the head.",
    )


def _ood_legend(heads: list[HeadRecords]) -> tuple[str, ...]:
    """Say which sets were measured and what chance gives."""
    names = ", ".join(heads[0].ood) if heads else ""
    if not names:
        return ()
    rates = present([rate for head in heads for rate in head.values("ood_base_rate")])
    chance = f"{min(rates):.2f}" if rates else ""
    if rates and f"{max(rates):.2f}" != chance:
        chance += f" to {max(rates):.2f}"
    return (
        f"OOD AP: correct answers among images of another kind ({names}), ranked by max logit"
        + (", mean over these sets" if len(heads[0].ood) > 1 else "")
        + (f"; chance gives {chance}." if chance else "."),
    )


def _notes(heads: list[HeadRecords]) -> tuple[str, ...]:
    partial = [
        f"{column.heading} of {head.label}: over {defined} of {len(head.finished)} seeds, else undefined."
        for head in heads
        for column in COLUMNS
        if 0 < (defined := len(present(head.values(column.key)))) < len(head.finished)
    ]
    failed = [
        f"Failed: {head.label}, seed {trial.seed}: {trial.failure}"
        for head in heads
        for trial in head.trials
        if trial.failure is not None
    ]
    return (*partial, *failed)
