"""Accuracy class by class, and their mean: what a set with rare classes needs beside plain accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from .arrays import ArrayLike, Rows, read_labels
from .measurement import Measurement


def per_class_accuracy(scores: ArrayLike, y: ArrayLike) -> Tensor:
    r"""Share of right answers among the samples of each class (its recall).

    .. math:: a_c = \frac{\#\{i : y_i = c,\ \hat y_i = c\}}{\#\{i : y_i = c\}}, \qquad
        \hat y_i = \operatorname{argmax}_c s_{ic}

    Args:
        scores: probabilities or logits, shape ``[N, C]``; of equal ones the first counts.
        y: class indices, shape ``[N]``.

    Returns:
        float64 ``[C]`` on the CPU; NaN for a class without samples.

    Raises:
        InputError: NaN, shapes that do not fit, or labels outside [0, C).

    >>> per_class_accuracy([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [0, 1, 1]).tolist()
    [1.0, 0.5]
    """
    rows = Rows(scores, "scores", allow_infinite=True)
    count, num_classes = rows.shape
    labels = read_labels(y, "y", count, num_classes).cpu()
    # One array from the start: small ones that lie among freed chunks would keep their memory from being used again.
    predicted = torch.empty(count, dtype=torch.int64)
    for where, chunk in rows.chunks():
        predicted[where] = chunk.argmax(dim=1)
    right = torch.bincount(labels[predicted == labels], minlength=num_classes).double()
    # 0/0 is NaN, which says that nothing was measured.
    return right / torch.bincount(labels, minlength=num_classes)


def balanced_accuracy(scores: ArrayLike, y: ArrayLike, *, split: str | None = None) -> Measurement:
    r"""Mean of the classes' accuracies, every class weighted alike.

    .. math:: \frac{1}{|\{c : n_c > 0\}|} \sum_{c : n_c > 0} a_c

    with :math:`a_c` of `per_class_accuracy` and :math:`n_c` samples of class c; classes without samples are
    left out, as ``sklearn.metrics.balanced_accuracy_score`` does.

    Args:
        scores: probabilities or logits, shape ``[N, C]``.
        y: class indices, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: NaN, shapes that do not fit, or labels outside [0, C).

    >>> balanced_accuracy([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [0, 1, 1]).value
    0.75
    """
    found = per_class_accuracy(scores, y)
    measured = found[~found.isnan()]
    warnings = (f"{len(found) - len(measured)} of {len(found)} classes have no samples and are left out.",)
    return Measurement(
        "balanced_accuracy",
        float(measured.mean()),
        "mean recall over classes",
        int(Rows(scores, "scores", allow_infinite=True).shape[0]),
        split,
        warnings if len(measured) < len(found) else (),
    )
