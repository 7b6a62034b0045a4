"""Group softmax: features parted into groups, each of which must name the class alone. The plain version."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError

from .cross_entropy import softmax_cross_entropy
from .precision import at_least_float32, autocast_off
from .targets import is_soft

#: The two losses of G (A.2): the tighter bound, and the looser one.
GroupKind = Literal["I", "II"]


def groups_fault(num_features: int, groups: int) -> str | None:
    """Say what is wrong with a number of groups that does not part the features equally, or return None.

    Args:
        num_features: D, at least 1.
        groups: G, at least 1.

    >>> groups_fault(2048, 8) is None
    True
    >>> groups_fault(10, 4)
    'Expected a number of groups that divides the 10 features. Got 4. Use 2 or 5, the nearest divisors.'
    """
    if num_features % groups == 0:
        return None
    divisors = [number for number in range(1, num_features + 1) if num_features % number == 0]
    below = [str(number) for number in divisors if number < groups][-1:]
    above = [str(number) for number in divisors if number > groups][:1]
    nearest = " or ".join(below + above)
    which = "the nearest divisors" if below and above else "the nearest divisor"
    return (
        f"Expected a number of groups that divides the {num_features} features. Got {groups}. Use {nearest}, {which}."
    )


def check_groups(num_features: int, groups: int) -> None:
    """Refuse a number of groups that does not part the features equally.

    Raises:
        ParameterError: names the nearest divisors.
    """
    fault = "Expected at least one group." if groups < 1 else groups_fault(num_features, groups)
    if fault:
        raise ParameterError(fault)


def discriminativity(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    r"""How much each feature speaks for the target, against the mean of its rivals.

    .. math:: \lambda_j = z_{jy} - \frac{1}{C-1} \sum_{c \ne y} z_{jc}, \qquad z_{jc} = x_j W_{cj}

    No ingredient logit is formed: x_j stands before the bracket, and what remains is a row of the weight and the sum
    of all rows. For a soft target t this is the mean Σ_k t_k λ_j^{(k)}; of a uniform target it is zero, so that
    label smoothing changes no grouping. The bias belongs to no feature and plays no part.

    Args:
        features: x, shape ``[..., D]``.
        weight: W, shape ``[C, D]``.
        target: class indices in [0, C), int64, shape ``[...]``; or probabilities, shape ``[..., C]``.

    Returns:
        λ, shape ``[..., D]``. With one class the mean over no rival is zero.

    References:
        G Eq. (A.14).

    >>> discriminativity(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [1.0, 2.0]]), torch.tensor([0]))
    tensor([[ 2., -2.]])
    """
    if is_soft(target):
        own = F.linear(target.to(weight.dtype), weight.t())
    else:
        # Indexing by a target without dimensions would read its value, which stalls a GPU and fails under vmap.
        own = weight.index_select(0, target.reshape(-1)).reshape(features.shape)
    rivals = (weight.sum(dim=0) - own) / max(weight.shape[0] - 1, 1)
    return features * (own - rivals)


@torch.no_grad()
def discriminative_grouping(features: Tensor, weight: Tensor, target: Tensor, groups: int) -> Tensor:
    r"""Part the features of each sample by the order of λ: the least discriminative are group 0.

    .. math:: \tilde{\mathcal G}^i = \{j \mid \tau_{i-1} < \lambda_j \le \tau_i\}, \quad |\tilde{\mathcal G}^i| = D/G

    Of all equal partitions this one maximises Σ_i log(1 + exp(-Σ_{j in group i} λ_j)), the relaxed loss (A.20), also
    where λ is multiplied by G (type I) and where each group has an equal share of a bias. Of equal λ the feature
    with the smaller index comes first. For soft targets see ``discriminativity``: by the convexity of
    log(1 + exp(-λ)) the sorted mean of λ maximises a lower bound of the same kind.

    Args:
        features: x, shape ``[..., D]``.
        weight: W, shape ``[C, D]``.
        target: class indices in [0, C), int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        groups: G, which divides D.

    Returns:
        Group of each feature in [0, G), int64, shape ``[..., D]``; no gradient passes through it.

    Raises:
        ParameterError: G does not divide D.

    References:
        G Eqs. (A.13), (A.14), Lemma 1.

    >>> weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]])
    >>> discriminative_grouping(torch.ones(1, 4), weight, torch.tensor([0]), groups=2)  # λ = 2, -1, -5, 1
    tensor([[1, 0, 0, 1]])
    """
    check_groups(features.shape[-1], groups)
    with autocast_off(features.device):
        dtype = at_least_float32(features, weight)
        score = discriminativity(features.to(dtype), weight.to(dtype), target)
        return grouping_of_order(torch.argsort(score, dim=-1, stable=True), groups)


def grouping_of_order(order: Tensor, groups: int) -> Tensor:
    """Part an order of the features into equal groups.

    Args:
        order: a permutation of the features' indices a sample, int64, shape ``[..., D]``.
        groups: G, which divides D.

    Returns:
        Group of each feature, int64, shape ``[..., D]``.

    >>> grouping_of_order(torch.tensor([3, 0, 1, 2]), 2)
    tensor([0, 1, 1, 0])
    """
    return torch.empty_like(order).scatter(-1, order, fixed_grouping(order, groups))


def fixed_grouping(features: Tensor, groups: int) -> Tensor:
    """Part the features into consecutive blocks, the same for every sample: a baseline.

    Args:
        features: shape ``[..., D]``; only the shape counts.
        groups: G, which divides D.

    Returns:
        Group of each feature, int64, shape ``[..., D]``.

    Raises:
        ParameterError: G does not divide D.

    >>> fixed_grouping(torch.zeros(1, 4), groups=2)
    tensor([[0, 0, 1, 1]])
    """
    num_features = features.shape[-1]
    check_groups(num_features, groups)
    blocks = torch.arange(num_features, device=features.device) // (num_features // groups)
    return blocks.expand(features.shape)


def random_grouping(features: Tensor, groups: int) -> Tensor:
    """Part the features of each sample at random, every equal partition being as likely: a baseline.

    Args:
        features: shape ``[..., D]``; only the shape counts.
        groups: G, which divides D.

    Returns:
        Group of each feature, int64, shape ``[..., D]``; drawn anew at each call from torch's generator.

    Raises:
        ParameterError: G does not divide D.

    >>> random_grouping(torch.zeros(6), groups=3).bincount()
    tensor([2, 2, 2])
    """
    check_groups(features.shape[-1], groups)
    drawn = torch.rand(features.shape, device=features.device)
    return grouping_of_order(torch.argsort(drawn, dim=-1), groups)


def group_logits(features: Tensor, weight: Tensor, grouping: Tensor, groups: int, bias: Tensor | None = None) -> Tensor:
    r"""Logits of each group of features alone.

    .. math:: \bar z^i_c = \sum_{j \in \mathcal G^i} W_{cj} x_j + b_c / G, \qquad \sum_i \bar z^i = \mathbf{Wx + b}

    The groups share the bias equally, so that they add up to the whole logits, (A.1), from which the chain of bounds
    (A.2) follows; the paper has no bias. ``fast_group_logits`` is the fast version.

    Args:
        features: x, shape ``[..., D]``.
        weight: W, shape ``[C, D]``.
        grouping: group of each feature in [0, G), integers, shape ``[..., D]``; a constant.
        groups: G.
        bias: b, shape ``[C]``.

    Returns:
        Shape ``[..., G, C]``.

    References:
        G, Notations and Eq. (A.1).

    >>> features, weight = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    >>> group_logits(features, weight, torch.tensor([[0, 1, 1, 0]]), groups=2)
    tensor([[[5.],
             [5.]]])
    """
    inside = group_mask(grouping, groups)
    alone = torch.where(inside, features.unsqueeze(-2), torch.zeros_like(features).unsqueeze(-2))
    return F.linear(alone, weight, None if bias is None else bias / groups)


def group_mask(grouping: Tensor, groups: int) -> Tensor:
    """Whether a group holds a feature: ``[..., G, D]`` of a grouping ``[..., D]``."""
    return grouping.unsqueeze(-2) == torch.arange(groups, device=grouping.device).unsqueeze(-1)


def group_softmax_cross_entropy(
    group_logits: Tensor, target: Tensor, kind: GroupKind = "II", class_weight: Tensor | None = None
) -> Tensor:
    r"""Softmax cross-entropy of every group: their sum (type II), or the mean of theirs at G times the logits (type I).

    .. math::
        \ell^{I} = -\frac1G \sum_i \log \frac{\exp(G \bar z^i_y)}{\sum_c \exp(G \bar z^i_c)}, \qquad
        \ell^{II} = -\sum_i \log \frac{\exp(\bar z^i_y)}{\sum_c \exp(\bar z^i_c)}

    For every grouping, bias and target: cross-entropy of the whole logits <= type I <= type II. With one group the
    three are one. The paper finds type II better below some 500,000 training samples, type I above (Table B.2).

    Args:
        group_logits: shape ``[..., G, C]``.
        target: class indices in [0, C), int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        kind: ``"I"`` or ``"II"``.
        class_weight: positive factor a class, shape ``[C]``; see ``softmax_cross_entropy``.

    Returns:
        Loss in nats, shape ``[...]``; never reduced here.

    Raises:
        InputError: another kind.

    References:
        G Eq. (A.2).

    >>> logits = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    >>> group_softmax_cross_entropy(logits, torch.tensor([0]), "II")  # 2 log 2
    tensor([1.3863])
    >>> group_softmax_cross_entropy(logits, torch.tensor([0]), "I")  # log 2
    tensor([0.6931])
    """
    if kind not in ("I", "II"):
        raise InputError(f"Expected kind 'I' or 'II' of group softmax. Got {kind!r}.")
    groups = group_logits.shape[-2]
    if is_soft(target):
        target = target.unsqueeze(-2).expand(group_logits.shape)
    else:
        target = target.unsqueeze(-1).expand(group_logits.shape[:-1])
    if kind == "II":
        return softmax_cross_entropy(group_logits, target, class_weight).sum(dim=-1)
    return softmax_cross_entropy(groups * group_logits, target, class_weight).mean(dim=-1)
