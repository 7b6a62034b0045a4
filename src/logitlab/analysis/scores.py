"""Confidence scores from logits and probabilities, and all scores at once: one number a sample, larger is surer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows
from .feature_scores import each_row, feature_norm, least_squares_of_rows
from .probabilities import (
    ProbabilityLink,
    chunk_log_probabilities,
    logit_chunks,
    probability_chunks,
    uses_sigmoid,
)

if TYPE_CHECKING:
    from .mahalanobis import MahalanobisFit


def max_logit(logits: ArrayLike) -> Tensor:
    r"""Largest logit of each sample.

    .. math:: z_{\max} = \max_c z_c

    For a cosine head give the *cosines*, not what κ multiplied (T §3.2.1); :func:`max_scaled_logit` is the other. With
    one κ for all samples both rank them alike.

    Args:
        logits: shape ``[N, C]``; -inf masks a class.

    Returns:
        Shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: NaN, +inf, or a row that masks every class.

    References:
        T §3.2.1; Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", 2022.

    >>> max_logit([[0.1, 0.7], [-2.0, -1.0]])
    tensor([ 0.7000, -1.0000], dtype=torch.float64)
    """
    return _of_logits(logits, lambda chunk: chunk.amax(dim=1))


def max_scaled_logit(cosines: ArrayLike, kappa: float | ArrayLike) -> Tensor:
    r"""Largest cosine of each sample times its κ: the largest logit that softmax sees.

    .. math:: \kappa \max_c z_c

    Args:
        cosines: shape ``[N, C]``; -inf masks a class.
        kappa: inverse temperature, positive and finite; a number, or one a sample, shape ``[N]``.

    Returns:
        Shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: as :func:`max_logit`; κ that is not positive, or of another length.

    >>> max_scaled_logit([[0.1, 0.7], [0.5, 0.2]], [10.0, 20.0])
    tensor([ 7., 10.], dtype=torch.float64)
    """
    largest = max_logit(cosines)
    if isinstance(kappa, (int, float)) or getattr(kappa, "ndim", 1) == 0:
        factor = torch.tensor(float(kappa), dtype=torch.float64)
    else:
        rows = Rows(kappa, "kappa", dimensions=1)
        if len(rows) != len(largest):
            raise InputError(f"Expected 'kappa' as a number or of shape [{len(largest)}]. Got [{len(rows)}].")
        factor = torch.cat([chunk.cpu() for _, chunk in rows.chunks()])
    if not bool(((factor > 0) & factor.isfinite()).all()):
        raise InputError(f"Expected 'kappa' positive and finite. Got {float(factor.min())}.")
    return factor * largest


def max_probability(p: ArrayLike) -> Tensor:
    r"""Probability of the most probable class.

    .. math:: \max_c p_c

    Args:
        p: probabilities, shape ``[N, C]``.

    Returns:
        In [1/C, 1], shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: rows that are no probabilities.

    References:
        Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", 2017.

    >>> max_probability([[0.2, 0.8]])
    tensor([0.8000], dtype=torch.float64)
    """
    rows = Rows(p, "p")
    return each_row(len(rows), probability_chunks(rows), lambda chunk: chunk.amax(dim=1))


def negative_entropy(p: ArrayLike) -> Tensor:
    r"""Entropy of the probabilities, with its sign turned so that larger is surer.

    .. math:: \sum_c p_c \log p_c

    Args:
        p: probabilities, shape ``[N, C]``.

    Returns:
        Nats in [-log C, 0], shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: rows that are no probabilities.

    >>> negative_entropy([[0.5, 0.5], [0.0, 1.0]])
    tensor([-0.6931,  0.0000], dtype=torch.float64)
    """
    rows = Rows(p, "p")
    return each_row(len(rows), probability_chunks(rows), lambda chunk: torch.xlogy(chunk, chunk).sum(dim=1))


def energy(logits: ArrayLike, temperature: float = 1.0) -> Tensor:
    r"""Free energy of the logits, with its sign turned so that larger is surer.

    .. math:: T \log \sum_c e^{z_c / T}

    Defined for softmax; for other links it is the same number, without the meaning of a density. For a cosine head give
    the logits that softmax sees, κz.

    Args:
        logits: shape ``[N, C]``; -inf masks a class.
        temperature: T, positive and finite; as it falls to 0 the energy becomes the largest logit.

    Returns:
        From the largest logit to T log C above it, shape ``[N]``, float64, on the CPU.

    Raises:
        InputError: as :func:`max_logit`, or a temperature that is not positive.

    References:
        Liu et al., "Energy-based out-of-distribution detection", 2020, Eq. (4), with its sign turned.

    >>> energy([[0.0, 0.0]])
    tensor([0.6931], dtype=torch.float64)
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"Expected 'temperature' positive and finite. Got {temperature}.")
    return _of_logits(logits, lambda chunk: _energy(chunk, temperature))


def confidence_scores(
    x: ArrayLike,
    logits: ArrayLike,
    weight: ArrayLike,
    *,
    max_logit: ArrayLike | None = None,
    link: ProbabilityLink = "softmax",
    mahalanobis: MahalanobisFit | None = None,
) -> dict[str, Tensor]:
    """Every confidence score of a trained head, for :func:`~logitlab.analysis.misclassification_ap` and its like.

    Args:
        x: features, shape ``[N, D]``.
        logits: what the link is taken of, shape ``[N, C]``: κz for a cosine head; -inf masks a class.
        weight: of the head, shape ``[C, D]``, or with more rows where a class has several.
        max_logit: the score of that name, shape ``[N]``: for a cosine head the largest *cosine* (T §3.2.1). Without it
            the largest of ``logits``.
        link: how logits become probabilities; with ``"none"`` the two scores of probabilities are left out.
        mahalanobis: fitted to training features, for the last two scores.

    Returns:
        ``max_logit``, ``max_scaled_logit`` (the largest of ``logits``), ``max_probability``, ``negative_entropy``,
        ``energy`` (at T = 1), ``feature_norm``, ``projection_residual``, ``kappa_star`` and, if asked for,
        ``mahalanobis`` and ``norm_mahalanobis``, in this order; each ``[N]``, float64, on the CPU, larger is surer.

    Raises:
        InputError: NaN, shapes that do not fit, or an unknown link.

    References:
        T §3.2.1 and Figure 4.

    >>> found = confidence_scores([[3.0, 4.0]], [[2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    >>> found["max_logit"], found["feature_norm"]
    (tensor([2.], dtype=torch.float64), tensor([5.], dtype=torch.float64))
    """
    rows, features = Rows(logits, "logits", allow_infinite=True), Rows(x, "x")
    if len(rows) != len(features):
        raise InputError(f"Expected 'logits' of {len(features)} rows, one a feature. Got {len(rows)}.")
    is_sigmoid = uses_sigmoid(link) if link != "none" else None
    names = ["max_scaled_logit", *([] if is_sigmoid is None else ["max_probability", "negative_entropy"]), "energy"]
    scores = {name: torch.empty(len(rows), dtype=torch.float64) for name in names}
    # One reading of the logits for all that is made of them.
    for where, chunk in logit_chunks(rows):
        values = {"max_scaled_logit": chunk.amax(dim=1)}
        if is_sigmoid is not None:
            logarithm = chunk_log_probabilities(chunk, is_sigmoid, 1.0)
            p = logarithm.exp()
            values["max_probability"] = p.amax(dim=1)
            # xlogy, not p log p: 0 times -inf is no number.
            values["negative_entropy"] = torch.xlogy(p, p).sum(dim=1)
        values["energy"] = _energy(chunk, 1.0)
        for name, value in values.items():
            scores[name][where] = value
    kappa, residual = least_squares_of_rows(x, weight)
    found = {
        "max_logit": scores["max_scaled_logit"] if max_logit is None else _given(max_logit, len(rows)),
        **scores,
        "feature_norm": feature_norm(x),
        "projection_residual": -residual,
        "kappa_star": -kappa,
    }
    if mahalanobis is not None:
        found |= {"mahalanobis": mahalanobis.score(x), "norm_mahalanobis": mahalanobis.norm_score(x)}
    return found


def _given(score: ArrayLike, count: int) -> Tensor:
    rows = Rows(score, "max_logit", dimensions=1)
    if len(rows) != count:
        raise InputError(f"Expected 'max_logit' of shape [{count}]. Got [{len(rows)}].")
    return torch.cat([chunk.cpu() for _, chunk in rows.chunks()])


def _of_logits(logits: ArrayLike, function: Callable[[Tensor], Tensor]) -> Tensor:
    rows = Rows(logits, "logits", allow_infinite=True)
    return each_row(len(rows), logit_chunks(rows), function)


def _energy(logits: Tensor, temperature: float) -> Tensor:
    # The largest is taken out before the division: a tiny temperature does not overflow.
    largest = logits.amax(dim=1)
    return largest + temperature * ((logits - largest.unsqueeze(1)) / temperature).logsumexp(dim=1)
