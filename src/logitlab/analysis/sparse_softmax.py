"""The sample with the largest κ*: small cosines that the least-squares κ turns into a sparse softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows
from .counts import is_count
from .directions import unit_weight
from .feature_scores import least_squares_of_rows
from .measurement import UndefinedError
from .result import Result


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseSoftmax(Result):
    """One feature as the classes see it.

    Attributes:
        value: κ* of the sample, the largest of all.
        index: its row; of several with this κ* the first.
        cosines: to the weight of each class, float64 ``[C]``.
        probabilities: softmax(κ* cosines), float64 ``[C]``.
        winners: the fewest classes that together hold 1 - η of the softmax, the largest first, int64 ``[m]``.
        remainder: η, what the other classes may hold together.
        model_kappa: what TS Eq. (29) asks for with the largest cosine as ε, these m, and what the others hold as η;
            NaN (None in the JSON) where it has no answer.
    """

    name: ClassVar[str] = "sparse_softmax"

    value: float
    index: int
    cosines: Tensor
    probabilities: Tensor
    winners: Tensor
    remainder: float
    model_kappa: float

    @property
    def headline(self) -> str:
        """κ*, and how sparse it makes the softmax."""
        return f"κ* {self.value:.4g}, {len(self.winners)} of {len(self.cosines)} classes hold {1 - self.remainder:.0%}"


def sparse_kappa(cosine: float, winners: int, num_classes: int, remainder: float) -> float:
    r"""κ that turns m prominent cosines ε, all others zero, into a softmax that is sparse but for a fraction η.

    .. math:: \kappa = \frac1\epsilon \Big[ \log\frac{1 - \eta}{\eta} + \log\frac{C - m}{m} \Big]

    The smaller the cosines, the larger the κ: features that are far from all classes, as early in training, need a
    large one.

    Args:
        cosine: ε in (0, 1], of the m prominent classes.
        winners: m, from 1 to C - 1.
        num_classes: C, at least 2.
        remainder: η in (0, 1), the probability that the other C - m classes share.

    Returns:
        κ; not positive where η is no smaller than (C - m)/C, the share of the others under equal probabilities.

    Raises:
        InputError: an argument outside its range.

    References:
        TS §6.1, Eqs. (27) to (29).

    >>> round(sparse_kappa(0.1, 1, 3, 0.5), 4)  # log(2) / 0.1
    6.9315
    """
    if not is_count(num_classes, 2):
        raise InputError(f"Expected an integer 'num_classes' of at least 2. Got {num_classes}.")
    if not is_count(winners, 1) or winners >= num_classes:
        raise InputError(f"Expected an integer 'winners' from 1 to {num_classes - 1}. Got {winners}.")
    if not 0 < cosine <= 1:
        raise InputError(f"Expected 'cosine' in (0, 1]. Got {cosine}.")
    if not 0 < remainder < 1:
        raise InputError(f"Expected 'remainder' in (0, 1). Got {remainder}.")
    return (math.log((1 - remainder) / remainder) + math.log((num_classes - winners) / winners)) / cosine


def sparse_softmax(
    x: ArrayLike, weight: ArrayLike, *, remainder: float = 0.1, split: str | None = None
) -> SparseSoftmax:
    r"""Cosines and softmax of the sample whose κ* by least squares is the largest.

    .. math:: i = \arg\max_n \kappa^*_n, \qquad z_c = \tilde{\mathbf w}_c^\top \tilde{\mathbf x}_i, \qquad
        p = \operatorname{softmax}(\kappa^*_i z)

    κ* has twenty candidates (TS Eq. (30)), hence many samples may share the largest; the first of them is shown. A
    zero feature has no direction, and its κ* means nothing: it is passed over, with a warning.

    Args:
        x: features of any length, shape ``[N, D]``.
        weight: one row a class, of any length, shape ``[C, D]``, at least two.
        remainder: η in (0, 1): ``winners`` are the fewest classes that hold 1 - η.
        split: the part of the data, kept in the result.

    Returns:
        One sample; ``value`` is its κ*, in [0.135, 148.4].

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or a remainder outside its range.
        UndefinedError: one class, or no feature that has a direction.

    References:
        TS §6.1, Figure 5, which takes a feature of the first epoch; T Eq. (11).

    >>> found = sparse_softmax([[1.0, 0.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> found.index, found.winners.tolist(), bool(found.probabilities[1] > 0.9)
    (0, [0], False)
    """
    if not 0 < remainder < 1:
        raise InputError(f"Expected 'remainder' in (0, 1). Got {remainder}.")
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows).cpu()
    num_classes = len(weights)
    if num_classes < 2:
        raise UndefinedError("Expected at least two rows in 'weight'. Got one: its softmax is 1 for any κ.")
    zero = torch.cat([(chunk == 0).all(dim=1).cpu() for _, chunk in rows.chunks()])
    if bool(zero.all()):
        raise UndefinedError("Every feature is zero: none has a direction.")
    kappas = torch.where(zero, -math.inf, least_squares_of_rows(x, weight)[0])
    index = int(kappas.argmax())
    kappa = float(kappas[index])
    (feature,) = (chunk[index - where.start] for where, chunk in rows.chunks() if where.start <= index < where.stop)
    cosines = (weights @ normalize(feature).cpu()).clamp(-1, 1)
    probabilities = torch.softmax(kappa * cosines, dim=0)
    order = probabilities.argsort(descending=True, stable=True)
    held = probabilities[order].cumsum(dim=0)
    count = min(int((held < 1 - remainder).sum()) + 1, num_classes)
    winners, rest = order[:count], float(probabilities[order[count:]].sum())
    largest = float(cosines.max())
    answers = count < num_classes and largest > 0 and 0 < rest < 1
    return SparseSoftmax(
        value=kappa,
        index=index,
        cosines=cosines,
        probabilities=probabilities,
        winners=winners,
        remainder=remainder,
        model_kappa=sparse_kappa(largest, count, num_classes, rest) if answers else math.nan,
        convention="the sample with the largest κ* by least squares, of several the first",
        n=len(rows),
        split=split,
        warnings=(f"{int(zero.sum())} of {len(rows)} features are zero and were passed over.",) if zero.any() else (),
    )
