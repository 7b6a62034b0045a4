"""What an analysis found, as sections of a page: tables and pictures, one section an idea. No torch."""

from __future__ import annotations

from .section import Group, Limits, Section
from .sections import AnalysisSections, analysis_sections

__all__ = ["AnalysisSections", "Group", "Limits", "Section", "analysis_sections"]
