"""What every temperature is: a module that says with which κ the cosines of a sample are scaled."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from logitlab.functional import KappaSearch


class Temperature(nn.Module, ABC):
    """Base of all temperatures. One of your own states the members below and nothing else.

    Attributes:
        adaptive: whether κ is chosen in training from unit features and unit weight, as a rule one κ a sample.
        uses_target: whether it learns from the targets; ``observe`` then hears of them.
    """

    adaptive: bool = False
    uses_target: bool = False

    @property
    def fused_search(self) -> KappaSearch | None:
        """How the fused step of a head finds κ of each sample by itself; None where only ``forward`` can.

        A temperature that says so has ``take`` as ``LeastSquares`` has it. Asked of adaptive ones alone.
        """
        return None

    @abstractmethod
    def attach(self, num_classes: int) -> None:
        """Take the number of classes; ``Head`` calls this once, before the first forward pass.

        Args:
            num_classes: C, at least 1.
        """

    @abstractmethod
    def fresh(self) -> Temperature:
        """The same temperature, as it was before anything was learned or measured."""

    @property
    @abstractmethod
    def kappa(self) -> Tensor:
        """The κ that scales every sample at inference: positive, scalar."""

    @abstractmethod
    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """What the rule says of each sample.

        Args:
            cosine: shape ``[..., C]``.
            unit_features: rows of unit length, shape ``[..., D]``.
            unit_weight: rows of unit length, shape ``[C, D]``.

        Returns:
            κ*, shape ``[...]``.
        """

    def observe(self, cosine: Tensor, target: Tensor, counts: Tensor) -> None:
        """Hear of the targets of a batch, right before κ is asked for in training; only where ``uses_target``.

        Args:
            cosine: detached, shape ``[N, C]``.
            target: class indices in [0, C), shape ``[N]``; anything for samples that do not count.
            counts: bool, shape ``[N]``: false for ignored samples.
        """

    @abstractmethod
    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """The κ to scale with.

        Args:
            cosine: shape ``[..., C]``.
            unit_features: rows of unit length, shape ``[..., D]``.
            unit_weight: rows of unit length, shape ``[C, D]``.
            per_sample: whether an adaptive rule is asked of each sample (as in training) or its mean is used.

        Returns:
            κ, a scalar or shape ``[...]``.
        """
