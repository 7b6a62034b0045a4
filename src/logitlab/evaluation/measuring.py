"""From cached outputs to every measurement of a trial."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor

from logitlab.analysis import (
    Measurement,
    UndefinedError,
    accuracy,
    balanced_accuracy,
    class_angle,
    class_separation,
    expected_calibration_error,
    misclassification_ap,
    negative_log_likelihood,
)
from logitlab.analysis import log_probabilities as logarithms_of
from logitlab.config.errors import InputError
from logitlab.heads import Classifier, Head
from logitlab.heads.scores import own_rows

from .collecting import Features, Outputs

#: Keys of :func:`evaluate`.
MEASURES: tuple[str, ...] = (
    "accuracy",
    "balanced_accuracy",
    "nll",
    "ece",
    "class_separation",
    "miss_ap",
    "miss_base_rate",
    "class_angle",
    "kappa",
    "kappa_star",
)


def evaluate(model: Classifier, test: Outputs, train: Features) -> dict[str, float | None]:
    """Every measurement as a plain number: what a record holds.

    Args:
        model: the trained classifier.
        test: its outputs on the test images.
        train: its features (or outputs) on the training images.

    Returns:
        one number, or None where it is undefined, for each of ``MEASURES``; see :func:`measure`.
    """
    found = measure(model, test, train)
    return {name: found[name].value if name in found else None for name in MEASURES}


def measure(model: Classifier, test: Outputs, train: Features) -> dict[str, Measurement]:
    """Every measurement with its convention, split and warnings; undefined ones are left out.

    - ``accuracy``: top-1; ``balanced_accuracy``: every class weighted alike;
    - ``nll``, ``ece``: not for the link ``"none"`` (W Table 3);
    - ``class_separation``: R² by cosine on the training images, as W has it; the rest on the test images;
    - ``miss_ap``: by max logit (T §3.2.1), undefined when all or none are right; ``miss_base_rate``: what
      chance gives, the accuracy;
    - ``class_angle``: mean angle to the class's weight in degrees (T Table 3), of several centres to the nearest;
    - ``kappa``: what inference scales by, undefined for a head without temperature; ``kappa_star``: mean κ*
      by least squares, on heads of every kind (T Table 1 "averaged across samples").

    Args:
        model: the trained classifier.
        test: its outputs on the test images.
        train: its features (or outputs) on the training images.

    Raises:
        InputError: outputs that do not fit the model or each other.
    """
    head, labels = model.head, test.labels
    found: dict[str, Measurement] = {}

    def keep(name: str, function: Callable[..., Measurement], *arguments: Any, **options: Any) -> None:
        with suppress(UndefinedError):
            found[name] = function(*arguments, **options)

    keep("accuracy", accuracy, test.logits, labels, split="test")
    keep("balanced_accuracy", balanced_accuracy, test.logits, labels, split="test")
    if head.link != "none":
        logarithms = log_probabilities(head, test.logits)
        keep("nll", negative_log_likelihood, logarithms, labels, log_probabilities=True, split="test")
        keep("ece", expected_calibration_error, logarithms.exp(), labels, split="test")
    keep("class_separation", class_separation, train.features, train.labels, split="train")
    correct = test.logits.argmax(dim=1) == labels
    keep("miss_ap", misclassification_ap, test.max_logit, correct, split="test")
    keep("miss_base_rate", _mean, "miss_base_rate", correct, "share of correct answers")
    rows = own_rows(head, test.features, labels)
    keep("class_angle", class_angle, test.features, head.weight, rows, split="test")
    if head.kappa is not None:
        keep("kappa", Measurement, "kappa", float(head.kappa), "used at inference", len(labels))
    keep("kappa_star", _mean, "kappa_star", test.kappa_star, "least squares, mean over samples")
    return found


def log_probabilities(head: Head, logits: Tensor) -> Tensor:
    """Logarithms of the probabilities that a head's logits stand for, in float64.

    Args:
        head: its link decides: softmax, or sigmoids that are made to add up to one (W Table 3).
        logits: ``[N, C]``.

    Raises:
        InputError: the head defines no probabilities (squared error).
    """
    if head.link == "none":
        raise InputError("Squared error defines no probabilities. Use the logits.")
    return logarithms_of(logits, link=head.link)


def _mean(name: str, values: Tensor, convention: str) -> Measurement:
    return Measurement(name, float(values.double().mean()), convention, len(values), "test")
