"""What a comparison gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config.errors import InputError
from ..config.names import unknown_name
from ..records.analysis import Analysis
from ..report import ComparisonTable, comparison_table, escape_markdown, recommendations, write_report

#: The file beside the trials.
REPORT = "report.html"


@dataclass(frozen=True)
class Comparison:
    """Heads compared on one data set. ``print(comparison)`` shows the table; notebooks show it as HTML.

    Attributes:
        records: finished trials (``config``, ``result``, ``provenance``) and failed ones (``config``,
            ``error``), head by head and seed by seed.
        folder: where the records and the trained models lie.
        seconds: how long this call took; trials that were done before cost nothing.
        report: the page of pictures; None where none was asked for or could be written.
        analysis: the further measures of every model; None where none were asked for or could be taken.
    """

    records: tuple[dict[str, Any], ...] = field(repr=False)
    folder: Path
    seconds: float
    report: Path | None = None
    analysis: Analysis | None = field(default=None, repr=False)

    def write_report(self, path: Path | str | None = None) -> Path:
        """Write the comparison as one HTML page with pictures.

        Args:
            path: of the file; None for ``report.html`` in ``folder``.

        Raises:
            OSError: the file system refuses.
        """
        return write_report(self.records, self.folder, self.folder / REPORT if path is None else path)

    @cached_property
    def table(self) -> ComparisonTable:
        """A row a head: mean ± standard error over the seeds, the best marked."""
        return comparison_table(self.records)

    @cached_property
    def recommendations(self) -> list[str]:
        """One line a purpose: which head to take, or that no difference was shown."""
        return recommendations(self.records)

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        """The failed trials, each with its ``config`` and ``error``."""
        return tuple(record for record in self.records if "error" in record)

    def best(self, measure: str = "accuracy") -> str:
        """Return the head with the best mean of a measure; the table says which others are as good.

        Args:
            measure: ``"accuracy"``, ``"nll"``, ``"ece"``, ``"miss_ap"`` or, where OOD sets were measured,
                ``"ood_ap"``.

        Raises:
            InputError: the measure has no better end, or no trial has it.
        """
        directions = {
            column.key: column.higher_is_better for column in self.table.columns if column.higher_is_better is not None
        }
        if measure not in directions:
            raise InputError(unknown_name("measure", measure, directions))
        index = [column.key for column in self.table.columns].index(measure)
        means = {
            row.label: estimate.mean for row in self.table.rows if (estimate := row.cells[index].estimate) is not None
        }
        if not means:
            raise InputError(f"No finished trial has the measure '{measure}'.")
        return (max if directions[measure] else min)(means, key=lambda label: means[label])

    def to_markdown(self) -> str:
        """The table and the recommendations in Markdown."""
        lines = "\n".join(f"- {escape_markdown(line)}" for line in self.recommendations)
        return f"{self.table.to_markdown()}\n\n{lines}\n"

    def __str__(self) -> str:
        return "\n\n".join(part for part in (self.table.to_text(), "\n".join(self.recommendations)) if part)

    def _repr_html_(self) -> str:
        from html import escape

        items = "".join(f"<li>{escape(line)}</li>" for line in self.recommendations)
        return f"{self.table.to_html()}<ul>{items}</ul>"
