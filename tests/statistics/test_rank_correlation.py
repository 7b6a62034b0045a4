"""Rank correlations against SciPy, and against every order counted by hand."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from logitlab.config.errors import InputError
from logitlab.statistics import rank_correlation as module
from logitlab.statistics.rank_correlation import MOST_EXACT, double_ranks, least_p, rank_correlation, write_p

CASES = [
    ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]),
    ([1, 2, 2, 4, 5], [5, 3, 3, 1, 0]),
    ([0.5, 0.1, 0.9, 0.7], [0.1, 0.5, 0.7, 0.9]),
    ([1, 1, 2, 2, 3, 3], [3, 1, 2, 2, 1, 1]),
    ([1, 2, 3], [1, 2, 3]),
]


@pytest.mark.parametrize(("first", "second"), CASES)
def test_rho_tau_and_exact_p_are_those_of_scipy(first, second):
    found = rank_correlation(first, second)
    # SciPy's own "two-sided" doubles the smaller tail, which is the same where no column has ties.
    oracle = stats.permutation_test(
        (first,),
        lambda column: abs(stats.spearmanr(column, second).statistic),
        permutation_type="pairings",
        n_resamples=math.inf,
        alternative="greater",
    )
    assert found.rho == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.tau == pytest.approx(stats.kendalltau(first, second).statistic)
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.n, found.exact) == (len(first), True)


def test_four_rows_by_hand():
    """Σd² is 0 in one of the 24 orders, 2 in three of them, 18 in three and 20 in one; ρ = 1 - Σd²/10."""
    counts = {}
    for order in itertools.permutations(range(4)):
        squares = sum((place - rank) ** 2 for place, rank in enumerate(order))
        counts[squares] = counts.get(squares, 0) + 1
    assert (counts[0], counts[2], counts[18], counts[20]) == (1, 3, 3, 1)
    perfect = rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])
    assert (perfect.rho, perfect.tau, perfect.p) == (1, 1, pytest.approx(2 / 24))
    swapped = rank_correlation([1, 2, 3, 4], [10, 30, 20, 40])
    assert (swapped.rho, swapped.p) == (pytest.approx(0.8), pytest.approx(8 / 24))
    assert swapped.tau == pytest.approx(4 / 6)
    turned = rank_correlation([1, 2, 3, 4], [40, 30, 20, 10])
    assert (turned.rho, turned.p) == (-1, pytest.approx(2 / 24))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=6))
def test_any_rows_with_ties(pairs):
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found.rho is None
        return
    orders = [stats.spearmanr(first, order).statistic for order in itertools.permutations(second)]
    rho = stats.spearmanr(first, second).statistic
    share = sum(abs(each) >= abs(rho) - 1e-9 for each in orders) / len(orders)
    assert (found.rho, found.p) == (pytest.approx(rho), pytest.approx(share))
    assert found.tau == pytest.approx(stats.kendalltau(first, second).statistic)


def test_many_rows_take_the_t_approximation():
    first = list(range(MOST_EXACT + 1))
    second = [place ^ 1 for place in first]
    found, oracle = rank_correlation(first, second), stats.spearmanr(first, second)
    assert not found.exact
    assert (found.rho, found.p) == (pytest.approx(oracle.statistic), pytest.approx(oracle.pvalue))
    assert "t approximation" in str(found)


def test_a_perfect_order_of_many_rows_is_not_certain():
    rows = list(range(MOST_EXACT + 1))
    assert rank_correlation(rows, rows).p == pytest.approx(2 / math.factorial(len(rows)))
    tied = [0, 0, *rows[2:]]
    assert rank_correlation(tied, tied).p == pytest.approx(4 / math.factorial(len(rows)))


def test_the_most_rows_that_are_counted_agree_with_the_approximation(monkeypatch):
    first = list(range(MOST_EXACT))
    second = [place ^ 3 if place < 8 else place for place in first]
    exact = rank_correlation(first, second)
    monkeypatch.setattr(module, "MOST_EXACT", 3)
    assert exact.p == pytest.approx(rank_correlation(first, second).p, abs=0.01)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([], [], "no row has a value in both columns"),
        ([1, 2, None], [1, None, 3], "one row alone has a value"),
        ([1, 2, math.nan], [1, 2, 3], "only two rows have a value"),
        ([1, 1, 1], [1, 2, 3], "all values of the first column are equal"),
        ([1, 2, 3], [7, 7, 7], "all values of the second column are equal"),
    ],
)
def test_what_is_undefined_is_said_in_words(first, second, reason):
    found = rank_correlation(first, second)
    assert (found.rho, found.tau, found.p) == (None, None, None)
    assert reason in found.reason
    assert str(found).startswith("undefined: ")


def test_rows_without_a_value_are_left_out():
    found = rank_correlation([1, None, 2, 3, 4], [5, 0, 6, math.nan, 8])
    assert (found.n, found.rho) == (3, 1)


def test_values_that_differ_by_rounding_alone_are_equal():
    assert rank_correlation([0.1 + 0.2, 0.3, 0.4], [1, 1, 2]).rho == 1


def test_input_that_is_none():
    with pytest.raises(InputError, match="two columns of the same rows. Got 2 and 1"):
        rank_correlation([1, 2], [1])
    with pytest.raises(InputError, match="finite"):
        rank_correlation([1, 2, 3], [1, 2, math.inf])


def test_small_parts():
    assert double_ranks([3.0, 1.0, 3.0, 2.0]) == [7, 2, 7, 4]
    assert [round(least_p(count), 3) for count in (1, 2, 4)] == [1, 1, 0.083]
    assert write_p(0.0001) == "p = 0.0001"
    assert write_p(9e-5) == "p < 0.0001"
    assert set(rank_correlation([1, 2, 3], [3, 2, 1]).to_json()) == {"rho", "tau", "p", "n", "exact", "reason"}
