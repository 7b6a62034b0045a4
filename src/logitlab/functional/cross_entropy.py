"""Softmax cross-entropy, with the target left out of the sum over the classes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .at_hand import by_hand, gradient_of, is_batched
from .reduction import sample_weight
from .targets import is_soft


def rival_logsumexp(logits: Tensor, target: Tensor) -> Tensor:
    r"""Logarithm of the sum of the exponentials of every class but the target.

    .. math:: r = \log \sum_{c \ne y} e^{\ell_c}

    Args:
        logits: shape ``[..., C]``; -inf stands for a masked class. With no rival left the result is the lowest number.
        target: class indices in [0, C), int64, shape ``[...]``.

    Returns:
        Shape ``[...]``.

    >>> rival_logsumexp(torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([0]))
    tensor([0.6931])
    """
    # Not -inf: where no rival is left (one class, or all others masked) the derivative would be 0/0.
    lowest = torch.finfo(logits.dtype).min
    return logits.scatter(-1, target.unsqueeze(-1), lowest).logsumexp(dim=-1)


def all_rivals_logsumexp(logits: Tensor) -> Tensor:
    r"""``rival_logsumexp`` for every class in turn: what each would face if it were the target.

    .. math:: r_k = \log \sum_{c \ne k} e^{\ell_c}

    From the classes before and those after k, so that nothing is subtracted: log(Σ - e^{ℓ_k}) would cancel.

    Args:
        logits: shape ``[..., C]``.

    Returns:
        Shape ``[..., C]``. With no rival the result is the lowest number.

    >>> all_rivals_logsumexp(torch.tensor([[5.0, 0.0, 0.0]]))
    tensor([[0.6931, 5.0067, 5.0067]])
    """
    lowest = torch.finfo(logits.dtype).min
    before = F.pad(logits.logcumsumexp(-1)[..., :-1], (1, 0), value=lowest)
    after = F.pad(logits.flip(-1).logcumsumexp(-1)[..., :-1], (1, 0), value=lowest).flip(-1)
    return torch.logaddexp(before, after)


def softmax_cross_entropy(logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
    r"""Cross-entropy between the target and the softmax of the logits.

    .. math:: L = -\sum_k t_k \log \frac{e^{\ell_k}}{\sum_j e^{\ell_j}}

    For a class index y this is softplus(r - ℓ_y), where r is the log-sum-exp of the rivals. Written so, a loss of
    1e-10 keeps its digits; summing all classes and subtracting the target would round it to zero.

    Args:
        logits: shape ``[..., C]``.
        target: class indices, int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        class_weight: positive factor a class, shape ``[C]``: w_y L for an index, and -Σ w_k t_k log p_k for
            probabilities, as in ``torch.nn.functional.cross_entropy``.

    Returns:
        Loss in nats, shape ``[...]``; never reduced here.

    References:
        W Eq. (1), T Eq. (2).

    >>> softmax_cross_entropy(torch.tensor([[0.0, 0.0], [30.0, 0.0]]), torch.tensor([0, 0]))
    tensor([6.9315e-01, 9.3576e-14])
    """
    if is_soft(target):
        if class_weight is not None:
            target = target * class_weight
        return -(target * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    if torch.is_grad_enabled() and logits.requires_grad and logits.numel() and by_hand(logits, target):
        loss = cast(Tensor, _CrossEntropyOfIndex.apply(logits, target))
    else:
        loss = cross_entropy_of_index(logits, target)
    return loss if class_weight is None else loss * sample_weight(target, class_weight)


def cross_entropy_of_index(logits: Tensor, target: Tensor) -> Tensor:
    """``softmax_cross_entropy`` of class indices in plain operations: softplus(r - ℓ_y).

    Args:
        logits: shape ``[..., C]``.
        target: class indices in [0, C), int64, shape ``[...]``.

    Returns:
        Shape ``[...]``.

    >>> cross_entropy_of_index(torch.zeros(1, 4), torch.tensor([2]))  # log 4
    tensor([1.3863])
    """
    target_logit = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    # torch's softplus is cut off at 20; logsigmoid is exact everywhere.
    return -F.logsigmoid(target_logit - rival_logsumexp(logits, target))


class _CrossEntropyOfIndex(torch.autograd.Function):
    r"""softplus(r - ℓ_y), keeping the rivals' exponentials; further derivatives are those of the plain formula.

    .. math:: e_c = \exp(\ell_c - \max_{j \ne y} \ell_j), \qquad \frac{\partial L}{\partial \ell_c}
        = \sigma(r - \ell_y) \frac{e_c}{\sum_{j \ne y} e_j} \; (c \ne y), \qquad
        \frac{\partial L}{\partial \ell_y} = -\sigma(r - \ell_y)
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        index, limits = target.unsqueeze(-1), torch.finfo(logits.dtype)
        # Step by step in one tensor, as ``rival_logsumexp`` would leave nothing to the backward pass.
        exponentials = logits.scatter(-1, index, limits.min)
        largest = exponentials.amax(dim=-1, keepdim=True).clamp_(max=limits.max)
        exponentials.sub_(largest).exp_()
        total = exponentials.sum(dim=-1, keepdim=True)
        gap = logits.gather(-1, index).sub_(largest).sub_(total.log())  # ℓ_y - r
        ctx.save_for_backward(logits, target, exponentials, total, gap)
        return F.logsigmoid(gap).squeeze(-1).neg_()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, exponentials, total, gap = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched(upstream):
            return *gradient_of(lambda values: cross_entropy_of_index(values, target), (logits,), (upstream,)), None
        # σ(r - ℓ_y), from its own side: 1 - σ(ℓ_y - r) would cancel.
        mass = torch.sigmoid(-gap).mul_(upstream.unsqueeze(-1))
        gradient = exponentials * (mass / total)
        return gradient.scatter_(-1, target.unsqueeze(-1), mass.neg_()), None
