"""Does each row lie above, or below, another one? Paired t-tests over seeds, corrected by Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..comparison import holm
from ..paired import PairedDifference, paired_difference
from ..rank_correlation import write_p
from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision, Group
from .words import because, joined, sentence, written


@dataclass(frozen=True)
class Contest:
    """Rows that may be compared with one of them, for they stand on the same setting.

    Attributes:
        than: what the others are compared with.
        groups: the others.
        name: of the setting; empty where there is one alone.
    """

    than: Group
    groups: Sequence[Group]
    name: str = ""


def decide_difference(
    groups: Sequence[Group],
    than: Group,
    *,
    above: bool = True,
    level: float = 0.05,
    factor: float = 1.0,
    decimals: int = 4,
) -> Decision:
    """Decide whether each group lies above (below) another: paired t-tests over seeds, Holm-corrected over the groups.

    *Holds* when all differences are significant in this direction, *does not* when one is significant in the other.
    Groups that cannot be tested yet count as p = 1 in Holm's correction, so that no verdict comes from leaving them
    out.

    Args:
        groups: what is claimed to lie above (below).
        than: what they are compared with.
        above: the direction.
        level: p at and below which a difference is significant.
        factor: what numbers are multiplied by in the sentences.
        decimals: of numbers in the sentences.

    >>> decision = decide_difference(
    ...     [Group("b", {0: 0.91, 1: 0.93, 2: 0.92})], Group("a", {0: 0.81, 1: 0.82, 2: 0.81}), factor=100, decimals=1
    ... )
    >>> decision.verdict, decision.evidence
    ('holds', 'b minus a: +10.7 ± 0.3 (p = 0.00098, n = 3 seeds).')
    """
    contest = Contest(than, groups)
    return decide_differences([contest], above=above, level=level, factor=factor, decimals=decimals)


def decide_differences(
    contests: Sequence[Contest],
    *,
    above: bool = True,
    level: float = 0.05,
    factor: float = 1.0,
    decimals: int = 4,
) -> Decision:
    """Decide whether, on each setting, each group lies above (below) another one of that setting.

    As :func:`decide_difference`, with Holm's correction over all comparisons of all settings.

    Args:
        contests: one a setting.
        above: the direction.
        level: p at and below which a difference is significant.
        factor: what numbers are multiplied by in the sentences.
        decimals: of numbers in the sentences.
    """
    reasons: list[str] = []
    pairs = [(group, contest.than) for contest in contests for group in contest.groups]
    found = [_compared(group, than, reasons) for group, than in pairs]
    corrected = holm([1.0 if each is None or each.p is None else each.p for each in found])
    numbers: dict[str, float | None] = {}
    sides: dict[bool, list[float]] = {True: [], False: []}
    weak: list[str] = []
    sentences: list[str] = []
    results = iter(zip(found, corrected))
    for contest in contests:
        parts = []
        for group, (each, p) in zip(contest.groups, results):
            if each is None:
                continue
            name = f"{group.label} minus {contest.than.label}"
            numbers[f"{group.label} - {contest.than.label}"] = each.mean
            error = "" if each.error is None else f" ± {written(each.error, factor, decimals)}"
            tested_by = "no test" if each.p is None else write_p(p)
            parts.append(
                f"{name}: {written(each.mean, factor, decimals, signed=True)}{error} ({tested_by}, n = {each.n} seeds)"
            )
            if each.p is not None and p <= level:
                sides[(each.mean > 0) == above].append(p)
            elif each.p is not None:
                weak.append(group.label)
        if parts:
            sentences.append((f"{contest.name}: " if contest.name else "") + sentence("; ".join(parts)))
    if sentences and len(pairs) > 1:
        sentences.append(f"Holm-corrected over {len(pairs)} {'rows' if len(contests) == 1 else 'comparisons'}.")
    evidence = joined(*sentences)
    if sides[False]:
        return Decision(DOES_NOT, evidence, numbers, min(sides[False]))
    if pairs and len(sides[True]) == len(pairs):
        return Decision(HOLDS, evidence, numbers, max(sides[True]))
    if weak:
        reasons.append(f"p is above {level:g} for {', '.join(weak)}")
    tested = [p for each, p in zip(found, corrected) if each is not None and each.p is not None]
    why = because(reasons or ["there is nothing to compare"])
    return Decision(NOT_DECIDED, joined(evidence, why), numbers, max(tested, default=None))


def _compared(group: Group, than: Group, reasons: list[str]) -> PairedDifference | None:
    """Compare two rows; what stands in the way of a test is added to ``reasons``."""
    faults = [each.reason for each in (than, group) if each.reason is not None]
    reasons += faults
    if faults:
        return None
    if len(group.values.keys() & than.values.keys()) < 2:
        reasons.append(f"{group.label} and {than.label}: fewer than two seeds in common")
        return None
    difference = paired_difference(group.values, than.values)
    if difference.p is None:
        reasons.append(f"{group.label} and {than.label}: all seeds differ by exactly the same")
    return difference
