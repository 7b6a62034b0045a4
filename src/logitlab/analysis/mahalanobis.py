"""Mahalanobis distance to the nearest class: how far a feature lies from those of the training set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import length

from .arrays import ArrayLike, Rows, read_labels
from .measurement import UndefinedError
from .products import PRODUCT_CHUNKS, add_gram, mirror
from .result import Result
from .spectra import class_means

# Directions whose variance is below this share of the largest count as having none.
_TOLERANCE = 1e-12

# Rows of the training set that say what is usual of norms and scores; more change nothing that matters.
_USUAL = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class MahalanobisFit(Result):
    """Class means and a covariance that all classes share.

    Attributes:
        classes: the classes that occur, int64 ``[K]``.
        means: their mean features, float64 ``[K, D]``.
        value: the shared covariance, float64 ``[D, D]``.
        rank: directions that have a variance; D unless the covariance is singular.
        usual: mean and deviation of the feature norm and of the score on the training features.
    """

    name: ClassVar[str] = "mahalanobis"

    classes: Tensor
    means: Tensor = field(metadata={"json": False})
    value: Tensor = field(metadata={"json": False})
    rank: int
    usual: tuple[float, float, float, float]
    whitening: Tensor = field(metadata={"json": False}, repr=False)

    @property
    def headline(self) -> str:
        """Classes, dimensions and rank."""
        return f"{len(self.classes)} classes, {self.means.shape[1]} dimensions, rank {self.rank}"

    def distances(self, x: ArrayLike) -> Tensor:
        r"""Squared distance of each feature to each class mean.

        .. math:: d_k^2(\mathbf x) = (\mathbf x - \mu_k)^\top \Sigma^+ (\mathbf x - \mu_k)

        Args:
            x: features, ``[N, D]``.

        Returns:
            float64 ``[N, K]``, at least 0; columns in the order of ``classes``.

        Raises:
            InputError: NaN or infinity, or features of another length.

        >>> fit = fit_mahalanobis([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [6.0, 0.0]], [0, 0, 0, 0, 1])
        >>> fit.distances([[0.0, 0.0], [6.0, 1.0]])
        tensor([[ 0.0000, 45.0000],
                [46.2500,  1.2500]], dtype=torch.float64)
        """
        return self._by_chunks(x, lambda distances, _: distances)

    def score(self, x: ArrayLike) -> Tensor:
        """Minus the squared distance to the nearest class mean: larger is surer; float64 ``[N]``.

        Raises:
            InputError: NaN or infinity, or features of another length.
        """
        return self._by_chunks(x, lambda distances, _: -distances.amin(dim=1))

    def norm_score(self, x: ArrayLike) -> Tensor:
        r"""Feature norm and Mahalanobis score together, a STAND-IN: larger is surer; float64 ``[N]``.

        .. math:: \frac{\|\mathbf x\| - m_n}{s_n} + \frac{-\min_k d_k^2(\mathbf x) - m_d}{s_d}

        with the means and deviations ``usual`` of both on the training features. T takes its combination from
        Noh et al. (ICCV 2023), whose formula is in none of the sources of this library: do not compare the numbers
        with T's.

        Raises:
            InputError: NaN or infinity, or features of another length.

        References:
            T Section 3.2.1 names the combination.
        """
        norm_mean, norm_deviation, score_mean, score_deviation = self.usual
        return self._by_chunks(
            x,
            lambda distances, chunk: (
                (length(chunk) - norm_mean) / norm_deviation + (-distances.amin(dim=1) - score_mean) / score_deviation
            ),
        )

    def _by_chunks(self, x: ArrayLike, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        rows = Rows(x, "x")
        if rows.shape[1] != self.means.shape[1]:
            raise InputError(
                f"Expected 'x' of shape [N, {self.means.shape[1]}], as the fitted features. Got {list(rows.shape)}."
            )
        # Distances do not depend on the origin; close to the data they lose fewest digits.
        origin = self.means.mean(dim=0).to(rows.device)
        whitening = self.whitening.to(rows.device)
        classes = (self.means.to(rows.device) - origin) @ whitening
        class_lengths = classes.square().sum(dim=1)
        found = []
        for _, chunk in rows.passing_chunks(PRODUCT_CHUNKS):
            points = (chunk - origin) @ whitening
            distances = torch.addmm(class_lengths, points, classes.T, alpha=-2)
            distances += points.square().sum(dim=1, keepdim=True)
            found.append(measure(distances.clamp_(min=0), chunk).cpu())
        return torch.cat(found)


def fit_mahalanobis(x: ArrayLike, y: ArrayLike, *, split: str | None = None) -> MahalanobisFit:
    r"""Class means and the covariance within classes, from the training features.

    .. math:: \Sigma = \frac1N \sum_i (\mathbf x_i - \mu_{y_i})(\mathbf x_i - \mu_{y_i})^\top

    The features are read once for the means and once for the covariance, in float64 chunks. Units that never fire,
    duplicated ones, or fewer samples than dimensions make the covariance singular: then its pseudo-inverse takes its
    place, directions with less than 1e-12 of the largest variance count as having none, and a warning says how many
    remain. A deviation in the others is not seen.

    Args:
        x: features, shape ``[N, D]``.
        y: class indices, shape ``[N]``; gaps are allowed.
        split: the part of the data, kept in the result; it should be the training set.

    Returns:
        The fit, whose methods ``distances``, ``score`` and ``norm_score`` measure other features.

    Raises:
        InputError: NaN or infinity, or shapes that do not fit.
        UndefinedError: features that do not vary within any class, or vary beyond float64.

    References:
        T Section 3.2.1; Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS
        2018, without its input perturbation.

    >>> fit = fit_mahalanobis([[1.0, 0.0], [-1.0, 0.0], [5.0, 1.0], [5.0, -1.0]], [0, 0, 1, 1])
    >>> [round(score, 6) for score in fit.score([[1.0, 0.0], [5.0, 3.0]]).tolist()]
    [-2.0, -18.0]
    """
    rows = Rows(x, "x")
    classes, index, means = class_means(rows, read_labels(y, "y", len(rows)))
    count, size = rows.shape
    covariance = torch.zeros(size, size, dtype=torch.float64, device=rows.device)
    for where, chunk in rows.passing_chunks(PRODUCT_CHUNKS):
        add_gram(covariance, chunk.sub_(means[index[where]]))
    covariance = mirror(covariance) / count
    if not bool(covariance.isfinite().all()):
        raise UndefinedError("Expected features whose squares are finite in float64. Got larger ones.")
    variances, directions = torch.linalg.eigh(covariance)
    # What rounding leaves of features that are the same within each class is no variance.
    noise = (1e-14 * means.abs().max()) ** 2
    kept = variances > torch.clamp(_TOLERANCE * variances[-1], min=float(noise))
    rank = int(kept.sum())
    if not rank:
        raise UndefinedError("Expected features that vary within classes. Got none: the covariance is zero.")
    warnings = []
    if rank < size:
        warnings.append(
            f"The covariance has rank {rank} of {size}: its pseudo-inverse stands in, and deviations in the other "
            f"{size - rank} directions are not seen."
        )
    fit = MahalanobisFit(
        convention="squared, one covariance for all classes, divided by N; norm_score is a stand-in",
        n=count,
        split=split,
        warnings=tuple(warnings),
        classes=classes.cpu(),
        means=means.cpu(),
        value=covariance.cpu(),
        rank=rank,
        usual=(0.0, 1.0, 0.0, 1.0),
        whitening=(directions[:, kept] / variances[kept].sqrt()).cpu(),
    )
    return replace(fit, usual=_usual(fit, x, rows))


def _usual(fit: MahalanobisFit, x: ArrayLike, rows: Rows) -> tuple[float, float, float, float]:
    """Mean and deviation of norm and score on (evenly spaced) training features."""
    some = x if len(rows) <= _USUAL else x[:: -(-len(rows) // _USUAL)]
    norms = torch.cat([length(chunk).cpu() for _, chunk in Rows(some, "x").chunks()])
    found = []
    for values in (norms, fit.score(some)):
        mean, deviation = float(values.mean()), float(values.std(correction=0))
        # What does not vary has no scale of its own.
        found += [mean, deviation if deviation > 1e-12 * abs(mean) else 1.0]
    return found[0], found[1], found[2], found[3]
