"""``logitlab study show``: a study as lines of at most 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ..config.names import printable
from ..config.study import (
    AnalysisConfig,
    ClaimConfig,
    DependenceConfig,
    EntryConfig,
    SearchConfig,
    StudyDefinition,
    seed_numbers,
)
from ..config.study.rows import RowSpecification, entry_label
from ..config.validation import Configuration
from ..studies.catalogue import count_trials, least_points, study_rows
from .study_list import size_text

_WIDTH = 80
#: So many rows are listed one by one.
_MOST_ROWS = 60


def study_text(definition: StudyDefinition) -> str:
    """Show what a study asks and what it would run."""
    at = f", at the scale '{definition.scale}'" if definition.scale else ""
    lines = _wrap(f"{definition.name}{at}" + (f": {definition.title}" if definition.title else ""))
    if definition.source:
        lines += _wrap(f"Source: {definition.source}")
    if definition.description:
        lines.append("")
        lines += _description(definition.description)
    lines += ["", *_wrap(f"Size: {size_text(count_trials(definition))}."), *_settings(definition)]
    rows = study_rows(definition)
    lines += ["", f"Rows ({len(rows)}):"]
    for row in rows[:_MOST_ROWS]:
        lines += _row(row, definition)
    if len(rows) > _MOST_ROWS:
        lines.append(f"  and {len(rows) - _MOST_ROWS} more")
    lines += _searches(definition)
    if definition.stages:
        lines += ["", "Stages after training:"]
        for stage in definition.stages:
            lines += _item(f"{stage.name}: {_pairs(stage.options)}" if stage.options else stage.name)
    if definition.analysis is not None:
        lines += ["", "Analysis of all models, after the last trial:", *_item(_analysis(definition.analysis))]
    if definition.columns:
        lines += ["", "Columns of the table:"]
        for column in definition.columns:
            beside = f", beside the paper's '{column.paper}'" if column.paper else ""
            lines += _item(f"{column.title}: {column.measure}{beside}")
    if definition.paper:
        lines += ["", *_wrap(f"Beside it: {definition.paper.title}. {definition.paper.setting}".rstrip(". ") + ".")]
    if definition.claims:
        lines += ["", "Claims, and the rules that decide them:"]
        for claim in definition.claims:
            lines += _item(f"{claim.text}{f' ({claim.source})' if claim.source else ''}")
            lines += _item(rule_text(claim), indent=4)
    if definition.figures:
        lines += ["", "Figures:"]
        for figure in definition.figures:
            along = f" along {figure.along}" if figure.along else ""
            lines += _item(f"{figure.title}: {figure.kind} of {', '.join(figure.measures)}{along}")
    return printable("\n".join(lines)) + "\n"


def rule_text(claim: ClaimConfig) -> str:
    """Say the rule of a claim.

    >>> print(rule_text(ClaimConfig(text="a", rule="above", measure="test.accuracy", rows=["b", "c"], than="d")))
    above: test.accuracy of b, c above that of d (paired t-tests, Holm-corrected, p ≤ 0.05)
    >>> print(rule_text(ClaimConfig(text="a", rule="exceeds", measure="test.nll", than_measure="test.ece")))
    exceeds: test.nll of all rows is larger than test.ece of the same models (paired t-test over the models, p ≤ 0.05)
    """
    rows = ", ".join(claim.rows) or "all rows"
    level = f"p ≤ {claim.level:g}"
    if claim.rule in ("above", "below"):
        return (
            f"{claim.rule}: {claim.measure} of {rows} {claim.rule} that of {claim.than} (paired t-tests, "
            f"Holm-corrected, {level})"
        )
    if claim.rule in ("increases", "decreases"):
        return f"{claim.rule}: {claim.measure} of {rows} along {claim.along} (Spearman's ρ, {level})"
    if claim.rule == "exceeds":
        return (
            f"exceeds: {claim.measure} of {rows} is larger than {claim.than_measure} of the same models (paired t-test "
            f"over the models, {level})"
        )
    if claim.rule == "best_among":
        return f"best_among: the row with the {claim.better[:-2]}est {claim.measure} is one of {rows} ({level})"
    return f"paper_order: {claim.measure} orders {rows} as the paper's '{claim.paper}' does (Spearman's ρ, {level})"


def _analysis(config: AnalysisConfig) -> str:
    parts = [", ".join(config.measures), f"{config.part} images"]
    if config.limit is not None:
        parts[-1] += f", at most {config.limit:,}"
    if config.rows:
        parts.append(f"rows {', '.join(config.rows)}")
    if config.seeds is not None:
        first = "first seed" if config.seeds == 1 else f"first {config.seeds} seeds"
        parts.append(f"the {first} of each row")
    if config.control:
        parts.append("with the untrained control")
    if config.ood:
        parts.append(f"strange images {', '.join(config.ood)}")
    return "; ".join(parts)


def _description(text: str) -> list[str]:
    """Fill paragraphs; tables and lists stay as they are. A star is a star here, with a backslash or without."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", re.sub(r"\\([*_])", r"\1", text).strip()):
        if re.search(r"^\s*([|>#]|[-*+] |\d+\. )", paragraph, flags=re.MULTILINE):
            lines += paragraph.splitlines()
        else:
            lines += _wrap(" ".join(paragraph.split()), rest="")
        lines.append("")
    return lines[:-1]


def _settings(definition: StudyDefinition) -> list[str]:
    training = _given(definition.training)
    lines = _wrap(f"Data: {_given_text(definition.data, definition.data.name, 'name')}")
    lines += _wrap(f"Backbone: {definition.backbone}")
    lines += _wrap(f"Training: {_pairs(training) if training else 'the defaults of compare'}")
    if definition.select_epoch == "best":
        lines += _wrap("Epoch: the one with the best validation accuracy")
    if definition.grid:
        lines += _wrap("Grid: " + "; ".join(f"{axis} in {_list(values)}" for axis, values in definition.grid.items()))
    if definition.plugins:
        lines += _wrap(f"Plugins: {', '.join(definition.plugins)}")
    execution = _given(definition.execution)
    if execution:
        lines += _wrap(f"Execution: {_pairs(execution)}")
    return lines


def _row(row: RowSpecification, definition: StudyDefinition) -> list[str]:
    entry = row.entry
    parts = []
    head = f"{entry.head}{', ' + _pairs(entry.parameters) if entry.parameters else ''}"
    if head != row.label:
        parts.append(head)
    if row.axes:
        parts.append(_pairs(row.axes))
    if entry.training:
        parts.append(_pairs(entry.training))
    parts += [_dependence(axis, source) for axis, source in entry.depends_on.items()]
    if row.seeds != seed_numbers(definition.seeds):
        parts.append(f"seeds {_list(row.seeds)}")
    else:
        parts.append(f"{len(row.seeds)} {'seed' if len(row.seeds) == 1 else 'seeds'}")
    return _item(f"{row.label}: {'; '.join(parts)}")


def _dependence(axis: str, source: DependenceConfig) -> str:
    times = "" if source.times == 1 else f"{source.times:g} times "
    which = "of the same seed " if source.statistic == "same_seed" else f"{source.statistic} "
    return f"{axis} = {times}the {which}{source.measure} of '{source.of}'".replace("the of", "of")


def _searches(definition: StudyDefinition) -> list[str]:
    found: list[tuple[str, SearchConfig]] = []
    if definition.search is not None and any(entry.search is None for entry in definition.heads):
        found.append(("every row that has no search of its own", definition.search))
    found += [(entry_label(entry), entry.search) for entry in definition.heads if _own_search(entry)]  # type: ignore[misc]
    if not found:
        return []
    lines = ["", "Searches, on the validation images:"]
    for whose, search in found:
        axes = "; ".join(f"{axis} in {_list(values.values)}" for axis, values in search.parameters.items())
        sure = "" if search.method == "optuna" else "at least "
        points = f"{sure}{least_points(search)} points of {search.seeds} {'seed' if search.seeds == 1 else 'seeds'}"
        lines += _item(f"{whose}: {search.method}, {points}; {axes}; best by {search.measure}, {search.better}")
    return lines


def _own_search(entry: EntryConfig) -> bool:
    return isinstance(entry.search, SearchConfig)


def _given(values: Configuration) -> dict[str, Any]:
    return values.model_dump(mode="json", exclude_defaults=True)


def _given_text(values: Configuration, first: str, *without: str) -> str:
    rest = {key: value for key, value in _given(values).items() if key not in without}
    return f"{first}, {_pairs(rest)}" if rest else first


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_value(value)}" for key, value in values.items())


def _list(values: Any) -> str:
    return ", ".join(map(_value, values))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{_list(value)}]"
    return f"{{{_pairs(value)}}}" if isinstance(value, Mapping) else str(value)


def _item(text: str, indent: int = 2) -> list[str]:
    return _wrap(text, first=" " * indent, rest=" " * (indent + 4))


def _wrap(text: str, *, first: str = "", rest: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]
