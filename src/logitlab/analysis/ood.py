"""How well a confidence score tells known images, rightly classified, from images of another world."""

from __future__ import annotations

from .arrays import ArrayLike, Rows, read_flags
from .detection import detection
from .measurement import Measurement, UndefinedError


def ood_ap(
    confidence_id: ArrayLike, correct_id: ArrayLike, confidence_ood: ArrayLike, *, split: str | None = None
) -> Measurement:
    r"""Average precision of finding the rightly classified images among out-of-distribution ones (OOD).

    .. math:: \mathrm{AP} = \sum_t (R_t - R_{t-1}) P_t

    over the thresholds t, one a distinct confidence, with precision P and recall R. Positives are the
    in-distribution images that are *classified correctly*, negatives are all OOD images; in-distribution
    images that are misclassified count on neither side ("correctly-classified samples in comparison to …
    OOD ones"; the mistakes are the business of :func:`misclassification_ap`). Tied confidences share a
    threshold; the sum is a step sum.

    AP depends on the base rate, the share of positives, hence on the number of OOD images and on the accuracy:
    compare it among heads that saw the same images. The base rate stands in ``details``, beside two numbers that do not
    depend on it: the AUROC, and FPR@95, the share of OOD images accepted at the largest threshold that accepts at least
    95 % of the positives (confidence ≥ threshold; ties share it).

    Args:
        confidence_id: of in-distribution images, shape ``[N]``, larger is surer. T takes the largest logit (of
            a cosine head: the largest cosine) or the norm of the feature.
        correct_id: whether the answer was right, shape ``[N]``.
        confidence_ood: of out-of-distribution images, shape ``[M]``.
        split: the part of the in-distribution data, kept in the result.

    Returns:
        A fraction in (0, 1]; chance gives the base rate. ``details``: ``base_rate``, ``auroc``, ``fpr95``.

    Raises:
        InputError: NaN or infinity, or lengths that differ.
        UndefinedError: no answer is right.

    References:
        T §3.2.1 and Figure 4 (b). Computed by ``sklearn.metrics.average_precision_score``.

    >>> found = ood_ap([0.9, 0.6, 0.1], [True, True, False], [0.7])
    >>> round(found.value, 4), round(found.details["base_rate"], 4), found.details["auroc"]
    (0.8333, 0.6667, 0.5)
    """
    import numpy as np

    known, strange = (
        Rows(values, name, dimensions=1)
        for values, name in ((confidence_id, "confidence_id"), (confidence_ood, "confidence_ood"))
    )
    flags = read_flags(correct_id, "correct_id", len(known)).cpu().numpy()
    # All are read, so that a NaN among the mistakes is found too.
    inside, outside = (np.concatenate([chunk.cpu().numpy() for _, chunk in rows.chunks()]) for rows in (known, strange))
    positives = inside[flags]
    if not len(positives):
        raise UndefinedError(f"Expected right answers among {len(known)}. Got none: nothing to tell from OOD images.")
    scores = np.concatenate([positives, outside])
    is_known = np.repeat([True, False], [len(positives), len(outside)])
    value, details = detection(is_known, scores)
    warnings = []
    if len(np.unique(scores)) == 1:
        warnings.append("All confidences are equal: the value is the base rate.")
    return Measurement(
        "ood_ap",
        value,
        "positive: correctly classified, negative: OOD, mistakes left out; step sum, tied scores share a threshold",
        len(scores),
        split,
        tuple(warnings),
        details,
    )
