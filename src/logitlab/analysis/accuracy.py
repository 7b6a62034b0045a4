"""Top-k accuracy, over all classes or a part of them."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_flags, read_labels
from .counts import is_count
from .measurement import Measurement


def accuracy(
    scores: ArrayLike, y: ArrayLike, k: int = 1, *, classes: ArrayLike | None = None, split: str | None = None
) -> Measurement:
    r"""Share of samples whose class is among the k with the highest scores.

    .. math:: \frac1N \sum_i \big[\, \#\{c \in S : s_{ic} > s_{iy_i}\} + \#\{c \in S : c < y_i, s_{ic} = s_{iy_i}\}
        < k \,\big]

    S are all classes, or those that ``classes`` names: a model of ImageNet's 1000 classes is measured on ImageNet-A
    and ImageNet-R by its best answer among the 200 classes that occur there. Of equal scores the lower class index
    counts as the higher one, as ``argmax`` has it: a model that gives every class the same score gains nothing.

    Args:
        scores: probabilities or logits, shape ``[N, C]``; -inf masks a class.
        y: class indices, shape ``[N]``; among all C classes, also where ``classes`` are given.
        k: from 1 to C, or to the number of ``classes``.
        classes: the classes that may be answered: indices ``[S]``, each once, in any order, or booleans ``[C]``; None
            allows all.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: NaN, shapes that do not fit, labels outside [0, C) or ``classes``, no or repeated ``classes``, or
            k out of range.

    References:
        W Table 1 (top-1 and top-5) and Table 2 (ImageNet-A and -R); Hendrycks et al., The Many Faces of Robustness,
        2020.

    >>> print(accuracy([[0.1, 0.9], [0.6, 0.4]], [1, 1], split="test"))
    accuracy 0.5 (top-1, ties to the lower index; test, n = 2)
    >>> print(accuracy([[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]], [1, 0], classes=[0, 1]))
    accuracy 1 (top-1 among 2 of 3 classes, ties to the lower index; n = 2)
    """
    rows = Rows(scores, "scores", allow_infinite=True)
    count, num_classes = rows.shape
    labels = read_labels(y, "y", count, num_classes)
    allowed, among = None, ""
    if classes is not None:
        allowed = _read_classes(classes, num_classes).to(rows.device)
        among = f" among {int(allowed.sum())} of {num_classes} classes"
        strange = torch.nonzero(~allowed[labels.to(rows.device)]).flatten()
        if len(strange):
            row = int(strange[0])
            raise InputError(
                f"Expected 'y' to hold only 'classes' (indices among all {num_classes} classes, not among the chosen). "
                f"Got class {int(labels[row])} in row {row}."
            )
    most = num_classes if allowed is None else int(allowed.sum())
    if not is_count(k, 1, most):
        raise InputError(f"Expected an integer 'k' from 1 to {most}, the number of classes. Got {k}.")
    index = torch.arange(num_classes, device=rows.device)
    correct = 0
    for where, chunk in rows.chunks():
        label = labels[where].to(rows.device).unsqueeze(1)
        target = chunk.gather(1, label)
        ahead = (chunk > target) | ((chunk == target) & (index < label))
        if allowed is not None:
            ahead &= allowed
        correct += int((ahead.sum(dim=1) < k).sum())
    return Measurement("accuracy", correct / count, f"top-{k}{among}, ties to the lower index", count, split)


def _read_classes(classes: ArrayLike, num_classes: int) -> Tensor:
    """Read indices ``[S]`` or booleans ``[C]`` as booleans ``[C]``."""
    try:
        values = classes if hasattr(classes, "dtype") else torch.tensor(list(classes))
    except (TypeError, ValueError, RuntimeError) as fault:
        raise InputError(f"Expected 'classes' as indices or booleans. Got {classes!r}.") from fault
    if str(values.dtype).endswith("bool"):
        allowed = read_flags(values, "classes", num_classes)
        if not bool(allowed.any()):
            raise InputError("Expected 'classes' to allow at least one class. Got none.")
        return allowed
    if len(values.shape) != 1 or values.shape[0] == 0:
        raise InputError(f"Expected 'classes' of shape [S], not empty. Got {list(values.shape)}.")
    indices = read_labels(values, "classes", values.shape[0], num_classes)
    allowed = torch.zeros(num_classes, dtype=torch.bool, device=indices.device)
    allowed[indices] = True
    if int(allowed.sum()) < len(indices):
        raise InputError("Expected each of 'classes' once. Got one of them twice.")
    return allowed
