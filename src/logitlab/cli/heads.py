"""``logitlab heads``."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from .borrowing import with_options_from
from .compare import compare


@with_options_from(compare, "plugin")
def heads(
    name: Annotated[str | None, typer.Argument(help="Show this head alone, with all its parameters.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    *,
    shared: dict[str, Any],
) -> None:
    """List the heads: name, paper and equation, parameters with ranges and defaults, presets."""
    from ..heads import list_heads
    from ..heads.description import describe_head
    from ..studies.plugins import import_plugins
    from .heads_text import head_text, heads_text

    import_plugins(shared["plugin"] or ())
    found = [describe_head(known) for known in (list_heads() if name is None else [name])]
    if as_json:
        values = [described.to_json() for described in found]
        sys.stdout.write(json.dumps(values if name is None else values[0], indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(heads_text(found) if name is None else head_text(found[0]))
