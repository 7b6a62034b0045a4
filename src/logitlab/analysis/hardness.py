"""Angular visual hardness: how far a sample lies from its own class, relative to all classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .arrays import ArrayLike, Rows, read_labels
from .directions import pairwise_angles, unit_blocks, unit_weight
from .measurement import UndefinedError
from .result import Result

# W Figure E.1, for 1000 classes. Scores are of the order of 1/C, and the kernel goes with them.
_BANDWIDTH_OF_1000_CLASSES = 5e-6

_GRID_POINTS = 512

# Bandwidths beyond the lowest and the highest score; the kernel is 1e-4 of its height there.
_MARGIN = 4.0

# Elements of one [scores, grid] block of kernels; 4 MiB.
_KERNEL_ELEMENTS = 2**19


@dataclass(frozen=True, kw_only=True, eq=False)
class AngularVisualHardness(Result):
    """Hardness of each sample, and its density.

    Attributes:
        value: mean hardness.
        scores: of each sample, float64 ``[N]``; not in the JSON.
        bandwidth: standard deviation of the Gaussian kernel.
        grid: where the density is given, float64 ``[512]``: all scores and four bandwidths on either side.
        density: float64 ``[512]``; its integral over the grid is one up to the tails.
    """

    name: ClassVar[str] = "angular_visual_hardness"

    value: float
    bandwidth: float
    scores: Tensor = field(metadata={"json": False})
    grid: Tensor
    density: Tensor

    @property
    def headline(self) -> str:
        """The mean."""
        return f"{self.value:.4g}"


def angular_visual_hardness(
    x: ArrayLike, weight: ArrayLike, y: ArrayLike, *, split: str | None = None
) -> AngularVisualHardness:
    r"""Angle of a feature to its own class's weight over the sum of its angles to all weights.

    .. math:: \mathrm{AVH}(\mathbf x, y) = \frac{\theta_y}{\sum_c \theta_c}, \qquad
        \theta_c = \arccos \tilde{\mathbf x}^\top \tilde{\mathbf w}_c

    The density is a Gaussian kernel estimate. The bandwidth is :math:`5 \cdot 10^{-6} \cdot 1000/C`: W's for 1000
    classes, in proportion to the scores, which are of the order of 1/C.

    A zero row has no direction and is 90 degrees from everything, with a warning. A sample with angle zero to every
    weight (its 0/0 has no value) counts as 1/C, what equal angles give, with a warning.

    Args:
        x: features, shape ``[N, D]``.
        weight: one row a class, shape ``[C, D]``, at least two.
        y: class indices, shape ``[N]``.
        split: the part of the data, kept in the result. W measures on the validation set.

    Returns:
        Scores in [0, 1]: 0 for a feature along its class's weight, about 1/C for one that is far from all weights
        alike.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or labels outside [0, C).
        UndefinedError: one class: every score would be 1.

    References:
        Chen et al., "Angular visual hardness", 2020; W Figure E.1.

    >>> found = angular_visual_hardness([[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    >>> [round(score, 6) for score in found.scores.tolist()], found.bandwidth
    ([0.0, 0.5], 0.0025)
    """
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows)
    num_classes = len(weights)
    if num_classes < 2:
        raise UndefinedError(
            "Expected at least two rows in 'weight'. Got one: an angle over itself is 1 for any feature."
        )
    labels = read_labels(y, "y", len(rows), num_classes).to(rows.device)
    scores = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    zeros, undefined = 0, 0
    for where, unit in unit_blocks(rows, num_classes):
        angles = pairwise_angles(unit, weights)
        own, total = angles.gather(1, labels[where].unsqueeze(1)).squeeze(1), angles.sum(dim=1)
        scores[where] = torch.where(total > 0, own / total, 1 / num_classes)
        zeros += int((unit == 0).all(dim=1).sum())
        undefined += int((total == 0).sum())
    bandwidth = _BANDWIDTH_OF_1000_CLASSES * 1000 / num_classes
    grid = torch.linspace(
        float(scores.min()) - _MARGIN * bandwidth,
        float(scores.max()) + _MARGIN * bandwidth,
        _GRID_POINTS,
        dtype=torch.float64,
        device=rows.device,
    )
    warnings = []
    if zeros:
        warnings.append(f"{zeros} of {len(rows)} features are zero, 90 degrees from every weight.")
    if zero_weights := int((weights == 0).all(dim=1).sum()):
        warnings.append(f"{zero_weights} of {num_classes} weights are zero, 90 degrees from every feature.")
    if undefined:
        warnings.append(f"{undefined} of {len(rows)} features have angle 0 to every weight and count as 1/C.")
    return AngularVisualHardness(
        value=float(scores.mean()),
        bandwidth=bandwidth,
        scores=scores.cpu(),
        grid=grid.cpu(),
        density=_density(scores, grid, bandwidth).cpu(),
        convention="angle to the own weight over the sum of angles to all",
        n=len(rows),
        split=split,
        warnings=tuple(warnings),
    )


def _density(values: Tensor, grid: Tensor, bandwidth: float) -> Tensor:
    """Gaussian kernel estimate, summed directly: beside the angles to all weights this costs nothing."""
    total = torch.zeros_like(grid)
    for block in torch.split(values, max(1, _KERNEL_ELEMENTS // len(grid))):
        total += (-0.5 * ((grid - block.unsqueeze(1)) / bandwidth).square()).exp().sum(dim=0)
    return total / (len(values) * bandwidth * math.sqrt(2 * math.pi))
