"""What a head says of itself, so that single checks ask something else of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from logitlab.functional import projection_energy
from logitlab.heads import GroupSoftmaxHead, Head
from logitlab.losses import Link, Loss, SoftmaxCrossEntropy
from logitlab.margins import AdditiveAngularMargin, Margin
from logitlab.temperature import LeastSquares

#: Of unit features ``[N, D]``, unit weight ``[C, D]`` and κ ``[N]``: what the choice of κ makes small, ``[N]``.
KappaEnergy = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class HeadTraits:
    """What ``check_head`` may expect of a head. With the defaults it expects the most.

    A ``Head`` needs none of this: its traits follow from its parts. Any other module may carry them as ``traits``, or
    they are given to ``check_head``.

    Attributes:
        stochastic: a training pass draws random numbers (dropout, random groups). Results are compared in evaluation
            mode; training is still asked to be finite.
        adaptive_kappa: κ is chosen from features, weight or targets, without a gradient. It is frozen by ``kappa=``
            where derivatives or precisions are compared.
        takes_kappa: the head takes ``kappa=``, a number or one a sample, and its logits are affine in it.
        batch_dependent: in training the loss of a sample depends on the others (dynamic AdaCos). What compares a
            sample alone with a batch runs in evaluation mode only.
        margin: the target's logit is lowered where there is a target.
        cross_entropy: the loss of class indices is plain softmax cross-entropy, softplus(r - φ), with r the
            log-sum-exp of the rivals' logits and φ the target's, lowered by the margin if there is one.
        link: how logits become probabilities: ``"softmax"``, ``"normalized_sigmoid"`` or ``"none"``.
        soft_targets: takes probabilities ``[..., C]``. Otherwise it must refuse them with an ``InputError``.
        scale_free: neither logits nor loss depend on the length of a feature. Features of 1e30 are then finite too.
        straight_through: the gradient is on purpose not that of the value (ArcFace with ``detach_margin``).
        feature_multiple: D must be a multiple of this (the number of groups).
        min_classes: the fewest classes that it makes sense for.
        kappa_energy: what the choice of κ, ``head.kappa_star(features)``, makes small; None where there is no such
            thing.
        kappa_candidates: the κ among which is chosen; empty where they are not a list.
    """

    stochastic: bool = False
    adaptive_kappa: bool = False
    takes_kappa: bool = False
    batch_dependent: bool = False
    margin: bool = False
    cross_entropy: bool = False
    link: Link = "softmax"
    soft_targets: bool = True
    scale_free: bool = False
    straight_through: bool = False
    feature_multiple: int = 1
    min_classes: int = 1
    kappa_energy: KappaEnergy | None = None
    kappa_candidates: tuple[float, ...] = ()


def traits_of(head: nn.Module) -> HeadTraits:
    """The traits that a head declares as ``traits`` (or gives when that is called), or that follow from its parts.

    Args:
        head: as the factory builds it.

    Raises:
        TypeError: ``head.traits`` is something else.

    >>> from logitlab.heads import create_head
    >>> traits = traits_of(create_head("cosine_ls", 8, 3))
    >>> traits.adaptive_kappa, traits.margin, traits.scale_free
    (True, False, True)
    """
    declared: Any = getattr(head, "traits", None)
    if callable(declared):
        declared = declared()
    if declared is None:
        return _of_head(head) if isinstance(head, Head) else HeadTraits(link=getattr(head, "link", "softmax"))
    if not isinstance(declared, HeadTraits):
        raise TypeError(f"Expected 'traits' of {type(head).__name__} as a HeadTraits. Got {declared!r}.")
    return declared


def _of_head(head: Head) -> HeadTraits:
    temperature, margin = head.temperature, head.margin
    groups = head if isinstance(head, GroupSoftmaxHead) else None
    # A subclass with a forward pass of its own may compute anything.
    plain = type(head).forward is Head.forward and type(head)._loss is Head._loss
    least_squares = temperature if isinstance(temperature, LeastSquares) else None
    return HeadTraits(
        stochastic=head.keep_probability < 1 or (groups is not None and groups.grouping == "random"),
        adaptive_kappa=temperature is not None and (temperature.adaptive or temperature.uses_target),
        takes_kappa=temperature is not None,
        batch_dependent=temperature is not None and temperature.uses_target,
        margin=_lowers(margin),
        cross_entropy=plain
        and type(head.loss_function) is SoftmaxCrossEntropy
        and head.loss_scale == 1
        and not head.weight_penalty
        and head.class_weight is None,
        link=head.link,
        soft_targets=_takes_soft_targets(head.loss_function, margin),
        scale_free=head.classifier == "cosine",
        straight_through=isinstance(margin, AdditiveAngularMargin) and margin.detach_margin,
        feature_multiple=1 if groups is None else groups.groups,
        kappa_energy=None if least_squares is None else projection_energy,
        kappa_candidates=() if least_squares is None else least_squares.candidates,
    )


def _lowers(margin: Margin | None) -> bool:
    """Whether a margin is one: m = 1 of L-Softmax and m = 0 of the others are none."""
    if margin is None:
        return False
    number: Any = getattr(margin, "margin", None)
    return number not in (0.0, 1) if margin.bends_linear else number != 0.0


def _takes_soft_targets(loss: Loss, margin: Margin | None) -> bool:
    if margin is None:
        return loss.soft_targets
    if type(loss).per_sample_with_margin is Loss.per_sample_with_margin:
        return False
    # A loss around a loss asks it in turn.
    inside = getattr(loss, "loss", None)
    return not isinstance(inside, Loss) or _takes_soft_targets(inside, margin)
