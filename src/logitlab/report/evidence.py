"""What stands behind each recommendation: the numbers of every head, the test, and its p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logitlab.statistics import compare_to_best, mean_and_error, present

from .artefacts import HeadArtefacts
from .columns import COLUMNS, OOD_KEY, Column, write_estimate
from .recommendations import learnt_heads

# How the line of a purpose begins, which measure decides it, and which end of that measure is better.
_PURPOSES = (
    ("for accuracy", "accuracy", True),
    ("for calibrated confidence", "nll", False),
    ("for rejecting its own mistakes", "miss_ap", True),
    ("for rejecting strange inputs", OOD_KEY, True),
    ("for transfer", "class_separation", False),
)
_TRANSFER = "class_separation"
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
        measure: heading of the measure that decides; empty where it is not known.
        evidence: a line a head, from the best mean to the worst.
        taken: place of the head to take; None where no difference was shown.
    """

    purpose: str
    sentence: str
    measure: str
    evidence: tuple[Against, ...]
    taken: int | None


def with_evidence(lines: Sequence[str], heads: Sequence[HeadArtefacts]) -> list[Recommendation]:
    """Put the numbers and the tests beside each line of :func:`~logitlab.report.recommendations`.

    Args:
        lines: the recommendations.
        heads: the heads of the same records.
    """
    found = []
    columns = {column.key: column for column in COLUMNS}
    for line in lines:
        known = next(((start, *rest) for start, *rest in _PURPOSES if line.startswith(start)), None)
        if known is None:
            purpose, sentence = _split(line)
            found.append(Recommendation(purpose, sentence, "", (), None))
            continue
        start, key, higher = str(known[0]), str(known[1]), bool(known[2])
        sentence = line.removeprefix(start).lstrip(": ")
        # Features that tell no classes apart count for no transfer; the rule is the one of the recommendation.
        learnt = learnt_heads({each.label: each.head for each in heads if each.seeds}) if key == _TRANSFER else None
        compared = [each for each in heads if learnt is None or each.label in learnt]
        against = _against(columns[key], compared, higher_is_better=higher)
        taken = None
        for each in against:
            if sentence.startswith(begin := f"take {each.label} ("):
                # The card names the head above the sentence.
                figures, _, rest = sentence.removeprefix(begin).partition(")")
                sentence, taken = figures + rest, each.index
                break
        found.append(
            Recommendation(
                _capital(start.removeprefix("for ")),
                _capital(sentence),
                f"{columns[key].heading}, {'highest' if higher else 'lowest'} first",
                against,
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


def _split(line: str) -> tuple[str, str]:
    body = line.removeprefix("for ")
    places = [place for mark in (" take ", ": ") if (place := body.find(mark)) > 0]
    cut = min(places, default=len(body))
    return _capital(body[:cut]), _capital(body[cut:].lstrip(": "))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
