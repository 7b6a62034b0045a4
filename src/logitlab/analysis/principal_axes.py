"""Features moved and turned so that a linear classifier on them is the same and easier to find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """Where the solver works: centred features in the axes of their principal components, and a column of ones.

    With a free bias neither changes the solution: the bias takes up the shift, and a rotation keeps ‖W‖. Fewer rows
    than columns span fewer axes, and the penalty keeps W in that span.

    Attributes:
        mean: of the features, ``[D]``.
        basis: orthonormal columns, ``[D, r]``, r = min(N, D).
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def of(cls, x: Tensor) -> tuple[Axes, Tensor]:
        """Find the axes of ``x``, ``[N, D]`` in float64, which is overwritten; return them and ``[N, r + 1]``."""
        mean = x.mean(dim=0)
        x -= mean
        count, width = x.shape
        basis = torch.linalg.eigh(x.T @ x)[1] if count >= width else torch.linalg.svd(x, full_matrices=False)[2].T
        rotated = x.new_ones(count, basis.shape[1] + 1)
        torch.matmul(x, basis, out=rotated[:, :-1])
        return cls(mean, basis), rotated

    def original(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Weight ``[C, D]`` and bias ``[C]`` for the features as they were."""
        weight = parameters[:, :-1] @ self.basis.T
        return weight, parameters[:, -1] - weight @ self.mean

    def parameters(self, weight: Tensor, bias: Tensor) -> Tensor:
        """The reverse of :meth:`original`, ``[C, r + 1]``; what these axes do not span is dropped."""
        return torch.cat([weight @ self.basis, (bias + weight @ self.mean).unsqueeze(1)], dim=1)
