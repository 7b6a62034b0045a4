"""Logits and probabilities read in checked chunks, and the one turned into the other at any temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows

#: How logits become probabilities. ``"normalized_sigmoid"``, as the heads call it, and ``"sigmoid"`` are the same.
ProbabilityLink: TypeAlias = Literal["softmax", "sigmoid", "normalized_sigmoid", "none"]


def log_probabilities(logits: ArrayLike, *, link: ProbabilityLink = "softmax", temperature: float = 1.0) -> Tensor:
    r"""Logarithms of the probabilities that logits stand for at a temperature.

    .. math:: \text{softmax:}\; p_c = \frac{e^{z_c / T}}{\sum_k e^{z_k / T}}, \qquad
        \text{sigmoid:}\; p_c = \frac{\sigma(z_c / T)}{\sum_k \sigma(z_k / T)}

    W normalises the probabilities of sigmoid heads so, but does not say where T enters. Here it divides the logits.
    (The other reading, :math:`p_c \propto \sigma(z_c)^{1/T}`, is the softmax link on ``logsigmoid(logits)``.)

    Args:
        logits: shape ``[N, C]``; -inf masks a class.
        link: ``"softmax"``, or ``"sigmoid"`` (``"normalized_sigmoid"``). ``"none"``, that of squared error, is refused.
        temperature: T ≥ 0. Zero and infinity mean the limits: softmax puts all on the largest logits, or gives every
            class that is not masked the same.

    Returns:
        Shape ``[N, C]``, float64, on the CPU; 0 or less, and -inf where a probability is zero.

    Raises:
        InputError: NaN, +inf, a row that masks every class, another link, or a temperature below zero.

    References:
        W Table 3 (caption); Guo et al., "On calibration of modern neural networks", 2017, §4.2.

    >>> log_probabilities([[3.0, 1.0]], temperature=2.0).exp()
    tensor([[0.7311, 0.2689]], dtype=torch.float64)
    >>> log_probabilities([[-700.0, -701.0]], link="sigmoid").exp()  # nothing underflows
    tensor([[0.7311, 0.2689]], dtype=torch.float64)
    """
    is_sigmoid = uses_sigmoid(link)
    temperature = float(temperature)
    if not temperature >= 0:
        raise InputError(f"Expected 'temperature' of at least 0. Got {temperature}.")
    rows = Rows(logits, "logits", allow_infinite=True)
    return torch.cat([chunk_log_probabilities(chunk, is_sigmoid, temperature).cpu() for _, chunk in logit_chunks(rows)])


def uses_sigmoid(link: str) -> bool:
    """Whether a link is the sigmoid one.

    Raises:
        InputError: a link without probabilities, or an unknown one.
    """
    if link == "none":
        raise InputError("Expected a link with probabilities. Got 'none': squared error defines none; use the logits.")
    if link not in ("softmax", "sigmoid", "normalized_sigmoid"):
        raise InputError(f"Expected the link 'softmax' or 'sigmoid'. Got {link!r}.")
    return link != "softmax"


def logit_chunks(rows: Rows) -> Iterator[tuple[slice, Tensor]]:
    """Read chunks of logits, -inf where a class is masked.

    Raises:
        InputError: NaN, +inf, or a row that masks every class.
    """
    for where, chunk in rows.chunks():
        bad = chunk.isposinf().any(dim=1) | chunk.isneginf().all(dim=1)
        if bad.any():
            row = where.start + int(bad.nonzero()[0])
            raise InputError(f"Expected 'logits' finite, or -inf for some classes. Got +inf or only -inf in row {row}.")
        yield where, chunk


def chunk_log_probabilities(logits: Tensor, is_sigmoid: bool, temperature: float) -> Tensor:
    """Of checked float64 logits ``[B, C]``; see :func:`log_probabilities`."""
    if temperature == math.inf:
        return F.log_softmax(torch.where(logits.isneginf(), logits, 0.0), dim=1)
    largest = logits.amax(dim=1, keepdim=True)
    if temperature == 0:
        share = (logits == largest).to(torch.float64)
        if is_sigmoid:
            # σ(z / 0) is 0, 1/2 or 1; where no class has more than 0, the largest logits win as they do in softmax.
            share = torch.where(largest < 0, share, 0.5 + 0.5 * logits.sign())
        return (share / share.sum(dim=1, keepdim=True)).log()
    # Softmax needs only differences, whose quotients do not overflow upwards at a tiny temperature.
    logarithm = F.logsigmoid(logits / temperature) if is_sigmoid else (logits - largest) / temperature
    return F.log_softmax(logarithm, dim=1)


def probability_chunks(rows: Rows, *, logarithms: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """Read chunks and refuse those that are no probabilities (logits are the usual mistake)."""
    # Rounding changes each entry by half its eps at most, hence a sum of one as well; float32 adds the
    # rounding of the softmax that made it.
    precision = torch.finfo(rows.dtype).eps if rows.dtype.is_floating_point else 0.0
    tolerance = max(1e-4, 2 * precision)
    for where, chunk in rows.chunks():
        total = chunk.logsumexp(dim=1).exp() if logarithms else chunk.sum(dim=1)
        negative = not logarithms and bool((chunk < 0).any())
        # Not "> tolerance": a row of -inf gives NaN, which no comparison finds.
        wrong = ~((total - 1).abs() <= tolerance)
        if negative or bool(wrong.any()):
            given = "'p' to hold logarithms of probabilities" if logarithms else "'p' to hold probabilities"
            got = "a negative value" if negative else f"a row whose sum is {float(total[wrong][0]):.6g}"
            raise InputError(
                f"Expected {given}, rows that add up to 1. Got {got}. "
                "For logits take their softmax first (head.predict_proba does)."
            )
        yield where, chunk
