"""The scale of AdaCos: from the number of classes alone, or following the cosines of each batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from .cross_entropy import rival_logsumexp

#: What the dynamic rule may give; it leaves them where the cosines of rivals are below zero, or all near one.
ADACOS_RANGE = (1e-3, 1e6)


def adacos_kappa(num_classes: int) -> float:
    r"""The fixed scale of AdaCos.

    .. math:: \kappa = \sqrt2 \log(C - 1)

    It gives a probability of one half where the angle to the own class is 45° and that to the others 90°. For two
    classes the formula gives zero, for one class no number: both take the value of three classes, √2 log 2 = 0.98.

    Args:
        num_classes: C, at least 1.

    Returns:
        κ, positive.

    Raises:
        InputError: C below 1.

    References:
        Zhang et al., AdaCos, CVPR 2019 (fixed scale).

    >>> round(adacos_kappa(10), 4), adacos_kappa(2) == adacos_kappa(3)
    (3.1073, True)
    """
    if num_classes < 1:
        raise InputError(f"Expected at least one class. Got {num_classes}.")
    return math.sqrt(2) * math.log(max(num_classes - 1, 2))


@torch.no_grad()
def adacos_step(cosine: Tensor, target: Tensor, kappa: Tensor, counts: Tensor | None = None) -> Tensor:
    r"""The next scale of dynamic AdaCos.

    .. math:: \kappa_t = \frac{\log B}{\cos(\min(\pi/4, \theta_{med}))}, \qquad
        B = \frac1N \sum_{i=1}^N \sum_{c \ne y_i} e^{\kappa_{t-1} z_{ic}}

    B is taken in logarithms, so that no κ overflows. The median of the N angles to the own class is, of two middle
    ones, the lower, as ``torch.median`` has it.

    Args:
        cosine: shape ``[N, C]``.
        target: class indices in [0, C) where the sample counts, int64, shape ``[N]``.
        kappa: κ of the step before, scalar.
        counts: bool, shape ``[N]``: samples to look at; None for all. If none counts, the result means nothing.

    Returns:
        Scalar in [1e-3, 1e6]; detached.

    References:
        Zhang et al., AdaCos, CVPR 2019 (dynamic scale).

    >>> adacos_step(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]), torch.tensor(5.0))  # log 2 / cos 0°
    tensor(0.6931)
    """
    if counts is None:
        counts = torch.ones_like(target, dtype=torch.bool)
    # What does not count may hold anything: a target of -100, a cosine of NaN.
    cosine = torch.where(counts.unsqueeze(-1), cosine, 0.0)
    target = torch.where(counts, target, 0)
    own = cosine.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return adacos_step_of_terms(rival_logsumexp(kappa * cosine, target), own, counts)


@torch.no_grad()
def adacos_step_of_terms(rivals: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    r"""``adacos_step`` from the sums over the rivals, where nobody holds the cosines of all classes.

    Args:
        rivals: :math:`\log \sum_{c \ne y} e^{\kappa_{t-1} z_c}`, shape ``[N]``.
        own: cosine of the own class, shape ``[N]``.
        counts: bool, shape ``[N]``: samples to look at.

    Returns:
        Scalar in [1e-3, 1e6]; detached.

    >>> adacos_step_of_terms(torch.tensor([0.6931]), torch.tensor([1.0]), torch.tensor([True]))
    tensor(0.6931)
    """
    number = counts.sum()
    rivals = torch.where(counts, rivals, -math.inf)
    log_mean = rivals.logsumexp(dim=0) - number.clamp_min(1).to(rivals.dtype).log()
    # The lower median of the angles is the upper one of their cosines. What does not count is sorted to the end, where
    # one value more gives an empty batch its middle.
    own = F.pad(torch.where(counts, own, -math.inf), (0, 1), value=-math.inf)
    middle = ((number - 1) // 2).clamp_min(0).unsqueeze(0)
    median = own.sort(descending=True).values.gather(0, middle).squeeze(0)
    return (log_mean / median.clamp(math.sqrt(0.5), 1.0)).clamp(*ADACOS_RANGE)
