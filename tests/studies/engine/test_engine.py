"""The engine alone: trials are configurations that nobody trains, and their results are written by the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.config.specification import Specification
from logitlab.config.study.reading import parse_study
from logitlab.config.study.rows import RowSpecification, unfold
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.records import Store
from logitlab.studies.engine import StudyEngine
from logitlab.studies.engine.making import TrialMaker
from logitlab.studies.engine.programs import FIRST_SEARCH_SEED

Measure = Callable[[TrialConfig], float | None]


class PaperMaker(TrialMaker):
    """Makes trials without data, backbone or head."""

    def trial(
        self, row: RowSpecification, seed: int, given: Mapping[str, Any] | None = None, *, measure_test: bool = True
    ) -> TrialConfig:
        head: Specification = self.head(row, {**row.axes, **(given or {})})
        if head.parameters.get("tau", 1) > 1:
            raise ConfigurationError("'tau' must be at most 1.")
        return TrialConfig(
            data=DataConfig(),
            data_fingerprint="0" * 64,
            backbone=ComponentConfig(name="mlp"),
            head=ComponentConfig(name=head.name, parameters=head.parameters),
            training=self.recipe(row, {**row.axes, **(given or {})}),
            seed=seed,
            measure_test=measure_test,
        )


class World:
    """A store, an engine, and a function that says what a trial measures."""

    def __init__(self, root: Path, text: str, measure: Measure, **options: Any) -> None:
        self.definition = parse_study(text, "my.yaml")
        self.store = Store(root)
        self.measure = measure
        self.ran: list[TrialConfig] = []
        rows = unfold(self.definition.heads, self.definition.grid, self.definition.seeds, self.definition.search)
        self.engine = StudyEngine(self.definition, rows, PaperMaker(self.definition, None), self.store, **options)

    def run(self, most: int | None = None) -> list[str]:
        """Run all that is asked for, or a few trials; return the identities in their order."""
        waiting = self.engine.start()
        ran = []
        while waiting and (most is None or len(ran) < most):
            trial = waiting.pop(0)
            self.write(trial)
            ran.append(trial.identity)
            self.ran.append(trial)
            waiting += self.engine.ended(trial)
        return ran

    def write(self, trial: TrialConfig) -> None:
        value = self.measure(trial)
        config = trial.model_dump(mode="json")
        if value is None:
            self.store.write_error(trial.identity, config, {"kind": "TrialError", "message": "it diverged"})
            return
        measures = {"accuracy": value, "kappa_star": 10.0 + trial.seed}
        test = measures if trial.measure_test else {}
        self.store.write_record(trial.identity, config, {"test": test, "validation": measures}, {"seconds": 1.0})

    def row(self, label: str) -> Any:
        return next(row for row in self.engine.plan().rows if row.label == label)


def rate_of(trial: TrialConfig) -> float:
    return trial.training.learning_rate


def hill(best: float) -> Measure:
    """Accuracy falls with the distance of the learning rate's logarithm from that of ``best``."""
    return lambda trial: 1 - 0.1 * abs(math.log10(rate_of(trial) / best))


def test_a_grid_is_run_seed_by_seed(tmp_path: Path) -> None:
    world = World(tmp_path, "heads: [softmax, {head: cosine, grid: {head.kappa: [5, 10]}}]\nseeds: 2\n", hill(0.1))
    world.run()
    assert [(trial.head.name, trial.seed) for trial in world.ran] == [
        ("softmax", 0), ("cosine", 0), ("cosine", 0), ("softmax", 1), ("cosine", 1), ("cosine", 1),
    ]  # fmt: skip
    plan = world.engine.plan()
    assert [row.label for row in plan.rows] == ["softmax", "cosine [kappa = 5]", "cosine [kappa = 10]"]
    assert [row.expected for row in plan.rows] == [2, 2, 2]
    assert world.engine.over


SEARCH = """\
heads: [softmax]
seeds: 2
search: {parameters: {training.learning_rate: [0.01, 0.1, 1.0]}, seeds: 2}
"""


def test_coarse_to_fine_finds_the_hill_without_looking_at_the_test_images(tmp_path: Path) -> None:
    world = World(tmp_path, SEARCH, hill(0.3))
    world.run()
    searched = [trial for trial in world.ran if not trial.measure_test]
    finals = [trial for trial in world.ran if trial.measure_test]
    # 0.1 and 1 are as near on the logarithmic scale as 10^-0.5 to 0.3; the best of the coarse grid is 0.1 or 1, and the
    # finer grid around it holds 10^-0.5.
    coarse = {rate_of(trial) for trial in searched[:6]}
    assert coarse == {0.01, 0.1, 1.0}
    assert world.row("softmax").chosen["training.learning_rate"] == pytest.approx(10**-0.5)
    assert [rate_of(trial) for trial in finals] == [pytest.approx(10**-0.5)] * 2
    assert [trial.seed for trial in finals] == [0, 1]
    assert {trial.seed for trial in searched} == {FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + 1}
    # Every point once: three coarse ones, and those of the finer grid that are new.
    assert len(searched) == len({(rate_of(trial), trial.seed) for trial in searched})


def test_a_grid_grows_while_the_best_lies_on_its_edge(tmp_path: Path) -> None:
    world = World(tmp_path, SEARCH, hill(30.0))
    world.run()
    rates = {rate_of(trial) for trial in world.ran if not trial.measure_test}
    assert {10.0, 100.0} <= rates
    assert 1000.0 not in rates
    assert world.row("softmax").chosen["training.learning_rate"] == pytest.approx(10**1.5)
    assert world.row("softmax").remarks == ()


def test_an_optimum_that_stays_on_the_edge_is_remarked(tmp_path: Path) -> None:
    world = World(tmp_path, SEARCH, hill(1e9))
    world.run()
    assert (
        "After 3 expansions the best point still lies on the edge of training.learning_rate"
        in world.row("softmax").remarks[0]
    )


def test_a_point_of_which_a_seed_diverges_is_not_chosen(tmp_path: Path) -> None:
    def measure(trial: TrialConfig) -> float | None:
        if rate_of(trial) > 0.2 and trial.seed == FIRST_SEARCH_SEED + 1:
            return None
        return hill(1.0)(trial)

    world = World(tmp_path, SEARCH, measure)
    world.run()
    assert world.row("softmax").chosen["training.learning_rate"] == pytest.approx(10**-1 * 10**0.0)


def test_a_search_of_which_everything_fails_blocks_its_row_and_no_other(tmp_path: Path) -> None:
    text = SEARCH.replace("heads: [softmax]", "heads: [softmax, {head: sigmoid, search: false}]")
    world = World(tmp_path, text, lambda trial: None if trial.head.name == "softmax" else 0.5)
    world.run()
    assert "No point of its search has finished" in world.row("softmax").blocked
    assert len([trial for trial in world.ran if trial.head.name == "sigmoid"]) == 2
    assert world.engine.over


def test_a_point_that_cannot_be_built_is_remarked_and_passed_over(tmp_path: Path) -> None:
    text = "heads: [{head: cosine, search: {parameters: {head.tau: [0.1, 1.0]}, seeds: 1}}]\nseeds: 1\n"
    world = World(tmp_path, text, lambda trial: float(trial.head.parameters["tau"]))
    world.run()
    row = world.row("cosine")
    assert row.chosen == {"head.tau": 1.0}
    assert any("head.tau = 10 cannot be tried: 'tau' must be at most 1." in remark for remark in row.remarks)


DEPENDENT = """\
heads:
  - {head: cosine_ls, label: LS}
  - {head: cosine, label: 2κ*, depends_on: {head.kappa: {of: LS, measure: validation.kappa_star, times: 2}}}
seeds: 3
"""


def test_twice_the_mean_of_another_row(tmp_path: Path) -> None:
    world = World(tmp_path, DEPENDENT, lambda trial: 0.5)
    first = world.engine.start()
    assert {trial.head.name for trial in first} == {"cosine_ls"}
    assert world.row("2κ*").waiting == "It waits for 'LS'."
    assert world.row("2κ*").expected == 3
    # κ* is 10, 11 and 12; twice the mean is 22.
    world = World(tmp_path, DEPENDENT, lambda trial: 0.5)
    world.run()
    assert [trial.head.parameters for trial in world.ran[3:]] == [{"kappa": 22.0}] * 3
    assert world.row("2κ*").chosen == {"head.kappa": 22.0}


def test_each_seed_may_take_its_namesake(tmp_path: Path) -> None:
    text = DEPENDENT.replace("times: 2", "times: 2, statistic: same_seed")
    world = World(tmp_path, text, lambda trial: 0.5)
    world.run()
    assert [trial.head.parameters["kappa"] for trial in world.ran[3:]] == [20.0, 22.0, 24.0]
    # What differs from seed to seed is told with the trial, and not with the row.
    assert world.row("2κ*").chosen == {}
    assert [trial.settings for trial in world.engine.plan().trials if trial.row == "2κ*"][1] == {"head.kappa": 22.0}


def test_a_row_that_depends_on_failures_alone_is_blocked(tmp_path: Path) -> None:
    world = World(tmp_path, DEPENDENT, lambda trial: None)
    world.run()
    assert (
        world.row("2κ*").blocked == "It depends on 'validation.kappa_star' of 'LS', which no trial there has measured."
    )
    assert len(world.ran) == 3


def test_rows_depend_on_the_row_of_their_own_data(tmp_path: Path) -> None:
    world = World(tmp_path, DEPENDENT + "grid: {training.epochs: [1, 2]}\n", lambda trial: 0.5)
    world.run()
    labels = [row.label for row in world.engine.plan().rows]
    assert labels == ["LS [epochs = 1]", "2κ* [epochs = 1]", "LS [epochs = 2]", "2κ* [epochs = 2]"]
    assert world.engine.over
    assert len(world.ran) == 12


def test_a_dependence_on_several_rows_is_refused(tmp_path: Path) -> None:
    text = DEPENDENT.replace("label: LS}", "label: LS, grid: {head.bias: [true, false]}}")
    with pytest.raises(ConfigurationError, match=r"depends on 'LS', which must be one row. Got 'LS \[bias = True\]'"):
        World(tmp_path, text, hill(1))


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5, 8, 13])
def test_a_runner_that_was_killed_comes_to_the_same_trials(tmp_path: Path, killed_after: int) -> None:
    text = DEPENDENT + SEARCH.partition("\n")[2].replace("seeds: 2\n", "", 1).replace("seeds: 2}", "seeds: 1}")
    whole = World(tmp_path / "whole", text, hill(0.3))
    expected = whole.run()
    first = World(tmp_path / "cut", text, hill(0.3)).run(killed_after)
    second = World(tmp_path / "cut", text, hill(0.3))
    rest = second.run()
    assert sorted([*first, *rest]) == sorted(expected)
    assert second.engine.plan() == whole.engine.plan()


def test_failures_are_kept_and_tried_again_when_asked(tmp_path: Path) -> None:
    text = "heads: [softmax, sigmoid]\nseeds: 1\n"
    fails: Measure = lambda trial: None if trial.head.name == "softmax" else 0.5  # noqa: E731
    World(tmp_path, text, fails).run()
    assert World(tmp_path, text, fails).run() == []
    assert len(World(tmp_path, text, fails, retry_failed=True).run()) == 1


def test_a_trial_whose_worker_died_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path, "heads: [softmax]\nseeds: 1\n", hill(1))
    (trial,) = world.engine.start()
    world.store.write_error(trial.identity, {}, {"kind": "WorkerDied", "message": "killed"})
    assert World(tmp_path, "heads: [softmax]\nseeds: 1\n", hill(1)).run() == [trial.identity]


def test_a_search_of_which_a_worker_died_rests_and_goes_on_when_run_again(tmp_path: Path) -> None:
    # 1.0 is best; the process of one of its trials dies.
    world = World(tmp_path, SEARCH, hill(1.0))
    died = []

    def write(trial: TrialConfig) -> None:
        if rate_of(trial) == 1.0 and not died:
            died.append(trial.identity)
            error = {"kind": "WorkerDied", "message": "killed"}
            world.store.write_error(trial.identity, trial.model_dump(mode="json"), error)
        else:
            World.write(world, trial)

    world.write = write  # type: ignore[method-assign]
    world.run()
    assert "1 of the trials of its search died with their process" in world.row("softmax").waiting
    assert world.row("softmax").chosen == {}
    assert not any(trial.measure_test for trial in world.ran)
    again = World(tmp_path, SEARCH, hill(1.0))
    assert died[0] in again.run()
    assert again.row("softmax").chosen["training.learning_rate"] == 1.0
    assert again.row("softmax").waiting is None


def test_a_row_that_waits_for_a_resting_one_rests_too(tmp_path: Path) -> None:
    text = """\
heads:
  - {head: cosine_ls, label: LS, search: {parameters: {training.learning_rate: [0.01, 0.1]}, seeds: 1}}
  - {head: cosine, label: 2κ*, depends_on: {head.kappa: {of: LS, measure: validation.kappa_star}}}
seeds: 1
"""
    world = World(tmp_path, text, hill(1.0))
    error = {"kind": "MemoryError", "message": "no room"}
    world.write = lambda trial: world.store.write_error(trial.identity, trial.model_dump(mode="json"), error)  # type: ignore[method-assign]
    world.run()
    assert world.row("2κ*").waiting == "It waits for 'LS'."
    assert world.row("2κ*").blocked is None
    assert world.engine.over


def test_a_row_that_depends_on_a_failed_seed_is_blocked(tmp_path: Path) -> None:
    world = World(tmp_path, DEPENDENT, lambda trial: None if trial.seed == 1 else 0.5)
    world.run()
    assert "which seed 1 has not measured. 'logitlab study retry' tries" in world.row("2κ*").blocked
    assert len(world.ran) == 3


def test_epochs_can_be_searched_and_taken_from_another_row(tmp_path: Path) -> None:
    text = """\
heads:
  - {head: softmax, label: A, search: {parameters: {training.epochs: [2, 4, 8]}, seeds: 1}}
  - {head: sigmoid, depends_on: {training.epochs: {of: A, measure: validation.kappa_star}}}
seeds: 2
"""
    world = World(tmp_path, text, lambda trial: 1 - abs(trial.training.epochs - 6) / 10)
    world.run()
    assert world.row("A").chosen == {"training.epochs": 6}
    # κ* is 10 and 11 here, and the mean is taken to the nearest whole number.
    assert {trial.training.epochs for trial in world.ran if trial.head.name == "sigmoid"} == {10}


def test_rows_that_share_trials_train_them_once(tmp_path: Path) -> None:
    text = SEARCH.replace("heads: [softmax]", "heads: [{head: softmax, label: A}, {head: softmax, label: B}]")
    world = World(tmp_path, text, hill(0.3))
    ran = world.run()
    assert len(ran) == len(set(ran))
    assert world.engine.over


def test_optuna_resumes_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = """\
heads: [softmax]
seeds: 1
search: {method: optuna, parameters: {training.learning_rate: [0.001, 10]}, seeds: 2, trials: 12, together: 3}
"""
    whole = World(tmp_path / "whole", text, hill(0.3))
    expected = whole.run()
    assert len(expected) == 12 * 2 + 1
    first = World(tmp_path / "cut", text, hill(0.3)).run(9)
    rest = World(tmp_path / "cut", text, hill(0.3)).run()
    # The trials of a batch that was cut come in another order; they are the same ones.
    assert sorted([*first, *rest]) == sorted(expected)
    # Twelve points over four decades, and the best of them is near the top.
    assert abs(math.log10(whole.row("softmax").chosen["training.learning_rate"] / 0.3)) < 0.5


def test_a_thousand_trials_cost_no_square(tmp_path: Path) -> None:
    world = World(tmp_path, "heads: [softmax]\nseeds: 1000\n", hill(1))
    trials = world.engine.start()
    looked = 0
    original = world.store.is_done

    def counted(identity: str) -> bool:
        nonlocal looked
        looked += 1
        return original(identity)

    world.store.is_done = counted  # type: ignore[method-assign]
    for trial in trials:
        world.write(trial)
        assert world.engine.ended(trial) == []
    assert world.engine.over
    assert looked == 1000
