"""The claims of a study against its numbers: each holds, does not, or is not decided at this scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from logitlab.config.study import ClaimConfig
from logitlab.records.papers import PaperTable
from logitlab.records.study import StudyResults, StudyRow
from logitlab.statistics import verdicts as rules

from .paper import PaperReading, read_paper
from .plain_text import one_line, plain
from .reading import (
    axis_value,
    column_of,
    group_of,
    resolve,
    row_groups,
    unknown_measure,
    will_stand_on,
)


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim.

    Attributes:
        claim: with the rule that was written before the study ran.
        verdict: ``"holds"``, ``"does not"`` or ``"not decided at this scale"``.
        evidence: the numbers behind it, in sentences.
        numbers: the same for a program: name → value, None where it is undefined.
        p: the p that decided; None without a test.
    """

    claim: ClaimConfig
    verdict: rules.Verdict
    evidence: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    p: float | None = None

    @property
    def line(self) -> str:
        """Verdict, claim and source on one line, without the evidence."""
        source = f" ({self.claim.source})" if self.claim.source else ""
        return plain(f"{self.verdict}: {self.claim.text}{source}")

    def __str__(self) -> str:
        source = f" ({self.claim.source})" if self.claim.source else ""
        return plain(f"{one_line(self.claim.text)}{source}: {self.verdict}. {self.evidence}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "claim": self.claim.model_dump(mode="json"),
            "verdict": self.verdict,
            "evidence": self.evidence,
            "numbers": dict(self.numbers),
            "p": self.p,
        }


def verdicts(results: StudyResults, paper: PaperTable | None = None) -> list[Verdict]:
    """Decide every claim of a study by its rule, on our own numbers.

    A row that is not whole decides nothing, nor does one seed. Rows of other images, or at other values of the study's
    own grid, are never compared: a claim holds where it holds on each of these settings, and does not where it does
    not on one. A claim that speaks of rows, measures or columns that are not there is not decided, and the evidence
    says what it asks for.

    Args:
        results: of the study.
        paper: the paper's table; None for the one that the definition names.
    """
    reading = read_paper(results, paper) if any(claim.paper for claim in results.definition.claims) else None
    return [_decide(results, claim, reading) for claim in results.definition.claims]


def rule_text(claim: ClaimConfig, results: StudyResults) -> str:
    """Say a rule in a sentence, as it was written before the study ran.

    Args:
        claim: with its rule.
        results: of the study, for the title of the measure.
    """
    names = [group.name for group in row_groups(results, claim.along)]
    apart = f"the {len(names)} settings" if len(names) > 3 else "; ".join(names)
    return plain(_rule(claim, results) + (f" Each setting by itself: {apart}." if len(names) > 1 else ""))


def _rule(claim: ClaimConfig, results: StudyResults) -> str:
    measure = column_of(results, claim.measure).title
    rows = ", ".join(claim.rows) or "all rows"
    if claim.rule in ("above", "below"):
        others = rows if claim.rows else "all other rows"
        test = f"paired t-tests over seeds, Holm-corrected, p ≤ {claim.level:g}"
        return f"{measure} of {others} {claim.rule} that of {claim.than}: {test}."
    if claim.rule in ("increases", "decreases"):
        sign = ">" if claim.rule == "increases" else "<"
        rows = rows if claim.rows else "all rows that stand on it"
        return f"{measure} {claim.rule} along {claim.along}, over {rows}: Spearman's ρ {sign} 0, p ≤ {claim.level:g}."
    if claim.rule == "best_among":
        return (
            f"{'Highest' if claim.better == 'higher' else 'Lowest'} {measure} among {rows}: all others significantly "
            f"worse than the best, pooled t-tests, p ≤ {claim.level:g}."
        )
    if claim.rule == "exceeds":
        other = column_of(results, claim.than_measure or "").title
        test = f"a paired t-test over the models, p ≤ {claim.level:g}"
        return f"{measure} larger than {other} of the same models, over {rows}: {test}."
    return f"{measure} of {rows} in the order of the paper's {claim.paper}: Spearman's ρ > 0, p ≤ {claim.level:g}."


def _decide(results: StudyResults, claim: ClaimConfig, reading: PaperReading | None) -> Verdict:
    rows, faults = resolve(results, claim.rows)
    for measure in filter(None, (claim.measure, claim.than_measure)):
        if (fault := unknown_measure(results, measure)) is not None:
            faults.append(fault)
    if claim.rule == "exceeds":
        decision = _exceeds(results, claim, rows, faults)
    elif claim.rule in ("above", "below"):
        decision = _difference(results, claim, rows, faults)
    elif claim.rule in ("increases", "decreases"):
        decision = _trend(results, claim, rows, faults)
    elif claim.rule == "best_among":
        decision = _best_among(results, claim, rows, faults)
    else:
        decision = _paper_order(results, claim, rows, faults, reading)
    return Verdict(claim, decision.verdict, plain(decision.evidence), decision.numbers, decision.p)


def _unanswerable(faults: Sequence[str]) -> rules.Decision:
    return rules.Decision(rules.NOT_DECIDED, f"Cannot be asked of this study: {'; '.join(faults)}.")


def _writing(results: StudyResults, claim: ClaimConfig) -> dict[str, Any]:
    column = column_of(results, claim.measure)
    # Errors of a third of the last digit would be written as 0.
    return {"factor": column.factor, "decimals": column.decimals + 1}


def _with_remarks(decision: rules.Decision, *remarks: str) -> rules.Decision:
    return replace(decision, evidence=" ".join(filter(None, (decision.evidence, *remarks))))


def _some(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return ", ".join(labels[:4]) + rest


def _difference(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    base, missing = resolve(results, (claim.than or "",))
    faults = [*faults, *missing]
    rows = rows if claim.rows else list(results.rows)
    bases = {row.label for row in base}
    contests, apart, itself = [], [], []
    for group in row_groups(results):
        labels = {row.label for row in group.rows}
        here = [row for row in base if row.label in labels]
        others = [row for row in rows if row.label in labels and row.label not in bases]
        itself += [row.label for row in rows if claim.rows and row.label in labels and row.label in bases]
        if len(here) > 1:
            where = f" at {group.name}" if group.name else ""
            faults.append(f"'{claim.than}' makes {len(here)} rows{where}; name one of them")
            break
        if here and others:
            tested = [group_of(row, claim.measure) for row in others]
            contests.append(rules.Contest(group_of(here[0], claim.measure), tested, group.name))
        elif not here:
            apart += [row.label for row in others]
    if not faults and not contests:
        where = ", on its own setting" if apart else ""
        faults.append(f"no row is left beside '{claim.than}'{where}")
    if faults:
        return _unanswerable(faults)
    decision = rules.decide_differences(
        contests, above=claim.rule == "above", level=claim.level, **_writing(results, claim)
    )
    return _with_remarks(
        decision,
        f"Left out, for it is what the others are compared with: {_some(itself)}." if itself else "",
        f"Left out, for '{claim.than}' does not stand on their setting: {_some(apart)}." if apart else "",
    )


def _trend(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    along = claim.along or ""
    if not claim.rows:
        rows = [row for row in results.rows if will_stand_on(results, row, along)]
        if not rows:
            faults = [*faults, f"no row has a number for '{along}'"]
    if faults:
        return _unanswerable(faults)
    without = [row for row in rows if axis_value(results, row, along) is None]
    for row in without:
        if not will_stand_on(results, row, along):
            faults = [*faults, f"{row.label} has no number for '{along}'"]
    if faults:
        return _unanswerable(faults)
    found = []
    for name, members in _by_setting(results, rows, along):
        # Where a row stands that waits for its value nobody knows yet.
        places = [(axis_value(results, row, along), row) for row in members]
        points = [(math.inf if place is None else place, group_of(row, claim.measure)) for place, row in places]
        decision = rules.decide_trend(
            points, rising=claim.rule == "increases", level=claim.level, along=along, **_writing(results, claim)
        )
        found.append((name, decision))
    return rules.decide_everywhere(found)


def _by_setting(
    results: StudyResults, rows: Sequence[StudyRow], along: str | None = None
) -> list[tuple[str, list[StudyRow]]]:
    """Part rows by the setting that they stand on, with its name; settings without any are left out."""
    found = []
    for group in row_groups(results, along):
        labels = {row.label for row in group.rows}
        if members := [row for row in rows if row.label in labels]:
            found.append((group.name, members))
    return found


def _exceeds(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    if faults:
        return _unanswerable(faults)
    other, names = claim.than_measure or "", (column_of(results, claim.measure).title,)
    found = []
    for name, members in _by_setting(results, rows if claim.rows else results.rows):
        decision = rules.decide_exceeds(
            [(_looked_at(row, claim.measure), _looked_at(row, other)) for row in members],
            (*names, column_of(results, other).title),
            level=claim.level,
            **_writing(results, claim),
        )
        found.append((name, decision))
    return rules.decide_everywhere(found)


def _looked_at(row: StudyRow, measure: str) -> rules.Group:
    """A row as the rules take it; an analysis of all models together may have looked at its first seeds alone."""
    group = group_of(row, measure)
    if not measure.startswith("analysis.") or row.missing or row.failures:
        return group
    return rules.Group(row.label, {seed: group.values[seed] for seed in row.seeds if measure in row.seeds[seed]})


def _best_among(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    if faults:
        return _unanswerable(faults)
    everybody, found = dict(_by_setting(results, results.rows)), []
    for name, members in _by_setting(results, rows):
        decision = rules.decide_best_among(
            [group_of(row, claim.measure) for row in everybody[name]],
            [row.label for row in members],
            higher_is_better=claim.better == "higher",
            level=claim.level,
            **_writing(results, claim),
        )
        found.append((name, decision))
    without = [name for name in everybody if name not in dict(found)]
    remark = f"Left out, for none of the rows stands there: {_some(without)}." if without else ""
    return _with_remarks(rules.decide_everywhere(found), remark)


def _paper_order(
    results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str], reading: PaperReading | None
) -> rules.Decision:
    column = claim.paper or ""
    if reading is None or reading.table is None:
        faults = [*faults, *(note.rstrip(".") for note in (reading.notes if reading else ()))]
        faults = faults or ["the study names no table of a paper"]
    elif column not in reading.table.columns:
        faults = [*faults, f"the paper's table has no column '{column}'"]
    if faults or reading is None:
        return _unanswerable(faults)
    settings = [
        (name, members, reading.numbers(members, column))
        for name, members in _by_setting(results, rows if claim.rows else results.rows)
    ]
    printed = [each for each in settings if any(number is not None for number in each[2])]
    found = [
        (
            name,
            rules.decide_same_order(
                [(group_of(row, claim.measure), number) for row, number in zip(members, numbers)], level=claim.level
            ),
        )
        for name, members, numbers in printed or settings
    ]
    without = [name for name, *_ in settings if name not in dict(found)]
    remark = f"Left out, for the paper prints nothing for them: the rows at {_some(without)}." if without else ""
    return _with_remarks(rules.decide_everywhere(found), remark)
