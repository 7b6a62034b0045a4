"""Tests against the best group, with SciPy and hand-made cases as oracles."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from logitlab.config.errors import InputError, ParameterError
from logitlab.statistics import BestComparison, compare_to_best, holm

GROUPS = {
    "a": [0.90, 0.92, 0.91],
    "b": [0.93, 0.95, 0.91],
    "c": [0.80, 0.81, 0.83, 0.79],
    "d": [0.94, 0.90],
}


@pytest.mark.parametrize(("test", "equal_var"), [("pooled", True), ("welch", False)])
@pytest.mark.parametrize("higher", [True, False])
def test_p_values_equal_scipy(test: str, equal_var: bool, higher: bool) -> None:
    found = compare_to_best(GROUPS, test=test, higher_is_better=higher)  # type: ignore[arg-type]
    best = "b" if higher else "c"
    assert found.best == best
    assert found.tested
    for name, values in GROUPS.items():
        oracle = 1.0 if name == best else stats.ttest_ind(GROUPS[best], values, equal_var=equal_var).pvalue
        assert found.p_values[name] == pytest.approx(oracle, rel=1e-10)
        assert (name in found.not_worse) == (oracle > 0.05)


def test_pooled_t_by_hand() -> None:
    # means 2 and 5, s² = (2 + 2)/4 = 1, t = 3/sqrt(2/3) = 3.6742 with 4 degrees of freedom: p = 0.02131.
    found = compare_to_best({"low": [1, 2, 3], "high": [4, 5, 6]})
    assert found.p_values["low"] == pytest.approx(0.0213, abs=5e-5)
    assert found.not_worse == {"high"}
    assert compare_to_best({"low": [1, 2, 3], "high": [4, 5, 6]}, level=0.02).not_worse == {"low", "high"}


def test_a_group_of_one_seed_borrows_the_variance_of_the_other() -> None:
    # s = 1 from [1, 2, 3] alone: t = (10 - 2)/(1·sqrt(1 + 1/3)) = 6.9282, 2 degrees of freedom.
    found = compare_to_best({"many": [1, 2, 3], "one": [10]})
    assert found.p_values["many"] == pytest.approx(2 * stats.t.sf(8 / math.sqrt(4 / 3), 2))
    welch = compare_to_best({"many": [1, 2, 3], "one": [10]}, test="welch")
    # Welch's test needs two seeds each: the same pooled variance steps in.
    assert welch.p_values["many"] == pytest.approx(found.p_values["many"])


def test_one_seed_each_tests_nothing() -> None:
    assert compare_to_best({"a": [0.9], "b": [0.1]}) == BestComparison(
        "a", {"a": 1.0, "b": None}, frozenset(), tested=False
    )


def test_one_group_tests_nothing() -> None:
    found = compare_to_best({"a": [0.9, 0.8]})
    assert (found.best, found.tested, found.not_worse) == ("a", False, frozenset())


@pytest.mark.parametrize("groups", [{}, {"a": [], "b": [None, math.nan]}])
def test_nothing_to_compare(groups: dict[str, list[float | None]]) -> None:
    assert compare_to_best(groups) == BestComparison(None, {}, frozenset(), tested=False)


def test_groups_without_values_are_left_out() -> None:
    with_holes = {**GROUPS, "none": [None, None], "nan": [math.nan], "a": [0.90, None, 0.92, 0.91]}
    assert compare_to_best(with_holes) == compare_to_best(GROUPS)


def test_no_variance_gives_no_certainty() -> None:
    # SciPy would say p = 0; two seeds with the same accuracy on 360 images prove nothing of the kind.
    found = compare_to_best({"a": [0.9, 0.9], "b": [0.8, 0.8], "c": [0.9, 0.9]})
    assert found.p_values == {"a": 1.0, "b": None, "c": 1.0}


def test_groups_without_noise_borrow_that_of_all_groups() -> None:
    # Within groups: squares 0 + 0 + 2·0.01², 6 degrees of freedom, s = 0.01/sqrt(3).
    groups = {"good": [1.0, 1.0, 1.0], "dead": [0.1, 0.1, 0.1], "fair": [0.99, 1.0, 0.98], "same": [1.0]}
    found = compare_to_best(groups)
    error = 0.01 / math.sqrt(3) * math.sqrt(2 / 3)
    assert found.p_values["dead"] == pytest.approx(2 * stats.t.sf(0.9 / error, 6), rel=1e-9)
    assert found.p_values["same"] == 1.0
    assert found.not_worse == {"good", "fair", "same"}
    assert not found.all_alike


def test_a_single_seed_each_borrows_the_noise_of_the_others() -> None:
    found = compare_to_best({"a": [0.9], "b": [0.5], "c": [0.4, 0.42, 0.41]})
    assert found.p_values["b"] == pytest.approx(2 * stats.t.sf(0.4 / (0.01 * math.sqrt(2)), 2))
    assert found.not_worse == {"a"}


def test_ties_go_to_the_first() -> None:
    assert compare_to_best({"a": [1, 2], "b": [2, 1]}).best == "a"
    assert compare_to_best({"b": [2, 1], "a": [1, 2]}, higher_is_better=False).best == "b"


def test_all_alike() -> None:
    assert compare_to_best({"a": [1, 2, 3], "b": [1, 2, 4]}).all_alike
    assert not compare_to_best(GROUPS).all_alike
    assert not compare_to_best({"a": [1], "b": [2]}).all_alike


def test_holm_is_the_closed_testing_procedure_of_bonferroni() -> None:
    """Independent definition: the adjusted p is the largest Bonferroni p over all subsets that hold it."""
    values = list(np.random.default_rng(1).uniform(0, 0.3, 5))
    expected = []
    for index in range(5):
        subsets = [
            subset for size in range(1, 6) for subset in itertools.combinations(range(5), size) if index in subset
        ]
        expected.append(max(min(1, len(s) * min(values[i] for i in s)) for s in subsets))
    assert holm(values) == pytest.approx(expected, rel=1e-14)
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_holm_correction_is_over_the_tests_made() -> None:
    plain, corrected = compare_to_best(GROUPS), compare_to_best(GROUPS, correction="holm")
    names = ["a", "c", "d"]
    assert [corrected.p_values[n] for n in names] == holm([plain.p_values[n] or 0 for n in names])
    assert corrected.p_values["b"] == 1.0


def test_every_fault_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        compare_to_best(GROUPS, test="paired", correction="bonferroni", level=1.0)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3
    with pytest.raises(ParameterError, match="level"):
        compare_to_best(GROUPS, level=math.nan)


def test_infinite_values_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        compare_to_best({"a": [math.inf, 1.0], "b": [1.0, 2.0]})


def test_the_false_alarm_rate_is_the_level() -> None:
    """Two groups of one distribution are called different in a share ``level`` of the cases."""
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(1500, 2, 4))
    alarms = sum(len(compare_to_best({"a": a, "b": b}).not_worse) == 1 for a, b in draws)
    # Standard deviation of the share: sqrt(.05·.95/1500) = .0056; four of them either way.
    assert alarms / 1500 == pytest.approx(0.05, abs=0.023)


def test_import_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, logitlab.statistics; print(sorted({'torch', 'numpy', 'scipy'} & {m for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
