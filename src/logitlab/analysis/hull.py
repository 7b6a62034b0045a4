"""The projection of features onto the convex hull of the class weights: what least-squares κ* approaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.functional import Search, projection_energy, search_least_squares

from .arrays import ArrayLike, Rows
from .directions import unit_blocks, unit_weight
from .result import Result, plain

# Classes that a sample's search begins with, the nearest ones, and how many it adds where they do not suffice. With
# 1000 classes the support has some tens, and this is several times as fast as the solver on all classes.
_STEP = 32

# By this much a class must promise to lower the residual before it is added; rounding is a hundred times less.
_PROMISING = 1e-13

# Above it a result says that it is not exact.
_TOLERANCE = 1e-10

# Above this cosine two weights are one (below 1.4e-6 radians): float32 rounds a multiple of a weight no better.
_PARALLEL = 1 - 1e-12

# Elements of a block of cosines between weights; 8 MiB.
_GRAM_ELEMENTS = 2**20

# Coefficients up to this are rounding. The solver's own zeros are exact.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class HullProjection(Result):
    """Each feature's projection onto the convex hull of the class weights, beside the softmax at κ*.

    In JSON the arrays of a number a sample stand as their means.

    Attributes:
        value: mean residual.
        residual: half the squared distance of each feature to the hull, float64 ``[N]``.
        coefficients: of each class in the projection, float64 ``[N, C]``, rows of sum one; not in the JSON.
        support: classes with a coefficient above 1e-12, int64 ``[N]``.
        kappa_star: κ* by least squares, float64 ``[N]``.
        softmax_residual: half the squared distance to the softmax combination at κ*, float64 ``[N]``; never below
            ``residual``.
        correlation: Pearson's, between the coefficients and the softmax at κ*, over the classes, float64 ``[N]``; NaN
            where either is constant.
        gap: by how much ``residual`` may exceed the true one at most, float64 ``[N]``; rounding, where all is well.
    """

    name: ClassVar[str] = "hull_projection"

    value: float
    residual: Tensor
    coefficients: Tensor = field(metadata={"json": False})
    support: Tensor
    kappa_star: Tensor
    softmax_residual: Tensor
    correlation: Tensor
    gap: Tensor

    @property
    def headline(self) -> str:
        """Residuals, support and correlation, each a mean over the samples."""
        means = self._means()
        return (
            f"residual {self.value:.4g} (softmax at kappa* {means['softmax_residual']:.4g}), "
            f"support {means['support']:.4g} of {self.coefficients.shape[1]} classes, "
            f"correlation {means['correlation']:.4g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a mean for each array, the largest for ``gap``; ``classes`` is C."""
        means = {**self._means(), "gap": float(self.gap.max()), "classes": self.coefficients.shape[1]}
        return {**super().to_json(), **plain(means)}

    def _means(self) -> dict[str, float]:
        names = ("residual", "support", "kappa_star", "softmax_residual", "correlation")
        return {name: float(getattr(self, name).double().nanmean()) for name in names}


def hull_projection(
    x: ArrayLike, weight: ArrayLike, *, search: Search = "grid", split: str | None = None
) -> HullProjection:
    r"""Project each unit feature onto the convex hull of the unit class weights.

    .. math:: \min_{\alpha} \tfrac12 \Big\| \tilde{\mathbf x} - \sum_c \alpha_c \tilde{\mathbf w}_c \Big\|_2^2
        \quad \text{subject to} \quad \sum_c \alpha_c = 1,\ \alpha_c \ge 0

    T puts softmax coefficients in the place of α and minimises over κ alone: hence the residual here bounds
    :math:`E^* = E_{\kappa^*}` of T Eq. (10) from below, for every sample.

    The problem is solved exactly, by an active-set method for non-negative least squares. With the matrix A of columns
    :math:`\tilde{\mathbf w}_c - \tilde{\mathbf x}` the residual is :math:`\frac12 \|A\alpha\|^2`, as the coefficients
    sum to one. Non-negative least squares minimises over :math:`u \ge 0`

    .. math:: f(u) = \Big\| \begin{bmatrix} A \\ \mathbf 1^\top \end{bmatrix} u
        - \begin{bmatrix} \mathbf 0 \\ 1 \end{bmatrix} \Big\|^2 = s^2 \|A\alpha\|^2 + (s - 1)^2,
        \qquad u = s\,\alpha,\ s = \mathbf 1^\top u

    For a given α the best s is :math:`1/(1 + \|A\alpha\|^2) > 0`, which leaves
    :math:`f = \|A\alpha\|^2 / (1 + \|A\alpha\|^2)`. That increases with :math:`\|A\alpha\|`: so the u that minimises f,
    divided by its sum, minimises the residual under the constraints, without a penalty whose weight would have to be
    chosen. The solver sees the classes nearest to a sample first; classes that could still lower the residual are added
    until there are none.

    Every result is checked: with :math:`\mathbf p = A\alpha`, the gap :math:`\|\mathbf p\|^2 - \min_c \mathbf p^\top
    A_c` is zero at the optimum (Karush-Kuhn-Tucker) and never less than what the residual may still lose. A warning
    says when one is above 1e-10.

    The residual and the projected point are unique. The coefficients are so unless the weights that carry the
    projection depend on each other affinely, as repeated ones do: then they are one solution of many, and ``support``
    and ``correlation`` depend on which. A feature in the hull has residual 0; as the hull touches the unit sphere at
    the weights only, such a feature points along a weight. A zero feature is projected from the origin, and a zero
    weight is the origin; a warning counts them.

    Args:
        x: features, shape ``[N, D]``.
        weight: one row a class, shape ``[C, D]``.
        search: how κ* is found: ``"grid"`` (T's twenty candidates) or ``"continuous"``.
        split: the part of the data, kept in the result.

    Returns:
        Residuals in [0, 2], coefficients, and their relation to the softmax at κ*.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, or an unknown search.

    References:
        T Eqs. (7), (8), (10); TS §6.1. Solver: Lawson and Hanson, "Solving least squares problems", 1974
        (``scipy.optimize.nnls``).

    >>> found = hull_projection([[1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> [round(share, 6) for share in found.coefficients[0].tolist()], round(found.value, 6)
    ([0.5, 0.5, 0.0], 0.042893)
    """
    if search not in get_args(Search):
        raise InputError(f"Expected 'search' as 'grid' or 'continuous'. Got {search!r}.")
    rows = Rows(x, "x")
    weights = unit_weight(weight, rows)
    num_classes, length = weights.shape
    # Distances to the hull differ only inside the weights' span. Rotated into it, 10 classes have 10 dimensions.
    basis = torch.linalg.qr(weights.T).Q if num_classes < length else None
    vertices = (weights if basis is None else weights @ basis).cpu().numpy()
    # Filled as it goes: parts joined at the end would need twice the memory for the moment.
    arrays = {
        name: torch.empty(len(rows), dtype=torch.float64)
        for name in ("residual", "kappa_star", "softmax_residual", "correlation", "gap")
    }
    arrays["coefficients"] = torch.empty(len(rows), num_classes, dtype=torch.float64)
    zeros = 0
    for where, unit in unit_blocks(rows, num_classes):
        cosine = unit @ weights.T
        points = (unit if basis is None else unit @ basis).cpu().numpy()
        alpha = torch.stack(
            [
                torch.from_numpy(_coefficients(point, vertices, near))
                for point, near in zip(points, cosine.argsort(dim=1, descending=True).cpu().numpy())
            ]
        ).to(unit.device)
        toward = alpha @ weights - unit
        # pᵀA_c = pᵀw_c - pᵀx, and ‖p‖² = Σ_c α_c pᵀA_c.
        slope = toward @ weights.T - (toward * unit).sum(dim=1, keepdim=True)
        kappa = search_least_squares(unit, weights, cosine=cosine, search=search)
        softmax = torch.softmax(kappa.unsqueeze(1) * cosine, dim=1)
        block = {
            "coefficients": alpha,
            "residual": 0.5 * toward.square().sum(dim=1),
            "kappa_star": kappa,
            "softmax_residual": projection_energy(unit, weights, kappa, cosine),
            "correlation": _correlation(alpha, softmax),
            "gap": (toward.square().sum(dim=1) - slope.amin(dim=1)).clamp_min(0),
        }
        zeros += int((unit == 0).all(dim=1).sum())
        for name, values in block.items():
            arrays[name][where] = values.to("cpu")
    return HullProjection(
        value=float(arrays["residual"].mean()),
        support=(arrays["coefficients"] > _ROUNDING).sum(dim=1),
        convention=f"half the squared distance of unit features to the hull of unit weights; kappa* by {search} search",
        n=len(rows),
        split=split,
        warnings=_warnings(arrays["gap"], zeros, weights),
        **arrays,
    )


def _coefficients(point: Any, vertices: Any, near: Any) -> Any:
    """Convex coefficients of the projection of one point, a NumPy ``[C]``.

    Args:
        point: ``[r]``.
        vertices: ``[C, r]``.
        near: the classes, the most promising first.
    """
    import numpy as np
    from scipy.optimize import nnls

    count = len(vertices)
    used = np.zeros(count, dtype=bool)
    used[near[:_STEP]] = True
    while True:
        chosen = np.flatnonzero(used)
        system = np.vstack([(vertices[chosen] - point).T, np.ones(len(chosen))])
        target = np.zeros(len(system))
        target[-1] = 1
        alpha = np.zeros(count)
        try:
            solution, _ = nnls(system, target, maxiter=30 * len(chosen))
        except RuntimeError:
            # It has not converged. The nearest vertex lies in the hull too, and the check will say how far off it is.
            alpha[near[0]] = 1
            return alpha
        alpha[chosen] = solution / solution.sum()
        toward = system[:-1] @ alpha[chosen]
        promise = toward @ toward - (vertices @ toward - point @ toward)
        promise[used] = 0
        best = np.argsort(-promise, kind="stable")[:_STEP]
        best = best[promise[best] > _PROMISING]
        if not len(best):
            return alpha
        used[best] = True


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of rows; NaN where a row is constant up to rounding."""
    first, second = (values - values.mean(dim=1, keepdim=True) for values in (first, second))
    lengths = first.norm(dim=1), second.norm(dim=1)
    value = (first * second).sum(dim=1) / (lengths[0] * lengths[1])
    return torch.where((lengths[0] > _ROUNDING) & (lengths[1] > _ROUNDING), value.clamp(-1, 1), torch.nan)


def _warnings(gap: Tensor, zeros: int, weights: Tensor) -> tuple[str, ...]:
    warnings = []
    inexact = int((gap > _TOLERANCE).sum())
    if inexact:
        warnings.append(
            f"{inexact} of {len(gap)} projections are not exact: their residual may exceed the true one by up to "
            f"{float(gap.max()):.2g}."
        )
    if zeros:
        warnings.append(f"{zeros} of {len(gap)} features are zero and are projected from the origin.")
    zero_weights = int((weights == 0).all(dim=1).sum())
    if zero_weights:
        warnings.append(f"{zero_weights} of {len(weights)} weights are zero; the hull holds the origin.")
    repeated = _repeated(weights)
    if repeated:
        warnings.append(f"{repeated} weights repeat the direction of another: coefficients are not unique.")
    return tuple(warnings)


def _repeated(weights: Tensor) -> int:
    """Weights along which an earlier one points too."""
    count, start = 0, 0
    for block in torch.split(weights, max(1, _GRAM_ELEMENTS // len(weights))):
        parallel = block @ weights.T > _PARALLEL
        count += int(parallel.tril(start - 1).any(dim=1).sum())
        start += len(block)
    return count
