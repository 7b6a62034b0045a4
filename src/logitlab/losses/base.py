"""What every loss is: a stateless module from logits and a target to one number a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError
from logitlab.functional import (
    Reduction,
    at_least_float32,
    autocast_off,
    is_soft,
    reduce_loss,
    sample_weight,
)
from logitlab.functional.targets import look_at_target

#: How logits become probabilities: softmax, sigmoids divided by their sum (W Table 3), or not at all.
Link = Literal["softmax", "normalized_sigmoid", "none"]


class Loss(nn.Module, ABC):
    """Base of all losses. A loss of one's own states ``per_sample``, and what of the attributes differs.

    Attributes:
        link: how logits become probabilities.
        soft_targets: whether ``per_sample`` takes probabilities beside class indices, and is linear in them, as label
            smoothing needs.
        weights_classes: whether ``per_sample`` applies the class weight itself. Otherwise the loss of each sample is
            multiplied by the weight of its class (of a soft target: by Σ t_k w_k).
        of_gap: whether the loss on a class index depends on the lead of the rivals alone, as ``per_sample_of_gap`` has
            it; then it can be computed without the logits of all classes.
    """

    link: Link = "softmax"
    soft_targets: bool = True
    weights_classes: bool = False
    of_gap: bool = False

    @property
    def goes_by_gap(self) -> bool:
        """Whether ``per_sample_of_gap`` speaks for this loss: ``of_gap``, and no formula that derives from it differs.

        A subclass, a mixin, an instance or a hook with another formula must state ``per_sample_of_gap`` anew.
        """
        if not self.of_gap or self._forward_hooks or self._forward_pre_hooks:
            return False
        formulas = ("forward", "per_sample", "per_sample_of_target")
        if any(name in self.__dict__ for name in formulas):
            return False
        for kind in type(self).__mro__:
            if any(name in kind.__dict__ for name in ("of_gap", "per_sample_of_gap")):
                return True
            if any(name in kind.__dict__ for name in formulas):
                return False
        return False

    @abstractmethod
    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample.

        Args:
            logits: shape ``[..., C]``, float32 at least.
            target: class indices in [0, C), int64, ``[...]``, or probabilities ``[..., C]``; already checked.
            class_weight: positive factor a class, shape ``[C]``; None unless ``weights_classes``.

        Returns:
            Shape ``[...]``.
        """

    def per_sample_of_target(
        self, logits: Tensor, bent: Tensor, target: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample of a class under a margin: that of the logits with the target's bent.

        Args:
            logits: without a margin, ``[..., C]``.
            bent: with the target's logit replaced, ``[..., C]``.
            target: class indices ``[...]``.
            class_weight: positive factor a class, shape ``[C]``; None unless ``weights_classes``.
        """
        return self.per_sample(bent, target, class_weight)

    def per_sample_with_margin(
        self, logits: Tensor, target: Tensor, target_logits: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample under a margin, its class known in probability: the mean of what its classes would cost.

        Args:
            logits: without a margin, ``[..., C]``.
            target: probabilities ``[..., C]``.
            target_logits: with a margin, of each class were it the target, ``[..., C]``.
            class_weight: positive factor a class, shape ``[C]``; None unless ``weights_classes``.

        Raises:
            InputError: this loss defines none.
        """
        raise InputError(
            f"With a margin {type(self).__name__} takes class indices only: a margin belongs to the class of a sample. "
            "Got probabilities (Mixup?). Softmax cross-entropy without smoothing and penalty takes them."
        )

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        reduction: Reduction = "mean",
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        penalty: Tensor | None = None,
        target_logits: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: shape ``[..., C]``; half precision is widened to float32.
            target: class indices ``[...]`` or probabilities ``[..., C]``.
            target_logits: what a margin makes of the target's logit: ``[...]`` beside class indices, and beside
                probabilities of each class were it the target, ``[..., C]``; None for no margin.
            reduction: ``"mean"``, ``"sum"`` or ``"none"``.
            class_weight: positive factor a class, shape ``[C]``.
            ignore_index: index of samples that do not count.
            penalty: a scalar that is added to the loss of every sample, such that the mean gains just this.

        Returns:
            A scalar, or shape ``[...]`` for ``"none"``.

        Raises:
            InputError: a target, a class weight or a reduction that does not fit; see ``functional.check_target``.
        """
        logits = logits.to(at_least_float32(logits))
        target, all_count = look_at_target(target, logits, ignore_index)
        soft = is_soft(target)
        if soft and not self.soft_targets:
            raise InputError(
                f"{type(self).__name__} takes class indices only. Got probabilities (label smoothing, Mixup?)."
            )
        if class_weight is not None and class_weight.shape != logits.shape[-1:]:
            raise InputError(
                f"Expected a class weight of shape {list(logits.shape[-1:])}. Got {list(class_weight.shape)}."
            )
        weight = None if class_weight is None else class_weight.to(logits.dtype)
        with autocast_off(logits.device):
            # An ignored sample needs some class to index with; its loss is dropped by reduce_loss.
            safe = target if soft or all_count else torch.where(target == ignore_index, 0, target)
            inside = weight if self.weights_classes else None
            if soft and target_logits is not None:
                loss = self.per_sample_with_margin(logits, safe, target_logits, inside)
            elif target_logits is not None:
                bent = logits.scatter(-1, safe.unsqueeze(-1), target_logits.unsqueeze(-1))
                loss = self.per_sample_of_target(logits, bent, safe, inside)
            else:
                loss = self.per_sample(logits, safe, inside)
            if weight is not None and not self.weights_classes:
                loss = loss * sample_weight(safe, weight)
            if penalty is not None:
                # The mean divides by the weights of class indices, and by the number of soft targets.
                loss = loss + (penalty if weight is None or soft else penalty * sample_weight(safe, weight))
            return reduce_loss(
                loss, target, reduction, class_weight=weight, ignore_index=ignore_index, all_count=all_count
            )

    def per_sample_of_gap(self, gap: Tensor) -> Tensor:
        """Loss of each sample of a class, without class weights; only where ``of_gap``.

        Args:
            gap: log-sum-exp of the rivals' logits less the target's logit, ``[...]``.
        """
        raise InputError(f"{type(self).__name__} needs the logits of every class.")

    def from_gap(
        self,
        gap: Tensor,
        target: Tensor,
        all_count: bool,
        *,
        reduction: Reduction = "mean",
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        penalty: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch from the lead of the rivals; the other arguments, and what comes back, as in ``forward``.

        Args:
            gap: see ``per_sample_of_gap``; anything finite for samples that do not count.
            target: class indices, checked, ``[...]``.
            all_count: whether it is known that no sample is ignored.
            reduction: as in ``forward``.
            class_weight: as in ``forward``.
            ignore_index: as in ``forward``.
            penalty: as in ``forward``.
        """
        weight = None if class_weight is None else class_weight.to(gap.dtype)
        with autocast_off(gap.device):
            loss = self.per_sample_of_gap(gap)
            loss = loss if penalty is None else loss + penalty
            if weight is not None:
                safe = target if all_count else torch.where(target == ignore_index, 0, target)
                loss = loss * sample_weight(safe, weight)
            return reduce_loss(
                loss, target, reduction, class_weight=weight, ignore_index=ignore_index, all_count=all_count
            )
