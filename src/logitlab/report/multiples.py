"""Small multiples: the pictures of which every head has its own, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from logitlab.statistics import mean_and_error, present

from . import classwise, figures
from .artefacts import SCORES, HeadArtefacts
from .columns import COLUMNS, write_estimate
from .figures import Panel

if TYPE_CHECKING:
    import numpy


def small_multiples(heads: Sequence[HeadArtefacts], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the panels of which every head has its own."""
    strange = strange_names(heads)
    return {
        "reliability": [_reliability(head) for head in heads],
        "cosines": [_cosine(head) for head in heads],
        "confusions": [_confusion(head, names) for head in heads],
        "ood_panels": [
            (score.replace("_", " "), [_ood(head, score, strange) for head in heads]) for score in SCORES if strange
        ],
        "strange": strange,
    }


def strange_names(heads: Sequence[HeadArtefacts]) -> list[str]:
    """Return the OOD sets that some record speaks of, in the order in which they were asked for."""
    return list(dict.fromkeys(name for head in heads for seed in head.seeds for name in seed.record.get("ood") or {}))


def _reliability(head: HeadArtefacts) -> Panel:
    import numpy

    if not head.readable:
        return Panel(head.label, words=head.excuse, series=head.index)
    if head.link == "none":
        words = "This head's outputs are no probabilities (link “none”): it has no confidence to be judged."
        return Panel(head.label, words=words, series=head.index)
    seeds = []
    for seed in head.readable:
        assert seed.outputs is not None
        confidence = seed.outputs["confidence"]
        known = numpy.isfinite(confidence)
        if known.any():
            seeds.append((confidence[known], (seed.outputs["predicted"] == seed.outputs["labels"])[known]))
    if not seeds:
        return Panel(head.label, words="No confidence was kept.", series=head.index)
    remark = _remark(head, "ece", "ECE")
    return figures.reliability(head.index, head.label, seeds, remark)


def _cosine(head: HeadArtefacts) -> Panel:
    if not head.readable:
        return Panel(head.label, words=head.excuse, series=head.index)
    cosine, right = head.pooled("own_cosine"), head.pooled("predicted") == head.pooled("labels")
    return figures.own_cosine(head.index, head.label, cosine[right], cosine[~right])


def _confusion(head: HeadArtefacts, names: Sequence[str]) -> Panel:
    if not head.readable:
        return Panel(head.label, words=head.excuse, series=head.index)
    counts = classwise.confusion_counts(head, len(names))
    seeds = len(head.readable)
    remark = (
        f"{counts.sum():,} answers, {seeds} seeds together." if seeds > 1 else f"{counts.sum():,} answers, one seed."
    )
    return figures.confusion(head.index, head.label, counts, names, remark)


def _ood(head: HeadArtefacts, score: str, names: Sequence[str]) -> Panel:
    import numpy

    if not head.readable:
        return Panel(head.label, words=head.excuse, series=head.index)
    strange: dict[str, numpy.ndarray] = {}
    for name in names:
        found = [seed.strange[name][score] for seed in head.readable if name in seed.strange]
        if found:
            strange[name] = numpy.concatenate(found)
    if not strange:
        return Panel(head.label, words="The scores of the OOD sets could not be read.", series=head.index)
    return figures.ood_scores(head.index, head.label, score, head.pooled(score), strange, names)


def _remark(head: HeadArtefacts, key: str, heading: str) -> str:
    values = present(head.head.values(key))
    if not values:
        return ""
    column = next(column for column in COLUMNS if column.key == key)
    mean, error = write_estimate(column, mean_and_error(values))
    return f"{heading} {mean} ± {error}" if error else f"{heading} {mean}"
