"""The running mean of κ*, by which adaptive temperatures scale at inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from logitlab.functional import equiangular_kappa


class RunningMean(nn.Module):
    r"""An exponential moving average of the batch means of κ*, kept as a buffer.

    .. math:: m \leftarrow (1 - \mu) m + \mu \cdot \operatorname{mean}(\kappa^*)

    It moves only in training mode, with gradients on, and outside torch.func's transforms; it survives
    checkpoints. One κ for all samples gives better probabilities at inference than a search for each does.

    Args:
        momentum: μ in (0, 1].

    Shapes:
        ``value``: scalar buffer, positive.
    """

    value: Tensor

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.tensor(1.0))
        self._attached = False

    def start(self, num_classes: int) -> None:
        """Begin at the closed form of an equiangular weight at 45°, once."""
        if not self._attached:
            self.value.fill_(equiangular_kappa(num_classes))
            self._attached = True

    def observe(self, kappa: Tensor) -> None:
        """Move towards the mean of a batch, if this pass is one that trains.

        Args:
            kappa: κ* of each sample, any shape. An empty batch moves nothing.
        """
        if not (self.training and torch.is_grad_enabled() and kappa.numel()) or _inside_functorch(kappa):
            return
        batch_mean = kappa.detach().mean().to(self.value.dtype)
        self.value.lerp_(batch_mean, self.momentum)

    def extra_repr(self) -> str:
        """Show the momentum."""
        return f"momentum={self.momentum}"


def _inside_functorch(tensor: Tensor) -> bool:
    """Whether a torch.func transform is at work: a buffer must not move then."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)
