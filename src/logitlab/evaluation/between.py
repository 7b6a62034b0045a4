"""Measures between models that saw the same images: CKA, agreement, clusters, ensembles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from logitlab.analysis import (
    UndefinedError,
    agreement_matrix,
    cka_matrix,
    cluster_models,
    mixed_ensembles,
    modal_vote,
)

from .analyses.representations import pooling_text, vectors
from .analyses.requests import plain_entry, predictions
from .subjects import Subject

#: With more models than these, one of each group stands for it where a measure is slow: CKA and maps. A group is a
#: head with a backbone, or a row of a study.
MOST_MODELS = 8

#: The kind of agreement between the votes of groups.
OF_ENSEMBLES = "same_answer_of_ensembles"

_VOTE = "most common top-1 class, ties to the smallest label"
_KINDS = ("same", "both_right_or_both_wrong", "same_when_both_wrong")


def representatives(subjects: Sequence[Subject]) -> list[Subject]:
    """Return all of a few models; of more than ``MOST_MODELS`` the first of each group."""
    chosen = list(subjects)
    if len(chosen) > MOST_MODELS:
        chosen = list({each.group_key: each for each in reversed(chosen)}.values())[::-1]
    return chosen


def cka(subjects: Sequence[Subject], *, control: bool = False) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Linear CKA between the layers of every two models, and within each (W Figure 3).

    Where one model stands for its group, it is compared with a model of each group, its own too, that has another seed:
    models of one seed start from the same weights, and W compares different initialisations (Figure 3b, whose diagonal
    is one loss from two of them). A group that has no such model is compared by the one that stands for it.

    Args:
        subjects: the models, which looked at the same images.
        control: compare each with its control as well.

    Yields:
        the name of a pair, and what compares it: a pair that cannot be compared leaves the others.
    """
    chosen = representatives(subjects)
    all_pairs = len(chosen) == len(subjects) or not all(each.group for each in chosen)
    for place, first in enumerate(chosen):
        for second in chosen[place:] if all_pairs else [_of_other_seed(first, each, subjects) for each in chosen]:
            differ = second is not first
            yield (
                f"{first.label} with {second.label if differ else 'itself'}",
                partial(_matrix, first, first.label, second, second.label, differ),
            )
        if control:
            name = f"{first.label} (control)"
            yield f"{first.label} with its control", partial(_matrix, first, first.label, first, name, True, True)


def _of_other_seed(first: Subject, second: Subject, subjects: Sequence[Subject]) -> Subject:
    """Return the first model of the group of ``second`` whose seed is not that of ``first``; else ``second``."""
    found = (each for each in subjects if each.group == second.group and each.seed != first.seed)
    return next(found, second)


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
    """How often every two models agree, in W's three ways (W Figures 1 and D.1).

    Where two groups have several models each, such as the seeds of two rows of a study, a fourth matrix says how often
    the votes of groups agree (W Figure D.2).
    """
    answers, labels = _answers(subjects)
    part = subjects[0].around.part
    found = [
        plain_entry(agreement_matrix(answers, labels, kind, split=part))  # type: ignore[arg-type]
        for kind in _KINDS
    ]
    groups = {name: members for name, members in _groups(subjects).items() if len(members) > 1}
    if len(groups) > 1:
        votes = {name: modal_vote([answers[each.label] for each in members]) for name, members in groups.items()}
        entry = plain_entry(agreement_matrix(votes, split=part))
        how = f"{entry['convention']}, of all models of a row by vote: {_VOTE}"
        found.append({**entry, "kind": OF_ENSEMBLES, "convention": how})
    return found


def _groups(subjects: Sequence[Subject]) -> dict[str, list[Subject]]:
    """Models by the group that they were given; those without one are left out."""
    groups: dict[str, list[Subject]] = {}
    for each in subjects:
        if each.group:
            groups.setdefault(each.group, []).append(each)
    return groups


def clustering(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Models joined by how often they give the same answer (W Figure 1)."""
    answers, _ = _answers(subjects)
    return plain_entry(cluster_models(agreement_matrix(answers, split=subjects[0].around.part)))


def ensembles(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Accuracy of ensembles of one head and of two (W Figure D.3); heads with a single model are left out.

    Where models have a group of their own, such as a row of a study, groups stand in the place of heads: two rows may
    have one head, trained in two ways.

    Raises:
        UndefinedError: no head, or no group, has two models.
    """
    by_head: dict[str, list[Subject]] = {}
    backbones = {each.backbone_name for each in subjects}
    for each in subjects:
        name = each.head_name if len(backbones) == 1 else f"{each.head_name}, {each.backbone_name}"
        name = each.group or name
        by_head.setdefault(name, []).append(each)
    several = {
        name: [predictions(each.measured) for each in sorted(found, key=lambda each: each.seed or 0)]
        for name, found in by_head.items()
        if len(found) > 1
    }
    if not several:
        what = "row" if any(each.group for each in subjects) else "head"
        raise UndefinedError(f"No {what} has two models: there are no ensembles of seeds.")
    first = subjects[0]
    return plain_entry(mixed_ensembles(several, first.measured["labels"], split=first.around.part))


def _answers(subjects: Sequence[Subject]) -> tuple[Mapping[str, Any], Any]:
    return {each.label: predictions(each.measured) for each in subjects}, subjects[0].measured["labels"]
