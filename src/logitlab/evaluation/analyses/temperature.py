"""Measures of what κ does: the loss by the cosine to the own class, the softmax of the image with the largest κ*."""

from __future__ import annotations

from typing import Any

from logitlab.analysis import UndefinedError
from logitlab.analysis import loss_by_cosine as _loss_by_cosine
from logitlab.analysis import sparse_softmax as _sparse_softmax

from ..subjects import Subject
from .requests import Request, one_weight_a_class, plain_entry


def unsuited_to_loss_by_cosine(subject: Subject) -> str | None:
    """Say why T Eq. (15) means nothing for the head of a model; None where it does."""
    head = subject.head
    if head.classifier != "cosine" or head.kappa is None:
        return "T Eq. (15) is the loss of a cosine head with κ; this head has no cosines that κ scales."
    if head.centers > 1:
        return f"The head has {head.centers} weights a class; T Eq. (15) is the loss of a head with one."
    if head.link != "softmax":
        return "T Eq. (15) is a softmax loss; this head has another."
    return None


def loss_by_cosine(subject: Subject, request: Request) -> dict[str, Any]:
    """Softmax loss by the cosine to the own class, at the κ of inference, beside T's closed curve (T Figure 2)."""
    if (reason := unsuited_to_loss_by_cosine(subject)) is not None:
        raise UndefinedError(reason)
    outputs, head = subject.measured, subject.head
    assert head.kappa is not None
    found = _loss_by_cosine(
        outputs["features"],
        subject.weight,
        outputs["labels"],
        float(head.kappa),
        bias=None if head.bias is None else head.bias.detach().cpu(),
        split=subject.around.part,
    )
    entry = plain_entry(found)
    if head.temperature is not None and head.temperature.adaptive:
        entry["convention"] += "; κ: the running mean that inference uses"
    return entry


def sparse_softmax(subject: Subject, request: Request) -> dict[str, Any]:
    """Cosines and softmax of the image with the largest κ* (TS Figure 5)."""
    one_weight_a_class(subject)
    outputs = subject.measured
    found = _sparse_softmax(outputs["features"], subject.weight, split=subject.around.part)
    return {**plain_entry(found), "label": int(outputs["labels"][found.index])}
