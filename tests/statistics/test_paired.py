"""Paired tests against SciPy, statsmodels' definition written out, and cases by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from logitlab.config.errors import InputError, ParameterError
from logitlab.statistics import (
    BootstrapDifference,
    McNemar,
    PairedDifference,
    bootstrap_difference,
    compare_to_best,
    mcnemar,
    paired_difference,
)

FIRST = {0: 0.91, 1: 0.93, 2: 0.92, 5: 0.90, 7: None}
SECOND = {2: 0.91, 1: 0.91, 0: 0.90, 5: 0.905, 9: 0.99, 7: 0.5}


def test_paired_difference_equals_scipy() -> None:
    found = paired_difference(FIRST, SECOND)
    # Matched by seed, whatever the order.
    oracle = stats.ttest_rel([0.91, 0.93, 0.92, 0.90], [0.90, 0.91, 0.91, 0.905])
    differences = [0.01, 0.02, 0.01, -0.005]
    assert found.mean == pytest.approx(np.mean(differences), abs=1e-15)
    assert found.error == pytest.approx(stats.sem(differences), abs=1e-15)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-10)
    assert found.n == 4
    # Seed 7 is undefined in the first group.
    assert found.left_out == (7, 9)
    assert "seed 7, 9" in str(found)
    assert paired_difference(SECOND, FIRST).mean == -found.mean
    assert paired_difference(SECOND, FIRST).p == pytest.approx(found.p, rel=1e-12)


def test_paired_t_by_hand() -> None:
    # d = 1, 2, 3: mean 2, s = 1, t = 2·sqrt(3) = 3.4641 with 2 degrees of freedom: p = 0.07418.
    found = paired_difference({0: 11, 1: 22, 2: 33}, {0: 10, 1: 20, 2: 30})
    assert (found.mean, found.n) == (2, 3)
    assert found.error == pytest.approx(1 / math.sqrt(3))
    assert found.p == pytest.approx(0.0742, abs=5e-5)


def test_pairing_shows_what_two_samples_hide() -> None:
    first, second = {0: 0.80, 1: 0.85, 2: 0.90}, {0: 0.79, 1: 0.841, 2: 0.891}
    assert paired_difference(first, second).p < 0.01  # type: ignore[operator]
    assert compare_to_best({"a": first.values(), "b": second.values()}).p_values["b"] > 0.5  # type: ignore[operator]


def test_what_says_nothing_about_the_noise_is_not_tested() -> None:
    one = paired_difference({3: 0.9}, {3: 0.8, 4: 0.7})
    assert (one.mean, one.error, one.p, one.n, one.left_out) == (pytest.approx(0.1), None, None, 1, (4,))
    assert "no test" in str(one)
    assert paired_difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}) == PairedDifference(0.0, 0.0, 1.0, 2)
    # 0.2 - 0.1 and 0.3 - 0.2 are equal but for rounding; SciPy would be sure, and warn.
    rounded = paired_difference({0: 0.2, 1: 0.3}, {0: 0.1, 1: 0.2})
    first, second = 0.2 - 0.1, 0.3 - 0.2
    assert first != second
    assert (rounded.p, rounded.error) == (None, 0.0)
    assert rounded.mean == pytest.approx(0.1)


def test_seeds_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(InputError, match=r"in both groups. Got seeds \[0\] and \[1\]"):
        paired_difference({0: 0.5}, {1: 0.5})
    with pytest.raises(InputError, match="in both groups"):
        paired_difference({0: float("nan")}, {0: 0.5})
    with pytest.raises(InputError, match="infinite one for seed 1"):
        paired_difference({0: 0.5, 1: math.inf}, {0: 0.5, 1: 0.5})


def answers(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


@pytest.mark.parametrize("counts", [(5, 8, 1, 3), (0, 3, 3, 0), (100, 30, 12, 4), (2, 0, 5, 1), (9, 1, 0, 0)])
def test_mcnemar_equals_the_sum_of_binomials(counts: tuple[int, int, int, int]) -> None:
    found = mcnemar(*answers(*counts))
    assert (found.both, found.first_only, found.second_only, found.neither) == counts
    differing = counts[1] + counts[2]
    tail = sum(math.comb(differing, k) for k in range(min(counts[1], counts[2]) + 1)) / 2**differing
    assert found.p == pytest.approx(min(1.0, 2 * tail), abs=1e-12)
    assert found.n == sum(counts)
    first, second = answers(*counts)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-15)
    assert f"{counts[1]} images" in str(found)


def test_mcnemar_takes_arrays_and_numbers() -> None:
    first, second = answers(5, 8, 1, 3)
    assert mcnemar(np.array(first), np.array(second, dtype=float)) == mcnemar(iter(first), map(int, second))
    assert isinstance(mcnemar(first, second), McNemar)


def test_the_same_mistakes_differ_in_nothing() -> None:
    found = mcnemar(*answers(4, 0, 0, 3))
    assert (found.p, found.difference) == (1.0, 0.0)


def test_mcnemar_holds_its_level_where_models_are_equal() -> None:
    generator = np.random.default_rng(0)
    rejected = [mcnemar(*(generator.random((2, 100)) < 0.7)).p <= 0.05 for _ in range(200)]
    # Exact tests are conservative: at most 5 %, here with room for chance.
    assert np.mean(rejected) < 0.08


def test_bootstrap_equals_scipy_and_the_normal_limit() -> None:
    first, second = answers(350, 50, 30, 70)
    found = bootstrap_difference(first, second, seed=3)
    assert found.difference == pytest.approx(0.04)
    # Another statistic of the two samples drawn together, another stream, another batch; 9999 resamples each.
    oracle = stats.bootstrap(
        (np.array(first, dtype=float), np.array(second, dtype=float)),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(8),
        batch=500,
    ).confidence_interval
    deviation = np.std(np.array(first, dtype=float) - np.array(second, dtype=float)) / math.sqrt(500)
    # Quantiles of 9999 draws are known to about 0.03 deviations.
    assert found.low == pytest.approx(oracle.low, abs=0.15 * deviation)
    assert found.high == pytest.approx(oracle.high, abs=0.15 * deviation)
    assert found.low == pytest.approx(0.04 - 1.96 * deviation, abs=0.15 * deviation)
    assert found.high == pytest.approx(0.04 + 1.96 * deviation, abs=0.15 * deviation)
    assert (found.level, found.resamples, found.n, found.warnings) == (0.95, 9999, 500, ())
    assert "percentile bootstrap" in str(found)


def test_bootstrap_depends_on_its_seed_and_level_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = answers(40, 30, 20, 10)
    found = bootstrap_difference(first, second, resamples=500)
    np.random.seed(1)  # the global stream must not matter
    assert bootstrap_difference(first, second, resamples=500) == found
    assert bootstrap_difference(first, second, resamples=500, seed=1) != found
    narrow = bootstrap_difference(first, second, resamples=500, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high  # type: ignore[operator]
    monkeypatch.setattr("logitlab.statistics.paired._BATCH_ELEMENTS", 1000)
    assert bootstrap_difference(first, second, resamples=500) == found


@pytest.mark.parametrize(
    ("counts", "message"),
    [((1, 0, 0, 0), "One image"), ((3, 0, 0, 4), "same images"), ((0, 5, 0, 0), "every image alike")],
)
def test_bootstrap_without_noise_has_no_interval(counts: tuple[int, int, int, int], message: str) -> None:
    found = bootstrap_difference(*answers(*counts))
    assert isinstance(found, BootstrapDifference)
    assert (found.low, found.high) == (None, None)
    assert message in found.warnings[0]
    assert "no interval" in str(found)
    assert message in str(found)


@pytest.mark.parametrize("compare", [mcnemar, bootstrap_difference])
def test_what_are_no_answers_is_refused(compare: object) -> None:
    for first, second, message in (
        ([], [], r"'first_correct' of shape \[N\], not empty"),
        ([True], [True, False], "Got 1 and 2"),
        ([True, False], [[True, False], [True, True]], r"'second_correct' of shape \[N\].*Got \[2, 2\]"),
        ([1, 2], [0, 1], "'first_correct' to hold true and false"),
        ([1.0, float("nan")], [0, 1], "'first_correct' to hold true and false"),
        (["yes"], [True], "'first_correct' to hold true and false"),
    ):
        with pytest.raises(InputError, match=message):
            compare(first, second)  # type: ignore[operator]


def test_options_out_of_range_are_refused_together() -> None:
    with pytest.raises(ParameterError) as fault:
        bootstrap_difference([True], [False], resamples=10, level=1.0, seed=-1)
    assert len(fault.value.faults) == 3


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; from logitlab.statistics import *; paired_difference({0: 1.0}, {0: 2.0}); "
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_results_go_to_json() -> None:
    paired = paired_difference({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.0, 3: 1.0}).to_json()
    assert json.loads(json.dumps(paired)) == paired
    assert (paired["mean"], paired["n"], paired["left_out"]) == (0.75, 2, [2, 3])
    counted = mcnemar([1, 1, 0, 1], [1, 0, 0, 1]).to_json()
    assert json.loads(json.dumps(counted)) == counted
    assert (counted["difference"], counted["n"], counted["first_only"]) == (0.25, 4, 1)
    flat = bootstrap_difference([1, 0], [1, 0]).to_json()
    assert json.loads(json.dumps(flat)) == flat
    assert (flat["low"], len(flat["warnings"])) == (None, 1)
