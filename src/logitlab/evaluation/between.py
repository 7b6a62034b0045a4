"""Measures between models that saw the same images: CKA, agreement, clusters, ensembles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from logitlab.analysis import UndefinedError, agreement_matrix, cka_matrix, cluster_models, mixed_ensembles

from .analyses.representations import pooling_text, vectors
from .analyses.requests import plain_entry, predictions
from .subjects import Subject

#: With more models than these, one of each head and backbone stands for it where a measure is slow: CKA and maps.
MOST_MODELS = 8

_KINDS = ("same", "both_right_or_both_wrong", "same_when_both_wrong")


def representatives(subjects: Sequence[Subject]) -> list[Subject]:
    """Return all of a few models; of more than ``MOST_MODELS`` the first of each head and backbone."""
    chosen = list(subjects)
    if len(chosen) > MOST_MODELS:
        chosen = list({(each.head_name, each.backbone_name): each for each in reversed(chosen)}.values())[::-1]
    return chosen


def cka(subjects: Sequence[Subject], *, control: bool = False) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Linear CKA between the layers of every two models, and within each (W Figure 3).

    Args:
        subjects: the models, which looked at the same images.
        control: compare each with its control as well.

    Yields:
        the name of a pair, and what compares it: a pair that cannot be compared leaves the others.
    """
    chosen = representatives(subjects)
    for place, first in enumerate(chosen):
        for second in chosen[place:]:
            differ = second is not first
            yield (
                f"{first.label} with {second.label if differ else 'itself'}",
                partial(_matrix, first, first.label, second, second.label, differ),
            )
        if control:
            name = f"{first.label} (control)"
            yield f"{first.label} with its control", partial(_matrix, first, first.label, first, name, True, True)


def _matrix(
    first: Subject, first_label: str, second: Subject, second_label: str, differ: bool, control: bool = False
) -> dict[str, Any]:
    other = second.control if control else second.measured
    matrix = cka_matrix(vectors(first.measured), vectors(other) if differ else None, split=first.around.part)
    entry = plain_entry(matrix)
    return {
        **entry,
        "first": first_label,
        "second": second_label,
        "convention": f"{entry['convention']}; {pooling_text(first)}",
    }


def agreement(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """How often every two models agree, in W's three ways (W Figures 1 and D.1)."""
    answers, labels = _answers(subjects)
    part = subjects[0].around.part
    return [
        plain_entry(agreement_matrix(answers, labels, kind, split=part))  # type: ignore[arg-type]
        for kind in _KINDS
    ]


def clustering(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Models joined by how often they give the same answer (W Figure 1)."""
    answers, _ = _answers(subjects)
    return plain_entry(cluster_models(agreement_matrix(answers, split=subjects[0].around.part)))


def ensembles(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Accuracy of ensembles of one head and of two (W Figure D.3); heads with a single model are left out.

    Raises:
        UndefinedError: no head has two models.
    """
    by_head: dict[str, list[Subject]] = {}
    backbones = {each.backbone_name for each in subjects}
    for each in subjects:
        name = each.head_name if len(backbones) == 1 else f"{each.head_name}, {each.backbone_name}"
        by_head.setdefault(name, []).append(each)
    several = {
        name: [predictions(each.measured) for each in sorted(found, key=lambda each: each.seed or 0)]
        for name, found in by_head.items()
        if len(found) > 1
    }
    if not several:
        raise UndefinedError("No head has two models: there are no ensembles of seeds.")
    first = subjects[0]
    return plain_entry(mixed_ensembles(several, first.measured["labels"], split=first.around.part))


def _answers(subjects: Sequence[Subject]) -> tuple[Mapping[str, Any], Any]:
    return {each.label: predictions(each.measured) for each in subjects}, subjects[0].measured["labels"]
