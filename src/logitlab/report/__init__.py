"""From records to what a person reads: tables and recommendations. No torch."""

from __future__ import annotations

from .columns import COLUMNS, Column
from .recommendations import recommendations
from .rows import HeadRecords, Trial, group_by_head
from .table import Cell, ComparisonTable, Row, comparison_table

__all__ = [
    "COLUMNS",
    "Cell",
    "Column",
    "ComparisonTable",
    "HeadRecords",
    "Row",
    "Trial",
    "comparison_table",
    "group_by_head",
    "recommendations",
]
