"""Is a statement about groups of seeds borne out? Rules, each with the sentence that carries its numbers. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .comparison import compare_to_best, holm
from .paired import PairedDifference, paired_difference
from .rank_correlation import RankCorrelation, least_p, rank_correlation, write_p
from .summary import mean_and_error, present

Verdict = Literal["holds", "does not", "not decided at this scale"]
HOLDS: Final = "holds"
DOES_NOT: Final = "does not"
NOT_DECIDED: Final = "not decided at this scale"


@dataclass(frozen=True)
class Group:
    """The seeds of one row.

    Attributes:
        label: what the row is called.
        values: seed → value; None and NaN where it is undefined.
        lacking: why it is not whole (a trial failed, or has not run), in a clause; None where it is. What is not whole
            decides nothing: which seeds are there may depend on what they measured, and the next may turn the verdict.
            Nor does what is undefined for some of its seeds alone.
    """

    label: str
    values: Mapping[int, float | None]
    lacking: str | None = None

    @property
    def not_whole(self) -> str | None:
        """Why it is not whole, in a clause: seeds that lack, or that the measure is undefined for; None where it is."""
        if self.lacking is not None:
            return f"{self.label}: {self.lacking}"
        without = sorted(seed for seed, value in self.values.items() if not present((value,)))
        if without and len(without) < len(self.values):
            seeds = f"seed{'s' if len(without) > 1 else ''} {', '.join(map(str, without))}"
            return f"{self.label}: the measure is undefined for {seeds}"
        return None

    @property
    def reason(self) -> str | None:
        """Why it decides nothing, in a clause; None where it does."""
        if self.not_whole is not None:
            return self.not_whole
        count = len(present(self.values.values()))
        if count == 0:
            return f"{self.label}: the measure is undefined"
        if count == 1:
            return f"{self.label}: one seed, and one seed decides nothing"
        return None

    @property
    def mean(self) -> float:
        """Mean over the seeds that have a value; NaN without any."""
        kept = present(self.values.values())
        return mean_and_error(kept).mean if kept else math.nan


@dataclass(frozen=True)
class Decision:
    """What a rule says.

    Attributes:
        verdict: ``"holds"``, ``"does not"`` or ``"not decided at this scale"``.
        evidence: the numbers behind it, in sentences.
        numbers: the same for a program: name → value; None where it is undefined.
        p: the p that decided, two-sided: the largest of several where all must be significant, the smallest where one
            is enough; None without a test.
    """

    verdict: Verdict
    evidence: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    p: float | None = None


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
            error = "" if each.error is None else f" ± {_write(each.error, factor, decimals)}"
            written = "no test" if each.p is None else write_p(p)
            parts.append(
                f"{name}: {_write(each.mean, factor, decimals, signed=True)}{error} ({written}, n = {each.n} seeds)"
            )
            if each.p is not None and p <= level:
                sides[(each.mean > 0) == above].append(p)
            elif each.p is not None:
                weak.append(group.label)
        if parts:
            sentences.append((f"{contest.name}: " if contest.name else "") + _sentence("; ".join(parts)))
    if sentences and len(pairs) > 1:
        sentences.append(f"Holm-corrected over {len(pairs)} {'rows' if len(contests) == 1 else 'comparisons'}.")
    evidence = _join(*sentences)
    if sides[False]:
        return Decision(DOES_NOT, evidence, numbers, min(sides[False]))
    if pairs and len(sides[True]) == len(pairs):
        return Decision(HOLDS, evidence, numbers, max(sides[True]))
    if weak:
        reasons.append(f"p is above {level:g} for {', '.join(weak)}")
    tested = [p for each, p in zip(found, corrected) if each is not None and each.p is not None]
    why = _because(reasons or ["there is nothing to compare"])
    return Decision(NOT_DECIDED, _join(evidence, why), numbers, max(tested, default=None))


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


def decide_everywhere(decisions: Sequence[tuple[str, Decision]]) -> Decision:
    """Decide what is claimed of several settings from what was decided on each.

    *Holds* when it holds on all of them, *does not* when it does not on one.

    Args:
        decisions: of each setting, with its name; at least one.

    >>> settings = [("digits", Decision(HOLDS, "ρ = 1.")), ("faces", Decision(DOES_NOT, "ρ = -1."))]
    >>> found = decide_everywhere(settings)
    >>> found.verdict, found.evidence
    ('does not', 'digits (holds): ρ = 1. faces (does not): ρ = -1.')
    """
    if len(decisions) == 1:
        ((name, found),) = decisions
        evidence = f"{name}: {found.evidence}" if name else found.evidence
        return Decision(found.verdict, evidence, found.numbers, found.p)
    evidence = " ".join(f"{name} ({found.verdict}): {found.evidence}" for name, found in decisions)
    numbers = {f"{name}: {key}": value for name, found in decisions for key, value in found.numbers.items()}
    against = [found for _, found in decisions if found.verdict == DOES_NOT]
    deciding = [found.p for found in against or [each for _, each in decisions] if found.p is not None]
    if against:
        return Decision(DOES_NOT, evidence, numbers, min(deciding, default=None))
    whole = all(found.verdict == HOLDS for _, found in decisions)
    return Decision(HOLDS if whole else NOT_DECIDED, evidence, numbers, max(deciding, default=None))


def decide_trend(
    points: Sequence[tuple[float, Group]],
    *,
    rising: bool = True,
    level: float = 0.05,
    factor: float = 1.0,
    decimals: int = 4,
    along: str = "the axis",
) -> Decision:
    """Decide whether means rise (fall) along an axis: Spearman's ρ between the axis and the means of the rows.

    *Holds* when ρ is significant in this direction, *does not* when it is in the other. All rows must be whole.

    Args:
        points: where each row stands on the axis, and its seeds.
        rising: the direction.
        level: p at and below which ρ is significant.
        factor: what numbers are multiplied by in the sentences.
        decimals: of numbers in the sentences.
        along: what the axis is called.

    >>> decide_trend([(x, Group(f"{x}", {0: x, 1: x + 1})) for x in (1, 2, 3, 4, 5)], decimals=1).verdict
    'holds'
    """
    ordered = sorted(points, key=lambda point: point[0])
    reasons = [group.reason for _, group in ordered if group.reason is not None]
    usable = [(place, group.mean) for place, group in ordered if math.isfinite(group.mean)]
    found = rank_correlation([place for place, _ in usable], [mean for _, mean in usable])
    means = ", ".join(f"{_write(mean, factor, decimals)} at {place:g}" for place, mean in usable)
    seeds = _seeds([group for _, group in ordered])
    evidence = _sentence(f"Means along {along}: {means} ({seeds})") if usable else ""
    return _by_rank(found, evidence, reasons, positive=rising, level=level)


def decide_best_among(
    groups: Sequence[Group],
    chosen: Sequence[str],
    *,
    higher_is_better: bool = True,
    level: float = 0.05,
    factor: float = 1.0,
    decimals: int = 4,
) -> Decision:
    """Decide whether the best group is one of some: pooled t-tests of all against the one with the best mean.

    *Holds* when each group outside is significantly worse than the best, *does not* when each one of the chosen is.

    Args:
        groups: all that compete.
        chosen: labels of those that the best is claimed to be among.
        higher_is_better: which end is best.
        level: p at and below which a group is worse than the best.
        factor: what numbers are multiplied by in the sentences.
        decimals: of numbers in the sentences.

    >>> groups = [Group("a", {0: 0.91, 1: 0.92}), Group("b", {0: 0.61, 1: 0.62}), Group("c", {0: 0.6, 1: 0.61})]
    >>> decide_best_among(groups, ["a"], decimals=2).evidence
    'Best: a, 0.92 ± 0.01 (2 seeds a row). Significantly worse: b (p = 0.00056), c (p = 0.00052).'
    """
    # Where a measure is undefined for good (no head without probabilities has an NLL) a row outside cannot be best.
    absent = [
        group
        for group in groups
        if group.label not in chosen and group.lacking is None and not present(group.values.values())
    ]
    rivals = [group for group in groups if group not in absent]
    reasons = [group.reason for group in rivals if group.reason is not None]
    found = compare_to_best(
        {group.label: group.values.values() for group in rivals}, higher_is_better=higher_is_better, level=level
    )
    if found.best is None:
        return Decision(NOT_DECIDED, _because(reasons or ["no row competes"]))
    measured = {group.label: mean_and_error(kept) for group in rivals if (kept := present(group.values.values()))}
    best = measured[found.best]
    error = "" if best.error is None else f" ± {_write(best.error, factor, decimals)}"
    worse = [f"{label} ({write_p(p)})" for label, p in found.p_values.items() if p is not None and p <= level]
    alike = [
        f"{label} ({write_p(p)})"
        for label, p in found.p_values.items()
        if label != found.best and p is not None and p > level
    ]
    parts = [f"Best: {found.best}, {_write(best.mean, factor, decimals)}{error} ({_seeds(rivals)})"]
    if found.tested and worse:
        parts.append(f"Significantly worse: {', '.join(worse)}")
    if found.tested and alike:
        parts.append(f"Without significant difference from it: {', '.join(alike)}")
    if absent:
        parts.append(f"Undefined for {', '.join(group.label for group in absent)}")
    evidence = " ".join(map(_sentence, parts))
    numbers = {label: estimate.mean for label, estimate in measured.items()}
    inside = [label for label in chosen if label in found.not_worse]
    outside = sorted(found.not_worse - set(chosen))
    if not reasons and not found.tested:
        reasons = ["the seeds give no estimate of the noise"]
    if not reasons and all(group.label in chosen for group in rivals):
        reasons = ["no other row competes"]
    if reasons:
        return Decision(NOT_DECIDED, _join(evidence, _because(reasons)), numbers)
    if not outside:
        tested = [p for label, p in found.p_values.items() if label not in chosen and p is not None]
        return Decision(HOLDS, evidence, numbers, max(tested, default=None))
    if not inside:
        tested = [p for label, p in found.p_values.items() if label in chosen and p is not None]
        return Decision(DOES_NOT, evidence, numbers, max(tested, default=None))
    why = f"{', '.join(outside)} {'is' if len(outside) == 1 else 'are'} not significantly worse than the best"
    return Decision(NOT_DECIDED, _join(evidence, _because([why])), numbers)


def decide_same_order(groups: Sequence[tuple[Group, float | None]], *, level: float = 0.05) -> Decision:
    """Decide whether our means follow the order of a published column: Spearman's ρ above 0.

    *Holds* when ρ is significantly above 0, *does not* when it is significantly below.

    Args:
        groups: seeds of each row with the published value; None where the source prints none.
        level: p at and below which ρ is significant.

    >>> ours = [(Group(f"row {place}", {0: place, 1: place + 0.1}), 2 * place) for place in range(5)]
    >>> decide_same_order(ours).evidence
    'Means over 2 seeds a row. ρ = +1.00, p = 0.017 (exact permutation test, n = 5 rows); τ = +1.00.'
    """
    paired = [(group, value) for group, value in groups if value is not None]
    absent = [group.label for group, value in groups if value is None]
    absent += [group.label for group, _ in paired if group.lacking is None and not present(group.values.values())]
    reasons = [group.reason for group, _ in paired if group.reason is not None and group.label not in absent]
    means = [group.mean for group, _ in paired]
    found = rank_correlation([mean if math.isfinite(mean) else None for mean in means], [value for _, value in paired])
    evidence = _sentence(f"Without a value in both columns: {', '.join(absent)}") if absent else ""
    if usable := [group for group in (each for each, _ in paired) if math.isfinite(group.mean)]:
        evidence = _join(evidence, _sentence(f"Means over {_seeds(usable)}"))
    return _by_rank(found, evidence, reasons, positive=True, level=level)


def _by_rank(found: RankCorrelation, before: str, reasons: Sequence[str], *, positive: bool, level: float) -> Decision:
    if found.rho is None or found.p is None:
        return Decision(NOT_DECIDED, _join(before, _because([*reasons, f"ρ is undefined: {found.reason}"])))
    evidence = _join(before, _sentence(str(found)))
    numbers = {"rho": found.rho, "tau": found.tau, "n": float(found.n)}
    if reasons:
        return Decision(NOT_DECIDED, _join(evidence, _because(reasons)), numbers, found.p)
    if found.p <= level:
        return Decision(HOLDS if (found.rho > 0) == positive else DOES_NOT, evidence, numbers, found.p)
    why = f"p is above {level:g}"
    if least_p(found.n) > level:
        why = f"{found.n} rows in perfect order have p = {least_p(found.n):.2g}"
    return Decision(NOT_DECIDED, _join(evidence, _because([why])), numbers, found.p)


def _seeds(groups: Sequence[Group]) -> str:
    """How many seeds stand behind each mean.

    >>> _seeds([Group("a", {0: 1.0, 1: 2.0}), Group("b", {0: 1.0, 1: None}), Group("c", {})])
    '1 to 2 seeds a row'
    """
    counts = sorted({count for group in groups if (count := len(present(group.values.values())))})
    if len(counts) == 1:
        return f"{counts[0]} seed{'' if counts == [1] else 's'} a row"
    return f"{counts[0]} to {counts[-1]} seeds a row" if counts else "no seed"


def _because(reasons: Sequence[str]) -> str:
    """A few reasons in a sentence, with how many more there are."""
    shown = list(dict.fromkeys(reason.rstrip(".") for reason in reasons))
    rest = f"; and {len(shown) - 4} more" if len(shown) > 4 else ""
    return _sentence(f"Not decided, because {'; '.join(shown[:4])}{rest}")


def _write(value: float, factor: float, decimals: int, *, signed: bool = False) -> str:
    return f"{factor * value:{'+' if signed else ''}.{decimals}f}"


def _sentence(text: str) -> str:
    return f"{text}." if text and not text.endswith(".") else text


def _join(*sentences: str) -> str:
    return " ".join(each for each in sentences if each)
