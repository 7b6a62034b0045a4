"""Negative log-likelihood and expected calibration error: how honest probabilities are."""

from __future__ import annotations

from .arrays import ArrayLike, Rows, read_labels
from .measurement import Measurement
from .probabilities import probability_chunks
from .reliability import reliability


def negative_log_likelihood(
    p: ArrayLike, y: ArrayLike, *, log_probabilities: bool = False, split: str | None = None
) -> Measurement:
    r"""Mean negative logarithm of the probability of the class that was right.

    .. math:: -\frac1N \sum_i \log p_{i y_i}

    Args:
        p: probabilities, shape ``[N, C]``; for a sigmoid head the normalised ones (W Table 3).
        y: class indices, shape ``[N]``.
        log_probabilities: ``p`` holds logarithms of probabilities, which keep what underflows in ``p``.
        split: the part of the data, kept in the result.

    Returns:
        Nats, at least 0. Infinite, with a warning, where a probability is zero.

    Raises:
        InputError: rows that are no probabilities, shapes that do not fit, or labels outside [0, C).

    References:
        W Table 3; Guo et al., "On calibration of modern neural networks", 2017.

    >>> print(negative_log_likelihood([[0.5, 0.5], [0.2, 0.8]], [0, 1]))
    negative_log_likelihood 0.4581 (nats; n = 2)
    """
    rows = Rows(p, "p", allow_infinite=log_probabilities)
    labels = read_labels(y, "y", *rows.shape)
    total, zeros = 0.0, 0
    for where, chunk in probability_chunks(rows, logarithms=log_probabilities):
        target = chunk.gather(1, labels[where].to(rows.device).unsqueeze(1))
        logarithm = target if log_probabilities else target.log()
        total -= float(logarithm.sum())
        zeros += int(logarithm.isneginf().sum())
    warnings = (f"{zeros} samples have probability zero for their class: the value is infinite.",)
    return Measurement(
        # Rounding may leave -0.0 or a probability of 1 + 1e-16: a likelihood has no negative cost.
        "negative_log_likelihood",
        max(0.0, total / len(rows)),
        "nats",
        len(rows),
        split,
        warnings if zeros else (),
    )


def expected_calibration_error(p: ArrayLike, y: ArrayLike, bins: int = 15, *, split: str | None = None) -> Measurement:
    r"""Mean gap between confidence and accuracy over bins of equal width.

    .. math:: \sum_b \frac{|B_b|}{N} \Big| \frac1{|B_b|} \sum_{i \in B_b} [\hat y_i = y_i]
        - \frac1{|B_b|} \sum_{i \in B_b} \max_c p_{ic} \Big|

    Bins are (lo, hi] as in Guo et al.; their borders are rounded to the dtype of ``p``, so that a float32
    confidence of 0.2 lies in the bin that ends at 0.2. The predicted class is the first of the most probable.

    Args:
        p: probabilities, shape ``[N, C]``.
        y: class indices, shape ``[N]``.
        bins: at least 1; W uses 15.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: rows that are no probabilities, shapes that do not fit, labels outside [0, C), or no bins.

    References:
        W Table 3 ("15 evenly spaced bins"); Guo et al., 2017, Eqs. (2) to (5).

    >>> found = expected_calibration_error([[0.75, 0.25]] * 5, [0, 0, 0, 1, 1])  # right in 3 of 5
    >>> round(found.value, 6)
    0.15
    """
    found = reliability(p, y, bins, split=split)
    return Measurement("expected_calibration_error", found.value, found.convention, found.n, split)
