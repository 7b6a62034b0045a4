"""Is the best row one of these?"""

from __future__ import annotations

from collections.abc import Sequence

from ..comparison import compare_to_best
from ..rank_correlation import write_p
from ..summary import mean_and_error, present
from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision, Group
from .words import because, joined, seeds_text, sentence, written


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
        return Decision(NOT_DECIDED, because(reasons or ["no row competes"]))
    measured = {group.label: mean_and_error(kept) for group in rivals if (kept := present(group.values.values()))}
    best = measured[found.best]
    error = "" if best.error is None else f" ± {written(best.error, factor, decimals)}"
    worse = [f"{label} ({write_p(p)})" for label, p in found.p_values.items() if p is not None and p <= level]
    alike = [
        f"{label} ({write_p(p)})"
        for label, p in found.p_values.items()
        if label != found.best and p is not None and p > level
    ]
    parts = [f"Best: {found.best}, {written(best.mean, factor, decimals)}{error} ({seeds_text(rivals)})"]
    if found.tested and worse:
        parts.append(f"Significantly worse: {', '.join(worse)}")
    if found.tested and alike:
        parts.append(f"Without significant difference from it: {', '.join(alike)}")
    if absent:
        parts.append(f"Undefined for {', '.join(group.label for group in absent)}")
    evidence = " ".join(map(sentence, parts))
    numbers = {label: estimate.mean for label, estimate in measured.items()}
    inside = [label for label in chosen if label in found.not_worse]
    outside = sorted(found.not_worse - set(chosen))
    if not reasons and not found.tested:
        reasons = ["the seeds give no estimate of the noise"]
    if not reasons and all(group.label in chosen for group in rivals):
        reasons = ["no other row competes"]
    if reasons:
        return Decision(NOT_DECIDED, joined(evidence, because(reasons)), numbers)
    if not outside:
        tested = [p for label, p in found.p_values.items() if label not in chosen and p is not None]
        return Decision(HOLDS, evidence, numbers, max(tested, default=None))
    if not inside:
        tested = [p for label, p in found.p_values.items() if label in chosen and p is not None]
        return Decision(DOES_NOT, evidence, numbers, max(tested, default=None))
    why = f"{', '.join(outside)} {'is' if len(outside) == 1 else 'are'} not significantly worse than the best"
    return Decision(NOT_DECIDED, joined(evidence, because([why])), numbers)
