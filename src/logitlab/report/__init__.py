"""From records to what a person reads: tables and recommendations. No torch."""

from __future__ import annotations

from .analysis_page import write_analysis_page
from .columns import COLUMNS, Column
from .content import Cell, Row
from .page import write_report
from .recommendations import recommendations
from .rendering import escape_markdown
from .rows import HeadRecords, Trial, group_by_head
from .table import ComparisonTable, comparison_table

__all__ = [
    "COLUMNS",
    "Cell",
    "Column",
    "ComparisonTable",
    "HeadRecords",
    "Row",
    "Trial",
    "comparison_table",
    "escape_markdown",
    "group_by_head",
    "recommendations",
    "write_analysis_page",
    "write_report",
]
