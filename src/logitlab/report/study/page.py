"""A study → one HTML file that loads nothing from outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from logitlab.config.errors import RecordError
from logitlab.records.files import write_atomic
from logitlab.records.papers import PaperTable
from logitlab.records.study import StudyResults
from logitlab.report.foot import configuration, remarks, versions
from logitlab.report.page_parts import MOST_BYTES, inline, template_environment
from logitlab.report.seal import is_current, seal

from .claims import Verdict, rule_text, verdicts
from .paper import PaperReading, read_paper
from .plain_text import one_line, plain, visible
from .prose import to_html
from .searches import searches
from .state import overview, scale_text, study_command, study_state
from .table import StudyTable, study_table

_PACKAGES = ("logitlab", "matplotlib", "numpy", "jinja2", "scipy")
#: Text, mark and style of a verdict: never the colour alone.
_BADGES = {
    "holds": ("holds", "✓", "holds"),
    "does not": ("does not hold", "✗", "does-not"),
    "not decided at this scale": ("not decided at this scale", "?", "open"),
}


@dataclass(frozen=True)
class _Claim:
    """A claim as the page shows it."""

    text: str
    source: str
    badge: str
    mark: str
    style: str
    rule: str
    evidence: str


def write_study_report(results: StudyResults, path: Path | str, paper: PaperTable | None = None) -> Path:
    """Write the page of a study.

    The same results give the same bytes, wherever they lie; a page that was made from them already is left as it is.

    Args:
        results: of the study.
        path: where the file shall stand; it appears whole or not at all.
        paper: the paper's table; None for the one that the definition names.

    Returns:
        ``path``.

    Raises:
        RecordError: so many rows that the page cannot be kept below ``MOST_BYTES``.
        OSError: the file system refuses.
    """
    target = Path(path)
    source = _source(results, read_paper(results, paper))
    if not is_current(target, source):
        content = seal(render_study(results, paper), source)
        write_atomic(target, lambda file: file.write(content))
    return target


def render_study(results: StudyResults, paper: PaperTable | None = None) -> str:
    """Return the page as a text; arguments and errors as for :func:`write_study_report`."""
    definition = results.definition
    state = study_state(results)
    reading = read_paper(results, paper)
    table = study_table(results, paper)
    environment = template_environment()
    page = environment.get_template("study.html")
    records = list(results.records.values())
    fixed: dict[str, Any] = {
        "title": one_line(definition.title or definition.name),
        "description": to_html(visible(definition.description)) if definition.description.strip() else "",
        "scale": scale_text(results),
        "command": study_command(results),
        "state": state,
        "overview": overview(results, state),
        "table": table,
        "notes": table.sentences("Bold"),
        "paper": definition.paper,
        "claims": [_claim(each, results) for each in verdicts(results, paper)],
        "searches": searches(results),
        "legend": [{"index": place, "label": label} for place, label in enumerate(table.labels)],
        "rows": _rows(results),
        "configuration": configuration(records),
        "versions": versions(records),
        "remarks": remarks(records),
        **inline(environment),
    }
    for pictures in _pictures(results, reading, table):
        text = visible(page.render(**fixed, **pictures))
        if len(text.encode("utf-8")) < MOST_BYTES:
            return text
    raise RecordError(
        f"Expected a report below {MOST_BYTES:,} bytes. Got more, of {len(results.rows)} rows: make several studies of "
        "it."
    )


def _pictures(results: StudyResults, reading: PaperReading, table: StudyTable) -> Iterator[dict[str, Any]]:
    """Draw once; then leave out the curves, and then all pictures, until the page is small enough."""
    # Pictures need NumPy and matplotlib, which nobody waits for who wants the table alone.
    from . import pictures

    figures = pictures.draw_figures(results)
    beside = pictures.against_paper(results, reading, table.correlations)
    curves = pictures.curves(results)
    room = sum(each.size for each in figures) + sum(panel.size for panel in beside)
    everything = room + sum(panel.size for panel in curves)
    if everything < MOST_BYTES:
        yield {"figures": figures, "beside": beside, "curves": curves, "left_out": ""}
    if room < MOST_BYTES:
        words = "The curves through the epochs were left out to keep this file small."
        yield {"figures": figures, "beside": beside, "curves": [], "left_out": words}
    words = "So many rows leave no room for pictures."
    yield {"figures": [], "beside": [], "curves": [], "left_out": words}


def _claim(verdict: Verdict, results: StudyResults) -> _Claim:
    badge, mark, style = _BADGES[verdict.verdict]
    claim = verdict.claim
    return _Claim(
        plain(claim.text), plain(claim.source), badge, mark, style, rule_text(claim, results), verdict.evidence
    )


def _rows(results: StudyResults) -> list[tuple[str, str, str, str, str]]:
    """Return for each row: label, head, settings, what was chosen, and what a trial of it measured of its model."""
    found = []
    for row in results.rows:
        chosen = _settings(row.plan.chosen)
        settings = _settings({axis: value for axis, value in row.plan.settings.items() if axis not in row.plan.chosen})
        measures: Mapping[str, float | None] = next(iter(row.seeds.values()), {})
        count = measures.get("parameters")
        found.append((row.label, row.plan.head, settings or "–", chosen or "–", f"{count:,.0f}" if count else "–"))
    return found


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{axis} = {f'{value:g}' if isinstance(value, float) else value}" for axis, value in values.items()
    )


def _source(results: StudyResults, reading: PaperReading) -> str:
    """Return a digest of all that a page is made from: results, the paper's table, the code that draws, versions."""
    found = hashlib.sha256()

    def add(*values: Any) -> None:
        found.update(json.dumps(values, sort_keys=True, default=str).encode())

    add([(name, _version(name)) for name in _PACKAGES])
    package = Path(__file__).parents[1]
    for path in sorted([*package.rglob("*"), *(package.parent / "statistics").glob("*")]):
        if path.suffix in (".py", ".html", ".css", ".js"):
            add(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    add(results.definition.model_dump(mode="json"), results.plan.model_dump(mode="json"))
    # Seeds are numbers: a mapping of them is written as pairs.
    add([(row.label, sorted(row.seeds.items()), sorted(row.failures.items()), row.missing) for row in results.rows])
    add(results.records, results.searched, reading.columns, reading.notes)
    if reading.table is not None:
        add([(*place, asdict(cell)) for place, cell in reading.table.cells.items()])
    return found.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
