"""Records and the folders of their trials → one HTML file that loads nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlab.config.errors import RecordError
from logitlab.config.names import printable
from logitlab.records.analysis import ANALYSIS_FILE, Analysis, read_analysis
from logitlab.records.files import write_atomic

from .artefacts import class_names, gather
from .evidence import with_evidence
from .foot import configuration, head_parameters, remarks, versions
from .page_parts import MOST_BYTES, inline, template_environment
from .recommendations import advise
from .rows import Record
from .seal import is_current, seal, source_digest
from .table import comparison_table

if TYPE_CHECKING:
    from .analysis import AnalysisSections
    from .artefacts import HeadArtefacts
#: The folder beside the trials of a comparison that holds its analysis.
ANALYSIS_FOLDER = "analysis"


@dataclass(frozen=True)
class _Detail:
    """How much the page shows.

    Attributes:
        thumbnails: of each kind.
        side: of a thumbnail, in pixels.
        heads: how many heads have pictures of their own.
        shared: which pictures are there that show all heads.
    """

    thumbnails: int
    side: int
    heads: int
    shared: tuple[str, ...] = ("dots", "curves", "classes")


# Tried one after another until the page is small enough.
_DETAILS = (
    _Detail(12, 64, 1000),
    _Detail(12, 48, 1000),
    _Detail(8, 48, 1000),
    _Detail(6, 32, 1000),
    _Detail(4, 32, 1000),
    _Detail(4, 32, 12),
    _Detail(0, 32, 6),
    _Detail(0, 32, 0),
    _Detail(0, 32, 0, shared=("dots", "classes")),
    _Detail(0, 32, 0, shared=("dots",)),
    _Detail(0, 32, 0, shared=()),
)


def write_report(records: Iterable[Record], root: Path | str, path: Path | str, *, title: str | None = None) -> Path:
    """Write the page of a comparison.

    The same records and artefacts give the same bytes; a page that was made from them already is left as it is.
    What a trial did not leave (an older record, a failed head, a head without probabilities) is said in words in its
    place.

    Args:
        records: finished and failed trials of one data set, as ``Comparison.records`` holds them; each may have
            ``"ood"``: name of an OOD set → measures.
        root: the folder whose ``trials/<identity>/`` hold what the trials left.
        path: where the file shall stand; it appears whole or not at all.
        title: of the page; None for the name of the data set.

    Returns:
        ``path``.

    Raises:
        InputError: the records are of more than one data set, or hold an infinite value.
        RecordError: so many heads that the page cannot be kept below ``MOST_BYTES``.
        OSError: the file system refuses.
    """
    every, target = list(records), Path(path)
    source = source_digest(every, Path(root), title)
    if not is_current(target, source):
        content = seal(render(every, Path(root), title), source)
        write_atomic(target, lambda file: file.write(content))
    return target


def render(records: list[Record], root: Path, title: str | None = None) -> str:
    """Return the page as a text; arguments and errors as for :func:`write_report`."""
    # Pictures need NumPy and matplotlib, which nobody waits for who wants the table alone.
    from . import sections
    from .album import Album

    heads = gather(records, root)
    names = class_names(heads)
    # A head without a finished trial is named with the failures and in the table; it has no pictures.
    trained = [head for head in heads if head.seeds]
    environment = template_environment()
    page = environment.get_template("report.html")
    fixed: dict[str, Any] = {
        "title": _plain(title or f"Classifier heads on {_data_name(records)}"),
        "overview": sections.overview(records, heads, names),
        "heads": heads,
        "trained": trained,
        "recommendations": with_evidence(advise(records), heads),
        "table": sections.sortable(comparison_table(records), heads),
        "ood": sections.ood_table(trained),
        "failed": sections.failed(heads),
        "unreadable": sections.unreadable(heads),
        "remedy": sections.remedy(heads),
        "configuration": configuration(records),
        "head_parameters": head_parameters(heads),
        "versions": versions(records),
        "remarks": remarks(records),
        **inline(environment),
    }
    analysed = _analysis(root, heads)
    fixed.update(analysed)
    room = MOST_BYTES - (analysed["analysis"].size if analysed["analysis"] else 0)
    album = Album(heads, names)
    for detail in _DETAILS:
        pictures = album.page(detail.thumbnails, detail.side, detail.heads, room, shared=detail.shared)
        if pictures is None:
            continue
        text = printable(page.render(**fixed, **pictures))
        if len(text.encode("utf-8")) < MOST_BYTES:
            return text
    raise RecordError(
        f"Expected a report below {MOST_BYTES:,} bytes. Got more, of {len(heads)} heads: compare fewer at a time."
    )


def _analysis(root: Path, heads: Sequence[HeadArtefacts]) -> dict[str, Any]:
    """Return the variables of the template that come from the analysis beside the comparison, where there is one."""
    from .analysis_page import within

    file = root / ANALYSIS_FOLDER / ANALYSIS_FILE
    found: AnalysisSections | None = None
    words, own = "", True
    if file.exists():
        try:
            analysis = read_analysis(file)
        except RecordError as fault:
            words = f"The analysis of these models cannot be shown. {fault}"
        else:
            places = _places(analysis, heads)
            own = places is None
            # Half of the page: the other half is the comparison's.
            found = next(within(analysis, MOST_BYTES // 2, places=places), None)
            if found is None:
                words = f"The pictures of the analysis leave no room for this page: '{file}' holds its numbers."
    return {"analysis": found, "analysis_words": words, "own_places": own}


def _places(analysis: Analysis, heads: Sequence[HeadArtefacts]) -> dict[str, int] | None:
    """Return the place of each analysed model, that of its head; None where two models would share one."""
    known = {str(seed.record["identity"]): head.index for head in heads for seed in head.seeds}
    places = {model.label: known[model.identity] for model in analysis.models if model.identity in known}
    return places if len(places) == len(set(places.values())) == len(analysis.models) else None


def _data_name(records: list[Record]) -> str:
    name = str(records[0]["config"]["data"].get("name", "images")) if records else "no trials"
    # A path names the folder of a user; its last part says enough in a heading.
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))
