"""What stands behind each recommendation: the numbers of every head, the test, and its p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logitlab.statistics import compare_to_best, mean_and_error, present

from .artefacts import HeadArtefacts
from .columns import COLUMNS, Column, write_estimate
from .recommendations import Advice

_LEVEL = 0.05


@dataclass(frozen=True)
class Against:
    """One head against the best.

    Attributes:
        index: place of the head, for its swatch.
        label: the head.
        number: mean ± standard error, as the table writes it.
        seeds: how many values stand behind it.
        p: the p of the test as a text, or ``best``, or ``not tested``.
        verdict: ``lower`` or ``higher`` where the test shows a difference, else empty.
    """

    index: int
    label: str
    number: str
    seeds: int
    p: str
    verdict: str


@dataclass(frozen=True)
class Recommendation:
    """One purpose.

    Attributes:
        purpose: the heading.
        sentence: the verdict.
        measure: heading of the measure that decides, and which end comes first.
        evidence: a line a head, from the best mean to the worst; empty where the measure says nothing.
        taken: place of the head to take; None where no difference was shown.
    """

    purpose: str
    sentence: str
    measure: str
    evidence: tuple[Against, ...]
    taken: int | None


def with_evidence(advice: Sequence[Advice], heads: Sequence[HeadArtefacts]) -> list[Recommendation]:
    """Put the numbers and the tests beside each recommendation.

    Args:
        advice: of the same records.
        heads: the heads of these records.
    """
    found = []
    columns = {column.key: column for column in COLUMNS}
    places = {each.label: each.index for each in heads}
    for each in advice:
        sentence, taken = each.verdict, None
        if each.taken is not None:
            # The card names the head above the sentence.
            figures, _, rest = sentence.removeprefix(f"take {each.taken} (").partition(")")
            sentence, taken = figures + rest, places[each.taken]
        heading = columns[each.key].heading
        found.append(
            Recommendation(
                _capital(each.purpose),
                _capital(sentence),
                f"{heading}, {'highest' if each.higher_is_better else 'lowest'} first",
                _against(
                    columns[each.key],
                    [head for head in heads if head.label in each.compared],
                    higher_is_better=each.higher_is_better,
                ),
                taken,
            )
        )
    return found


def _against(column: Column, heads: Sequence[HeadArtefacts], *, higher_is_better: bool) -> tuple[Against, ...]:
    groups = {each.label: each.head.values(column.key) for each in heads}
    result = compare_to_best(groups, higher_is_better=higher_is_better, level=_LEVEL)
    rows = []
    for head in heads:
        values = present(groups[head.label])
        if not values:
            continue
        estimate = mean_and_error(values)
        mean, error = write_estimate(column, estimate)
        p = result.p_values.get(head.label)
        best = head.label == result.best
        rows.append(
            (
                estimate.mean,
                Against(
                    head.index,
                    head.label,
                    f"{mean} ± {error}" if error else mean,
                    len(values),
                    "best" if best else "not tested" if p is None else _write_p(p),
                    _verdict(None if best else p, higher_is_better=higher_is_better),
                ),
            )
        )
    # A sort is stable: equal means stay in the order of the table, so the best stands first.
    rows.sort(key=lambda row: row[0], reverse=higher_is_better)
    return tuple(row for _, row in rows)


def _verdict(p: float | None, *, higher_is_better: bool) -> str:
    if p is None or p > _LEVEL:
        return ""
    return "lower" if higher_is_better else "higher"


def _write_p(p: float) -> str:
    """Three digits; a p that rounds to nothing is still not nothing.

    >>> _write_p(0.0421), _write_p(2e-7)
    ('0.042', '< 0.001')
    """
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
