"""How well a confidence score tells right answers from wrong ones."""

from __future__ import annotations

from .arrays import ArrayLike, Rows, read_flags
from .detection import detection
from .measurement import Measurement, UndefinedError


def misclassification_ap(confidence: ArrayLike, correct: ArrayLike, *, split: str | None = None) -> Measurement:
    r"""Average precision of finding the right answers by their confidence (MISS).

    .. math:: \mathrm{AP} = \sum_t (R_t - R_{t-1}) P_t

    over the thresholds t, one a distinct confidence, with precision P and recall R of the *correct* answers.
    Tied confidences share a threshold; the sum is a step sum, not a trapezoid (which flatters ties: .65 where
    all are tied at a base rate of .3).

    AP depends on the base rate, here the accuracy: two heads that separate equally well differ when they err
    differently often. The base rate stands in ``details``, beside two numbers that do not depend on it: the AUROC, and
    FPR@95, the share of wrong answers accepted at the largest threshold that accepts at least 95 % of the right ones
    (confidence ≥ threshold; ties share it).

    Args:
        confidence: shape ``[N]``, larger is surer; T takes the largest logit (of a cosine head: the largest
            cosine).
        correct: whether the answer was right, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in (0, 1]; chance gives the base rate. ``details``: ``base_rate``, ``auroc``, ``fpr95``.

    Raises:
        InputError: NaN or infinity, or lengths that differ.
        UndefinedError: answers that are all right or all wrong.

    References:
        T §3.2.1 and Figure 4 (a). Computed by ``sklearn.metrics.average_precision_score``.

    >>> found = misclassification_ap([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
    >>> round(found.value, 4), found.details["base_rate"], found.details["fpr95"]
    (0.9167, 0.75, 1.0)
    """
    import numpy as np

    rows = Rows(confidence, "confidence", dimensions=1)
    flags = read_flags(correct, "correct", len(rows)).cpu().numpy()
    right = int(flags.sum())
    if right in (0, len(rows)):
        raise UndefinedError(
            f"Expected right and wrong answers to tell apart. Got {right} right ones among {len(rows)}."
        )
    scores = np.concatenate([chunk.cpu().numpy() for _, chunk in rows.chunks()])
    value, details = detection(flags, scores)
    warnings = []
    if len(np.unique(scores)) == 1:
        warnings.append("All confidences are equal: the value is the base rate.")
    return Measurement(
        "misclassification_ap",
        value,
        "positive: correct answers; step sum, tied scores share a threshold",
        len(rows),
        split,
        tuple(warnings),
        details,
    )
