"""Densities of the cosine distance between samples of one class and of different classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows, read_labels
from .counts import is_count
from .measurement import UndefinedError
from .result import Result

# A hundredth of the way from parallel to orthogonal: one choice for both curves and all heads, so that they compare.
_BANDWIDTH = 0.01

# The histogram would have a million bins beyond it.
_LEAST_BANDWIDTH = 1e-4

# Bins a bandwidth: the error is below 1e-4 of the kernel's height.
_BINS_A_BANDWIDTH = 64

# Where the kernel is cut, in bandwidths: 1e-14 of its height.
_REACH = 8

# Elements of a block of pairs: 8 MiB.
_BLOCK_ELEMENTS = 2**20

# Below this share of its mass on the grid a curve is said to be cut off.
_ENOUGH_MASS = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class CosineDensities(Result):
    """How far samples lie from those of their own class and from those of other classes.

    Attributes:
        value: overlap of the two densities, in [0, 1]: 0 where they are apart, 1 where they are the same.
        mean_within: mean cosine distance of pairs of one class; free of the bandwidth.
        mean_between: the same of pairs of different classes.
        grid: cosine distances from 0 to 2, float64 ``[points]``.
        within: density of the pairs of one class, float64 ``[points]``.
        between: density of the pairs of different classes, float64 ``[points]``.
        pairs_within: how many pairs of one class.
        pairs_between: how many pairs of different classes.
        bandwidth: standard deviation of the Gaussian kernel.
        classes: classes among the samples.
    """

    name: ClassVar[str] = "cosine_densities"

    value: float
    mean_within: float
    mean_between: float
    grid: Tensor
    within: Tensor
    between: Tensor
    pairs_within: int
    pairs_between: int
    bandwidth: float
    classes: int

    @property
    def headline(self) -> str:
        """The overlap and both means."""
        return f"overlap {self.value:.4g}, mean {self.mean_within:.4g} within and {self.mean_between:.4g} between"


def cosine_densities(
    x: ArrayLike,
    y: ArrayLike,
    *,
    samples: int = 10_000,
    seed: int = 0,
    bandwidth: float | None = None,
    points: int = 512,
    split: str | None = None,
) -> CosineDensities:
    r"""Kernel density estimates of the cosine distance, within and between classes.

    .. math:: f(t) = \frac{1}{|P|} \sum_{(i, j) \in P} \mathcal N\big(t;\ 1 - \tilde{\mathbf x}_i^\top
        \tilde{\mathbf x}_j,\ h^2\big), \qquad \text{overlap} = \int \min(f_\text{within}, f_\text{between})

    over P, all pairs i < j of the sample with equal labels, or with different ones; every pair weighs alike. A sample
    never pairs with itself.

    The sample is balanced: every class gives equally many rows, as far as it has them, and which ones the seed decides.
    (10,000 rows of 1000 classes make 5e7 pairs, of which only 45,000 lie within a class.) The pairs are taken by
    blocks into a histogram of 64 bins a bandwidth, which is convolved with the kernel.

    The kernel knows no border: as in W's figure presumably, a curve loses what it has below distance 0. A warning says
    when that is more than 5%; choose a smaller bandwidth then.

    Args:
        x: features, shape ``[N, D]``. A zero row has distance 1 to every other, with a warning.
        y: class indices, shape ``[N]``; gaps are allowed.
        samples: rows to take at most, at least 2; W takes 10,000.
        seed: which rows are taken.
        bandwidth: h, at least 1e-4; 0.01 if left out (W does not say its own), whatever the data, so that curves of
            different heads compare.
        points: of the grid, at least 2.
        split: the part of the data, kept in the result. W measures on the training set.

    Returns:
        Both densities on a grid from 0 to 2, and their overlap.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or options out of range.
        UndefinedError: no pair of one class, or none of different classes, in the sample.

    References:
        W Figure E.3.

    >>> x = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    >>> found = cosine_densities(x, [0, 0, 1, 1])
    >>> found.pairs_within, found.pairs_between, round(found.mean_within, 4), round(found.mean_between, 4)
    (2, 4, 0.005, 0.9007)
    """
    width = _BANDWIDTH if bandwidth is None else bandwidth
    if not (is_count(samples, 2) and is_count(points, 2)):
        raise InputError(f"Expected integers 'samples' and 'points' of at least 2. Got {samples} and {points}.")
    if not (math.isfinite(width) and width >= _LEAST_BANDWIDTH):
        raise InputError(f"Expected a finite 'bandwidth' of at least {_LEAST_BANDWIDTH}. Got {width}.")
    rows = Rows(x, "x")
    labels = read_labels(y, "y", len(rows)).cpu()
    chosen = _balanced_sample(labels, samples, seed)
    unit, labels = _unit_rows(rows, chosen), labels[chosen].to(rows.device)
    histograms = _Histograms(width, rows.device)
    step = max(1, _BLOCK_ELEMENTS // len(unit))
    for start in range(0, len(unit), step):
        stop = min(start + step, len(unit))
        # A few ulp below 0 or above 2 are rounding.
        distance = (1 - unit[start:stop] @ unit[start:].T).clamp(0, 2)
        same = labels[start:stop].unsqueeze(1) == labels[start:]
        later = torch.ones_like(same).triu(1)
        histograms.add(0, distance[same & later])
        histograms.add(1, distance[~same & later])
    if 0 in histograms.pairs:
        which, why = (
            ("one class", "every class has a single row; more 'samples' may hold more")
            if histograms.pairs[0] == 0
            else ("different classes", "all labels are equal")
        )
        raise UndefinedError(f"Expected pairs of {which} among {len(unit)} samples. Got none: {why}.")
    grid = torch.linspace(0, 2, points, dtype=torch.float64)
    within, between = histograms.densities()
    zeros = int((unit == 0).all(dim=1).sum())
    mean_within, mean_between = (total / pairs for total, pairs in zip(histograms.totals, histograms.pairs))
    return CosineDensities(
        value=min(1.0, float(torch.minimum(within, between).sum()) * histograms.width),
        mean_within=mean_within,
        mean_between=mean_between,
        grid=grid,
        within=histograms.at(grid, within),
        between=histograms.at(grid, between),
        pairs_within=histograms.pairs[0],
        pairs_between=histograms.pairs[1],
        bandwidth=width,
        classes=len(torch.unique(labels)),
        convention=f"Gaussian kernel of bandwidth {width:g}; balanced sample, seed {seed}",
        n=len(unit),
        split=split,
        warnings=_warnings(zeros, len(unit), histograms.mass_on_grid(within), histograms.mass_on_grid(between)),
    )


class _Histograms:
    """Two histograms of distances in [0, 2], whose bins are nodes: a value is shared by the nodes on either side.

    So the centre of mass is kept, and smoothing with a kernel much wider than the bins errs in second order only.
    """

    def __init__(self, bandwidth: float, device: torch.device) -> None:
        self.bandwidth = bandwidth
        bins = math.ceil(2 / bandwidth * _BINS_A_BANDWIDTH)
        self.width = 2 / bins
        self.margin = math.ceil(_REACH * bandwidth / self.width)
        self.masses = torch.zeros(2, bins + 2, dtype=torch.float64, device=device)
        self.totals, self.pairs = [0.0, 0.0], [0, 0]

    def add(self, which: int, distance: Tensor) -> None:
        place = distance / self.width
        index = place.long()
        share = place - index
        nodes = self.masses.shape[1]
        self.masses[which] += torch.bincount(index, 1 - share, nodes) + torch.bincount(index + 1, share, nodes)
        self.totals[which] += float(distance.sum())
        self.pairs[which] += len(distance)

    def densities(self) -> Tensor:
        """Density at every node, and at as many more on either side as the kernel reaches, ``[2, nodes]``."""
        masses = self.masses.cpu() / torch.tensor(self.pairs, dtype=torch.float64).unsqueeze(1)
        offset = torch.arange(-self.margin, self.margin + 1, dtype=torch.float64) * self.width / self.bandwidth
        kernel = (-0.5 * offset.square()).exp() / (self.bandwidth * math.sqrt(2 * math.pi))
        length = masses.shape[1] + len(kernel) - 1
        # The product of spectra is the convolution; rounding may leave -1e-17.
        smooth: Tensor = torch.fft.irfft(torch.fft.rfft(masses, length) * torch.fft.rfft(kernel, length), length)
        return smooth.clamp_min(0)

    def at(self, grid: Tensor, density: Tensor) -> Tensor:
        """Density at points of [0, 2], linear between the nodes."""
        place = grid / self.width + self.margin
        index = place.long()
        return torch.lerp(density[index], density[index + 1], place - index)

    def mass_on_grid(self, density: Tensor) -> float:
        inside = density[self.margin : len(density) - self.margin - 1]
        return float(torch.trapezoid(inside, dx=self.width))


def _balanced_sample(labels: Tensor, samples: int, seed: int) -> Tensor:
    """Rows of a class-balanced sample, in increasing order.

    Rows are shuffled and numbered within their class; the lowest numbers of all classes are taken. So no class gives
    two rows more than another that has rows left.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    _, index, counts = torch.unique(labels[order], return_inverse=True, return_counts=True)
    by_class = torch.argsort(index, stable=True)
    number = torch.empty_like(order)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    number[by_class] = torch.arange(len(labels)) - first
    return order[torch.argsort(number, stable=True)[:samples]].sort().values


def _unit_rows(rows: Rows, chosen: Tensor) -> Tensor:
    """Chosen rows (in increasing order), scaled to length one; all rows are read, and refused if not finite."""
    found = []
    for where, chunk in rows.chunks():
        first, last = torch.searchsorted(chosen, torch.tensor([where.start, where.stop])).tolist()
        found.append(normalize(chunk[(chosen[first:last] - where.start).to(chunk.device)]))
    return torch.cat(found)


def _warnings(zeros: int, count: int, mass_within: float, mass_between: float) -> tuple[str, ...]:
    warnings = []
    if zeros:
        warnings.append(f"{zeros} of {count} features are zero, at distance 1 from every other.")
    for name, mass in (("within", mass_within), ("between", mass_between)):
        if mass < _ENOUGH_MASS:
            warnings.append(
                f"The density {name} classes loses {1 - mass:.0%} beyond distances 0 and 2: lower 'bandwidth'."
            )
    return tuple(warnings)
