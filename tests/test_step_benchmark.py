"""The benchmark of the step runs, prints a figure for every form, and notices what is wrong."""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from preloaded import run_python

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmark, which is not installed."""
    monkeypatch.syspath_prepend(str(REPOSITORY))

    def load(name: str) -> ModuleType:
        return import_module(f"benchmarks.step.{name}")

    return load


@pytest.mark.slow
def test_the_quick_run_prints_finite_figures_for_every_form(part: Any, tmp_path: Path) -> None:
    file = tmp_path / "step.txt"
    done = run_python("-m", "benchmarks", "--quick", "--save", file, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text(encoding="utf-8") == done.stdout
    assert "All forms agree with their formulas." in done.stdout
    head, *tables = re.split(r"^\(B, C, D\) = ", done.stdout, flags=re.MULTILINE)
    assert f"torch {torch.__version__}" in head
    assert "1 thread" in head
    shapes, sections = part("report").QUICK_SHAPES, part("measuring").SECTIONS
    assert [table.splitlines()[0].partition(", features")[0] for table in tables] == [
        *map(str, shapes),
        str(shapes[-1]),
    ]
    for table, section in zip(tables, ["cosine"] * len(shapes) + ["groups"]):
        for form in sections[section]:
            # Never of ours; linear_cross_entropy came with torch 2.13, pytorch-metric-learning is an extra.
            if re.search(rf"^{re.escape(form.name)} +not there: ", table, re.MULTILINE):
                assert form.name.startswith(("torch ", "metric-learning "))
                continue
            row = re.search(rf"^{re.escape(form.name)}((?: +[-+.e\d]+)+)$", table, re.MULTILINE)
            assert row is not None, f"no figures of {form.name!r} in\n{table}"
            figures = [float(number) for number in row.group(1).split()]
            assert all(math.isfinite(number) and number >= 0 for number in figures)
            expected = form.agrees_with not in (None, "grid")  # ms, least, ratio; then memory and the difference
            assert len(figures) >= 3 + expected, f"{form.name!r} was not compared with its formula"
            if form.agrees_with in ("grid", "least_squares"):
                assert re.search(rf"^  κ\* of {re.escape(form.name)}: energy at most \S+ above", table, re.MULTILINE)
    # Milliseconds, least, ratio, both peaks, difference: memory is measured of one form.
    assert re.search(r"^ours, fixed κ( +[-+.e\d]+){6}$", tables[2], re.MULTILINE)


def test_a_step_of_another_formula_is_noticed(part: Any) -> None:
    problem = part("problem").Problem(part("problem").Shape(8, 5, 16))
    agreement = part("agreement").Agreement(problem)
    form, step = part("form").Form("another κ", None), part("ours").cosine(problem, kappa=16.1)
    difference = agreement.difference(form, step)
    assert difference > 1e-3
    measured = part("measuring").Measured("cosine", (8, 5, 16), "trained", differences={"ours": difference})
    assert len(measured.disagreements()) == 1
    assert agreement.difference(form, part("ours").cosine(problem, kappa=16.0)) < 1e-5


def test_a_search_that_misses_the_minimum_is_noticed(part: Any) -> None:
    problem = part("problem").Problem(part("problem").Shape(8, 5, 16))
    agreement = part("agreement").Agreement(problem)
    form = part("form").Form("a search", None, "grid")
    candidates = torch.tensor(import_module("logitlab.functional").KAPPA_CANDIDATES)
    energies = part("agreement").grid_energies(problem)
    second = candidates[energies.argsort(dim=1)[:, 1]]
    expected = (energies.sort(dim=1).values[:, 1] - energies.amin(dim=1)).max()
    search = part("form").Search
    assert agreement.regret(form, search(lambda: second)) == pytest.approx(float(expected), rel=1e-12)
    assert agreement.regret(form, search(lambda: candidates[energies.argmin(dim=1)])) == 0
    assert agreement.regret(form, search(lambda: 1.1 * second)) == math.inf
    measured = part("measuring").Measured("cosine", (8, 5, 16), "trained", regrets={"a": math.inf, "b": math.nan})
    assert len(measured.disagreements()) == 2


def fabricated(part: Any, times: dict[str, list[float | None]], shape: tuple[int, int, int]) -> Any:
    return part("figures").Figures(
        [part("measuring").Measured("cosine", part("problem").Shape(*shape), "trained", times=times)]
    )


def test_ratios_are_of_the_same_round(part: Any) -> None:
    eager, naive = part("peers").EAGER, part("peers").NAIVE
    # Round by round 3, 2 and 5; the medians of the times would give 6 / 2 = 3 by accident of other rounds.
    figures = fabricated(part, {eager: [1.0, 2.0, 9.0, 2.0], naive: [3.0, None, 18.0, 10.0]}, (128, 10, 512))
    assert figures.ratio(naive).middle == 3
    assert figures.ratio(naive, "absent") is None
    assert figures.milliseconds(naive) == (10_000, 3_000)
    figures.runs += fabricated(part, {eager: [1.0], naive: [4.0]}, (128, 10, 512)).runs
    ratio = figures.ratio(naive)
    assert (ratio.middle, ratio.low, ratio.high) == (3.5, 3, 4)


def test_verdicts(part: Any) -> None:
    eager, search, ours = part("peers").EAGER, part("ours").SEARCH, part("ours").FIXED
    chunked = part("peers").CHUNKED
    times = {
        eager: [1.0],
        ours: [1.08],
        search: [0.45],
        f"{chunked} B rows": [2.0],
        f"{chunked} auto": [1.2],
    }
    found = list(part("checks").checks([fabricated(part, times, (128, 10, 512))]))
    assert {check.what.partition(") ")[2]: check.verdict for check in found} == {
        f"{ours} / {eager}": "within 10% of noise",
        f"{ours} / {chunked} auto": "reached",
        f"{search} / {eager}": "NOT reached",
    }
    assert [check.passed for check in found] == [True, True, False]
    del times[search]
    found = list(part("checks").checks([fabricated(part, times, (128, 10, 512))]))
    assert found[-1].verdict == "NOT measured"
    assert not found[-1].passed


def test_memory_has_no_noise(part: Any) -> None:
    shape = (128, 93431, 512)
    fused, eager = part("ours").FUSED, part("peers").EAGER
    needed = 4 * 93431 * (512 + 128) / 2**20
    figures = fabricated(part, {}, shape)
    figures.first.memory[eager] = {"allocated": 5 * needed, "resident": None}
    figures.first.memory[fused] = {"allocated": 1.0, "resident": 1.06 * needed}
    verdicts = {
        check.what.partition("/ ")[2]: check.verdict
        for check in part("checks").checks([figures])
        if check.line == 4 and f"of {fused} /" in check.what
    }
    assert verdicts == {"(gradient of W + cosines)": "NOT reached", eager: "reached"}


def test_all_forms_take_turns_and_slow_ones_sit_out(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now, turns = 0.0, []

    def form(name: str, seconds: float) -> Any:
        def run() -> None:
            nonlocal now
            turns.append(name)
            now += seconds

        return run

    monkeypatch.setattr(part("timing"), "clock", lambda: lambda: now)
    times = part("timing").interleave(
        {"base": form("base", 1.0), "ours": form("ours", 3.0), "slow": form("slow", 4.0)}, 4, 0
    )
    assert times == {"base": [1] * 4, "ours": [3] * 4, "slow": [4, None, None, 4]}
    assert sorted(turns[3:6]) == sorted(turns[:3])


def test_the_families_are_what_they_say(part: Any) -> None:
    Problem, Shape = part("problem").Problem, part("problem").Shape
    for classes in (20, 200):
        problem = Problem(Shape(400, classes, 64))
        features, weight, cosine = problem.units
        own = cosine.gather(1, problem.target.unsqueeze(1))
        assert abs(float(own.mean()) - 0.75) < 0.03
        assert abs(float(own.std()) - 0.12) < 0.02
        assert 15 < float(problem.features.detach().norm(dim=1).mean()) < 25
        torch.testing.assert_close(features @ weight.T, cosine)
        others = (weight @ weight.T).fill_diagonal_(0)
        assert float(others.abs().max()) < (0.2 if classes < 64 else 0.75)
        assert float(problem.features.detach().norm(dim=1).std()) > 0.1  # no head may count on rows of one length
    assert float(Problem(Shape(400, 20, 64), "init").units[2].abs().mean()) < 0.15
