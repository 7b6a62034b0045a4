"""How far a study is: what is done, what failed and why, what waits for what, and the command that goes on with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from logitlab.records.study import StudyResults

from .plain_text import one_line, plain
from .reading import expected_seeds, setting_text


@dataclass(frozen=True)
class StudyState:
    """How far a study is.

    Attributes:
        word: ``"done"``, ``"done, with failures"`` or ``"not finished"``.
        finished: final trials with a result.
        known: final trials that are planned so far.
        search: trials of searches: finished and planned.
        failures: row, seed, why.
        unfinished: row, what it lacks, in a sentence.
    """

    word: str
    finished: int
    known: int
    search: tuple[int, int]
    failures: tuple[tuple[str, int, str], ...]
    unfinished: tuple[tuple[str, str], ...]


def study_state(results: StudyResults) -> StudyState:
    """Read how far a study is from its rows.

    Args:
        results: of the study.
    """
    failures = [
        (plain(row.label), seed, plain(reason)) for row in results.rows for seed, reason in sorted(row.failures.items())
    ]
    unfinished = []
    for row in results.rows:
        if row.plan.blocked is not None:
            unfinished.append((row.label, f"Blocked: {one_line(row.plan.blocked)}."))
        elif row.plan.waiting is not None:
            unfinished.append((row.label, f"Waits: {one_line(row.plan.waiting)}."))
        elif row.missing:
            count = len(row.missing)
            unfinished.append((row.label, f"{count} trial{'s' if count != 1 else ''} without a result yet."))
        elif not row.seeds and not row.failures:
            unfinished.append((row.label, "No trial has begun."))
    searched = [trial for trial in results.plan.trials if trial.role == "search"]
    found = sum(results.searched.get(trial.identity) is not None for trial in searched)
    only_blocked = all(row.plan.blocked is not None for row in results.rows if row.label in dict(unfinished))
    word = "not finished" if unfinished and not only_blocked else "done, with failures"
    return StudyState(
        word if unfinished or failures else "done",
        sum(len(row.seeds) for row in results.rows),
        sum(expected_seeds(row) for row in results.rows),
        (found, len(searched)),
        tuple(failures),
        tuple((plain(label), sentence) for label, sentence in unfinished),
    )


def study_command(results: StudyResults) -> str:
    """Return the command that makes a study, or goes on with it."""
    definition = results.definition
    parts = ["logitlab", "study", "run", shlex.quote(definition.name)]
    if definition.scale is not None:
        parts += ["--scale", shlex.quote(definition.scale)]
    return plain(" ".join(parts))


def scale_text(results: StudyResults) -> str:
    """Say in a sentence at which scale a study ran, and that this is not the paper's setting."""
    definition = results.definition
    ours = setting_text(results, scale=False)
    if definition.paper is None:
        return plain(f"Ran on: {ours}.")
    scale = f"Scale {definition.scale}" if definition.scale is not None else "No scale"
    if definition.scale is not None and definition.scale.startswith("paper"):
        return plain(f"{scale}: {ours}. Meant to be the paper's setting; the description says what differs.")
    setting = f": {definition.paper.setting}" if definition.paper.setting else ""
    return plain(f"{scale}, which is not the paper's setting. Here: {ours}. {definition.paper.title}{setting}.")


def overview(results: StudyResults, state: StudyState) -> list[tuple[str, str]]:
    """Return the facts below the heading of the page.

    Args:
        results: of the study.
        state: of the study.
    """
    definition = results.definition
    facts = [("state", state.word), ("study", definition.name)]
    if definition.scale is not None:
        facts.append(("scale", definition.scale))
    facts.append(("ran on", setting_text(results, scale=False)))
    facts.append(("rows", str(len(results.rows))))
    facts.append(("trials of the table", f"{state.finished} of {state.known}"))
    if state.search[1]:
        facts.append(("trials of searches", f"{state.search[0]} of {state.search[1]}"))
    if state.failures:
        facts.append(("failed", str(len(state.failures))))
    if definition.source:
        facts.append(("source", definition.source))
    return [(name, plain(value)) for name, value in facts]
