"""What every margin is: a module that lowers the target's cosine in training."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Margin(nn.Module, ABC):
    """Base of all margins. One of your own states ``forward``, and what of the attributes differs.

    A head with a margin multiplies φ(cos θ_y) by what it multiplies the other cosines by; logits without a target,
    and the choice of κ, know nothing of it.

    Attributes:
        bends_linear: whether the margin is meant for Wx, whose lengths ‖W‖‖x‖ stay, beside cosines.
        margin_expected: what its number may be, in words.
    """

    bends_linear: bool = False
    margin_expected: str = ""

    @abstractmethod
    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        """φ of the target's cosine.

        Args:
            cosine: to the weight of the target, in [-1, 1] up to rounding; shape ``[...]``, float32 at least.
            target: class indices in [0, C), int64, shape ``[...]``.

        Returns:
            φ <= cosine, shape ``[...]``.
        """

    def attach(self, num_classes: int) -> None:
        """Take the number of classes; ``Head`` calls this once.

        Args:
            num_classes: C, at least 1.

        Raises:
            ParameterError: the margin has a number a class, and they are not C.
        """

    def fresh(self) -> Margin:
        """The same margin, as it was before any step; a margin without a state is its own."""
        return self
