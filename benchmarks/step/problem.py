"""What a step is measured on: a shape, and features and weights as they are in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Of every form whose temperature is fixed.
KAPPA = 16.0

FAMILIES = ("trained", "init")


class Shape(NamedTuple):
    """B samples, C classes, D features."""

    batch: int
    classes: int
    features: int

    def __str__(self) -> str:
        return f"({self.batch}, {self.classes}, {self.features})"

    @classmethod
    def read(cls, text: str) -> Shape:
        """Read ``B,C,D``."""
        return cls(*(int(part) for part in text.split(",")))


#: Those that are asked for.
SHAPES = tuple(
    Shape(*each)
    for each in (
        (128, 10, 512),
        (128, 100, 512),
        (256, 101, 2048),
        (256, 1000, 2048),
        (256, 8142, 2048),
        (128, 93431, 512),
    )
)


@dataclass
class Problem:
    """Inputs that all forms share; their gradients are what a step makes.

    Attributes:
        shape: B, C, D.
        family: ``"trained"``: nearly orthogonal class weights (random ones where C > D), features at a cosine of about
            0.75 ± 0.12 to their class. ``"init"``: all directions random, as before the first step. What the exact
            search costs depends on this; everything else does not.
        seed: of all random numbers.
    """

    shape: Shape
    family: str = "trained"
    seed: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator)

        batch, classes, size = self.shape
        self.target = torch.randint(classes, (batch,), generator=generator)
        if self.family == "init":
            directions, weight = F.normalize(normal(batch, size)), F.normalize(normal(classes, size))
        else:
            weight = trained_weight(normal, classes, size)
            own = weight[self.target]
            noise = normal(batch, size)
            noise = F.normalize(noise - (noise * own).sum(dim=1, keepdim=True) * own)
            cosine = (0.75 + 0.12 * normal(batch, 1)).clamp(0.1, 0.98)
            directions = cosine * own + (1 - cosine.square()).sqrt() * noise
        # No head may count on rows of one length.
        self.features = (20 * (1 + 0.1 * normal(batch, 1)) * directions).requires_grad_()
        self.weight = nn.Parameter((1 + 0.1 * normal(classes, 1)) * weight)

    @cached_property
    def transposed_weight(self) -> nn.Parameter:
        """``[D, C]``, as pytorch-metric-learning keeps it; a copy."""
        return nn.Parameter(self.weight.detach().T.contiguous())

    @cached_property
    def units(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features and weight of unit length, and their cosines: the arguments of a search."""
        features, weight = F.normalize(self.features.detach()), F.normalize(self.weight.detach())
        return features, weight, F.linear(features, weight)


def trained_weight(normal: Callable[[int, int], Tensor], classes: int, size: int) -> Tensor:
    """Class weights of unit length: nearly orthogonal and without a mean where there is room, else random."""
    if classes > size:
        return F.normalize(normal(classes, size))
    orthogonal = torch.linalg.qr(normal(size, classes)).Q.T
    weight = F.normalize(orthogonal + 0.2 * normal(classes, size) / size**0.5)
    return F.normalize(weight - weight.mean(dim=0)) if classes > 1 else weight
