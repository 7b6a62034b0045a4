"""Batch normalisation over the batch of all processes.

torch's ``SyncBatchNorm`` takes tensors on a GPU alone and replaces modules. Here the function that every such module
calls is replaced while the model runs, whatever the module (timm has several of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.overrides import TorchFunctionMode


class SharedBatchNorm(TorchFunctionMode):
    """Inside, ``torch.nn.functional.batch_norm`` in training normalises by the images of all processes.

    Forward and backward pass are those of one process with the whole batch, and so are the running statistics.

    Args:
        group: the processes; every one of them runs the same layers inside, in the same order.
        counts: whether the images of this process count; those of a process that only keeps step do not.
    """

    def __init__(self, group: distributed.ProcessGroup, counts: bool) -> None:
        super().__init__()
        self._group = group
        self._counts = counts

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer each call of a torch function inside."""
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """See ``torch.nn.functional.batch_norm``; input ``[B, channels, ...]``."""
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        channels = input.shape[1]
        rows = input.transpose(0, 1).reshape(channels, -1)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        counted = rows if self._counts else rows[:, :0]
        size = counted.new_full((1,), counted.shape[1])
        total = self._sum(torch.cat((counted.sum(1), size)))
        count = total[-1].detach()
        if count <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        mean = total[:-1] / count
        # Not from the mean of the squares, which cancels.
        variance = self._sum((counted - mean[:, None]).square().sum(1)) / count
        with torch.no_grad():
            for running, now in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
                if running is not None:
                    running.lerp_(now.to(running.dtype), momentum)
        scale = (variance + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.to(scale.dtype)
        shift = -mean * scale
        if bias is not None:
            shift = shift + bias.to(scale.dtype)
        shape = (1, channels, *[1] * (input.ndim - 2))
        return torch.addcmul(shift.view(shape), input.to(scale.dtype), scale.view(shape)).to(input.dtype)

    def _sum(self, values: Tensor) -> Tensor:
        return _Sum.apply(values, self._group)  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    """The sum over the processes; each process's gradient reaches what every process put in."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: distributed.ProcessGroup) -> Tensor:
        ctx.group = group
        total = values.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None
