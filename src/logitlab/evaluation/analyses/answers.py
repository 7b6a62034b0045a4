"""Measures of answers: accuracy, calibration, and whether confidence tells right answers from wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitlab.analysis import (
    UndefinedError,
    balanced_accuracy,
    log_probabilities,
    misclassification_ap,
    temperature_scaling,
)
from logitlab.analysis import accuracy as _accuracy
from logitlab.analysis import precision_recall as _precision_recall
from logitlab.analysis import reliability as _reliability
from logitlab.analysis import risk_coverage as _risk_coverage

from ..subjects import Subject
from .requests import Request, plain_entry, right, scores

#: Points of a curve that a page shows.
_POINTS = 300
_TOP = 5


def accuracy(subject: Subject, request: Request) -> dict[str, Any]:
    """Top-1; the details hold top-5, where there are more classes, and the balanced accuracy."""
    outputs, part = subject.measured, subject.around.part
    logits, labels = outputs["logits"], outputs["labels"]
    entry = _accuracy(logits, labels, split=part).to_json()
    entry["details"]["balanced"] = balanced_accuracy(logits, labels, split=part).value
    if logits.shape[1] > _TOP:
        entry["details"]["top5"] = _accuracy(logits, labels, _TOP, split=part).value
    return entry


def calibration(subject: Subject, request: Request) -> Any:
    """NLL and ECE before and after temperature scaling (W Table 3).

    The temperature is fitted on validation images where the test part is measured and they were not trained on, else
    on the images themselves.
    """
    _with_probabilities(subject)
    outputs, part = subject.measured, subject.around.part
    other = subject.validation if part == "test" and not subject.source.train_on_held_out else None
    return temperature_scaling(
        outputs["logits"],
        outputs["labels"],
        fit_logits=None if other is None else other["logits"],
        fit_y=None if other is None else other["labels"],
        link=subject.link,
        split=part,
    )


def reliability(subject: Subject, request: Request) -> dict[str, Any]:
    """Reliability diagram, before and ``after`` temperature scaling."""
    _with_probabilities(subject)
    outputs, part = subject.measured, subject.around.part

    def diagram(temperature: float) -> dict[str, Any]:
        logarithms = log_probabilities(outputs["logits"], link=subject.link, temperature=temperature)
        return plain_entry(_reliability(logarithms.exp_(), outputs["labels"], split=part))

    entry = diagram(1.0)
    scaled = diagram(calibration(subject, request).temperature)
    entry["after"] = {key: scaled[key] for key in ("edges", "counts", "confidence", "accuracy", "value")}
    return entry


def _with_probabilities(subject: Subject) -> None:
    """Refuse heads whose logits stand for no probabilities.

    Raises:
        UndefinedError: the head has the link ``"none"`` (squared error).
    """
    if subject.link == "none":
        raise UndefinedError("Expected a link with probabilities. Got 'none': squared error defines none.")


def misclassification(subject: Subject, request: Request) -> dict[str, Any]:
    """Average precision, AUROC and FPR@95 of every confidence score in telling right answers from wrong ones."""
    return _by_score(
        subject,
        lambda score, correct: misclassification_ap(score, correct, split=subject.around.part),
        lambda found: {"ap": found.value, **{key: found.details[key] for key in ("auroc", "fpr95", "base_rate")}},
    )


def precision_recall(subject: Subject, request: Request) -> dict[str, Any]:
    """Precision over recall of the right answers, a curve a score."""
    return _by_score(
        subject,
        lambda score, correct: _precision_recall(score, correct, split=subject.around.part).thinned(_POINTS),
        lambda found: {"precision": found.precision, "recall": found.recall, "ap": found.value},
    )


def risk_coverage(subject: Subject, request: Request) -> dict[str, Any]:
    """Share of wrong answers over the share of images that are answered, a curve a score."""
    return _by_score(
        subject,
        lambda score, correct: _risk_coverage(score, correct, split=subject.around.part).thinned(_POINTS),
        lambda found: {
            "coverage": found.coverage,
            "risk": found.risk,
            "aurc": found.value,
            "excess": found.excess,
        },
    )


def _by_score(
    subject: Subject, measure: Callable[[Any, Any], Any], shown: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """Apply a measure to every score; the value is that of the largest logit (T §3.2.1)."""
    outputs = subject.measured
    correct = right(outputs)
    found = {name: measure(score, correct) for name, score in scores(subject, outputs).items()}
    first = found["max_logit"]
    return {
        "name": first.name,
        "value": first.value,
        "convention": f"value: by the largest logit; {first.convention}",
        "n": outputs.rows,
        "split": subject.around.part,
        "warnings": [*first.warnings, *([subject.mahalanobis_fault] if subject.mahalanobis_fault else [])],
        "scores": {name: shown(each) for name, each in found.items()},
    }
