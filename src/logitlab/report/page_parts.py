"""What the pages share: their templates, style, script and policy, and how large they may be."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: No report is larger, so that it can be sent by mail.
MOST_BYTES = 2_000_000

_TEMPLATES = Path(__file__).parent / "templates"


def template_environment() -> Environment:
    """Return the templates; whatever a variable holds is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def inline(environment: Environment) -> dict[str, Any]:
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


def breakable(text: str) -> Markup:
    """Let a long name end a line after a colon, a comma, a bracket, an underscore or a point before a letter.

    The parts are escaped.

    Args:
        text: a name.
    """
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[:,\[_])(?=[^\s_])|(?<=\.)(?=[^\W\d])", text))
