"""What a margin may touch: the logit of the target, where there is one, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from ..case import Case, same
from ..catalogue import NotApplicable, check
from ..report import CheckFailed
from ..traits import HeadTraits


def _other_loss(traits: HeadTraits) -> str | None:
    return None if traits.cross_entropy else "cross_entropy=False: the loss is another function of the logits"


@check()
def logits_know_no_target(case: Case) -> None:
    """Logits beside a loss are those without a target: they know no margin and no label."""
    features, target = case.batch(6)
    for training in case.modes(alone=True):
        _, beside = case.head(training=training)(features, target, return_logits=True)
        alone = case.head(training=training)(features)
        same(beside, alone, f"logits beside the loss against logits without a target, training={training}")


@check(_other_loss)
def loss_of_logits(case: Case) -> None:
    """The loss is softplus(r - φ): a margin is on the target's logit only.

    r is the log-sum-exp of the rivals' logits, which know no margin; φ is the target's logit, and with a margin at
    most that, whatever the rivals are.
    """
    features, target = case.batch(16)
    for training in case.modes():
        frozen = case.frozen(case.head(training=training), features, target)
        losses, phi, own = _target_logit(case.head(training=training), features, target, frozen)
        if not case.traits.margin:
            same(phi, own, "φ recovered from the loss against the target's logit", rtol=1e-6, atol=1e-7)
            logits = case.head(training=training)(features, **frozen)
            expected = F.cross_entropy(logits, target, reduction="none")
            same(losses, expected, "the loss against torch's cross_entropy of the logits")
            continue
        if not (phi <= own + 1e-7).all():
            raise CheckFailed(f"the margin raises the target's logit by {(phi - own).max().item():.3g}")
        if not (phi < own - 1e-6).any():
            raise CheckFailed("the margin lowers no target's logit")
        # Turn the weights of all rivals of class 0: φ of its samples must not know.
        mine = target == target[0]
        turned = case.head(training=training)
        with torch.no_grad():
            rows = turned.weight.view(case.num_classes, -1, case.in_features)
            rivals = torch.arange(case.num_classes) != target[0]
            rows[rivals] = rows[rivals].flip(-1)
        held = {name: value[mine] for name, value in frozen.items()}
        _, after, _ = _target_logit(turned, features[mine], target[mine], held)
        same(after, phi[mine], "φ of the target after the rivals' weights were turned", rtol=1e-5, atol=1e-6)


@check()
def probabilities(case: Case) -> None:
    """``predict_proba`` turns logits into rows that add up to one, by the link of the head.

    With the link ``"none"`` it raises ``InputError``.
    """
    head = case.head(training=False)
    if not hasattr(head, "predict_proba"):
        raise NotApplicable("the head has no method predict_proba")
    features, _ = case.batch(6)
    if case.traits.link == "none":
        try:
            head.predict_proba(features)
        except InputError:
            return
        raise CheckFailed("predict_proba of a head with link 'none' must raise InputError, got a result")
    found, logits = head.predict_proba(features), head(features)
    weight = logits if case.traits.link == "softmax" else F.logsigmoid(logits)
    same(found, weight.softmax(-1), f"predict_proba against the link {case.traits.link!r} of the logits")
    same(found.sum(-1), torch.ones(6), "the sum of probabilities")


def _target_logit(head: Any, features: Tensor, target: Tensor, frozen: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, φ as they tell it, and the target's logit without a margin."""
    with torch.no_grad():
        losses = head(features, target, reduction="none", **frozen)
        logits = head(features, **frozen)
        index = target.unsqueeze(-1)
        own = logits.gather(-1, index).squeeze(-1)
        rivals = logits.scatter(-1, index, -torch.inf).logsumexp(-1)
        # The inverse of softplus.
        return losses, rivals - (losses + (-torch.expm1(-losses)).log()), own
