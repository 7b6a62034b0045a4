"""``logitlab study list`` as lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from ..config.names import printable
from ..studies.catalogue import StudySummary, TrialCount
from ..studies.status import StudyStatus
from .study_status import counts_text

_WIDTH = 80


def presets_text(presets: Sequence[StudySummary]) -> str:
    """List presets: name and title, source, and the size of each scale."""
    lines = []
    for preset in presets:
        lines += _wrap(preset.title or preset.source, first=f"{preset.name}  ")
        if preset.source and preset.title:
            lines += _wrap(f"Source: {preset.source}", first="  ")
        names = [name or "its only size" for name in preset.scales]
        width = max(map(len, names))
        sizes = zip(names, preset.scales.values())
        lines += [f"  {name:{width}}  {size_text(count)}" for name, count in sizes]
        lines.append("")
    first = presets[0].name if presets else "FILE"
    lines += _wrap(
        f"'logitlab study run {first} --scale NAME' runs one; the first scale is taken where none is named. "
        "'logitlab study show NAME' shows all of it. A study of your own is a YAML file: 'logitlab study run FILE'."
    )
    return "\n".join(lines) + "\n"


def folder_text(folder: Path, found: Sequence[StudyStatus]) -> str:
    """List the studies of a folder with how far they are."""
    lines = [f"In '{folder}':"]
    for status in found:
        lines += _wrap(status.title, first=f"  {status.name}  ", rest="    ")
        lines.append(f"    {counts_text(status)}")
    return printable("\n".join(lines)) + "\n"


def size_text(count: TrialCount) -> str:
    """Say how many rows and trials a study has.

    >>> size_text(TrialCount(9, 27)), size_text(TrialCount(9, 27, 200, at_least=True))
    ('9 rows, 27 trials', '9 rows, 27 trials and a search of at least 200')
    """
    text = f"{count.rows} row{'s' * (count.rows != 1)}, {count.final} trial{'s' * (count.final != 1)}"
    return f"{text} and a search of {'at least ' if count.at_least else ''}{count.search}" if count.search else text


def _wrap(text: str, *, first: str = "", rest: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]
