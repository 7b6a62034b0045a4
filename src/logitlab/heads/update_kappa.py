"""Measure the mean of κ* anew, as ``torch.optim.swa_utils.update_bn`` does for batch norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError
from logitlab.temperature import RunningMean

from .head import Head
from .sharded import ShardedHead


@torch.no_grad()
def update_kappa(model: nn.Module, loader: Iterable[Any], device: torch.device | str | None = None) -> None:
    """Replace the running mean of κ* in every adaptive head by the mean over a loader.

    Use it after averaging weights, or after the weights were changed by hand. The model runs in eval mode; its
    modes come back afterwards. With a ``ShardedHead`` every rank must call it, each with as many batches; the mean is
    that of the samples of all ranks.

    Args:
        model: holds one or more heads with an adaptive temperature; others are left alone.
        loader: gives batches of images, or tuples that begin with them.
        device: to move the images to; None leaves them where they are.

    Raises:
        InputError: the loader gave no sample, or batches of another kind.
    """
    heads = [module for module in model.modules() if isinstance(module, (Head, ShardedHead)) and _running_mean(module)]
    if not heads:
        return
    totals = {id(head): torch.zeros((), dtype=torch.float64) for head in heads}
    counts = {id(head): 0 for head in heads}

    def measure(head: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        assert isinstance(head, (Head, ShardedHead))
        kappa = head.kappa_star(arguments[0] if arguments else keywords["features"])
        totals[id(head)] += kappa.double().sum().cpu()
        counts[id(head)] += kappa.numel()

    modes = {module: module.training for module in model.modules()}
    hooks = [head.register_forward_pre_hook(measure, with_kwargs=True) for head in heads]
    try:
        model.eval()
        # A compiled model would not see the hooks.
        with torch.compiler.set_stance("force_eager"):
            for batch in loader:
                images = batch[0] if isinstance(batch, (tuple, list)) else batch
                if not isinstance(images, Tensor):
                    raise InputError(
                        f"Expected batches of images, or tuples that begin with them. Got {type(batch).__name__}."
                    )
                model(images if device is None else images.to(device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    for head in heads:
        if isinstance(head, ShardedHead):
            both = head.weight.new_tensor([float(totals[id(head)]), counts[id(head)]], dtype=torch.float64)
            total, count = head.ranks.sum(both, "the mean of κ*").cpu()
            totals[id(head)], counts[id(head)] = total, int(count)
        if not counts[id(head)]:
            raise InputError("update_kappa needs at least one sample. The loader gave none.")
        mean = _running_mean(head)
        assert mean is not None
        mean.value.copy_(totals[id(head)] / counts[id(head)])


def _running_mean(head: Head | ShardedHead) -> RunningMean | None:
    """The running mean of a head's temperature, if it keeps one."""
    if head.temperature is None:
        return None
    return next((module for module in head.temperature.modules() if isinstance(module, RunningMean)), None)
