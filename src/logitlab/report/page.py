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
from .recommendations import recommendations
from .rows import Record
from .table import comparison_table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: No report is larger, so that it can be sent by mail.
MOST_BYTES = 2_000_000

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _Detail:
    """How much the page shows: thumbnails of each kind, their side, and heads with pictures of their own."""

    thumbnails: int
    side: int
    heads: int


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
)


def write_report(records: Iterable[Record], root: Path | str, path: Path | str, *, title: str | None = None) -> Path:
    """Write the page of a comparison.

    The same records and artefacts give the same bytes. What a trial did not leave (an older record, a failed head,
    a head without probabilities) is said in words in its place.

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
    target = Path(path)
    text = render(list(records), Path(root), title)
    write_atomic(target, lambda file: file.write(text.encode("utf-8")))
    return target


def render(records: list[Record], root: Path, title: str | None = None) -> str:
    """Return the page as a text; arguments and errors as for :func:`write_report`."""
    # Pictures need NumPy and matplotlib, which nobody waits for who wants the table alone.
    from . import multiples, sections

    heads = gather(records, root)
    names = class_names(heads, root)
    # A head without a finished trial is named with the failures and in the table; it has no pictures.
    trained = [head for head in heads if head.seeds]
    fixed: dict[str, Any] = {
        "title": _plain(title or f"Classifier heads on {_data_name(records)}"),
        "overview": sections.overview(records, heads, names),
        "heads": heads,
        "trained": trained,
        "recommendations": with_evidence(recommendations(records), heads),
        "table": sections.sortable(comparison_table(records), heads),
        "dots": sections.dots(trained),
        "curves": sections.curves(heads),
        "classes": sections.classes(trained, names),
        "ood": sections.ood_table(trained),
        "failed": sections.failed(heads),
        "configuration": configuration(records),
        "head_parameters": head_parameters(heads),
        "versions": versions(records),
        "remarks": remarks(records),
    }
    environment = _environment()
    panels: dict[int, dict[str, Any]] = {}
    for detail in _DETAILS:
        shown = trained[: detail.heads]
        if len(shown) not in panels:
            panels[len(shown)] = multiples.small_multiples(shown, names)
        text = environment.get_template("report.html").render(
            **fixed,
            **panels[len(shown)],
            examples=sections.examples(shown, names, detail.thumbnails, detail.side),
            left_out=[head.label for head in trained[detail.heads :]],
            **_inline(environment),
        )
        text = printable(text)
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


def _breakable(label: str) -> Markup:
    """Let a long specification end a line after a colon, a comma or a bracket; its parts are escaped."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[:,\[])(?=.)", label))


def _data_name(records: list[Record]) -> str:
    name = str(records[0]["config"]["data"].get("name", "images")) if records else "no trials"
    # A path names the folder of a user; its last part says enough in a heading.
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))
