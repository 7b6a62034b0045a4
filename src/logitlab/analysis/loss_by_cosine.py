"""What a cosine head loses on a sample by its cosine to the own class: T's closed curve, and what is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .counts import is_count
from .directions import unit_blocks, unit_weight
from .measurement import UndefinedError
from .result import Result

# Steps of the curve in a bin, so that it can be drawn without corners; even, so that its centre is among them.
_STEPS_A_BIN = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class LossByCosine(Result):
    """Mean loss in bins of the cosine to the own class, beside T's curve.

    Attributes:
        value: mean loss over all samples, nats.
        simplified: mean of T Eq. (15) at the cosines of the samples, nats; what the mean loss would be if the cosines
            to the other classes were zero.
        kappa: the κ that scales.
        num_classes: C.
        edges: of the bins, -1 to 1, float64 ``[bins + 1]``; bins are [lo, hi), the last one closed.
        counts: samples a bin, int64 ``[bins]``.
        loss: their mean loss, float64 ``[bins]``; NaN (None in the JSON) in an empty bin.
        expected: T Eq. (15) at the centres of the bins, float64 ``[bins]``.
        grid: where the curve is given, float64 ``[P]`` from -1 to 1; the centres of the bins are among its points.
        curve: T Eq. (15) there, float64 ``[P]``.
    """

    name: ClassVar[str] = "loss_by_cosine"

    value: float
    simplified: float
    kappa: float
    num_classes: int
    edges: Tensor
    counts: Tensor
    loss: Tensor
    expected: Tensor
    grid: Tensor
    curve: Tensor

    @property
    def headline(self) -> str:
        """Both means."""
        return f"{self.value:.4g} at κ = {self.kappa:.4g}; Eq. (15) gives {self.simplified:.4g}"


def simplified_loss(z: ArrayLike, kappa: float, num_classes: int) -> Tensor:
    r"""Softmax loss of a cosine head, with the cosines to all other classes taken for zero.

    .. math:: \ell_\kappa(z_y) = -\kappa z_y + \log[\exp(\kappa z_y) + C - 1]
        = \operatorname{softplus}(\log(C - 1) - \kappa z_y)

    The second form neither overflows for a large κ nor loses the digits of a small loss.

    Args:
        z: cosines to the own class, in [-1, 1], shape ``[N]``.
        kappa: κ, the inverse temperature, positive.
        num_classes: C, at least 2.

    Returns:
        Nats, not negative, float64 ``[N]``, on the CPU; log C at z = 0 whatever κ.

    Raises:
        InputError: NaN, cosines outside [-1, 1], a κ that is not positive and finite, or fewer than two classes.

    References:
        T Eq. (15), Figure 2.

    >>> simplified_loss([0.0, 1.0], 1000.0, 3)
    tensor([1.0986, 0.0000], dtype=torch.float64)
    """
    _check_kappa(kappa)
    if not is_count(num_classes, 2):
        raise InputError(f"Expected an integer 'num_classes' of at least 2. Got {num_classes}.")
    rows = Rows(z, "z", dimensions=1)
    found = torch.empty(len(rows), dtype=torch.float64)
    for where, chunk in rows.chunks():
        # Products of unit vectors stored in float32 end a few roundings beyond one.
        if bool((chunk.abs() > 1 + 1e-6).any()):
            raise InputError(
                f"Expected cosines in [-1, 1] in 'z'. Got values from {float(chunk.min()):.6g} to "
                f"{float(chunk.max()):.6g}; divide the logits by κ."
            )
        found[where] = _simplified(chunk, kappa, num_classes)
    return found


def loss_by_cosine(
    x: ArrayLike,
    weight: ArrayLike,
    y: ArrayLike,
    kappa: float,
    *,
    bias: ArrayLike | None = None,
    bins: int = 20,
    split: str | None = None,
) -> LossByCosine:
    r"""Mean softmax loss of a cosine head in bins of the cosine to the own class, beside T's closed curve.

    .. math:: L = -\log \operatorname{softmax}_y(\kappa z + \mathbf b), \qquad
        z_c = \tilde{\mathbf w}_c^\top \tilde{\mathbf x}

    T presumes that the cosines to the other classes are near zero; how far the measured loss of a bin lies from the
    curve says how far they are. A margin is no part of it. Zero rows have the cosine 0 to everything, with a warning.

    Args:
        x: features of any length, shape ``[N, D]``.
        weight: one row a class, of any length, shape ``[C, D]``, at least two.
        y: class indices, shape ``[N]``.
        kappa: κ, the inverse temperature, positive.
        bias: of the classes, shape ``[C]``, which the curve knows nothing of; None for none.
        bins: number of bins of z between -1 and 1, at least 1.
        split: the part of the data, kept in the result.

    Returns:
        Losses in nats, and how many samples they rest on; the counts sum to N.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, labels outside [0, C), a κ that is not positive and
            finite, or no bins.
        UndefinedError: one class: the loss is zero whatever the cosine.

    References:
        T Eqs. (2), (15), Figure 2, which shows the curve alone; the bins are our own.

    >>> found = loss_by_cosine([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [0], 2.0, bins=4)
    >>> found.counts.tolist(), round(found.value, 4), round(found.simplified, 4)
    ([0, 0, 0, 1], 0.1269, 0.1269)
    """
    _check_kappa(kappa)
    if not is_count(bins, 1):
        raise InputError(f"Expected an integer 'bins' of at least 1. Got {bins}.")
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows)
    num_classes = len(weights)
    if num_classes < 2:
        raise UndefinedError("Expected at least two rows in 'weight'. Got one: its softmax is 1 for any feature.")
    labels = read_labels(y, "y", len(rows), num_classes).to(rows.device)
    shift = _read_bias(bias, num_classes).to(rows.device)
    # Both ends, and zero where it is an edge, exactly.
    edges = torch.arange(-bins, bins + 1, 2, dtype=torch.float64, device=rows.device) / bins
    counts = torch.zeros(bins, dtype=torch.int64, device=rows.device)
    totals = torch.zeros(bins, dtype=torch.float64, device=rows.device)
    simplified, zeros = 0.0, 0
    zero_weight = (weights == 0).all(dim=1)
    for where, unit in unit_blocks(rows, num_classes):
        label = labels[where]
        cosine = unit @ weights.T
        own = cosine.gather(1, label.unsqueeze(1)).squeeze(1).clamp(-1, 1)
        losses = _cross_entropy(kappa * cosine + shift, label)
        place = (torch.bucketize(own, edges, right=True) - 1).clamp(0, bins - 1)
        counts += torch.bincount(place, minlength=bins)
        totals.index_add_(0, place, losses)
        simplified += float(_simplified(own, kappa, num_classes).sum())
        zeros += int(((unit == 0).all(dim=1) | zero_weight[label]).sum())
    centres = (edges[1:] + edges[:-1]) / 2
    half = _STEPS_A_BIN * bins // 2
    grid = torch.arange(-half, half + 1, dtype=torch.float64) / half
    scores = "κ cos" if bias is None else "κ cos + b"
    warning = f"{zeros} of {len(rows)} cosines belong to a zero feature or a zero weight and count as 0."
    return LossByCosine(
        value=float(totals.sum()) / len(rows),
        simplified=simplified / len(rows),
        kappa=float(kappa),
        num_classes=num_classes,
        edges=edges.cpu(),
        counts=counts.cpu(),
        loss=(totals / counts).cpu(),
        expected=_simplified(centres, kappa, num_classes).cpu(),
        grid=grid,
        curve=_simplified(grid, kappa, num_classes),
        convention=f"softmax cross-entropy of {scores}, without a margin, nats; {bins} bins of the cosine to the own "
        "class",
        n=len(rows),
        split=split,
        warnings=(warning,) if zeros else (),
    )


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Softmax cross-entropy with all digits of a small loss: from the log-sum-exp of the others over the own score."""
    own = scores.gather(1, label.unsqueeze(1))
    others = (scores - own).scatter(1, label.unsqueeze(1), -math.inf).logsumexp(dim=1)
    return torch.logaddexp(others, torch.zeros_like(others))


def _simplified(z: Tensor, kappa: float, num_classes: int) -> Tensor:
    # logaddexp keeps every digit; softplus cuts off where its argument is large.
    exponent = math.log(num_classes - 1) - kappa * z
    return torch.logaddexp(exponent, torch.zeros_like(exponent))


def _read_bias(bias: ArrayLike | None, num_classes: int) -> Tensor:
    if bias is None:
        return torch.zeros(num_classes, dtype=torch.float64)
    rows = Rows(bias, "bias", dimensions=1)
    if len(rows) != num_classes:
        raise InputError(f"Expected 'bias' of shape [{num_classes}], one number a class. Got [{len(rows)}].")
    return torch.cat([chunk for _, chunk in rows.chunks()])


def _check_kappa(kappa: float) -> None:
    if isinstance(kappa, bool) or not isinstance(kappa, (int, float)) or not math.isfinite(kappa) or kappa <= 0:
        raise InputError(f"Expected a positive, finite number 'kappa'. Got {kappa!r}.")
