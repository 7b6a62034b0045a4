"""Which groups are not shown to be worse than the best one: the bold face of W's tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from logitlab.config.errors import ParameterError

from .summary import present

Test = Literal["pooled", "welch"]
Correction = Literal["holm"]


@dataclass(frozen=True)
class BestComparison:
    """Every group against the one with the best mean.

    Attributes:
        best: name of the group with the best mean (the first of equal ones); None when no group has a value.
        p_values: two-sided p a group, corrected if asked for; 1 for the best itself. None where no group
            gives an estimate of the noise (too few values, or none that differ).
        not_worse: groups that are not shown to be worse: the best, and those with p above the level. Empty
            when nothing was tested.
        tested: the groups were tested against the best.
    """

    best: str | None
    p_values: dict[str, float | None]
    not_worse: frozenset[str]
    tested: bool

    @property
    def all_alike(self) -> bool:
        """Tests were made, and not one of them shows a group to be worse than the best."""
        return self.tested and len(self.not_worse) == len(self.p_values)


def compare_to_best(
    groups: Mapping[str, Iterable[float | None]],
    *,
    higher_is_better: bool = True,
    test: Test = "pooled",
    correction: Correction | None = None,
    level: float = 0.05,
) -> BestComparison:
    r"""Test each group against the one with the best mean.

    Student's two-sample t-test with a pooled variance,

    .. math:: t = \frac{\bar a - \bar b}{s \sqrt{1/n_a + 1/n_b}}, \qquad
        s^2 = \frac{\sum (a_i - \bar a)^2 + \sum (b_i - \bar b)^2}{n_a + n_b - 2}

    or Welch's, which lets the variances differ. Where two groups alone give no estimate of the noise (seeds that
    agree exactly, one seed each), s² is pooled over all groups instead, with Σ (n - 1) degrees of freedom, as in
    the analysis of variance. W says "p > 0.05, t-test" and no more; pooled and uncorrected
    is its plainest reading, hence the default. The best of many is chosen by looking, so uncorrected tests
    against it call somewhat more groups worse than ``level`` promises; ``correction="holm"`` (Holm 1979)
    bounds the chance of even one such error among the tests.

    Args:
        groups: name → one value a seed. None and NaN are left out, and so is a group without values.
        higher_is_better: which end is best.
        test: ``"pooled"`` or ``"welch"``.
        correction: None or ``"holm"``.
        level: a group is worse when its p is at most this; in (0, 1).

    Raises:
        ParameterError: an option outside its range.
        InputError: a value is infinite.

    References:
        W Tables 1 and B.1 (captions).

    >>> found = compare_to_best({"a": [0.90, 0.91, 0.92], "b": [0.91, 0.92, 0.92], "c": [0.5, 0.51, 0.52]})
    >>> found.best, sorted(found.not_worse), found.tested
    ('b', ['a', 'b'], True)
    >>> compare_to_best({"a": [0.9], "b": [0.8]}).tested  # one seed shows nothing
    False
    """
    _check(test, correction, level)
    values = {name: kept for name, group in groups.items() if (kept := present(group))}
    if not values:
        return BestComparison(None, {}, frozenset(), tested=False)
    means = {name: statistics.fmean(kept) for name, kept in values.items()}
    best = (max if higher_is_better else min)(means, key=means.__getitem__)
    everywhere = _Noise.of(values.values())
    p_values: dict[str, float | None] = {
        name: 1.0 if name == best else _p_value(values[best], kept, test, everywhere) for name, kept in values.items()
    }
    known = {name: p for name, p in p_values.items() if name != best and p is not None}
    if correction == "holm":
        p_values.update(zip(known, holm(list(known.values()))))
    not_worse = frozenset(name for name, p in p_values.items() if p is None or p > level)
    return BestComparison(best, p_values, not_worse if known else frozenset(), tested=bool(known))


def holm(p_values: Iterable[float]) -> list[float]:
    r"""Adjust p-values by Holm's step-down rule, order kept.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min\bigl(1, (m - j + 1)\, p_{(j)}\bigr)

    Args:
        p_values: m values in [0, 1].

    References:
        S. Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    plain = list(p_values)
    adjusted = [0.0] * len(plain)
    largest = 0.0
    for step, index in enumerate(sorted(range(len(plain)), key=plain.__getitem__)):
        largest = max(largest, min(1.0, (len(plain) - step) * plain[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class _Noise:
    """Standard deviation within groups, pooled over all of them, and its degrees of freedom."""

    deviation: float
    freedom: int

    @classmethod
    def of(cls, groups: Iterable[list[float]]) -> _Noise:
        kept = [group for group in groups if len(group) > 1]
        freedom = sum(len(group) - 1 for group in kept)
        squares = math.fsum(statistics.variance(group) * (len(group) - 1) for group in kept)
        return cls(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


def _p_value(first: list[float], second: list[float], test: Test, everywhere: _Noise) -> float | None:
    """Two-sided p of the t-test; None where it is undefined."""
    from scipy.stats import t as student
    from scipy.stats import ttest_ind_from_stats

    means = [statistics.fmean(group) for group in (first, second)]
    deviations = [statistics.stdev(group) if len(group) > 1 else 0.0 for group in (first, second)]
    enough = min(len(first), len(second)) > 1 or (test == "pooled" and len(first) + len(second) > 2)
    if enough and any(deviations):
        # From summaries, so that a group of one seed is tested too: the other group's variance is pooled in.
        result = ttest_ind_from_stats(
            means[0], deviations[0], len(first), means[1], deviations[1], len(second), equal_var=test == "pooled"
        )
        return float(result.pvalue)
    # Seeds that agree exactly (a small test set makes that likely) say nothing about the noise. SciPy would
    # answer p = 0 for unequal means: a certainty that two equal accuracies do not carry.
    if everywhere.deviation == 0:
        return 1.0 if enough and means[0] == means[1] else None
    error = everywhere.deviation * math.sqrt(1 / len(first) + 1 / len(second))
    return float(2 * student.sf(abs(means[0] - means[1]) / error, everywhere.freedom))


def _check(test: str, correction: str | None, level: float) -> None:
    faults = []
    if test not in ("pooled", "welch"):
        faults.append(f"'test' must be 'pooled' or 'welch'. Got {test!r}.")
    if correction not in (None, "holm"):
        faults.append(f"'correction' must be None or 'holm'. Got {correction!r}.")
    if not (math.isfinite(level) and 0 < level < 1):
        faults.append(f"'level' must be a number in the range (0, 1). Got {level!r}.")
    if faults:
        raise ParameterError(faults)
