"""Parameter groups for torch's optimisers: what decays, and how fast the head learns."""

from __future__ import annotations

from typing import Any

from torch import nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.temperature import Temperature

from .head import Head
from .sharded import ShardedHead


def param_groups(
    model: nn.Module,
    *,
    lr: float | None = None,
    head_lr_mult: float = 1.0,
    weight_decay: float = 0.0,
    decay_norms_and_biases: bool = False,
) -> list[dict[str, Any]]:
    """Split the parameters of a model for ``torch.optim``.

    Every trainable parameter stands in exactly one group. Temperatures never decay: decay would draw κ to 1. W spares
    the parameters of batch norm for ImageNet and CIFAR-10 and decays them for CIFAR-100 (A.1); here biases go with
    them, as usual.

    Args:
        model: holds at most a few ``Head`` or ``ShardedHead`` modules, such as a ``Classifier``.
        lr: learning rate of the backbone; needed when ``head_lr_mult`` is not 1.
        head_lr_mult: the heads learn this many times as fast.
        weight_decay: of all weights.
        decay_norms_and_biases: decay vectors and scalars too.

    Returns:
        Groups with ``params``, ``weight_decay``, ``name``, and ``lr`` if it was given; empty ones are left out.

    Raises:
        ParameterError: every fault at once.

    >>> from logitlab.heads import Classifier
    >>> model = Classifier(nn.Linear(4, 8), Head(8, 3))
    >>> groups = param_groups(model, lr=0.1, head_lr_mult=10, weight_decay=1e-4)
    >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('backbone', 0.1, 0.0001), ('backbone, no decay', 0.1, 0.0),
     ('head', 1.0, 0.0001), ('head, no decay', 1.0, 0.0)]
    """
    faults = [
        Range(0, low_included=False, optional=True).fault("param_groups", "lr", lr),
        Range(0, low_included=False).fault("param_groups", "head_lr_mult", head_lr_mult),
        Range(0).fault("param_groups", "weight_decay", weight_decay),
    ]
    if head_lr_mult != 1 and lr is None:
        faults.append("param_groups needs 'lr' when 'head_lr_mult' is not 1: the head gets their product.")
    if any(faults):
        raise ParameterError([fault for fault in faults if fault])
    of_heads = _parameters_inside(model, Head, ShardedHead)
    of_temperatures = _parameters_inside(model, Temperature)
    groups: dict[str, dict[str, Any]] = {}
    for part in ("backbone", "head"):
        for name, decay in ((part, weight_decay), (f"{part}, no decay", 0.0)):
            groups[name] = {"params": [], "weight_decay": decay, "name": name}
            if lr is not None:
                groups[name]["lr"] = lr * head_lr_mult if part == "head" else lr
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        part = "head" if id(parameter) in of_heads else "backbone"
        spared = parameter.ndim < 2 and not decay_norms_and_biases
        if spared or id(parameter) in of_temperatures:
            part += ", no decay"
        groups[part]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _parameters_inside(model: nn.Module, *kinds: type[nn.Module]) -> set[int]:
    """Identities of the parameters that stand inside modules of some kinds."""
    inside = (module for module in model.modules() if isinstance(module, kinds))
    return {id(parameter) for module in inside for parameter in module.parameters()}
