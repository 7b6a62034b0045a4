"""From the losses of samples to that of a batch: reductions, ignored samples, weights of classes."""

from __future__ import annotations

import torch
from torch import nn

from logitlab.config.errors import InputError

from ..case import Case, gradients, same, same_gradients
from ..catalogue import NotApplicable, check
from ..report import CheckFailed


@check()
def reduction(case: Case) -> None:
    """The mean is the mean of ``"none"`` and the sum its sum, penalties included.

    A batch twice over has the same mean, and another word is refused.
    """
    features, target = case.batch(6)
    for training in case.modes():
        each = case.head(training=training)(features, target, reduction="none")
        default = case.head(training=training)(features, target)
        mean = case.head(training=training)(features, target, reduction="mean")
        total = case.head(training=training)(features, target, reduction="sum")
        same(mean, each.mean(), "reduction='mean' against the mean of 'none'")
        same(total, each.sum(), "reduction='sum' against the sum of 'none'")
        same(default, mean, "the loss without a reduction against reduction='mean'")
        if training in case.modes(alone=True):
            twice = case.head(training=training)(features.repeat(2, 1), target.repeat(2))
            same(twice, mean, "the mean of a batch twice over")
    try:
        case.head(training=False)(features, target, reduction="average")
    except InputError:
        return
    except Exception as error:
        raise CheckFailed(f"reduction='average' must raise InputError, got {type(error).__name__}") from None
    raise CheckFailed("reduction='average' must raise InputError, got a result")


@check()
def one_by_one(case: Case) -> None:
    """The loss of a sample, and its logits, are the same alone and in a batch."""
    features, target = case.batch(6)
    for training in case.modes(alone=True):
        losses = case.head(training=training)(features, target, reduction="none")
        logits = case.head(training=training)(features)
        for index in range(len(features)):
            alone = case.head(training=training)
            what = f"sample {index} alone, training={training}"
            same(alone(features[index : index + 1]), logits[index : index + 1], f"{what}: its logits")
            found = alone(features[index : index + 1], target[index : index + 1], reduction="none")
            same(found, losses[index : index + 1], f"{what}: its loss")


@check()
def accumulation(case: Case) -> None:
    """Gradients of two halves of a batch, each by half, add up to those of the batch."""
    features, target = case.batch(6)
    for training in case.modes(alone=True):
        _, expected = gradients(case.head(training=training), features, target)
        head = case.head(training=training)
        parts = [gradients(head, features[part], target[part])[1] for part in (slice(0, 3), slice(3, 6))]
        found = {name: (parts[0][name] + parts[1][name]) / 2 for name in expected if name != "features"}
        found["features"] = torch.cat([part["features"] for part in parts]) / 2
        same_gradients(found, expected, f"two halves against one batch, training={training}")


@check()
def ignore_index(case: Case) -> None:
    """A sample with the target ``head.ignore_index`` costs nothing, gives no gradient and does not count in the mean.

    A batch of nothing else costs zero. Without such an attribute it is -100.
    """
    features, target = case.batch(6)
    counts = torch.tensor([True, False, True, True, False, True])
    ignored = getattr(case.head(), "ignore_index", -100)
    masked = torch.where(counts, target, ignored)
    for training in case.modes(alone=True):
        each = case.head(training=training)(features, masked, reduction="none")
        same(each[~counts], torch.zeros(2), "the loss of an ignored sample", rtol=0, atol=0)
        loss, found = gradients(case.head(training=training), features, masked)
        expected, others = gradients(case.head(training=training), features[counts], target[counts])
        same(loss, expected, "the mean over samples that count")
        same(found["features"][~counts], torch.zeros(2, case.in_features), "the gradient for an ignored sample")
        found["features"] = found["features"][counts]
        same_gradients(found, others, "without the ignored samples")
    for training in (True, False):
        loss, found = gradients(case.head(training=training), features, torch.full_like(target, ignored))
        same(loss, torch.zeros(()), "the mean of ignored samples alone", rtol=0, atol=0)
        for name, gradient in found.items():
            what = f"ignored samples alone: the gradient for {name}"
            same(gradient, torch.zeros_like(gradient), what, rtol=0, atol=0)


@check()
def class_weight(case: Case) -> None:
    """With ``head.class_weight`` the mean divides by the weights of the samples' classes, as torch's cross_entropy.

    Ones change nothing, and neither does a common factor.
    """
    if not hasattr(case.head(), "class_weight"):
        raise NotApplicable("the head has no attribute class_weight")
    features, target = case.batch(8)
    weight = torch.linspace(0.5, 2.0, case.num_classes, dtype=torch.float64)
    for training in case.modes():

        def loss(values: torch.Tensor | None, how: str, training: bool = training) -> torch.Tensor:
            head = case.head(training=training)
            head.class_weight = values
            found: torch.Tensor = head(features, target, reduction=how)
            return found

        same(loss(torch.ones_like(weight), "none"), loss(None, "none"), "a class weight of ones")
        mean = loss(weight, "mean")
        of_samples = weight[target]
        same(mean, loss(weight, "none").sum() / of_samples.sum(), "the weighted mean against Σ losses / Σ weights")
        same(loss(3 * weight, "mean"), mean, "the mean after all class weights times three")
        if case.traits.cross_entropy:
            same(loss(weight, "none"), of_samples * loss(None, "none"), "the loss of a sample, times its class weight")
            if not case.traits.margin:
                logits = case.head(training=training)(features, target, return_logits=True)[1]
                expected = nn.functional.cross_entropy(logits, target, weight=weight)
                same(mean, expected, "the weighted mean against torch's cross_entropy")
