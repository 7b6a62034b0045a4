"""What ``logitlab analyze`` measured → one HTML file that loads nothing from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from logitlab.config.errors import RecordError
from logitlab.config.names import printable
from logitlab.records.analysis import Analysis
from logitlab.records.files import write_atomic

from .page_parts import MOST_BYTES, inline, template_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .analysis import AnalysisSections


def write_analysis_page(analysis: Analysis, path: Path | str, *, title: str | None = None) -> Path:
    """Write the page of an analysis; the same analysis gives the same bytes.

    A measure that is missing has no section; what failed is listed at the foot, in words.

    Args:
        analysis: what was measured.
        path: where the file shall stand; it appears whole or not at all.
        title: of the page; None for the name of the data set.

    Returns:
        ``path``.

    Raises:
        RecordError: so many models that the page cannot be kept below two million bytes.
        OSError: the file system refuses.
    """
    target = Path(path)
    content = render_analysis(analysis, title).rstrip("\n") + "\n"
    write_atomic(target, lambda file: file.write(content.encode("utf-8")))
    return target


def render_analysis(analysis: Analysis, title: str | None = None) -> str:
    """Return the page as a text; arguments and errors as for :func:`write_analysis_page`."""
    environment = template_environment()
    page = environment.get_template("analysis.html")
    for found in within(analysis, MOST_BYTES):
        text = page.render(
            title=printable(" ".join((title or f"Analysis on {dict(found.overview)['data']}").split())),
            analysis=found,
            setting=[(model.index, kept) for model, kept in zip(found.models, analysis.models)],
            data=analysis.data,
            **inline(environment),
        )
        text = printable(text)
        if len(text.encode("utf-8")) < MOST_BYTES:
            return text
    raise RecordError(
        f"Expected a page below {MOST_BYTES:,} bytes. Got more, of {len(analysis.models)} models: analyse fewer at a "
        "time."
    )


def within(analysis: Analysis, room: int, *, places: Mapping[str, int] | None = None) -> Iterator[AnalysisSections]:
    """Draw an analysis with ever fewer pictures; those that cannot fit into ``room`` bytes are passed over.

    Args:
        analysis: what was measured.
        room: bytes that the pictures may take.
        places: see :func:`~logitlab.report.analysis.analysis_sections`.
    """
    # Pictures need NumPy and matplotlib, which nobody waits for who wants the numbers alone.
    from .analysis import Limits, analysis_sections

    ladder = (
        Limits(),
        Limits(points=1000, own=16, matrices=12),
        Limits(points=500, own=12, matrices=6, scores=False),
        Limits(points=300, own=4, matrices=2, scores=False),
        Limits(points=0, own=0, matrices=0, scores=False),
    )
    for limits in ladder:
        found = analysis_sections(analysis, places=places, limits=limits)
        if found.size < room:
            yield found
