"""Is one measure larger than another of the same models? A paired t-test over the models of all rows."""

from __future__ import annotations

from collections.abc import Sequence

from ..paired import paired_difference
from ..rank_correlation import write_p
from ..summary import present
from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision, Group
from .words import because, joined, sentence, written


def decide_exceeds(
    pairs: Sequence[tuple[Group, Group]],
    names: tuple[str, str],
    *,
    level: float = 0.05,
    factor: float = 1.0,
    decimals: int = 4,
) -> Decision:
    """Decide whether the first measure of every model lies above the second one of the same model.

    *Holds* when the mean difference over the models (row and seed) is above zero and a paired t-test over them is
    significant, *does not* when it is below zero and significant. Models of a row count as one each: it is a statement
    about the models of the study, and no correction is needed for the one test. A row that one of the two is undefined
    for altogether, as κ is for softmax, is left out, and the evidence says so.

    Args:
        pairs: of each row the first measure and the second.
        names: what the two are called in the sentences.
        level: p at and below which a difference is significant.
        factor: what numbers are multiplied by in the sentences.
        decimals: of numbers in the sentences.

    >>> row, other = Group("a", {0: 0.9, 1: 0.8, 2: 0.9}), Group("a", {0: 0.5, 1: 0.5, 2: 0.4})
    >>> decision = decide_exceeds([(row, other)], ("inside", "outside"), decimals=2)
    >>> decision.verdict, decision.evidence
    ('holds', 'inside minus outside: +0.40 ± 0.06 (p = 0.02, n = 3 models).')
    """
    reasons = [each.not_whole for pair in pairs for each in pair if each.not_whole is not None]
    first: dict[int, float] = {}
    second: dict[int, float] = {}
    without: list[str] = []
    for one, other in pairs:
        before = len(first)
        for seed in sorted(one.values.keys() & other.values.keys()):
            both = present((one.values[seed], other.values[seed]))
            if len(both) == 2:
                place = len(first)
                first[place], second[place] = both
        if len(first) == before:
            without.append(one.label)
    if not reasons and len(first) == 1:
        reasons.append("there is one model, and one decides nothing")
    if reasons or not first:
        return Decision(NOT_DECIDED, because(list(dict.fromkeys(reasons)) or ["there is nothing to compare"]))
    found = paired_difference(first, second)
    error = "" if found.error is None else f" ± {written(found.error, factor, decimals)}"
    tested = "no test" if found.p is None else write_p(found.p)
    evidence = sentence(
        f"{names[0]} minus {names[1]}: {written(found.mean, factor, decimals, signed=True)}{error} "
        f"({tested}, n = {found.n} models)"
    )
    if without:
        evidence = joined(evidence, sentence(f"Left out, for the two are not defined for any model: {_some(without)}"))
    numbers: dict[str, float | None] = {"difference": found.mean, "models": float(found.n)}
    if found.p is not None and found.p <= level:
        return Decision(HOLDS if found.mean > 0 else DOES_NOT, evidence, numbers, found.p)
    why = "all models differ by exactly the same" if found.p is None else f"p is above {level:g}"
    return Decision(NOT_DECIDED, joined(evidence, because([why])), numbers, found.p)


def _some(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return ", ".join(labels[:4]) + rest
