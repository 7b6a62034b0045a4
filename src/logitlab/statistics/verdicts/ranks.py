"""Do means rise along an axis, or follow the order of a published column? Spearman's ρ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..rank_correlation import RankCorrelation, least_p, rank_correlation
from ..summary import present
from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision, Group
from .words import because, joined, seeds_text, sentence, written


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
    means = ", ".join(f"{written(mean, factor, decimals)} at {place:g}" for place, mean in usable)
    seeds = seeds_text([group for _, group in ordered])
    evidence = sentence(f"Means along {along}: {means} ({seeds})") if usable else ""
    return _by_rank(found, evidence, reasons, positive=rising, level=level)


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
    evidence = sentence(f"Without a value in both columns: {', '.join(absent)}") if absent else ""
    if usable := [group for group in (each for each, _ in paired) if math.isfinite(group.mean)]:
        evidence = joined(evidence, sentence(f"Means over {seeds_text(usable)}"))
    return _by_rank(found, evidence, reasons, positive=True, level=level)


def _by_rank(found: RankCorrelation, before: str, reasons: Sequence[str], *, positive: bool, level: float) -> Decision:
    if found.rho is None or found.p is None:
        return Decision(NOT_DECIDED, joined(before, because([*reasons, f"ρ is undefined: {found.reason}"])))
    evidence = joined(before, sentence(str(found)))
    numbers = {"rho": found.rho, "tau": found.tau, "n": float(found.n)}
    if reasons:
        return Decision(NOT_DECIDED, joined(evidence, because(reasons)), numbers, found.p)
    if found.p <= level:
        return Decision(HOLDS if (found.rho > 0) == positive else DOES_NOT, evidence, numbers, found.p)
    why = f"p is above {level:g}"
    if least_p(found.n) > level:
        why = f"{found.n} rows in perfect order have p = {least_p(found.n):.2g}"
    return Decision(NOT_DECIDED, joined(evidence, because([why])), numbers, found.p)
