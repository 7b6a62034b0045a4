"""Is one measure larger than another of the same models: a case that holds, one that does not, what leaves it open."""

import math

import pytest
from scipy.stats import ttest_rel

from logitlab.statistics.verdicts import DOES_NOT, HOLDS, NOT_DECIDED, Group, decide_exceeds

INSIDE = [Group("a", {0: 0.90, 1: 0.92, 2: 0.91}), Group("b", {0: 0.93, 1: 0.90, 2: 0.95})]
OUTSIDE = [Group("a", {0: 0.80, 1: 0.83, 2: 0.81}), Group("b", {0: 0.81, 1: 0.82, 2: 0.82})]


def test_one_test_over_the_models_of_all_rows():
    found = decide_exceeds(list(zip(INSIDE, OUTSIDE)), ("inside", "outside"), factor=100, decimals=1)
    assert found.verdict == HOLDS
    values = [[value for row in rows for value in row.values.values()] for rows in (INSIDE, OUTSIDE)]
    assert found.p == pytest.approx(ttest_rel(*values).pvalue, rel=1e-9)
    assert found.numbers == {"difference": pytest.approx(0.62 / 6), "models": 6}
    assert found.evidence.startswith("inside minus outside: +10.3 ± 0.8 (p < 0.0001")
    assert "n = 6 models" in found.evidence


def test_the_other_direction_does_not_hold():
    assert decide_exceeds(list(zip(OUTSIDE, INSIDE)), ("o", "i")).verdict == DOES_NOT


def test_rows_may_have_one_model_each():
    pairs = [(Group(name, {0: high}), Group(name, {0: low})) for name, high, low in (("a", 0.9, 0.5), ("b", 0.8, 0.41))]
    found = decide_exceeds(pairs, ("first", "last"))
    assert (found.verdict, found.numbers["models"]) == (HOLDS, 2)


@pytest.mark.parametrize("nothing", [{0: None, 1: None, 2: None}, {0: math.nan, 1: math.nan, 2: math.nan}, {}])
def test_a_row_that_one_measure_is_undefined_for_is_left_out_and_named(nothing):
    found = decide_exceeds([*zip(INSIDE, OUTSIDE), (INSIDE[0], Group("c", nothing))], ("inside", "outside"))
    assert (found.verdict, found.numbers["models"]) == (HOLDS, 6)
    assert found.evidence.endswith("Left out, for the two are not defined for any model: a.")
    alone = decide_exceeds([(Group("c", nothing), Group("c", nothing))], ("inside", "outside"))
    assert (alone.verdict, alone.evidence) == (NOT_DECIDED, "Not decided, because there is nothing to compare.")


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([(Group("a", {0: 0.9}), Group("a", {0: 0.5}))], "there is one model, and one decides nothing"),
        ([], "there is nothing to compare"),
        ([(Group("a", {0: 0.9, 1: 0.8}), Group("a", {0: 0.5, 1: math.nan}))], "a: the measure is undefined for seed 1"),
        ([(INSIDE[0], Group("a", OUTSIDE[0].values, "seed 3 has no result yet"))], "a: seed 3 has no result yet"),
        ([(INSIDE[0], Group("a", {0: 0.9, 1: 0.93, 2: 0.9}))], "p is above 0.05"),
        ([(Group("a", {0: 0.9, 1: 0.8}), Group("a", {0: 0.4, 1: 0.3}))], "all models differ by exactly the same"),
    ],
)
def test_what_leaves_it_open(pairs, why):
    found = decide_exceeds(pairs, ("x", "y"))
    assert found.verdict == NOT_DECIDED
    assert why in found.evidence
