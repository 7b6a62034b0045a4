"""The temperature that makes given labels most likely, by a safeguarded Newton method on its inverse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .measurement import UndefinedError
from .probabilities import ProbabilityLink, chunk_log_probabilities, logit_chunks, uses_sigmoid
from .result import Result

#: To which T and the derivative of the likelihood by log T are converged.
TOLERANCE = 1e-10

# Bisection in the logarithm takes 40 steps at most for a bracket of one decade; Newton takes five.
_MAX_STEPS = 200

# Where the sigmoid link is searched for minima: β times the largest magnitude of the logits, four points a decade.
_SCAN = tuple(10 ** (quarter / 4) for quarter in range(-12, 21))

# Of more logits than these the scan looks at some rows, evenly spaced.
_SCAN_ELEMENTS = 2**19

# Many temporaries of this size stay in cache and are not given back to the system each time (measured: three times as
# fast as whole chunks).
_PIECE_ELEMENTS = 2**15


@dataclass(frozen=True, kw_only=True, eq=False)
class TemperatureFit(Result):
    """The temperature that minimises the negative log-likelihood.

    Attributes:
        value: T. Zero where the sharpest probabilities are the best, infinity where the same for every class is.
        nll_before: mean negative log-likelihood at T = 1, in nats.
        nll_after: the same at T; at its limit where T is zero or infinite.
        iterations: Newton and bisection steps; each reads the logits once. 0 where T is a limit.
        gradient: derivative of the mean negative log-likelihood by log T at T; 0 where T is a limit.
        converged: T to a relative step of 1e-10, and the gradient to 1e-10. A limit counts as converged.
    """

    name: ClassVar[str] = "temperature"

    value: float
    nll_before: float
    nll_after: float
    iterations: int
    gradient: float
    converged: bool

    @property
    def headline(self) -> str:
        """T and what it gains."""
        return f"{self.value:.4g}, nats {self.nll_before:.4g} to {self.nll_after:.4g}"


def fit_temperature(
    logits: ArrayLike, y: ArrayLike, *, link: ProbabilityLink = "softmax", split: str | None = None
) -> TemperatureFit:
    r"""Find the temperature under which labels are most likely.

    .. math:: T^* = \arg\min_{T > 0} -\frac1N \sum_i \log p_{i y_i}(z_i / T)

    With β = 1/T the sum is convex for softmax. Newton's method finds its only minimum, kept in a bracket of the
    derivative's sign, with bisection where a Newton step leaves it or gains little. For the sigmoid link,
    :math:`p_c = \sigma(z_c/T) / \sum_k \sigma(z_k/T)`, the sum need not be convex: β is scanned over eight decades
    first (four points a decade, and on while it still falls; of more than half a million logits on some rows, evenly
    spaced), each change of the derivative's sign is refined as above, and the lowest minimum wins. Minima closer than
    the scan's points may be missed.

    Labels may have no best temperature. Where every label has its row's largest logit, likelihood grows as T falls to
    0; where labels have no more than the mean of their row's logits on average, as T grows. The result then is that
    limit, with a warning. Only T > 0 is considered: a negative T would turn the ranking of the classes round.

    Args:
        logits: shape ``[N, C]``; -inf masks a class.
        y: class indices, shape ``[N]``.
        link: ``"softmax"``, or ``"sigmoid"`` (``"normalized_sigmoid"``); see
            :func:`~logitlab.analysis.log_probabilities`.
        split: the part of the data, kept in the result.

    Returns:
        A :class:`TemperatureFit`; above 1 where the logits are overconfident.

    Raises:
        InputError: NaN or +inf, shapes that do not fit, labels outside [0, C) or of a masked class, or a link without
            probabilities.
        UndefinedError: the logits of each row are all equal: every temperature gives the same.

    References:
        W Table 3; Guo et al., "On calibration of modern neural networks", 2017, Eq. (9).

    >>> import math
    >>> logits = [[2 * math.log(3), 0.0]] * 4  # says 9 in 10, and is right in 3 of 4
    >>> round(fit_temperature(logits, [0, 0, 0, 1]).value, 12)
    2.0
    """
    is_sigmoid = uses_sigmoid(link)
    rows = Rows(logits, "logits", allow_infinite=True)
    labels = read_labels(y, "y", *rows.shape)
    survey = _survey(rows, labels, is_sigmoid)
    likelihood = _Likelihood(rows, labels, is_sigmoid, survey.scale)
    search = _search_sigmoid if is_sigmoid else _search_softmax
    found = search(likelihood, survey)
    warnings: list[str] = []
    if found.beta == math.inf:
        warnings.append("T = 0 is a limit: the likelihood of these labels grows as T falls to 0.")
    elif found.beta == 0:
        warnings.append(
            "T = infinity is a limit: the logits do not favour these labels, whose likelihood grows with T."
        )
    elif not found.converged:
        warnings.append(f"Not converged after {found.steps} steps: the likelihood hardly depends on T.")
    if survey.are_probabilities:
        warnings.append("Every row of 'logits' adds up to 1: they seem to be probabilities. Give logits, or their log.")
    return TemperatureFit(
        convention=describe_fit(is_sigmoid),
        n=len(rows),
        split=split,
        warnings=tuple(warnings),
        # Python does not divide by zero.
        value=survey.scale / found.beta if found.beta else math.inf,
        nll_before=survey.plain,
        nll_after=found.loss,
        iterations=found.steps,
        gradient=found.gradient,
        converged=found.converged,
    )


def describe_fit(is_sigmoid: bool) -> str:
    """In words, what is fitted; the convention of the results."""
    return f"least NLL of {'normalised sigmoids' if is_sigmoid else 'softmax'} of logits / T, Newton on 1/T"


class _Derivatives(NamedTuple):
    """The mean loss, and its first and second derivative by β."""

    loss: float
    slope: float
    curvature: float


class _Minimum(NamedTuple):
    """A minimum of the mean loss over β; β is 0 or infinite where it is a limit. The gradient is that by log T."""

    beta: float
    loss: float
    gradient: float = 0.0
    steps: int = 0
    converged: bool = True


class _Survey(NamedTuple):
    """What one reading of the logits tells.

    Attributes:
        scale: largest magnitude of a logit.
        plain: the mean loss at T = 1.
        cold: its limit as T falls to 0.
        is_separable: every label has its row's largest logit.
        are_probabilities: every row is one of probabilities, which logits hardly ever are.
    """

    scale: float
    plain: float
    cold: float
    is_separable: bool
    are_probabilities: bool


def _survey(rows: Rows, labels: Tensor, is_sigmoid: bool) -> _Survey:
    """Read all logits once, and refuse those that no temperature changes."""
    scale, plain, cold, is_separable, varies, are_probabilities = 0.0, 0.0, 0.0, True, False, True
    for logits, label in _pieces(rows, labels):
        own, largest, masked = logits.gather(1, label), logits.amax(dim=1, keepdim=True), logits.isneginf()
        if own.isneginf().any():
            raise InputError("Expected no label of a class that 'logits' mask (-inf). Got one in 'y'.")
        scale = max(scale, float(logits.masked_fill(masked, 0).abs().max()))
        is_separable = is_separable and bool((own == largest).all())
        varies = varies or bool(((logits != largest) & ~masked).any())
        are_probabilities = are_probabilities and bool(
            ((logits.amin(dim=1) >= 0) & ((logits.sum(dim=1) - 1).abs() <= 1e-4)).all()
        )
        plain -= float(chunk_log_probabilities(logits, is_sigmoid, 1.0).gather(1, label).sum())
        cold -= float(chunk_log_probabilities(logits, is_sigmoid, 0.0).gather(1, label).sum())
    if not varies:
        raise UndefinedError("Expected logits that differ within a row. Got none: every T gives the same.")
    # Rounding may leave -0.0: a likelihood has no negative cost.
    return _Survey(scale, max(0.0, plain / len(rows)), max(0.0, cold / len(rows)), is_separable, are_probabilities)


class _Likelihood:
    """The mean negative log-likelihood as a function of β = scale / T; every call reads the logits once.

    Attributes:
        scale: so that β does not depend on the logits' unit.
        hot: value and derivatives at β = 0.
        falls_from_hot: any finite T is better than the same probability for each class.
    """

    def __init__(self, rows: Rows, labels: Tensor, is_sigmoid: bool, scale: float) -> None:
        self._rows, self._labels, self._is_sigmoid, self.scale = rows, labels, is_sigmoid, scale
        self.hot = self.at(0.0)
        # Rounding is no slope.
        self.falls_from_hot = self.hot.slope < -1e-15

    def at(self, beta: float) -> _Derivatives:
        """Evaluate at one β."""
        return self.at_all((beta,))[0]

    def at_all(self, betas: Sequence[float]) -> list[_Derivatives]:
        """Evaluate at several β in one reading of the logits."""
        sums = torch.zeros(len(betas), 3, dtype=torch.float64, device=self._rows.device)
        for logits, label in _pieces(self._rows, self._labels):
            masked = logits.isneginf()
            unit = logits.masked_fill(masked, 0) / self.scale
            for index, beta in enumerate(betas):
                sums[index] += self._sums(unit, masked, label, beta)
        return [_Derivatives(*row) for row in (sums / len(self._rows)).tolist()]

    def sample(self) -> _Likelihood | None:
        """The same of rows evenly spaced, where there are so many that a scan of them all would take long."""
        step = -(-math.prod(self._rows.shape) // _SCAN_ELEMENTS)
        if step == 1:
            return None
        count, width = self._rows.shape
        taken = torch.empty(-(-count // step), width, dtype=torch.float64, device=self._rows.device)
        # Copied: a view would keep the whole chunk.
        for where, chunk in self._rows.chunks():
            taken[-(-where.start // step) : -(-where.stop // step)] = chunk[-where.start % step :: step]
        return _Likelihood(
            Rows(taken, "logits", allow_infinite=True), self._labels[::step], self._is_sigmoid, self.scale
        )

    def _sums(self, unit: Tensor, masked: Tensor, label: Tensor, beta: float) -> Tensor:
        """Loss, slope and curvature of a piece, ``[3]``.

        p is proportional to exp(a). Of a and its derivatives by β those of the label are subtracted, so that nothing
        large cancels.
        """
        scaled = beta * unit
        logarithm, first, second = scaled, unit, None
        if self._is_sigmoid:
            logarithm, rest = F.logsigmoid(scaled), torch.sigmoid(-scaled)
            first, second = unit * rest, -unit.square() * rest * torch.sigmoid(scaled)
        logarithm = (logarithm - logarithm.gather(1, label)).masked_fill(masked, -math.inf)
        first = first - first.gather(1, label)
        loss = logarithm.logsumexp(dim=1)
        p = (logarithm - loss.unsqueeze(1)).exp()
        slope = (p * first).sum(dim=1)
        curvature = (p * (first - slope.unsqueeze(1)).square()).sum(dim=1)
        if second is not None:
            curvature = curvature + (p * (second - second.gather(1, label))).sum(dim=1)
        return torch.stack([loss.sum(), slope.sum(), curvature.sum()])


def _pieces(rows: Rows, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels ``[B, 1]``, few rows at a time."""
    step = max(1, _PIECE_ELEMENTS // rows.shape[1])
    for where, chunk in logit_chunks(rows):
        label = labels[where].to(rows.device).unsqueeze(1)
        for start in range(0, len(chunk), step):
            yield chunk[start : start + step], label[start : start + step]


def _search_softmax(likelihood: _Likelihood, survey: _Survey) -> _Minimum:
    """Convex: the derivative's sign at both ends says where the minimum is."""
    if survey.is_separable:
        return _Minimum(math.inf, survey.cold)
    if not likelihood.falls_from_hot:
        return _Minimum(0.0, likelihood.hot.loss)
    return _refine(likelihood, 0.0, math.inf)


def _search_sigmoid(likelihood: _Likelihood, survey: _Survey) -> _Minimum:
    """Not always convex: the lowest of all minima that a scan finds, and of the limits."""
    limit = _Minimum(math.inf, survey.cold)
    if not likelihood.falls_from_hot and likelihood.hot.loss <= survey.cold:
        limit = _Minimum(0.0, likelihood.hot.loss)
    # Rounding leaves minima on a plateau that ends in the limit: only what is lower counts.
    threshold = limit.loss - 1e-14 * max(1.0, limit.loss if math.isfinite(limit.loss) else 0.0)
    minima = [_refine(likelihood, low, high) for low, high in _brackets(likelihood)]
    return min([limit, *(best for best in minima if best.loss < threshold)], key=lambda best: best.loss)


def _brackets(likelihood: _Likelihood) -> list[tuple[float, float]]:
    """Pairs of β between which the derivative goes from negative to positive, of points that lie densely."""
    sample = likelihood.sample()
    if sample is not None and (brackets := _brackets(sample)):
        ends = likelihood.at_all([beta for bracket in brackets for beta in bracket])
        # Else the sample was too small to tell.
        if all(left.slope < 0 <= right.slope for left, right in zip(ends[::2], ends[1::2])):
            return brackets
    betas, found = [0.0, *_SCAN], [likelihood.hot, *likelihood.at_all(_SCAN)]
    while found[-1].slope < 0 and betas[-1] < 1e15:
        betas.append(10 * betas[-1])
        found.append(likelihood.at(betas[-1]))
    return [(low, high) for (low, left), (high, right) in pairwise(zip(betas, found)) if left.slope < 0 <= right.slope]


def _refine(likelihood: _Likelihood, low: float, high: float) -> _Minimum:
    """Find where the slope is zero, between a β where it is negative and one where it is not.

    Args:
        likelihood: what to minimise.
        low: may be 0.
        high: may be infinite.
    """
    # T = 1 where it can be: the logits mean something there.
    beta = likelihood.scale if low < likelihood.scale < high else _between(low, high)
    last, steps, converged = math.inf, 0, False
    here = likelihood.at(beta)
    while not converged and steps < _MAX_STEPS:
        low, high = (beta, high) if here.slope < 0 else (low, beta)
        newton = -here.slope / here.curvature if here.curvature > 0 else math.nan
        # A step of Newton's must stay in the bracket and be half the one before at most, else bisection is surer.
        # NaN fails every comparison.
        inside = max(low, beta / 10) <= beta + newton <= min(high, beta * 10)
        new = beta + newton if inside and abs(newton) <= last / 2 else _between(low, high)
        last = abs(new - beta)
        beta, steps = new, steps + 1
        here = likelihood.at(beta)
        converged = last <= TOLERANCE * beta and abs(here.slope) * beta <= TOLERANCE
    # d/d log T = -β d/dβ.
    return _Minimum(beta, here.loss, -beta * here.slope, steps, converged)


def _between(low: float, high: float) -> float:
    """Halve a bracket in the logarithm; where an end is missing, go a decade towards it."""
    if high == math.inf:
        return 10 * low
    return math.sqrt(low) * math.sqrt(high) if low else high / 10
