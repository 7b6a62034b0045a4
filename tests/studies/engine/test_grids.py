"""The grids of W A.1: edges, expansion, double density."""

import math

import pytest

from logitlab.config.study import SearchAxisConfig
from logitlab.studies.engine.grids import best_point, line_of, on_edge, points


def test_the_finer_grid_is_that_of_the_paper() -> None:
    # W A.1: for an optimum of 10^-1 on a grid of half decades, 10^-0.5, -0.75, -1, -1.25, -1.5.
    line = line_of(SearchAxisConfig(values=tuple(10**exponent for exponent in (-2, -1.5, -1, -0.5, 0, 0.5))))
    assert [round(math.log10(value), 5) for value in line.finer(0.1).values] == [-1.5, -1.25, -1, -0.75, -0.5]
    again = line.finer(0.1).finer(10**-1.25)
    assert [round(math.log10(value), 5) for value in again.values] == [-1.5, -1.375, -1.25, -1.125, -1.0]


def test_expansion_goes_on_by_the_same_step_and_stops_at_the_range() -> None:
    line = line_of(SearchAxisConfig(values=(0.01, 0.1, 1.0), high=3.0))
    assert line.expanded(0.01).values == [0.001, 0.01, 0.1, 1.0]
    assert line.expanded(0.1) == line
    assert line.expanded(1.0) == line  # 10 lies above the range
    assert line_of(SearchAxisConfig(values=(0.5, 0.6, 0.7), scale="linear")).expanded(0.7).values == [
        0.5,
        0.6,
        0.7,
        0.8,
    ]


def test_a_finer_grid_stays_within_the_range() -> None:
    line = line_of(SearchAxisConfig(values=(0.6, 0.8, 1.0), scale="linear", high=1.0))
    assert line.finer(1.0).values == [0.8, 0.9, 1.0]


def test_values_as_the_user_wrote_them_are_kept() -> None:
    # 0.03 stands for 10^-1.5; a second grid must not make another trial of it.
    line = line_of(SearchAxisConfig(values=(0.01, 0.03, 0.1)))
    assert line.values == [0.01, 0.03, 0.1]
    assert {0.01, 0.03, 0.1} <= set(line.finer(0.03).values)


def test_points_and_edges() -> None:
    lines = {
        "a": line_of(SearchAxisConfig(values=(1, 10, 100))),
        "b": line_of(SearchAxisConfig(values=(1, 2), scale="linear")),
    }
    assert len(points(lines)) == 6
    assert points(lines)[0] == {"a": 1, "b": 1}
    assert on_edge(lines, {"a": 10, "b": 2}) == ["b"]
    assert on_edge(lines, {"a": 100, "b": 1}) == ["a", "b"]


def test_the_best_point_needs_a_value_for_every_seed() -> None:
    found = [({"a": 1.0}, [0.9, None]), ({"a": 2.0}, [0.5, 0.7]), ({"a": 3.0}, [0.6, 0.6]), ({"a": 4.0}, [])]
    # Of equal means the first.
    best = best_point(found, higher_is_better=True)
    assert best is not None
    assert best == ({"a": 2.0}, pytest.approx(0.6))
    assert best_point([({"a": 1.0}, [None])], higher_is_better=True) is None
    lower = best_point([({"a": 1.0}, [0.5]), ({"a": 2.0}, [0.4])], higher_is_better=False)
    assert lower == ({"a": 2.0}, 0.4)


def test_whole_numbers_stay_whole() -> None:
    line = line_of(SearchAxisConfig(values=(2, 4, 8)), whole=True)
    assert line.values == [2, 4, 8]
    assert all(isinstance(value, int) for value in line.finer(4).values)
    # 2, 2.83, 4, 5.66, 8; and of 1, 1.41, 2, … two are one.
    assert line.finer(4).values == [2, 3, 4, 6, 8]
    assert line_of(SearchAxisConfig(values=(1, 2, 4)), whole=True).finer(1).values == [1, 2]
