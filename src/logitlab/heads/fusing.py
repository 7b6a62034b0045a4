"""Which way a loss goes: by the fused step, which never holds the normalised weight, or by plain autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from logitlab.functional import (
    KappaSearch,
    Reduction,
    RivalTerms,
    at_least_float32,
    is_soft,
    length,
    rival_terms,
    weight_penalty,
)
from logitlab.functional.at_hand import operators_may_have, values_at_hand
from logitlab.functional.rival_terms import Classifier
from logitlab.functional.targets import look_at_target
from logitlab.margins import Margin
from logitlab.temperature import LeastSquares, Temperature

from .checks import refuse_kappa

if TYPE_CHECKING:
    from .head import Head

#: ``True`` and ``False`` force one of the two; ``"auto"`` takes the faster one.
Fused = bool | Literal["auto"]

# From so many numbers of the weight or of the logits on, whichever are more, the fused step is the faster one: measured
# for 8 to 1024 samples, 150 to 8000 classes and 64 to 2048 features. A search shares a product with it: it wins sooner.
_NUMBERS = 3 * 2**19
_NUMBERS_SEARCHED = 2**18

# On a GPU from so many logits on, 128 MB of them, of which autograd keeps several copies: for the sake of memory. Of
# its time there nothing has been measured yet.
_LOGITS_ON_GPU = 2**25

# What a subclass of ``Head`` may compute otherwise than the fused step would.
_FORMULAS = ("_cosine", "_drop", "_kappa", "_loss", "_scores", "given_kappa")


class Path(NamedTuple):
    """The way of a loss.

    Attributes:
        name: ``"fused"`` or ``"plain"``.
        reason: why, in words.
    """

    name: Literal["fused", "plain"]
    reason: str

    @property
    def fused(self) -> bool:
        """Whether it is the fused step."""
        return self.name == "fused"


def choose_path(
    head: Head,
    features: Tensor,
    target: Tensor | None,
    kappa: float | Tensor | None,
    return_logits: bool,
) -> Path:
    """Say which way the loss of a head goes.

    Args:
        head: whose loss it is.
        features: ``[..., D]``.
        target: of the loss; None where logits are asked for.
        kappa: given instead of the temperature's.
        return_logits: whether logits are asked for beside the loss.
    """
    if head.fused is False:
        return Path("plain", "fused=False")
    obstacle = _obstacle(head, features, target, kappa, return_logits)
    if obstacle:
        return Path("plain", obstacle)
    if head.fused is True:
        return Path("fused", "fused=True")
    if features.is_cuda:
        if head.num_classes * (target.numel() if target is not None else 0) < _LOGITS_ON_GPU:
            return Path("plain", "on a GPU plain autograd has memory enough for so few logits; fused=True forces it")
        return Path("fused", "for so many logits it takes a fraction of the memory")
    if features.device.type != "cpu":
        return Path("plain", "the fused step is made for CPUs and CUDA; fused=True forces it")
    searched = kappa is None and _per_sample(head)
    if head.classifier == "linear" and head.margin is None:
        return Path(
            "plain", "without a weight to normalise plain autograd is at least as fast; fused=True spares memory"
        )
    numbers = head.num_classes * max(target.numel() if target is not None else 0, head.in_features)
    if numbers < (_NUMBERS_SEARCHED if searched else _NUMBERS):
        return Path("plain", "for so few classes, features and samples plain autograd is at least as fast")
    return Path("fused", "for so many classes, features or samples it is the faster one")


def _obstacle(
    head: Head,
    features: Tensor,
    target: Tensor | None,
    kappa: float | Tensor | None,
    return_logits: bool,
) -> str | None:
    """What stands in the way of the fused step; None for nothing."""
    if target is None or return_logits:
        return "logits are asked for"
    if is_soft(target):
        return "soft targets need the logits of every class"
    if not head.loss_function.goes_by_gap:
        return f"{type(head.loss_function).__name__} needs the logits of every class"
    if any(name in head.__dict__ or not _is_ours(getattr(type(head), name), "heads") for name in _FORMULAS):
        return f"{type(head).__name__} has formulas of its own"
    if head.centers > 1:
        return "several centers a class"
    if head.normalize_logits:
        return "normalized logits"
    if not features.numel() or not target.numel() or head.num_classes < 2:
        return "no sample, or no rival"
    # Not the property of a parametrized weight, which would be computed once more.
    weight = head._parameters.get("weight")
    given = kappa if isinstance(kappa, Tensor) else None
    if not operators_may_have(features, weight, target, given):
        return "torch.func, forward mode, exports, meta and subclasses of Tensor go through the plain formulas"
    if torch.compiler.is_compiling():
        if features.is_cuda:
            return "on a GPU the compiler fuses the plain formulas"
    elif torch._C._len_torch_dispatch_stack():
        return "something watches each operation"
    if given is not None and values_at_hand(given) and not bool((given > 0).all()):
        return "the fused step needs a positive κ"
    return None if head.temperature is None or kappa is not None else _obstacle_of(head, head.temperature)


def _is_ours(method: Any, package: str) -> bool:
    """Whether the library wrote this method; a subclass, a mixin or a patch of the user's says something else."""
    return str(getattr(method, "__module__", "")).startswith(f"logitlab.{package}.")


def _obstacle_of(head: Head, temperature: Temperature) -> str | None:
    """What stands in the way in the temperature; None for nothing."""
    name = type(temperature).__name__
    if temperature._forward_hooks or temperature._forward_pre_hooks or "forward" in temperature.__dict__:
        return f"{name} has hooks, or a forward of its own"
    if not _is_ours(type(temperature).forward, "temperature"):
        return f"{name} has a rule of its own"
    if temperature.uses_target and head.training:
        return f"{name} learns from the cosines of the targets"
    if _per_sample(head) and temperature.fused_search is None:
        return f"{name} needs all cosines, or the normalised weight"
    return None


def _per_sample(head: Head) -> bool:
    return (
        head.temperature is not None
        and head.temperature.adaptive
        and (head.training or head.inference_kappa == "per_sample")
    )


def fused_loss(
    head: Head, features: Tensor, target: Tensor, kappa: float | Tensor | None, reduction: Reduction
) -> Tensor:
    """The loss of a head by the fused step; ``choose_path`` must have said so.

    Args:
        head: whose loss it is.
        features: as they were given, ``[..., D]``.
        target: class indices, ``[...]``.
        kappa: given instead of the temperature's.
        reduction: of the loss.
    """
    batch = features.shape[:-1]
    dropping = head.training and head.keep_probability < 1
    if dropping or not (features.is_cuda and features.dtype == head.weight.dtype == torch.bfloat16):
        # On a GPU what is bfloat16 by itself is multiplied so.
        features = head._drop(features)
    wide = at_least_float32(features, head.weight)
    shape = features.new_empty(()).expand(*batch, head.num_classes)
    target, all_count = look_at_target(target, shape, head.ignore_index)
    safe = target if all_count else torch.where(target == head.ignore_index, 0, target)
    rows, classes = features.reshape(-1, features.shape[-1]), safe.reshape(-1)
    bias = None if head.bias is None else head.bias.to(wide)
    given, search = _kappa(head, kappa, rows, batch)
    terms, chosen = rival_terms(rows, head.weight, classes, given, bias, head.classifier, search)
    if chosen is not None:
        chosen = chosen._replace(kappa=chosen.kappa.view(batch), certified=chosen.certified.view(batch))
        # A broken row has no κ*.
        counts = has_direction(rows) & (terms.rivals + terms.target_score).detach().isfinite()
        given = cast(LeastSquares, head.temperature).take(chosen, counts.view(batch)).reshape(-1)
    target_logits = logits_of_terms(head.margin, head.classifier, terms, rows, classes, given)
    if bias is not None:
        target_logits = target_logits + bias.index_select(0, classes)
    gap = (terms.rivals - target_logits).view(batch)
    if gap.is_cuda:
        # Labels are not checked there; the plain way ends the process at one that is out of range.
        gap = torch.where((safe >= 0) & (safe < head.num_classes), gap, torch.nan)
    penalty = None
    if head.weight_penalty:
        # The loss is scaled as a whole below; the penalty on the weight is not meant to be.
        penalty = weight_penalty(head.weight.to(wide), head.weight_penalty / head.loss_scale)
    loss: Tensor = head.loss_function.from_gap(
        gap,
        target,
        all_count,
        reduction=reduction,
        class_weight=head.class_weight,
        ignore_index=head.ignore_index,
        penalty=penalty,
    )
    return loss if head.loss_scale == 1 else head.loss_scale * loss


def _kappa(
    head: Head, override: float | Tensor | None, rows: Tensor, batch: torch.Size
) -> tuple[Tensor | None, KappaSearch | None]:
    """What the scores are multiplied by, a scalar or ``[N]``; or how it is searched for."""
    like = rows.new_empty(0, rows.shape[1], dtype=at_least_float32(rows, head.weight))
    if head.classifier != "cosine":
        refuse_kappa(override)
        # ‖x‖ cos θ is what the product with unit rows gives.
        return None, None
    if override is not None:
        kappa = head.given_kappa(override, batch, like)
        return (kappa.reshape(-1) if kappa.ndim else kappa), None
    assert head.temperature is not None
    if _per_sample(head):
        return None, head.temperature.fused_search
    # One κ for all: of what it is given, such a rule asks the dtype alone.
    temperature: Temperature = head.temperature
    return temperature(like, like, head.weight, per_sample=False), None


def has_direction(rows: Tensor) -> Tensor:
    """Which features are neither zero, as ``functional.normalize`` has it, nor broken; ``[N]``, bool.

    Args:
        rows: floating, ``[N, D]``.
    """
    largest = torch.linalg.vector_norm(rows.detach().to(at_least_float32(rows)), ord=torch.inf, dim=1)
    sound: Tensor = (largest >= torch.finfo(largest.dtype).tiny ** 0.5) & largest.isfinite()
    return sound


def logits_of_terms(
    margin: Margin | None,
    classifier: Classifier,
    terms: RivalTerms,
    rows: Tensor,
    classes: Tensor,
    kappa: Tensor | None,
) -> Tensor:
    """The target's logit without the bias, under the margin if there is one, ``[N]``.

    Args:
        margin: of the head, or None.
        classifier: what the scores are.
        terms: of the fused step.
        rows: features, float32 at least, ``[N, D]``.
        classes: of the targets, ``[N]``.
        kappa: what the scores are multiplied by, a scalar or ``[N]``; None for nothing.
    """
    score = terms.target_score
    if margin is None:
        return score if kappa is None else kappa * score
    if kappa is not None:
        return cast(Tensor, kappa * margin(score, classes))
    scale = length(rows)
    if classifier == "linear":
        scale = scale * terms.target_length
    zero = scale == 0
    cosine = torch.where(zero, 0.0, score / torch.where(zero, 1.0, scale))
    return cast(Tensor, scale * margin(cosine.clamp(-1, 1), classes))
