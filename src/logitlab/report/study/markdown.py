"""What a study found, as Markdown: table, rank correlations, verdicts; for ``table.md`` and for documents."""

from __future__ import annotations

from collections.abc import Sequence

from logitlab.records.papers import PaperTable
from logitlab.records.study import StudyResults
from logitlab.report.rendering import escape_markdown

from .claims import Verdict, rule_text, verdicts
from .plain_text import one_line, plain
from .state import scale_text, study_command, study_state
from .table import study_table


def study_markdown(results: StudyResults, paper: PaperTable | None = None) -> str:
    """Write table, rank correlations and verdicts; the same results give the same text.

    Args:
        results: of the study.
        paper: the paper's table; None for the one that the definition names.
    """
    definition, state = results.definition, study_state(results)
    parts = [f"# {escape_markdown(one_line(definition.title or definition.name))}", ""]
    parts += [f"{escape_markdown(scale_text(results))}", "", f"    {study_command(results)}", ""]
    if definition.source:
        parts += [f"Source: {escape_markdown(one_line(definition.source))}.", ""]
    trials = f"State: {state.word}, {state.finished} of {state.known} trials of the table"
    if state.search[1]:
        trials += f", {state.search[0]} of {state.search[1]} of searches"
    parts += [f"{trials}.", "", study_table(results, paper).to_markdown(), ""]
    if state.failures:
        parts += ["## What failed", ""]
        parts += [f"- {escape_markdown(f'{row}, seed {seed}: {reason}')}" for row, seed, reason in state.failures]
        parts.append("")
    found = verdicts(results, paper)
    if found:
        parts += ["## The claims of the paper", "", *_claims(results, found), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _claims(results: StudyResults, found: Sequence[Verdict]) -> list[str]:
    lines = ["| claim | here | evidence |", "| --- | --- | --- |"]
    for verdict in found:
        source = f" ({verdict.claim.source})" if verdict.claim.source else ""
        text = escape_markdown(plain(f"{verdict.claim.text}{source}"))
        rule = escape_markdown(rule_text(verdict.claim, results))
        lines.append(f"| {text} | **{verdict.verdict}** | {escape_markdown(verdict.evidence)} Rule: {rule} |")
    return lines
