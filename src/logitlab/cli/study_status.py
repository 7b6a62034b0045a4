"""``logitlab study status`` as text, as JSON, once or again and again."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ..config.names import printable
from ..studies.status import RowStatus, RunningTrial, StudyStatus, all_status

#: Between two looks of ``--watch``.
WATCH_SECONDS: Final = 2.0

#: So many running trials, causes and rows that wait are told one by one.
_MOST: Final = 20


def show_status(root: Path, names: Sequence[str], *, as_json: bool = False, watch: bool = False) -> None:
    """Print how far studies are.

    Args:
        root: of the store.
        names: of studies; none for trials that belong to no study.
        as_json: print one document, or with ``watch`` one a line.
        watch: look again until nothing is left to run.
    """
    clear = watch and not as_json and sys.stdout.isatty()
    while True:
        found = all_status(root, names)
        if as_json:
            text = json.dumps([asdict(each) | {"total": each.total} for each in found], indent=None if watch else 1)
        else:
            text = "\n\n".join(status_text(each, root) for each in found)
        sys.stdout.write(("\x1b[2J\x1b[H" if clear else "") + printable(text) + "\n")
        sys.stdout.flush()
        if not watch or not any(each.left or each.running for each in found):
            return
        time.sleep(WATCH_SECONDS)
        if not as_json and not clear:
            sys.stdout.write("\n")


def status_text(status: StudyStatus, root: Path) -> str:
    """Say how far a study is."""
    lines = [_title(status), f"  {_counts(status)}", f"  {_ahead(status)}"]
    if status.rows:
        lines += ["", *_table(status.rows)]
    reasons = [(row.label, row.blocked or row.waiting) for row in status.rows if row.blocked or row.waiting]
    lines += _paragraph("Waiting", [f"{label}: {reason}" for label, reason in reasons])
    lines += _paragraph("Running", [_running(trial) for trial in status.running])
    if status.failed:
        causes = [_cause(group.cause, group.count, group.examples) for group in status.failures]
        if status.unread:
            causes.append(f"and {status.unread} more, whose causes were not read")
        lines += _paragraph("Failed", causes)
        if status.name is not None:
            lines.append(f"  'logitlab study retry {root}' tries them again.")
    return "\n".join(lines)


def counts_text(status: StudyStatus) -> str:
    """Say in a clause how many trials there are of each kind."""
    return _counts(status)


def duration(seconds: float) -> str:
    """Write a time so that two units say enough.

    >>> duration(42.4), duration(125), duration(3 * 3600 + 60 * 5), duration(3 * 86400 + 3600)
    ('42 s', '2 min 5 s', '3 h 5 min', '3 d 1 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, rest_size, rest_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // rest_size
            return f"{whole // size} {unit}" + (f" {rest} {rest_unit}" if rest else "")
    raise AssertionError


def _rough(seconds: float) -> float:
    """Round an estimate to what it is worth: seconds, then ten of them, minutes, tens of minutes.

    >>> _rough(42.4), _rough(125), _rough(1938), _rough(45678)
    (42, 130, 1920, 45600)
    """
    step = next(step for most, step in ((60, 1), (600, 10), (36000, 60), (math.inf, 600)) if seconds < most)
    return step * round(seconds / step + 1e-9)


def _title(status: StudyStatus) -> str:
    if status.name is None:
        return "Trials of no study"
    return f"{status.name}: {status.title}" if status.title else status.name


def _counts(status: StudyStatus) -> str:
    parts = [f"{status.done} done", f"{len(status.running)} running", f"{status.failed} failed", f"{status.left} left"]
    return f"{status.total} {'trial' if status.total == 1 else 'trials'}: {', '.join(parts)}"


def _ahead(status: StudyStatus) -> str:
    if not status.left and not status.running:
        return "Nothing is left to run." if not status.failed else "Nothing is left to run but what failed."
    if status.seconds_left is None or status.seconds_a_trial is None:
        ahead = "Time left: unknown before the first trial is done."
    else:
        pace = f"{_short(status.seconds_a_trial)} a trial, {status.workers} at a time"
        ahead = f"Time left: about {duration(_rough(status.seconds_left))} ({pace})."
    idle = " Nobody is running it now; the command that began it continues it." if not status.running else ""
    return ahead + idle


def _table(rows: Sequence[RowStatus]) -> list[str]:
    width = max(len("row"), *(len(row.label) for row in rows))
    lines = [f"  {'row':{width}}  {'done':>5}  {'running':>7}  {'failed':>6}  {'left':>5}  {'a trial':>8}"]
    for row in rows:
        pace = "–" if row.seconds_a_trial is None else _short(row.seconds_a_trial)
        lines.append(
            f"  {row.label:{width}}  {row.done:5}  {row.running:7}  {row.failed:6}  {row.left:5}  {pace:>8}"
            + ("  blocked" if row.blocked else "  waiting" if row.waiting else "")
        )
    return lines


def _running(trial: RunningTrial) -> str:
    name = trial.identity if trial.row is None else f"{trial.row}, seed {trial.seed}"
    role = ", search" if trial.role == "search" else ""
    where = "another process" if trial.host is None else f"process {trial.pid} on {trial.host}"
    since = "" if trial.seconds is None else f", for {duration(trial.seconds)}"
    return f"{name}{role}: {where}{since}"


def _cause(cause: str, count: int, examples: Sequence[str]) -> str:
    more = ", …" if count > len(examples) else ""
    times = f"{count} times " if count > 1 else ""
    return f"{times}{cause} ({'; '.join(examples)}{more})"


def _paragraph(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"    and {len(items) - _MOST} more"] if len(items) > _MOST else []
    return ["", f"  {title}:", *(f"    {item}" for item in items[:_MOST]), *more]


def _short(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)
