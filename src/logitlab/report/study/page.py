"""A study → one HTML file that loads nothing from outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlab.config.errors import RecordError
from logitlab.records.analysis import Analysis
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
from .reading import places
from .searches import searches
from .state import overview, scale_text, study_command, study_state
from .table import StudyTable, study_table

if TYPE_CHECKING:
    from ..analysis import AnalysisSections

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
    """Draw once; then leave out the curves, more and more of the analysis, and then all, until the page is small."""
    # Pictures need NumPy and matplotlib, which nobody waits for who wants the table alone.
    from . import pictures

    figures = pictures.draw_figures(results)
    beside = pictures.against_paper(results, reading, table.correlations)
    curves = pictures.curves(results)
    own = sum(each.size for each in figures) + sum(panel.size for panel in beside)
    through = sum(panel.size for panel in curves)
    last: dict[str, Any] = {}
    for analysis, words in _analysis(results):
        room = MOST_BYTES - own - (analysis.size if analysis else 0)
        last = {"analysis": analysis, "analysis_words": words}
        if through < room:
            yield {"figures": figures, "beside": beside, "curves": curves, "left_out": "", **last}
        if room > 0:
            left_out = "The curves through the epochs were left out to keep this file small."
            yield {"figures": figures, "beside": beside, "curves": [], "left_out": left_out, **last}
    left_out = "So many rows leave no room for pictures."
    yield {"figures": [], "beside": [], "curves": [], "left_out": left_out, **last}


def _analysis(results: StudyResults) -> Iterator[tuple[AnalysisSections | None, str]]:
    """Draw what was measured of all models, with ever fewer pictures, at last with none; and what is said of it."""
    if results.analysis is None:
        asked = results.definition.analysis is not None
        waits = "The models are analysed after the last trial; nothing has been so far." if asked else ""
        yield None, f"The analysis cannot be shown. {results.analysis_fault}" if results.analysis_fault else waits
        return
    from ..analysis import Limits, analysis_sections
    from ..analysis_page import within

    # Half of the page: the other half is the study's.
    models = _model_places(results, results.analysis)
    for found in within(results.analysis, MOST_BYTES // 2, places=models):
        yield found, ""
    least = analysis_sections(results.analysis, places=models, limits=Limits(0, 0, 0, scores=False))
    for share in (2, 4, 8):
        kept, left_out = _sections_within(least, MOST_BYTES // share)
        if kept.sections and left_out:
            yield kept, f"Left out to keep this file small: {', '.join(left_out)}; 'analysis/analysis.json' holds them."
    yield None, "The pictures of the analysis leave no room for this page: 'analysis/analysis.json' holds its numbers."


def _sections_within(found: AnalysisSections, room: int) -> tuple[AnalysisSections, list[str]]:
    """Return an analysis with the sections that fit, the first ones first, and the names of the others."""
    kept, left_out = [], []
    for section in found.sections:
        if section.size <= room:
            room -= section.size
            kept.append(section)
        else:
            left_out.append(section.short)
    return replace(found, sections=tuple(kept)), left_out


def _model_places(results: StudyResults, analysis: Analysis) -> dict[str, int]:
    """Return label of a model → a place of its own, which has the colour, dash and mark of its row.

    Places that differ by a multiple of ``COLOURS`` look alike; the first model of a row stands at the row's own.
    """
    from ..figures.canvas import COLOURS

    own, rows = places(results), {trial.identity: trial.row for trial in results.plan.trials}
    step = COLOURS * (1 + len(own) // COLOURS)
    met: dict[str, int] = {}
    found = {}
    for model in analysis.models:
        # Results that somebody put together by hand may hold models of no row.
        row = rows.get(model.identity or "", "")
        found[model.label] = own.get(row, len(own)) + step * met.setdefault(row, 0)
        met[row] += 1
    return found


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
    add(results.analysis and results.analysis.to_json(), results.analysis_fault)
    if reading.table is not None:
        add([(*place, asdict(cell)) for place, cell in reading.table.cells.items()])
    return found.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
