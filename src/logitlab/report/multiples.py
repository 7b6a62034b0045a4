"""Small multiples: the pictures of which every head has its own, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitlab.statistics import mean_and_error, present

from . import classwise, figures
from .artefacts import SCORES, HeadArtefacts
from .columns import COLUMNS, write_estimate
from .figures import Panel

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class OwnPictures:
    """The pictures of one head.

    Attributes:
        reliability: confidence against accuracy.
        cosine: to the own class.
        confusion: classes taken for each other.
        strange: one a score, in the order of ``SCORES``; empty where no OOD set was measured.
    """

    reliability: Panel
    cosine: Panel
    confusion: Panel
    strange: tuple[Panel, ...]

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page they take."""
        return sum(panel.size for panel in (self.reliability, self.cosine, self.confusion, *self.strange))


def own_pictures(head: HeadArtefacts, names: Sequence[str], strange: Sequence[str]) -> OwnPictures:
    """Draw the pictures of one head.

    Args:
        head: with finished trials.
        names: of the classes.
        strange: the OOD sets of the page, from :func:`strange_names`.
    """
    return OwnPictures(
        _reliability(head),
        _cosine(head),
        _confusion(head, names),
        tuple(_ood(head, score, strange) for score in SCORES) if strange else (),
    )


def side_by_side(pictures: Sequence[OwnPictures], strange: Sequence[str]) -> dict[str, list[Any]]:
    """Return the panels of each kind, a head after the other."""
    return {
        "reliability": [each.reliability for each in pictures],
        "cosines": [each.cosine for each in pictures],
        "confusions": [each.confusion for each in pictures],
        "ood_panels": [
            (score.replace("_", " "), [each.strange[place] for each in pictures])
            for place, score in enumerate(SCORES)
            if strange
        ],
        "strange": list(strange),
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
    right = head.pooled("predicted") == head.pooled("labels")
    return figures.ood_scores(head.index, head.label, score, head.pooled(score)[right], strange, names)


def _remark(head: HeadArtefacts, key: str, heading: str) -> str:
    values = present(head.head.values(key))
    if not values:
        return ""
    column = next(column for column in COLUMNS if column.key == key)
    mean, error = write_estimate(column, mean_and_error(values))
    return f"{heading} {mean} ± {error}" if error else f"{heading} {mean}"
