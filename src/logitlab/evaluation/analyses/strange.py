"""How well every confidence score rejects images of another world (T Figure 4 (b))."""

from __future__ import annotations

from typing import Any

from logitlab.analysis import ood_ap

from ..subjects import Subject
from .requests import plain_entry, right, scores


def out_of_distribution(subject: Subject, name: str) -> dict[str, dict[str, Any]]:
    """Measure one set: score → ``ap``, ``auroc``, ``fpr95``, ``base_rate``.

    Positives are the images of the measured part that are classified correctly.

    Args:
        subject: the model.
        name: of the set, as ``load_ood`` takes it.

    Raises:
        UndefinedError: no image is classified correctly.
    """
    known = subject.measured
    correct = right(known)
    strange = scores(subject, subject.strange(name))
    found = {}
    for score, values in scores(subject, known).items():
        measured = ood_ap(values, correct, strange[score], split=subject.around.part)
        found[score] = plain_entry(
            {"ap": measured.value, **{key: measured.details[key] for key in ("auroc", "fpr95", "base_rate")}}
        )
    return found
