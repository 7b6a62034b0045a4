"""The foot of the page: how the trials were configured, and with what they ran."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .artefacts import HeadArtefacts
from .rows import Record

Pairs = list[tuple[str, str]]

# Said elsewhere, or once a head.
_LEFT_OUT = ("seed", "head", "revision")


def configuration(records: Sequence[Record]) -> Pairs:
    """Return the settings with their values; where trials differ, every value that occurs.

    Args:
        records: finished and failed trials.
    """
    found: dict[str, list[str]] = {}
    for record in records:
        settings = {key: value for key, value in record["config"].items() if key not in _LEFT_OUT}
        for path, value in _flat(settings).items():
            values = found.setdefault(path, [])
            if (text := _text(value)) not in values:
                values.append(text)
    # A setting that nobody set says nothing.
    return [(path, " | ".join(values)) for path, values in found.items() if values != ["none"]]


def head_parameters(heads: Sequence[HeadArtefacts]) -> list[tuple[str, str, str, str]]:
    """Return for each head: label, link, number of parameters of the model, and what its name resolved to."""
    rows = []
    for head in heads:
        result: Mapping[str, Any] = head.seeds[0].record["result"] if head.seeds else {}
        resolved = result.get("head_parameters") or {}
        written = ", ".join(f"{key}={_text(value)}" for key, value in resolved.items())
        count = result.get("parameters")
        number = f"{count:,}" if isinstance(count, int) else "–"
        rows.append((head.label, str(result.get("link", "–")), number, written or "–"))
    return rows


def versions(records: Sequence[Record]) -> Pairs:
    """Return what the finished trials ran on: versions, device, platform, time; all values that occur."""
    found: dict[str, list[str]] = {}
    seconds = 0.0
    started, finished = [], []
    for record in records:
        provenance = record.get("provenance") or {}
        seconds += float(provenance.get("seconds") or 0)
        started.append(str(provenance.get("started") or ""))
        finished.append(str(provenance.get("finished") or ""))
        shown = {**(provenance.get("versions") or {})}
        shown.update({key: provenance[key] for key in ("device", "threads", "platform") if key in provenance})
        for key, value in shown.items():
            values = found.setdefault(key, [])
            if (text := _text(value)) not in values:
                values.append(text)
    pairs = [(key, " | ".join(values)) for key, values in found.items()]
    begun = min((time for time in started if time), default="")
    if begun:
        pairs.append(("first trial started", begun))
        pairs.append(("last trial finished", max(finished)))
    if seconds:
        pairs.append(("seconds, all trials together", f"{seconds:,.1f}"))
    return pairs


def remarks(records: Sequence[Record]) -> list[str]:
    """Return the warnings of the trials, each once, with how many trials had it."""
    count: dict[str, int] = {}
    for record in records:
        for warning in (record.get("provenance") or {}).get("warnings") or ():
            count[str(warning)] = count.get(str(warning), 0) + 1
    return [f"{text} ({number} trials)" if number > 1 else text for text, number in count.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{prefix}{key}."))
        elif value != {}:
            found[f"{prefix}{key}"] = value
    return found


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
