"""Do two columns put the same rows in the same order? No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

from logitlab.config.errors import InputError

#: Up to so many rows every order is counted: a fifth of a second. T Table 2 has eleven.
MOST_EXACT: Final = 11

_FEWEST: Final = 3


@dataclass(frozen=True)
class RankCorrelation:
    """How far two columns agree in the order of their rows.

    Attributes:
        rho: Spearman's ρ, in [-1, 1]; None where it is undefined.
        tau: Kendall's τ-b, in [-1, 1]; None where it is undefined.
        p: two-sided, of ρ; None where it is undefined.
        n: rows that both columns have a value for.
        exact: p counts every order of the rows; an approximation by Student's t otherwise.
        reason: why it is undefined, in a sentence; empty where it is not.
    """

    rho: float | None
    tau: float | None
    p: float | None
    n: int
    exact: bool = True
    reason: str = ""

    def __str__(self) -> str:
        if self.rho is None or self.tau is None or self.p is None:
            return f"undefined: {self.reason}"
        how = "exact permutation test" if self.exact else "t approximation"
        return f"ρ = {self.rho:+.2f}, {write_p(self.p)} ({how}, n = {self.n} rows); τ = {self.tau:+.2f}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return asdict(self)


def rank_correlation(first: Iterable[float | None], second: Iterable[float | None]) -> RankCorrelation:
    r"""Correlate the ranks of two columns, equal values sharing the mean of their ranks.

    .. math:: \rho = \frac{\sum_i (r_i - \bar r)(s_i - \bar s)}
        {\sqrt{\sum_i (r_i - \bar r)^2 \sum_i (s_i - \bar s)^2}}, \qquad
        \tau_b = \frac{C - D}{\sqrt{(P - T_r)(P - T_s)}}

    with C pairs in the same order, D in opposite orders, P pairs in all and T tied in one column. Up to
    ``MOST_EXACT`` rows p is the share of all n! orders whose \|ρ\| is at least as large, ties as they are; above, that
    of :math:`t = \rho \sqrt{(n - 2) / (1 - \rho^2)}` with n - 2 degrees of freedom. Three rows have p ≥ 1/3 and four
    p ≥ 1/12, however well they agree.

    Args:
        first: one value a row; None and NaN leave the row out.
        second: of the same rows, in the same order.

    Raises:
        InputError: lengths that differ, or an infinite value.

    References:
        Spearman, "The proof and measurement of association between two things", 1904; Kendall, "The treatment of
        ties in ranking problems", 1945.

    >>> print(rank_correlation([76.0, 76.7, 77.0, 77.1, 77.2], [0.90, 0.91, 0.93, 0.92, 0.94]))
    ρ = +0.90, p = 0.083 (exact permutation test, n = 5 rows); τ = +0.80
    >>> print(rank_correlation([1, 2, 3], [5, 5, 5]))
    undefined: all values of the second column are equal.
    """
    pairs = _pairs(list(first), list(second))
    count = len(pairs)
    if count < _FEWEST:
        rows = {0: "no row has", 1: "one row alone has", 2: "only two rows have"}[count]
        return RankCorrelation(None, None, None, count, reason=f"{rows} a value in both columns; it takes three.")
    columns = tuple(zip(*pairs))
    for name, column in zip(("first", "second"), columns):
        if len(set(column)) == 1:
            return RankCorrelation(None, None, None, count, reason=f"all values of the {name} column are equal.")
    ranks, others = tuple(double_ranks(columns[0])), tuple(double_ranks(columns[1]))
    rho = _centred(ranks, others) / math.sqrt(_centred(ranks, ranks) * _centred(others, others))
    exact = count <= MOST_EXACT
    p = _exact_p(ranks, others) if exact else _approximate_p(rho, ranks)
    return RankCorrelation(rho, _tau(ranks, others), p, count, exact)


def least_p(count: int) -> float:
    """The smallest p that rows without ties can reach, in perfect order.

    Args:
        count: of rows, at least 1.

    >>> [round(least_p(count), 4) for count in (3, 4, 5)]
    [0.3333, 0.0833, 0.0167]
    """
    return min(1.0, 2 / math.factorial(count))


def write_p(p: float) -> str:
    """Write a p with two digits; what is very small is said to be so.

    >>> write_p(0.04213), write_p(3e-7)
    ('p = 0.042', 'p < 0.0001')
    """
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def double_ranks(values: Sequence[float]) -> list[int]:
    """Return twice the rank of each value, from 2; ties share a mean rank, which doubled is whole.

    >>> double_ranks([0.5, 0.1, 0.5])
    [5, 2, 5]
    """
    rounded = [_rounded(value) for value in values]
    first = {value: place for place, value in reversed(list(enumerate(sorted(rounded), start=1)))}
    counts = Counter(rounded)
    return [2 * first[value] + counts[value] - 1 for value in rounded]


def _pairs(first: list[float | None], second: list[float | None]) -> list[tuple[float, float]]:
    if len(first) != len(second):
        raise InputError(f"Expected two columns of the same rows. Got {len(first)} and {len(second)} values.")
    kept = [
        (_rounded(one), _rounded(other))
        for one, other in zip(first, second)
        if one is not None and other is not None and not (math.isnan(one) or math.isnan(other))
    ]
    if any(math.isinf(value) for pair in kept for value in pair):
        raise InputError("Expected finite values. Got an infinite one; leave it out or write None for it.")
    return kept


def _rounded(value: float) -> float:
    """Drop the last digits: means of the same seeds in another order differ in them, and are equal."""
    return float(f"{float(value):.12g}")


def _centred(ranks: Sequence[int], others: Sequence[int]) -> int:
    """Return n Σ r s - Σ r Σ s: whole, so that orders that agree equally well compare as equal."""
    return len(ranks) * sum(one * other for one, other in zip(ranks, others)) - sum(ranks) * sum(others)


@lru_cache(maxsize=64)
def _exact_p(ranks: tuple[int, ...], others: tuple[int, ...]) -> float:
    """Share of all orders of the second column that agree or disagree at least as much."""
    count, product = len(ranks), sum(ranks) * sum(others)
    # Which places of the second column are used → Σ r s so far → in how many ways.
    ways: dict[int, Counter[int]] = {0: Counter({0: 1})}
    for rank in ranks:
        following: dict[int, Counter[int]] = {}
        for used, sums in ways.items():
            for place, other in enumerate(others):
                if not used >> place & 1:
                    target = following.setdefault(used | 1 << place, Counter())
                    for total, number in sums.items():
                        target[total + rank * other] += number
        ways = following
    measured = abs(_centred(ranks, others))
    (sums,) = ways.values()
    as_extreme = sum(number for total, number in sums.items() if abs(count * total - product) >= measured)
    return as_extreme / math.factorial(count)


def _approximate_p(rho: float, ranks: Sequence[int]) -> float:
    from scipy.stats import t as student

    if 1 - abs(rho) < 1e-12:
        # Student's t would answer 0. This many orders, or at most twice as many, are perfect.
        ties = math.prod(math.factorial(number) for number in Counter(ranks).values())
        return min(1.0, 2 * ties / math.factorial(len(ranks)))
    freedom = len(ranks) - 2
    return float(2 * student.sf(abs(rho) * math.sqrt(freedom / (1 - rho**2)), freedom))


def _tau(ranks: Sequence[int], others: Sequence[int]) -> float:
    pairs = [(one, two) for one in range(len(ranks)) for two in range(one)]
    first = [_sign(ranks[one] - ranks[two]) for one, two in pairs]
    second = [_sign(others[one] - others[two]) for one, two in pairs]
    agreement = sum(one * two for one, two in zip(first, second))
    return agreement / math.sqrt(sum(map(abs, first)) * sum(map(abs, second)))


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
