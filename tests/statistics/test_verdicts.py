"""Every rule: a case that holds, one that does not, and all that leaves it open."""

import math

import pytest

from logitlab.statistics import paired_difference
from logitlab.statistics.verdicts import (
    DOES_NOT,
    HOLDS,
    NOT_DECIDED,
    Contest,
    Decision,
    Group,
    decide_best_among,
    decide_difference,
    decide_differences,
    decide_everywhere,
    decide_same_order,
    decide_trend,
)

NOISE = (0.0, 0.002, -0.001, 0.001)


def group(label, mean, *, seeds=3, wobble=1.0, lacking=None):
    return Group(label, {seed: mean + wobble * NOISE[seed] for seed in range(seeds)}, lacking)


BASE = Group("base", {0: 0.800, 1: 0.801, 2: 0.803})


def test_every_row_above():
    rows = [group("a", 0.9), group("b", 0.85)]
    found = decide_difference(rows, BASE, factor=100, decimals=2)
    assert found.verdict == HOLDS
    difference = paired_difference(rows[0].values, BASE.values)
    assert found.numbers["a - base"] == difference.mean
    assert f"a minus base: {100 * difference.mean:+.2f} ± {100 * difference.error:.2f}" in found.evidence
    assert "n = 3 seeds" in found.evidence
    assert "Holm-corrected over 2 rows" in found.evidence
    # Both must be significant, so the larger p decides; Holm doubles the smaller one at most.
    assert found.p >= max(paired_difference(row.values, BASE.values).p for row in rows)


def test_one_row_below_is_enough_for_above_not_to_hold():
    found = decide_difference([group("a", 0.9), group("b", 0.7), group("c", 0.801)], BASE)
    assert found.verdict == DOES_NOT
    assert decide_difference([group("a", 0.9)], BASE, above=False).verdict == DOES_NOT
    assert decide_difference([group("b", 0.7)], BASE, above=False).verdict == HOLDS


def test_a_difference_within_the_noise_is_open():
    found = decide_difference([group("a", 0.9), group("b", 0.8015)], BASE)
    assert found.verdict == NOT_DECIDED
    assert "because p is above 0.05 for b." in found.evidence


def test_holm_makes_it_harder_with_more_rows():
    weak = Group("weak", {0: 0.81, 1: 0.83, 2: 0.825})
    alone = decide_difference([weak], BASE, level=0.08)
    p = paired_difference(weak.values, BASE.values).p
    assert 0.03 < p < 0.08
    assert (alone.verdict, alone.p) == (HOLDS, p)
    many = decide_difference([weak, Group("other", dict(weak.values)), group("third", 0.802)], BASE, level=0.08)
    assert many.verdict == NOT_DECIDED
    # A row that cannot be tested counts as well, so that nothing is won by its absence.
    assert decide_difference([weak, Group("gone", {}, "failed"), Group("too", {}, "failed")], BASE, level=0.08).p > p


def test_one_seed_decides_nothing():
    single = Group("a", {0: 0.99})
    assert "a: one seed, and one seed decides nothing" in decide_difference([single], BASE).evidence
    assert decide_difference([single], BASE).verdict == NOT_DECIDED
    found = decide_difference([group("a", 0.9)], Group("base", {0: 0.1}))
    assert (found.verdict, found.p) == (NOT_DECIDED, None)
    trend = decide_trend([(place, Group(str(place), {0: place})) for place in range(6)])
    assert trend.verdict == NOT_DECIDED
    assert "one seed decides nothing" in trend.evidence
    best = decide_best_among([Group("a", {0: 0.9}), group("b", 0.1), group("c", 0.2)], ["a"])
    assert (best.verdict, "one seed" in best.evidence) == (NOT_DECIDED, True)
    order = decide_same_order([(Group(str(place), {0: place}), place) for place in range(6)])
    assert order.verdict == NOT_DECIDED
    assert "one seed decides nothing" in order.evidence


def test_a_row_that_lacks_leaves_it_open_unless_another_decides():
    failed = Group("b", {}, "seed 0 failed (no memory)")
    found = decide_difference([group("a", 0.9), failed], BASE)
    assert found.verdict == NOT_DECIDED
    assert "Not decided, because b: seed 0 failed (no memory)." in found.evidence
    assert decide_difference([group("a", 0.7), failed], BASE).verdict == DOES_NOT
    # Part of the seeds are no result: which of them are there may depend on what they measured.
    part = group("a", 0.9, lacking="seed 3 has no result yet")
    assert decide_difference([part], BASE).verdict == NOT_DECIDED


def test_measures_that_are_undefined():
    undefined = Group("a", {0: None, 1: math.nan, 2: None})
    assert "a: the measure is undefined" in decide_difference([undefined], BASE).evidence
    apart = Group("a", {0: 0.9, 1: 0.9})
    other = Group("b", {1: 0.5, 2: 0.5})
    assert "fewer than two seeds in common" in decide_difference([apart], other).evidence
    alike = decide_difference([Group("a", {0: 0.6, 1: 0.7})], Group("b", {0: 0.5, 1: 0.6}))
    assert (alike.verdict, "all seeds differ by exactly the same" in alike.evidence) == (NOT_DECIDED, True)
    trend = decide_trend([(place, group(str(place), place)) for place in range(4)] + [(5, undefined)])
    assert (trend.verdict, "the measure is undefined" in trend.evidence) == (NOT_DECIDED, True)


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_measure_that_is_undefined_for_some_seeds_decides_nothing(nothing):
    part = Group("a", {0: 0.900, 1: 0.9021, 2: nothing})
    said = "a: the measure is undefined for seed 2"
    whole = Group("base", {0: 0.800, 1: 0.802, 2: 0.803})
    # On the two seeds that are left the difference is significant.
    assert decide_difference([Group("a", {0: 0.900, 1: 0.9021})], whole).verdict == HOLDS
    for found in (
        decide_difference([part], whole),
        decide_difference([whole], part, above=False),
        decide_trend([*rising(5), (9.0, part)]),
        decide_best_among([part, whole], ["a"]),
        decide_same_order([*((each, place) for place, each in rising(5)), (part, 9.0)]),
    ):
        assert found.verdict == NOT_DECIDED
        assert said in found.evidence
    several = Group("a", {0: nothing, 1: 0.9, 2: nothing})
    assert "a: the measure is undefined for seeds 0, 2" in decide_difference([several], whole).evidence


def test_nothing_to_compare():
    assert decide_difference([], BASE).evidence == "Not decided, because there is nothing to compare."


def test_each_setting_has_its_own_row_to_compare_with():
    low, high = group("low", 0.3), Group("high", {0: 0.800, 1: 0.801, 2: 0.803})
    contests = [Contest(low, [group("a", 0.4)], "faces"), Contest(high, [group("b", 0.9)], "digits")]
    found = decide_differences(contests, factor=100, decimals=1)
    assert (found.verdict, set(found.numbers)) == (NOT_DECIDED, {"a - low", "b - high"})
    assert "a and low: all seeds differ by exactly the same" in found.evidence
    contests[0] = Contest(low, [Group("a", {0: 0.4, 1: 0.405, 2: 0.401})], "faces")
    found = decide_differences(contests, factor=100, decimals=1)
    assert found.verdict == HOLDS
    assert found.evidence.startswith("faces: a minus low: +10.2 ± ")
    assert "digits: b minus high: +9.9 ± " in found.evidence
    assert found.evidence.endswith("Holm-corrected over 2 comparisons.")
    alone = decide_differences(contests[:1])
    assert found.p >= alone.p
    contests[1] = Contest(high, [group("b", 0.6)], "digits")
    assert decide_differences(contests).verdict == DOES_NOT


def test_what_is_claimed_of_several_settings():
    holds, turned, open_ = (
        Decision(HOLDS, "A.", {"rho": 1.0}, 0.02),
        Decision(DOES_NOT, "B.", {"rho": -1.0}, 0.04),
        (Decision(NOT_DECIDED, "C.", {}, None)),
    )
    both = decide_everywhere([("x", holds), ("y", Decision(HOLDS, "D.", {}, 0.03))])
    assert (both.verdict, both.p) == (HOLDS, 0.03)
    against = decide_everywhere([("x", holds), ("y", turned), ("z", open_)])
    assert (against.verdict, against.p) == (DOES_NOT, 0.04)
    assert against.numbers == {"x: rho": 1.0, "y: rho": -1.0}
    assert against.evidence == "x (holds): A. y (does not): B. z (not decided at this scale): C."
    undecided = decide_everywhere([("x", holds), ("z", open_)])
    assert (undecided.verdict, undecided.p) == (NOT_DECIDED, 0.02)
    assert decide_everywhere([("", holds)]) == holds
    assert decide_everywhere([("x", holds)]).evidence == "x: A."


def rising(count, sign=1):
    return [(float(place), group(f"row {place}", 0.5 + sign * 0.1 * place)) for place in range(count)]


def test_trends():
    found = decide_trend(rising(5), along="κ", factor=100, decimals=0)
    assert (found.verdict, found.numbers["rho"], found.p) == (HOLDS, 1, pytest.approx(2 / 120))
    assert "Means along κ: 50 at 0, 60 at 1" in found.evidence
    assert "ρ = +1.00, p = 0.017 (exact permutation test, n = 5 rows)" in found.evidence
    assert decide_trend(rising(5, -1)).verdict == DOES_NOT
    assert decide_trend(rising(5, -1), rising=False).verdict == HOLDS
    assert decide_trend(rising(5), rising=False).verdict == DOES_NOT
    # The order of the list is not the order on the axis.
    assert decide_trend(rising(5)[::-1]).verdict == HOLDS


def test_trends_that_are_open():
    four = decide_trend(rising(4))
    assert four.verdict == NOT_DECIDED
    assert "4 rows in perfect order have p = 0.083" in four.evidence
    mixed = [(place, group(str(place), mean)) for place, mean in enumerate((0.1, 0.5, 0.2, 0.6, 0.3, 0.4))]
    assert "p is above 0.05" in decide_trend(mixed).evidence
    flat = decide_trend([(place, group(str(place), 0.5)) for place in range(5)])
    assert (flat.verdict, "ρ is undefined: all values of the second column are equal" in flat.evidence) == (
        NOT_DECIDED,
        True,
    )
    lacking = decide_trend([*rising(5), (9.0, Group("last", {}, "waits: nothing is known"))])
    assert lacking.verdict == NOT_DECIDED
    assert "last: waits: nothing is known" in lacking.evidence
    assert decide_trend([]).verdict == NOT_DECIDED


def test_best_among():
    groups = [group("a", 0.9), group("b", 0.9005), group("c", 0.5), group("d", 0.4)]
    held = decide_best_among(groups, ["a", "b"], factor=100, decimals=1)
    assert held.verdict == HOLDS
    assert held.evidence.startswith("Best: b, 90.1 ± ")
    assert "Significantly worse: c (p < 0.0001), d (p < 0.0001)." in held.evidence
    assert "Without significant difference from it: a (p = " in held.evidence
    assert decide_best_among(groups, ["c", "d"]).verdict == DOES_NOT
    open_ = decide_best_among(groups, ["a"])
    assert open_.verdict == NOT_DECIDED
    assert "because b is not significantly worse than the best" in open_.evidence
    assert decide_best_among(groups, ["d"], higher_is_better=False).verdict == HOLDS


def test_best_among_with_rows_that_cannot_compete():
    groups = [group("a", 0.9), group("b", 0.5), Group("no such measure", {0: None, 1: None})]
    found = decide_best_among(groups, ["a"])
    assert found.verdict == HOLDS
    assert "Undefined for no such measure." in found.evidence
    failed = decide_best_among([*groups, Group("failed", {}, "seed 0 failed")], ["a"])
    assert (failed.verdict, "failed: seed 0 failed" in failed.evidence) == (NOT_DECIDED, True)
    assert decide_best_among([group("a", 0.9), group("b", 0.9)], ["a", "b"]).verdict == NOT_DECIDED
    undefined = decide_best_among([Group("a", {0: None, 1: None}), group("b", 0.5)], ["a"])
    assert (undefined.verdict, "a: the measure is undefined" in undefined.evidence) == (NOT_DECIDED, True)
    alike = decide_best_among([Group("a", {0: 0.5, 1: 0.5}), Group("b", {0: 0.4, 1: 0.4})], ["a"])
    assert (alike.verdict, "no estimate of the noise" in alike.evidence) == (NOT_DECIDED, True)
    assert decide_best_among([], ["a"]).verdict == NOT_DECIDED


def test_the_order_of_the_paper():
    rows = [(group(f"row {place}", 0.1 * place), 70.0 + place) for place in range(5)]
    found = decide_same_order([*rows, (group("ours alone", 0.3), None)])
    assert found.verdict == HOLDS
    assert "Without a value in both columns: ours alone." in found.evidence
    assert found.numbers["n"] == 5
    turned = [(each, -value) for each, value in rows]
    assert decide_same_order(turned).verdict == DOES_NOT
    assert decide_same_order(rows[:4]).verdict == NOT_DECIDED
    assert decide_same_order([*rows, (Group("x", {}, "failed"), 80.0)]).verdict == NOT_DECIDED
    undefined = decide_same_order([*rows, (Group("x", {0: None, 1: None}), 80.0)])
    assert (undefined.verdict, "both columns: x." in undefined.evidence) == (HOLDS, True)


def test_the_level_is_the_claims_own():
    assert decide_trend(rising(5), level=0.01).verdict == NOT_DECIDED
    assert decide_trend(rising(4), level=0.1).verdict == HOLDS


def test_many_reasons_are_counted():
    groups = [Group(f"row {place}", {}, "failed") for place in range(7)]
    assert "and 3 more" in decide_difference(groups, BASE).evidence
