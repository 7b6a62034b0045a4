"""The claims of a study against its numbers: each holds, does not, or is not decided at this scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.study import ClaimConfig
from logitlab.records.papers import PaperTable
from logitlab.records.study import StudyResults, StudyRow
from logitlab.statistics import verdicts as rules

from .paper import PaperReading, read_paper
from .reading import (
    axis_value,
    column_of,
    group_of,
    one_line,
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

    def __str__(self) -> str:
        source = f" ({self.claim.source})" if self.claim.source else ""
        return f"{one_line(self.claim.text)}{source}: {self.verdict}. {self.evidence}"

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

    A row that is not whole decides nothing, nor does one seed. A claim that speaks of rows, measures or columns that
    are not there is not decided, and the evidence says what it asks for.

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
    return f"{measure} of {rows} in the order of the paper's {claim.paper}: Spearman's ρ > 0, p ≤ {claim.level:g}."


def _decide(results: StudyResults, claim: ClaimConfig, reading: PaperReading | None) -> Verdict:
    rows, faults = resolve(results, claim.rows)
    if (fault := unknown_measure(results, claim.measure)) is not None:
        faults.append(fault)
    if claim.rule in ("above", "below"):
        decision = _difference(results, claim, rows, faults)
    elif claim.rule in ("increases", "decreases"):
        decision = _trend(results, claim, rows, faults)
    elif claim.rule == "best_among":
        decision = _best_among(results, claim, rows, faults)
    else:
        decision = _paper_order(results, claim, rows, faults, reading)
    return Verdict(claim, decision.verdict, decision.evidence, decision.numbers, decision.p)


def _unanswerable(faults: Sequence[str]) -> rules.Decision:
    return rules.Decision(rules.NOT_DECIDED, f"Cannot be asked of this study: {'; '.join(faults)}.")


def _writing(results: StudyResults, claim: ClaimConfig) -> dict[str, Any]:
    column = column_of(results, claim.measure)
    # Errors of a third of the last digit would be written as 0.
    return {"factor": column.factor, "decimals": column.decimals + 1}


def _difference(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    base, missing = resolve(results, (claim.than or "",))
    faults = [*faults, *missing]
    if len(base) > 1:
        faults.append(f"'{claim.than}' makes {len(base)} rows; name one of them")
    if not faults and not claim.rows:
        rows = [row for row in results.rows if row.label != base[0].label]
        if not rows:
            faults.append("there is no other row")
    if faults:
        return _unanswerable(faults)
    return rules.decide_difference(
        [group_of(row, claim.measure) for row in rows if row.label != base[0].label],
        group_of(base[0], claim.measure),
        above=claim.rule == "above",
        level=claim.level,
        **_writing(results, claim),
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
    points = [
        (place, group_of(row, claim.measure)) for row in rows if (place := axis_value(results, row, along)) is not None
    ]
    # Where a row stands that waits for its value nobody knows yet.
    points += [(float("inf"), group_of(row, claim.measure)) for row in without]
    return rules.decide_trend(
        points, rising=claim.rule == "increases", level=claim.level, along=along, **_writing(results, claim)
    )


def _best_among(results: StudyResults, claim: ClaimConfig, rows: list[StudyRow], faults: list[str]) -> rules.Decision:
    if faults:
        return _unanswerable(faults)
    chosen = [row.label for row in rows]
    rivals = [
        row for group in row_groups(results) if any(row.label in chosen for row in group.rows) for row in group.rows
    ]
    return rules.decide_best_among(
        [group_of(row, claim.measure) for row in rivals],
        chosen,
        higher_is_better=claim.better == "higher",
        level=claim.level,
        **_writing(results, claim),
    )


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
    rows = rows if claim.rows else list(results.rows)
    return rules.decide_same_order(
        [(group_of(row, claim.measure), number) for row, number in zip(rows, reading.numbers(rows, column))],
        level=claim.level,
    )
