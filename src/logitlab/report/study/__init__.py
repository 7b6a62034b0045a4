"""The report of a study: its table beside the paper's, its claims with their verdicts, its pictures. No torch."""

from __future__ import annotations

from .claims import Verdict, verdicts
from .markdown import study_markdown
from .page import write_study_report
from .table import StudyTable, study_table

__all__ = ["StudyTable", "Verdict", "study_markdown", "study_table", "verdicts", "write_study_report"]
