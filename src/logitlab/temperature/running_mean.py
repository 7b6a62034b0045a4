"""The running mean of κ*, by which adaptive temperatures scale at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import equiangular_kappa

MOMENTUM = Range(0, 1, low_included=False)


class RunningMean(nn.Module):
    r"""An exponential moving average of the batch means of κ*, kept as a buffer.

    .. math:: m \leftarrow (1 - \mu) m + \mu \cdot \operatorname{mean}(\kappa^*)

    It moves only in training mode, with gradients on, outside torch.func's transforms and outside the recomputation of
    gradient checkpointing. It survives checkpoints and stays in float32 when the model goes to half precision, where
    small steps would be lost. One κ for all samples gives better probabilities at inference than a search for each.

    Args:
        momentum: μ in (0, 1]; with 1 it is the last batch's mean.
        first: from the number of classes to the value at the start; the closed form of an equiangular weight at 45°
            by default.

    Shapes:
        ``value``: scalar buffer, positive.
    """

    value: Tensor

    def __init__(self, momentum: float = 0.1, first: Callable[[int], float] = equiangular_kappa) -> None:
        super().__init__()
        self.momentum = momentum
        self.first = first
        self.num_classes: int | None = None
        self.register_buffer("value", torch.tensor(1.0))

    def start(self, num_classes: int) -> None:
        """Begin at the value for this number of classes, once.

        Raises:
            ParameterError: it began already, with another number of classes.
        """
        if self.num_classes is None:
            self.num_classes = num_classes
            self.reset_parameters()
        elif self.num_classes != num_classes:
            raise ParameterError(
                f"This temperature belongs to a head of {self.num_classes} classes, its mean means nothing to one of "
                f"{num_classes}. Give each head a temperature of its own; temperature.fresh() makes one."
            )

    def reset_parameters(self) -> None:
        """Begin again; also what ``to_empty`` needs after building on the meta device."""
        if self.num_classes is not None:
            self.value.fill_(self.first(self.num_classes))

    def observe(self, kappa: Tensor, counts: Tensor | None = None) -> None:
        """Move towards the mean of a batch, if this pass is one that trains.

        Args:
            kappa: κ* of each sample, any shape. An empty batch moves nothing.
            counts: bool, same shape: samples to take the mean over; None for all. If none counts, nothing moves.
        """
        if not (self.training and torch.is_grad_enabled() and kappa.numel()) or _only_looking():
            return
        kappa = kappa.detach().to(self.value.dtype)
        counts = torch.ones_like(kappa, dtype=torch.bool) if counts is None else counts
        number = counts.sum().to(kappa.dtype)
        # Not a product: what does not count may be NaN.
        batch_mean = torch.where(counts, kappa, 0.0).sum() / number.clamp_min(1)
        # Through a view: torch.compile of 2.11 loses what is done in place to a float64 buffer without dimensions.
        self.value.view(1).lerp_(batch_mean.view(1), (self.momentum * number.clamp_max(1)).view(1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.value
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.value.dtype in (torch.float16, torch.bfloat16):
            self.value = before.to(self.value.device)
        return self

    def extra_repr(self) -> str:
        """Show the momentum."""
        return f"momentum={self.momentum}"


def has_direction(cosine: Tensor, unit_features: Tensor) -> Tensor:
    """Which samples may move a mean: a zero feature has no direction, and a broken one no κ*.

    Args:
        cosine: shape ``[..., C]``.
        unit_features: shape ``[..., D]``.

    Returns:
        Bool, shape ``[...]``.
    """
    return (unit_features != 0).any(dim=-1) & cosine.isfinite().all(dim=-1)


def _only_looking() -> bool:
    """Whether this pass is no step of training: inside a torch.func transform, or a forward repeated in backward."""
    if torch.compiler.is_compiling():
        return False
    recomputing: bool = torch._C._current_graph_task_id() != -1
    return recomputing or torch._C._functorch.peek_interpreter_stack() is not None
