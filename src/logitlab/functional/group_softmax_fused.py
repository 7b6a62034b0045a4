"""Group softmax in one step: its loss without ever holding the logits of every group and class, where these are many.

The loss of a group needs two numbers of its C logits: the target's, and the log-sum-exp of the rivals'. One operator
computes both, a block of classes at a time. What is made of them (types I and II, class weights, reductions) is left to
autograd, on tensors ``[N, G]``, so that every sample may come back with a gradient of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from .at_hand import operators_may_have
from .group_softmax import GroupKind
from .group_softmax_operators import group_terms, plain_group_terms
from .group_softmax_products import group_dtype
from .reduction import sample_weight


def fused_group_softmax_cross_entropy(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    grouping: Tensor,
    groups: int,
    bias: Tensor | None = None,
    kind: GroupKind = "II",
    class_weight: Tensor | None = None,
) -> Tensor:
    r"""``group_softmax_cross_entropy`` of ``group_logits`` up to rounding, for class indices, in less time and memory.

    .. math:: \ell^{II} = \sum_i \log(1 + e^{r_i - \bar z^i_y}), \qquad r_i = \log \sum_{c \ne y} e^{\bar z^i_c}

    and type I is the mean of the same with G times the features and the whole bias. Gradients go to the features, the
    weight, the bias and the class weights; a second backward pass goes through the plain formulas.

    Args:
        features: x, shape ``[..., D]``, float32 at least.
        weight: W, shape ``[C, D]``, of the same dtype.
        target: class indices in [0, C), int64, shape ``[...]``.
        grouping: group of each feature in [0, G), integers, shape ``[..., D]``; a constant.
        groups: G.
        bias: b, shape ``[C]``, of the same dtype.
        kind: ``"I"`` or ``"II"``.
        class_weight: positive factor a class, shape ``[C]``.

    Returns:
        Loss in nats, shape ``[...]``; never reduced here.

    Raises:
        InputError: another kind.

    References:
        G Eq. (A.2).

    >>> weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]])
    >>> features, target, grouping = torch.ones(1, 4), torch.tensor([0]), torch.tensor([[1, 0, 0, 1]])
    >>> fused_group_softmax_cross_entropy(features, weight, target, grouping, groups=2)  # log(1 + e^6) + log(1 + e^-3)
    tensor([6.0511])
    """
    if kind not in ("I", "II"):
        raise InputError(f"Expected kind 'I' or 'II' of group softmax. Got {kind!r}.")
    if kind == "I":
        features = features * groups
    elif bias is not None:
        bias = bias / groups
    rivals, own = fused_group_terms(features, weight, target, grouping, groups, bias)
    # torch's softplus is cut off at 20; logsigmoid is exact everywhere.
    losses = -F.logsigmoid(own - rivals)
    loss = losses.sum(dim=-1) if kind == "II" else losses.mean(dim=-1)
    return loss if class_weight is None else loss * sample_weight(target, class_weight)


def fused_group_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    grouping: Tensor,
    groups: int,
    share: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The rivals' log-sum-exp and the target's logit of each group.

    .. math:: r_i = \log \sum_{c \ne y} e^{\bar z^i_c}, \quad \bar z^i_y, \qquad
        \bar z^i_c = \sum_{j \in \mathcal G^i} W_{cj} x_j + s_c

    Args:
        features: x, shape ``[..., D]``, float32 at least.
        weight: W, shape ``[C, D]``, of the same dtype.
        target: class indices in [0, C), int64, shape ``[...]``.
        grouping: group of each feature in [0, G), integers, shape ``[..., D]``; a constant.
        groups: G.
        share: s, added to the logits of every group, shape ``[C]``, of the same dtype.

    Returns:
        r and z_y, each ``[..., G]``. With one class r is the lowest number.

    >>> weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]])
    >>> fused_group_terms(torch.ones(1, 4), weight, torch.tensor([0]), torch.tensor([[1, 0, 0, 1]]), groups=2)
    (tensor([[7., 1.]]), tensor([[1., 4.]]))
    """
    if not operators_may_have(features, weight, target, grouping, share):
        return plain_group_terms(features, weight, target, grouping, groups, share)
    rows = features.reshape(-1, features.shape[-1])
    small = grouping.reshape(rows.shape).to(group_dtype(groups))
    hold = worth_holding(rows, weight, share, groups=groups)
    rivals, own, _ = group_terms(rows, weight, share, target.reshape(-1), small, groups, hold)
    shape = (*features.shape[:-1], groups)
    return rivals.view(shape), own.view(shape)


def worth_holding(features: Tensor, *others: Tensor | None, groups: int) -> bool:
    """Whether to hold the logits for the backward pass: where they are no larger than the gradient of the weight.

    Args:
        features: shape ``[N, D]``.
        *others: what else may need a gradient.
        groups: G.
    """
    needed = any(tensor is not None and tensor.requires_grad for tensor in (features, *others))
    return torch.is_grad_enabled() and needed and features.shape[0] * groups <= features.shape[1]
