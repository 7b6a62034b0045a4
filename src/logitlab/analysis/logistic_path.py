"""Multinomial logistic regression with an L2 penalty, solved for one strength after another, each from the last.

The solver is L-BFGS with two traits of this problem put to use. It is convex, so that the slope along the
search direction tells where the minimum lies: SciPy's line search compares values of the objective instead, whose
rounding ends it at relative gradients near 1e-8, before the weakest penalties are felt at all. And the Hessian at W = 0
is known (the Gram matrix of the features over C, and elsewhere less of it), so that in the axes of the features'
principal components a diagonal is a good first guess, which saves most of the iterations on features of unequal
variance.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Steps in float32 from one float64 base: until the gradient has fallen to this share of the base's, or so many.
_BASE_SHARE, _BASE_STEPS = 1e-3, 25

# Pairs of steps and changes of gradient that stand for the Hessian; more save few iterations (measured: 20 instead of
# 10 saved 7%) and cost as much in dot products.
_MEMORY = 10

# Line search: accepted where the slope has fallen to this share of the first one, on either side of the minimum. Past
# it less steeply than before it, since there the objective may be higher than at the start.
_SHARE_BEFORE, _SHARE_AFTER = 0.9, 0.8
_TRIALS = 40

# The share of the logits that is as good as a gradient of 1 beside that at W = 0: with the default tolerance of 1e-10
# it is 1e-6, which moves next to no sample across a border.
_LOGIT_SHARE = 1e4

# What rounding may add to the objective.
_ROUNDING = 1e-10

# Solutions through which the next start is extrapolated.
_POINTS = 3


@dataclass(frozen=True)
class Point:
    """Parameters ``[C, r + 1]`` (the last column is the bias), the objective there, and its gradient.

    ``weight`` is the mean of p (1 - p) over samples and classes, by which the losses' Hessian falls short of the Gram
    matrix: about 1/C at W = 0, next to nothing where all samples are told apart.
    """

    parameters: Tensor
    value: float
    gradient: Tensor
    weight: float


@dataclass(frozen=True)
class Base:
    """A point with all that float64 found there: logits and residuals p - y, ``[C, N]``, and the losses' gradient."""

    point: Point
    logits: Tensor
    residual: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Solution:
    """Where a run ended.

    Attributes:
        point: the last one.
        iterations: steps taken.
        gradient_norm: relative to that at W = 0.
        converged: whether it is small enough (:meth:`LogisticRegression.converged`).
    """

    point: Point
    iterations: int
    gradient_norm: float
    converged: bool


class LogisticRegression:
    r"""The objective :math:`\sum_i -\log \mathrm{softmax}(W x_i + b)_{y_i} + \frac\lambda2 \|W\|^2`.

    Most products are in float32, three times as fast as float64 and more on many GPUs, yet as exact: they take
    only what has changed since a base that float64 computed, so that their rounding shrinks with the steps.

    Args:
        x: rotated features with a column of ones, ``[N, r + 1]``, float64 (:meth:`~.principal_axes.Axes.of`).
        target: int64 ``[N]``; every class from 0 to C - 1 occurs.
        num_classes: C.
    """

    def __init__(self, x: Tensor, target: Tensor, num_classes: int) -> None:
        self._x, self._target, self._num_classes = x, target.unsqueeze(0), num_classes
        self._squares = x.square().sum(dim=0)
        # float32 has room for the squares of ones.
        self._scale = float(x.abs().max())
        self._x_single = (x / self._scale).to(torch.float32)
        self._norm_at_zero = float(self.base(self.zero(), 1.0).point.gradient.norm())

    def zero(self) -> Tensor:
        """W = 0 and b = 0."""
        return self._x.new_zeros(self._num_classes, self._x.shape[1])

    def base(self, parameters: Tensor, strength: float) -> Base:
        """Compute the objective and its gradient in float64."""
        logits = parameters @ self._x.T
        loss, residual, weight = self._residual(logits.clone())
        gradient = residual @ self._x
        return Base(self._point(parameters, strength, loss, gradient, weight), logits, residual, gradient)

    def evaluate(self, base: Base, parameters: Tensor, strength: float) -> Point:
        """Compute them from those of a base nearby."""
        step = (parameters - base.point.parameters).to(torch.float32)
        logits = (step @ self._x_single.T).to(torch.float64).mul_(self._scale).add_(base.logits)
        loss, residual, weight = self._residual(logits)
        change = residual.sub_(base.residual).to(torch.float32) @ self._x_single
        gradient = change.to(torch.float64).mul_(self._scale).add_(base.gradient)
        return self._point(parameters, strength, loss, gradient, weight)

    def _residual(self, logits: Tensor) -> tuple[Tensor, Tensor, float]:
        """The sum of the losses, p - y, and the mean of p (1 - p); overwrites the logits."""
        logits -= logits.amax(dim=0, keepdim=True)
        own = logits.gather(0, self._target)
        residual = logits.exp_()
        total = residual.sum(dim=0, keepdim=True)
        loss = (total.log() - own).sum()
        residual /= total
        count = residual.shape[1]
        # Rounding may leave nothing or less.
        weight = max((count - float(_dot(residual, residual))) / residual.numel(), _ROUNDING)
        # p_y - 1 as the negative sum of the others: where p_y rounds to 1, they still tell it from 1.
        residual.scatter_(0, self._target, 0.0)
        residual.scatter_(0, self._target, -residual.sum(dim=0, keepdim=True))
        return loss, residual, weight

    def _point(self, parameters: Tensor, strength: float, loss: Tensor, gradient: Tensor, weight: float) -> Point:
        """Add the penalty."""
        value = float(loss + parameters[:, :-1].square().sum() * (strength / 2))
        penalty = strength * parameters
        penalty[:, -1] = 0.0
        return Point(parameters, value, gradient + penalty, weight)

    def relative_norm(self, point: Point) -> float:
        """The gradient's norm divided by that at W = 0 (0 where both vanish)."""
        norm = float(point.gradient.norm())
        return norm / self._norm_at_zero if norm else 0.0

    def converged(self, point: Point, direction: Tensor, strength: float, tolerance: float) -> bool:
        """Whether the gradient is small beside that at W = 0, or what is left to do is small beside what was done.

        The latter: neither the step of L-BFGS nor that of the Hessian's diagonal moves the logits by more than next to
        nothing of their size. Weak penalties on separable samples are judged by it, too: there next to nothing of the
        losses' curvature is left.
        """
        if float(point.gradient.norm()) <= tolerance * self._norm_at_zero:
            return True
        limit = _LOGIT_SHARE * tolerance * self._logits(point.parameters)
        steps = (point.gradient / self._diagonal(point, strength), direction)
        return all(self._logits(step) <= limit for step in steps)

    def _logits(self, parameters: Tensor) -> float:
        """The size of the logits of all samples, as if the axes were as uncorrelated as they are without the ones."""
        return float((parameters.square() @ self._squares).sum().sqrt())

    def _diagonal(self, point: Point, strength: float) -> Tensor:
        """An estimate of the Hessian's diagonal, the same for all classes, ``[r + 1]``."""
        diagonal = point.weight * self._squares
        diagonal[:-1] += strength
        return diagonal

    def solve(self, base: Base, strength: float, tolerance: float, max_iterations: int) -> Solution:
        """Minimise from ``base``, computed with the same strength."""
        pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_MEMORY)
        point, iterations, based_at = base.point, 0, 0
        while True:
            direction = _direction(point.gradient, pairs, self._diagonal(point, strength))
            done = iterations >= max_iterations or self.converged(point, direction, strength, tolerance)
            fallen = float(point.gradient.norm()) <= _BASE_SHARE * float(base.point.gradient.norm())
            if point is not base.point and (done or fallen or iterations - based_at >= _BASE_STEPS):
                base, based_at = self.base(point.parameters, strength), iterations
                point = base.point
                continue
            if done:
                break
            found = self._search(base, point, direction, strength)
            if found is not None:
                step, change = found.parameters - point.parameters, found.gradient - point.gradient
                curvature = _dot(step, change)
                if float(curvature) > 0:
                    pairs.append((step, change, curvature))
                point = found
                iterations += 1
            elif point is not base.point:
                base, based_at = self.base(point.parameters, strength), iterations
                point = base.point
            elif pairs:
                pairs.clear()
            else:
                break  # rounding: not even the plain direction leads down
        converged = self.converged(point, direction, strength, tolerance)
        return Solution(point, iterations, self.relative_norm(point), converged)

    def path(self, strengths: Sequence[float], tolerance: float, max_iterations: int) -> Iterator[Solution]:
        """Solve for increasing strengths, each from the solutions before it."""
        past: deque[tuple[float, Tensor]] = deque(maxlen=_POINTS)
        for strength in strengths:
            place = math.log(strength)
            starts = _extrapolations(past, place) if past else [self.zero()]
            candidates = [self.base(start, strength) for start in starts]
            start = min(candidates, key=lambda candidate: float(candidate.point.gradient.norm()))
            del candidates
            solution = self.solve(start, strength, tolerance, max_iterations)
            past.append((place, solution.point.parameters))
            yield solution

    def _search(self, base: Base, point: Point, direction: Tensor, strength: float) -> Point | None:
        """Go along ``direction`` until the slope has flattened; None if that cannot be."""
        slope_at_start = float(_dot(point.gradient, direction))
        if not slope_at_start < 0:
            return None
        low, high, length = 0.0, math.inf, 1.0
        for _ in range(_TRIALS):
            found = self.evaluate(base, point.parameters + length * direction, strength)
            slope = float(_dot(found.gradient, direction))
            higher = not found.value <= point.value + _ROUNDING * abs(point.value)
            if not slope <= -_SHARE_AFTER * slope_at_start or (slope > 0 and higher):
                high = length
            elif slope < _SHARE_BEFORE * slope_at_start:
                low = length
            else:
                return found
            if high < math.inf:
                length = (low + high) / 2
            else:
                # The secant of the slopes, within bounds.
                change = slope - slope_at_start
                length *= min(10.0, max(2.0, -slope_at_start / change)) if change > 0 else 10.0
        return None


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return torch.dot(first.reshape(-1), second.reshape(-1))


def _direction(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor, Tensor]], diagonal: Tensor) -> Tensor:
    """L-BFGS's two loops around the inverse of the diagonal, scaled to the latest pair."""
    vector = gradient.clone()
    shares = []
    for step, change, curvature in reversed(pairs):
        share = _dot(step, vector) / curvature
        shares.append(share)
        vector.addcmul_(change, share, value=-1)
    vector /= diagonal
    if pairs:
        _, change, curvature = pairs[-1]
        vector *= curvature / _dot(change, change / diagonal)
    for (step, change, curvature), share in zip(pairs, reversed(shares)):
        vector.addcmul_(step, share - _dot(change, vector) / curvature)
    return vector.neg_()


def _extrapolations(past: Sequence[tuple[float, Tensor]], place: float) -> list[Tensor]:
    """The last solution, the line through the last two, and the parabola through the last three, at ``place``."""
    found = []
    for count in range(1, len(past) + 1):
        points = list(past)[-count:]
        total = torch.zeros_like(points[0][1])
        for index, (own, parameters) in enumerate(points):
            others = [other for position, (other, _) in enumerate(points) if position != index]
            total += math.prod((place - other) / (own - other) for other in others) * parameters
        found.append(total)
    return found
