"""Group softmax as a head: linear logits, learned in groups of features."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional import (
    GroupKind,
    Reduction,
    at_least_float32,
    autocast_off,
    check_target,
    fast_discriminative_grouping,
    fast_group_logits,
    fixed_grouping,
    fused_group_softmax_cross_entropy,
    group_softmax_cross_entropy,
    groups_fault,
    is_soft,
    logit_penalty,
    random_grouping,
    reduce_loss,
    sample_weight,
    uniform_target,
    weight_penalty,
)
from logitlab.functional.at_hand import operators_may_have
from logitlab.functional.group_softmax_operators import spares_memory

from .fusing import Path
from .head import Head

#: How the features may be parted.
Grouping = Literal["discriminative", "random", "fixed"]

GROUPS = Range(1, integer=True)
CHOICES: dict[str, tuple[str, ...]] = {"kind": ("I", "II"), "grouping": ("discriminative", "random", "fixed")}
# Keywords of Head that change what a logit is, with what stands for "not asked for".
AT_REST: dict[str, Any] = {
    "classifier": "linear",
    "loss": "softmax",
    "temperature": None,
    "kappa": None,
    "tau": None,
    "normalize_logits": False,
    "margin": None,
    "centers": 1,
    "adjustment": 0.0,
    "class_counts": None,
}


class GroupSoftmaxHead(Head):
    r"""Group softmax: the features are parted into groups, and each group must name the class alone.

    .. math::
        \ell^{I} = \frac1G \sum_i \mathrm{CE}(G \bar{\mathbf z}^i, t), \qquad
        \ell^{II} = \sum_i \mathrm{CE}(\bar{\mathbf z}^i, t), \qquad
        \bar z^i_c = \sum_{j \in \mathcal G^i} W_{cj} x_j + b_c / G

    Softmax cross-entropy <= type I <= type II, for every grouping. The discriminative one sorts, for each sample, how
    much each feature speaks for its target and cuts this order into equal parts, which makes the loss nearly as large
    as a grouping can; features are taken as the classifier sees them, after dropout. It is a constant: no gradient
    passes through it.

    ``head(features)`` gives the whole logits Wx + b, by which one predicts. The loss in evaluation is that of training
    without dropout, grouped by the target that is given; random groups are replaced by consecutive blocks there, so
    that evaluation repeats itself.

    Soft targets t are grouped by the mean Σ_k t_k λ_j^{(k)}, so that a one-hot row equals its index. Smoothing by
    ``alpha`` changes no grouping (λ of a uniform target is zero) and smooths the target within each group's
    cross-entropy, by W (2) and (3) as in ``Head``. ``beta`` penalises the whole logits.

    Args:
        in_features: D, length of a feature vector.
        num_classes: C.
        groups: G, which divides D. The paper's text at hand names no value; with 1 this is softmax.
        kind: ``"I"`` or ``"II"``. The paper finds II better below some 500,000 training samples, I above.
        grouping: ``"discriminative"`` (G (A.13)); or, as baselines, ``"random"``: an equal partition a sample, drawn
            anew at each step from torch's generator; ``"fixed"``: consecutive blocks.
        **parameters: ``keep_probability``, ``alpha``, ``beta``, ``weight_penalty``, ``bias``, ``loss_scale``,
            ``class_weight``, ``ignore_index``, ``device`` and ``dtype`` of ``Head``. Cosines, temperatures, margins and
            other losses are refused: group softmax is defined on logits that are sums over the features.

    Raises:
        ParameterError: every fault at once; where G does not divide D, it names the nearest divisors.

    References:
        G Eqs. (A.2), (A.13), (A.14).

    >>> head = GroupSoftmaxHead(8, 3, groups=4)
    >>> head(torch.ones(2, 8)).shape, head(torch.ones(2, 8), torch.tensor([0, 2])).shape
    (torch.Size([2, 3]), torch.Size([]))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        groups: int = 8,
        kind: GroupKind = "II",
        grouping: Grouping = "discriminative",
        **parameters: Any,
    ) -> None:
        owner = type(self).__name__
        faults = _own_faults(owner, in_features, {"groups": groups, "kind": kind, "grouping": grouping}, parameters)
        accepted = {key: value for key, value in parameters.items() if key not in AT_REST}
        try:
            super().__init__(in_features, num_classes, **accepted)
        except ParameterError as error:
            raise ParameterError([*faults, *error.faults]) from None
        if faults:
            raise ParameterError(faults)
        self.groups = int(groups)
        self.kind: GroupKind = kind
        self.grouping: Grouping = grouping
        self.alpha = float(self._arguments["alpha"])
        self.beta = float(self._arguments["beta"])

    def for_classes(self, num_classes: int) -> GroupSoftmaxHead:
        """A fresh head of the same kind and groups for another number of classes.

        Args:
            num_classes: the new C.

        Raises:
            ParameterError: ``num_classes`` is out of range, or this head has a weight for each class.
        """
        arguments = {**self._arguments, "num_classes": num_classes}
        own: dict[str, Any] = {"groups": self.groups, "kind": self.kind, "grouping": self.grouping}
        head = type(self).__new__(type(self))
        GroupSoftmaxHead.__init__(head, **own, **arguments, device=self.weight.device, dtype=self.weight.dtype)
        return head.train(self.training)

    def forward(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        reduction: Reduction = "mean",
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Whole logits without a target, the group softmax loss with one.

        Args:
            features: shape ``[..., D]``, any floating dtype.
            target: class indices ``[...]``, or probabilities ``[..., C]`` whose rows add up to one.
            kappa: refused; linear logits have no temperature.
            reduction: of the loss: ``"mean"``, ``"sum"`` or ``"none"`` (one loss a sample, penalties included).
            return_logits: give ``(loss, logits)``, the whole logits of the same dropped features.

        Returns:
            Logits ``[..., C]`` in float32 at least; or the loss; or both.

        Raises:
            InputError: shapes, dtypes or values that do not fit.
        """
        if target is None or kappa is not None:
            return super().forward(features, kappa=kappa)  # which refuses κ in words
        self._check_features(features)
        with autocast_off(features.device):
            dtype = at_least_float32(features, self.weight)
            features = features.to(dtype)
            if self.training and self.keep_probability < 1:
                features = F.dropout(features, p=1 - self.keep_probability)
            weight = self.weight.to(dtype)
            bias = None if self.bias is None else self.bias.to(dtype)
            # Whole logits cost a matrix product of their own; only a penalty or the caller needs their values.
            whole = F.linear(features, weight, bias) if self.beta or return_logits else None
            shape = features.new_zeros(()).expand(*features.shape[:-1], self.num_classes) if whole is None else whole
            target = check_target(target, shape, self.ignore_index)
            loss = self._group_loss(features, weight, bias, target, whole, reduction)
        return loss if not return_logits or whole is None else (loss, whole)

    def extra_repr(self) -> str:
        """Show the groups beside what every head shows."""
        own = f"groups={self.groups}, kind={self.kind!r}, grouping={self.grouping!r}"
        return f"{super().extra_repr()}, {own}"

    def _group_loss(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        whole: Tensor | None,
        reduction: Reduction,
    ) -> Tensor:
        """Loss of a checked target, reduced as ``losses.Loss`` does it."""
        soft = is_soft(target)
        # An ignored sample needs some class to index with; its loss is dropped by reduce_loss.
        safe = target if soft else torch.where(target == self.ignore_index, 0, target)
        class_weight = None if self.class_weight is None else self.class_weight.to(weight.dtype)
        grouping = self._part(features, weight, safe)
        if self.path(features, target).fused:
            loss = fused_group_softmax_cross_entropy(
                features, weight, safe, grouping, self.groups, bias, self.kind, class_weight
            )
        else:
            parted = fast_group_logits(features, weight, grouping, self.groups, bias)
            loss = group_softmax_cross_entropy(parted, safe, self.kind, class_weight)
            if self.alpha:
                uniform = uniform_target(parted[..., 0, :])
                smoothing = group_softmax_cross_entropy(parted, uniform, self.kind, class_weight)
                loss = loss + self.alpha / (1 - self.alpha) * smoothing
        of_sample = 1 if class_weight is None else sample_weight(safe, class_weight)
        if self.beta and whole is not None:
            loss = loss + logit_penalty(whole, self.beta) * of_sample
        loss = loss * self.loss_scale
        if self.weight_penalty:
            # The mean divides by the weights of class indices, and by the number of soft targets.
            loss = loss + weight_penalty(weight, self.weight_penalty) * (1 if soft else of_sample)
        return reduce_loss(loss, target, reduction, class_weight=class_weight, ignore_index=self.ignore_index)

    def path(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        return_logits: bool = False,
    ) -> Path:
        """Which way the group softmax loss goes, and why; see ``Head.path``."""
        if self.fused is False:
            return Path("plain", "fused=False")
        if target is None:
            return Path("plain", "logits are asked for")
        if is_soft(target):
            return Path("plain", "soft targets need the logits of every class")
        if self.alpha:
            return Path("plain", "label smoothing needs the logits of every class")
        if not operators_may_have(features, self.weight, self.bias, target):
            return Path("plain", "torch.func, forward mode, exports and subclasses of Tensor go through plain formulas")
        if self.fused is True:
            return Path("fused", "fused=True")
        if spares_memory(features, self.num_classes, self.groups):
            return Path("fused", "the group logits are more than one block of classes")
        return Path("plain", "the group logits are one block of classes, which needs no second one")

    def _part(self, features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        """Group of each feature of each sample."""
        if self.grouping == "discriminative":
            return fast_discriminative_grouping(features, weight, target, self.groups)
        if self.grouping == "random" and self.training:
            return random_grouping(features, self.groups)
        return fixed_grouping(features, self.groups)


def _own_faults(owner: str, in_features: Any, own: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """What is wrong with the groups, and which keywords of ``Head`` mean nothing here."""
    faults: list[str] = []
    groups = own["groups"]
    if groups not in GROUPS:
        faults.append(parameter_fault(owner, "groups", str(GROUPS), groups))
    elif in_features in GROUPS:
        fault = groups_fault(int(in_features), int(groups))
        faults += [fault] if fault else []
    for name, choices in CHOICES.items():
        value = own[name]
        if not isinstance(value, str):
            faults.append(parameter_fault(owner, name, " or ".join(f"'{choice}'" for choice in choices), value))
        elif value not in choices:
            faults.append(unknown_name(f"{name} of {owner}", value, choices))
    refused = [
        f"{name}={parameters[name]!r}"
        for name, rest in AT_REST.items()
        if name in parameters and parameters[name] is not rest and parameters[name] != rest
    ]
    if refused:
        faults.append(
            f"{owner} is defined on plain linear logits with softmax, whose parts add up to the whole. "
            f"Got {', '.join(refused)}. Leave it out, or use Head without groups."
        )
    return faults
