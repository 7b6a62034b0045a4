"""What the folders of many trials show, at the price of one or two looks at names each. No torch."""

from __future__ import annotations

import heapq
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..records.beside import concerns
from ..records.claims import STALE_SECONDS, Holder, holder

#: How many records are read for their seconds, and how many failures for their causes.
RECORDS_READ: Final = 200
FAILURES_READ: Final = 500


@dataclass
class Findings:
    """What has become of trials.

    Attributes:
        folder: that holds them.
        done: identity → time of its record, for trials that left all that is asked for.
        running: identity → who holds it.
        failed: identity → its failure (keys of ``Failure.error``), as far as it was read.
        unread: failed ones beyond those.
        left: trials that nobody has begun, or that were interrupted.
    """

    folder: Path
    done: dict[str, float] = field(default_factory=dict)
    running: dict[str, Holder] = field(default_factory=dict)
    failed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def scan(folder: Path, trials: Mapping[str, Collection[str]]) -> Findings:
    """Look at trials.

    Args:
        folder: that holds them.
        trials: identity → files that a record alone does not make done, as paths in the trial's folder.

    Raises:
        OSError: the file system refuses.
    """
    found = Findings(folder)
    base = str(folder)
    for identity, beside in trials.items():
        try:
            # Of ten thousand trials each microsecond counts, and a Path costs several.
            written = os.stat(f"{base}/{identity}/record.json").st_mtime  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            written = None
        if written is not None and all(os.path.exists(f"{base}/{identity}/{part}") for part in beside):  # noqa: PTH110
            found.done[identity] = written
        else:
            _look_closer(found, identity, beside)
    return found


def trial_names(folder: Path) -> list[str]:
    """Return the identities of all trials in a folder, sorted.

    Raises:
        OSError: the file system refuses.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def sample_seconds(found: Findings, groups: Mapping[str, Iterable[str]]) -> dict[str, list[float]]:
    """Read how long the latest trials of each group took; of all groups together so many as ``RECORDS_READ``.

    Args:
        found: see :func:`scan`.
        groups: name → identities.
    """
    done = {
        name: [(found.done[each], each) for each in members if each in found.done] for name, members in groups.items()
    }
    done = {name: members for name, members in done.items() if members}
    if not done:
        return {}
    share = max(RECORDS_READ // len(done), 1)
    chosen = [(when, each, name) for name, members in done.items() for when, each in heapq.nlargest(share, members)]
    seconds: dict[str, list[float]] = {}
    for _, identity, name in heapq.nlargest(RECORDS_READ, chosen):
        taken = _read(found.folder / identity / "record.json", "provenance").get("seconds")
        if isinstance(taken, (int, float)):
            seconds.setdefault(name, []).append(float(taken))
    return seconds


def _look_closer(found: Findings, identity: str, beside: Collection[str]) -> None:
    """Look at a trial that is not done: its claims first, for a failed one may be tried again just now."""
    folder = found.folder / identity
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        names = set()
    if any(name.startswith("claim.") for name in names) and (held := _holder(folder)) is not None:
        found.running[identity] = held
    elif "error.json" not in names:
        found.left.append(identity)
    elif len(found.failed) < FAILURES_READ:
        error = _read(folder / "error.json", "error")
        if concerns(error, beside):
            found.failed[identity] = error
        else:
            found.left.append(identity)
    else:
        found.unread.append(identity)


def _holder(folder: Path) -> Holder | None:
    try:
        return holder(folder)
    except OSError:
        # The time of the file system is found by writing; where that is refused, this machine's clock has to do.
        touched = [path.stat().st_mtime for path in folder.glob("claim.*.json")]
        return Holder() if touched and time.time() - max(touched) < STALE_SECONDS else None


def _read(path: Path, part: str) -> Mapping[str, Any]:
    """Read one part of a record or a failure; a damaged one says nothing here."""
    try:
        found = json.loads(path.read_bytes())[part]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
