"""Top-k accuracy."""

from __future__ import annotations

import torch

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .measurement import Measurement


def accuracy(scores: ArrayLike, y: ArrayLike, k: int = 1, *, split: str | None = None) -> Measurement:
    r"""Share of samples whose class is among the k with the highest scores.

    .. math:: \frac1N \sum_i \big[\, \#\{c : s_{ic} > s_{iy_i}\} + \#\{c < y_i : s_{ic} = s_{iy_i}\} < k \,\big]

    Of equal scores the lower class index counts as the higher one, as ``argmax`` has it: a model that gives
    every class the same score gains nothing.

    Args:
        scores: probabilities or logits, shape ``[N, C]``; -inf masks a class.
        y: class indices, shape ``[N]``.
        k: from 1 to C.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: NaN, shapes that do not fit, labels outside [0, C), or k out of range.

    References:
        W Table 1 (top-1 and top-5).

    >>> print(accuracy([[0.1, 0.9], [0.6, 0.4]], [1, 1], split="test"))
    accuracy 0.5 (top-1, ties to the lower index; test, n = 2)
    """
    rows = Rows(scores, "scores", allow_infinite=True)
    count, num_classes = rows.shape
    labels = read_labels(y, "y", count, num_classes)
    if not 1 <= k <= num_classes:
        raise InputError(f"Expected 'k' from 1 to {num_classes}, the number of classes. Got {k}.")
    index = torch.arange(num_classes, device=rows.device)
    correct = 0
    for where, chunk in rows.chunks():
        label = labels[where].to(rows.device).unsqueeze(1)
        target = chunk.gather(1, label)
        ahead = (chunk > target) | ((chunk == target) & (index < label))
        correct += int((ahead.sum(dim=1) < k).sum())
    return Measurement("accuracy", correct / count, f"top-{k}, ties to the lower index", count, split)
