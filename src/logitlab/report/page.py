"""Records and the folders of their trials → one HTML file that loads nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlab.config.errors import RecordError
from logitlab.config.names import printable
from logitlab.records.files import write_atomic

from .artefacts import class_names, gather
from .evidence import with_evidence
from .foot import configuration, head_parameters, remarks, versions
from .recommendations import advise
from .rows import Record
from .seal import is_current, seal, source_digest
from .table import comparison_table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: No report is larger, so that it can be sent by mail.
MOST_BYTES = 2_000_000

_TEMPLATES = Path(__file__).parent / "templates"


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
    environment = _environment()
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
        **_inline(environment),
    }
    album = Album(heads, names)
    for detail in _DETAILS:
        pictures = album.page(detail.thumbnails, detail.side, detail.heads, MOST_BYTES, shared=detail.shared)
        if pictures is None:
            continue
        text = printable(page.render(**fixed, **pictures))
        if len(text.encode("utf-8")) < MOST_BYTES:
            return text
    raise RecordError(
        f"Expected a report below {MOST_BYTES:,} bytes. Got more, of {len(heads)} heads: compare fewer at a time."
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _inline(environment: Environment) -> dict[str, Any]:
    """Return style and script with the policy that lets these two run and nothing else, whatever a name may hold."""
    from markupsafe import Markup

    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    # Both files are ours and hold no text of a user.
    return {"style": Markup(style), "script": Markup(script), "policy": policy}


def _breakable(text: str) -> Markup:
    """Let a long name end a line after a colon, a comma, a bracket, an underscore or a point before a letter.

    The parts are escaped.
    """
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[:,\[_])(?=[^\s_])|(?<=\.)(?=[^\W\d])", text))


def _data_name(records: list[Record]) -> str:
    name = str(records[0]["config"]["data"].get("name", "images")) if records else "no trials"
    # A path names the folder of a user; its last part says enough in a heading.
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))
