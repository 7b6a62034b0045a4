"""What running a study gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.outgoing import whole_file
from ..records.study import StudyResults

if TYPE_CHECKING:
    from ..report.study import StudyTable, Verdict

#: Files in the folder of a study.
REPORT, TABLE = "report.html", "table.md"


@dataclass(frozen=True)
class StudyOutcome:
    """A study that has run. ``print(outcome)`` shows its table and the verdicts on its claims.

    Attributes:
        results: rows, trials and records.
        root: the folder of the trials.
        folder: of the study.
        failed: of the trials of the table that failed, or of which a stage did: ``config`` and ``error``. Points of a
            search that diverge are no failures of the study.
        seconds: how long this call took; trials that were done before cost nothing.
        report: the page; None where none was asked for or could be written.
    """

    results: StudyResults = field(repr=False)
    root: Path
    folder: Path
    failed: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    seconds: float = 0.0
    report: Path | None = None

    @property
    def complete(self) -> bool:
        """Whether every row has all of its trials."""
        return not self.failed and not any(
            row.missing or row.plan.blocked or row.plan.waiting for row in self.results.rows
        )

    @cached_property
    def table(self) -> StudyTable:
        """Our columns, and the paper's beside them."""
        from ..report.study import study_table

        return study_table(self.results)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Each claim of the study with what these results say of it."""
        from ..report.study import verdicts

        return verdicts(self.results)

    def write_report(self) -> Path:
        """Write ``report.html`` and ``table.md`` in the folder of the study; return the page.

        Raises:
            OSError: the file system refuses.
            LogitLabError: the results cannot be shown.
        """
        return write_report_of(self.results, self.folder)

    def __str__(self) -> str:
        lines = [verdict.line for verdict in self.verdicts]
        return "\n\n".join(part for part in (self.table.to_text(), "\n".join(lines)) if part)


def write_report_of(results: StudyResults, folder: Path) -> Path:
    """Write the page and the table of a study in its folder; errors as of :meth:`StudyOutcome.write_report`."""
    from ..report.study import study_markdown, write_study_report

    folder.mkdir(parents=True, exist_ok=True)
    page = write_study_report(results, folder / REPORT)
    with whole_file(folder / TABLE) as file:
        file.write(study_markdown(results))
    return page
