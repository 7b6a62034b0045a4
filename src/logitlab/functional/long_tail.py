"""Long tails: what the number of training samples of each class says of priors and margins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from logitlab.config.parameters import parameter_fault

#: How often each class occurs in training.
ClassCounts = Sequence[float] | Tensor


def log_prior(class_counts: ClassCounts) -> Tensor:
    r"""Logarithm of the share of each class.

    .. math:: \log \pi_c = \log \frac{n_c}{\sum_j n_j}

    Args:
        class_counts: n, positive, C of them; shares do as well as counts.

    Returns:
        float64, shape ``[C]``.

    >>> log_prior([3, 1]).exp()
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    return _as_tensor(class_counts).log().log_softmax(dim=0)


def adjust_logits(logits: Tensor, prior: Tensor, adjustment: float = 1.0) -> Tensor:
    r"""What logit adjustment trains with in place of the logits.

    .. math:: \ell + \tau \log \pi

    Trained so, the plain logits rank the classes as if all were equally frequent.

    Args:
        logits: shape ``[..., C]``.
        prior: log π, shape ``[C]``; see ``log_prior``.
        adjustment: τ >= 0.

    Returns:
        Shape ``[..., C]``.

    References:
        Menon, Jayasumana, Rawat, Jain, Veit and Kumar, Long-tail learning via logit adjustment, ICLR 2021, Eq. (10).

    >>> adjust_logits(torch.zeros(1, 2), log_prior([3, 1]).float()).softmax(-1)
    tensor([[0.7500, 0.2500]])
    """
    return logits + adjustment * prior.to(logits.dtype)


def label_distribution_margins(class_counts: ClassCounts, max_margin: float = 0.5) -> Tensor:
    r"""The margins of LDAM: the rarer a class, the larger, and the rarest has the largest.

    .. math:: m_c = m_{\max} \left(\frac{\min_j n_j}{n_c}\right)^{1/4}

    Args:
        class_counts: n, positive, C of them.
        max_margin: m_max in units of the cosine.

    Returns:
        float64, shape ``[C]``.

    References:
        Cao, Wei, Gaidon, Arechiga and Ma, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, §3.2; the scale by the largest margin is that of the authors' code.

    >>> label_distribution_margins([16, 1, 81], max_margin=0.6)
    tensor([0.3000, 0.6000, 0.2000], dtype=torch.float64)
    """
    counts = _as_tensor(class_counts)
    return max_margin * (counts.min() / counts) ** 0.25


def class_counts_fault(owner: str, class_counts: object, num_classes: int | None = None) -> str | None:
    """Say what is wrong with counts, or return None when nothing is.

    Args:
        owner: who takes them, for the message.
        class_counts: what the caller gave.
        num_classes: C; None where it is not known yet.

    >>> class_counts_fault("LogitAdjustment", [10, 0])
    "The 'class_counts' parameter of LogitAdjustment must be positive numbers, one a class. Got 0 for class 1 instead."
    """
    expected = (
        "positive numbers, one a class" if num_classes is None else f"{num_classes} positive numbers, one a class"
    )
    try:
        counts = _as_tensor(class_counts)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return parameter_fault(owner, "class_counts", expected, class_counts)
    if counts.ndim != 1 or not counts.numel():
        return parameter_fault(owner, "class_counts", expected, class_counts)
    beginning = f"The 'class_counts' parameter of {owner} must be {expected}. Got"
    if num_classes is not None and len(counts) != num_classes:
        return f"{beginning} {len(counts)} numbers instead."
    wrong = torch.nonzero(~((counts > 0) & counts.isfinite())).flatten().tolist()
    return f"{beginning} {counts[wrong[0]]:g} for class {wrong[0]} instead." if wrong else None


def _as_tensor(class_counts: ClassCounts) -> Tensor:
    """The counts in float64, on the CPU even while a model is built on the meta device: the values are looked at."""
    if isinstance(class_counts, Tensor):
        return class_counts.detach().to("cpu", torch.float64)
    if isinstance(class_counts, (str, bytes, dict)):
        raise TypeError(class_counts)
    return torch.tensor([float(count) for count in class_counts], dtype=torch.float64, device="cpu")
