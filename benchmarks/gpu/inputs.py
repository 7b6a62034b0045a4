"""Features, weight and target of a step, made on the device, as they are in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..step.problem import Shape, trained_weight


class Inputs:
    """What all forms of one table share; the gradients of features and weight are what a step makes.

    Class weights are nearly orthogonal where there is room, else random; features have a cosine of 0.75 ± 0.12 to
    their class and lengths that differ, as in ``benchmarks/step/problem.py``.

    Attributes:
        shape: B, C, D.
        features: the leaf, ``[B, D]``.
        weight: the leaf, ``[C, D]``.
        target: ``[B]``.
    """

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        generator = torch.Generator(device).manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, device=device)

        self.shape, self.dtype, self.device = shape, dtype, device
        batch, classes, size = shape
        self.target = torch.randint(classes, (batch,), generator=generator, device=device)
        weight = trained_weight(normal, classes, size)
        own = weight[self.target]
        noise = normal(batch, size)
        noise = F.normalize(noise - (noise * own).sum(dim=1, keepdim=True) * own)
        cosine = (0.75 + 0.12 * normal(batch, 1)).clamp(0.1, 0.98)
        directions = cosine * own + (1 - cosine.square()).sqrt() * noise
        # No head may count on rows of one length.
        self.features = (20 * (1 + 0.1 * normal(batch, 1)) * directions).to(dtype).requires_grad_()
        self.weight = nn.Parameter((1 + 0.1 * normal(classes, 1)).mul(weight).to(dtype))

    @property
    def product(self) -> float:
        """Floating-point operations of one product: 2BCD."""
        batch, classes, size = self.shape
        return 2.0 * batch * classes * size

    @property
    def gradient_bytes(self) -> int:
        """Of the gradient of W."""
        return self.weight.numel() * self.weight.element_size()
