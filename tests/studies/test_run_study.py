"""``logitlab.studies.run``: real trials, one epoch of a perceptron on digits each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.records import Store
from logitlab.records.study import list_studies, read_definition, read_plan, study_folder
from logitlab.studies import compare, define, gather_results, run
from logitlab.studies.status import study_status

STUDY = {
    "name": "tiny",
    "data": {"name": "digits", "train_limit": 300},
    "backbone": "mlp",
    "training": {"epochs": 1},
    "seeds": 2,
    "heads": [
        "softmax",
        {"head": "cosine_ls", "label": "LS"},
        {
            "head": "cosine",
            "label": "2κ*",
            "depends_on": {"head.kappa": {"of": "LS", "measure": "validation.kappa_star", "times": 2}},
        },
    ],
}


def study(**changes: Any) -> dict[str, Any]:
    return {**STUDY, **changes}


class Watch:
    """Notes what a study tells."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.started: list[str] = []
        self.counts: list[int] = []

    def prepare(self) -> None: ...
    def start(self, trials: Any, pending: Any, workers: int) -> None:
        self.counts = [len(trials), len(pending)]

    def planned(self, trials: Any) -> None:
        self.counts.append(len(trials))

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def trial_started(self, trial: Any) -> None:
        self.started.append(trial.identity)

    def epoch(self, progress: Any) -> None: ...
    def trial_ended(self, trial: Any, record: Any) -> None: ...
    def reporting(self) -> None: ...
    def stop(self) -> None: ...


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Any:
    watch = Watch()
    found = run(study(), executor="serial", out=tmp_path_factory.mktemp("out"), progress=watch)
    return found, watch


def test_twice_kappa_star_is_trained_with_twice_the_mean(outcome: Any) -> None:
    found, watch = outcome
    rows = {row.label: row for row in found.results.rows}
    stars = [measures["validation.kappa_star"] for measures in rows["LS"].seeds.values()]
    assert rows["2κ*"].plan.chosen["head.kappa"] == pytest.approx(sum(stars), rel=1e-5)
    chosen = rows["2κ*"].plan.chosen["head.kappa"]
    assert [measures["test.kappa"] for measures in rows["2κ*"].seeds.values()] == [pytest.approx(chosen)] * 2
    # Two rows at once; the third becomes known when both of their seeds have ended.
    assert watch.counts == [4, 4, 2]
    assert not found.failed


def test_the_files_of_the_study_tell_what_it_is(outcome: Any) -> None:
    found, _ = outcome
    assert list_studies(found.root) == ["tiny"]
    folder = study_folder(found.root, "tiny")
    assert found.folder == folder
    assert read_definition(folder) == define(study())
    plan = read_plan(folder)
    assert [row.label for row in plan.rows] == ["softmax", "LS", "2κ*"]
    assert {trial.identity for trial in plan.trials} == set(Store(found.root).identities())
    again = gather_results(found.root, "tiny")
    assert [dict(row.seeds) for row in again.rows] == [dict(row.seeds) for row in found.results.rows]
    assert found.report == folder / "report.html"
    assert "<html" in found.report.read_text(encoding="utf-8")
    assert "softmax" in (folder / "table.md").read_text(encoding="utf-8")
    assert "2κ*" in str(found)


def test_the_same_call_runs_nothing_twice(outcome: Any) -> None:
    found, _ = outcome
    watch = Watch()
    again = run(study(), executor="serial", out=found.root, progress=watch, report=False)
    assert watch.started == []
    assert watch.counts == [6, 0]
    assert [dict(row.seeds) for row in again.results.rows] == [dict(row.seeds) for row in found.results.rows]


def test_a_study_that_gained_a_seed_trains_what_is_new(outcome: Any) -> None:
    found, _ = outcome
    watch = Watch()
    again = run(
        study(name="more", seeds=3, heads=["softmax"]), executor="serial", out=found.root, progress=watch, report=False
    )
    assert len(watch.started) == 1
    assert list(again.results.rows[0].seeds) == [0, 1, 2]


def test_studies_share_trials_with_comparisons_and_each_other(outcome: Any, tmp_path: Path) -> None:
    found, _ = outcome
    watch = Watch()
    result = compare(
        "digits", heads=["softmax"], backbone="mlp", seeds=2, epochs=1, train_limit=300, out=found.root,
        executor="serial", report=False, ood=["none"], progress=watch,
    )  # fmt: skip
    assert watch.started == []
    assert len(result.records) == 2
    assert list_studies(found.root) == ["compare", "more", "tiny"]
    kept = gather_results(found.root, "compare")
    assert [row.label for row in kept.rows] == ["softmax"]
    # What was kept of the comparison is a study that runs: nothing is left to do.
    again = Watch()
    run(
        read_definition(study_folder(found.root, "compare")),
        executor="serial",
        out=found.root,
        progress=again,
        report=False,
    )
    assert again.started == []


def test_every_fault_of_a_study_comes_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = study(
        backbone="small_cn",
        heads=[
            "sofmax",
            {"head": "cosine:kapa=3", "label": "A"},
            {"head": "softmax", "label": "B"},
            {"head": "softmax"},
        ],
        plugins=["no_such_plugin_here"],
        stages=[{"ood": {"set": ["noise"]}}, {"linear_prob": {}}],
        execution={"device": "no_such_device"},
    )
    with pytest.raises(ConfigurationError) as caught:
        run(broken, out=tmp_path / "file" / "out")
    text = str(caught.value)
    for words in (
        "Unknown head 'sofmax'; did you mean 'softmax'?",
        "did you mean 'kappa'?",
        "Unknown backbone 'small_cn'; did you mean 'small_cnn'?",
        "Cannot import the plugin 'no_such_plugin_here'",
        "Unknown option 'set' of the stage 'ood'; did you mean 'sets'?",
        "Unknown stage 'linear_prob'; did you mean 'linear_probe'?",
        "The device 'no_such_device' cannot be used",
        "is a file",
    ):
        assert words in text, (words, text)


def test_two_rows_that_are_one_trial_are_refused(tmp_path: Path) -> None:
    twins = study(heads=[{"head": "cosine", "label": "A"}, {"head": "cosine:tau=0.05", "label": "B"}])
    with pytest.raises(ConfigurationError, match="The rows 'A' and 'B' are the same trial. Give it once."):
        run(twins, out=tmp_path)


def test_unknown_studies_and_scales(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Unknown study 'w-table-11'; did you mean 'w-table-1'?"):
        run("w-table-11", out=tmp_path)
    with pytest.raises(ConfigurationError, match="There is no file '.*none.yaml'. Give a YAML file, or a preset: "):
        run(tmp_path / "none.yaml", out=tmp_path)
    with pytest.raises(ConfigurationError, match="Unknown scale 'smal'; did you mean 'small'?"):
        run("w-table-1", scale="smal", out=tmp_path)
    with pytest.raises(ConfigurationError, match="was read at the scale 'tiny'. Got 'small'"):
        run(define("w-table-1", "tiny"), scale="small", out=tmp_path)


def test_options_of_the_call_are_checked_with_the_rest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run(study(heads=["sofmax"]), executor="rai", workers=0, slurm={"partitoin": "gpu"}, out=tmp_path)
    text = str(caught.value)
    assert "'execution.executor' must be 'process', 'ray', 'serial' or 'slurm'. Got 'rai'; did you mean 'ray'?" in text
    assert "'execution.workers' must be greater than or equal to 1. Got 0." in text
    assert "Unknown option 'execution.slurm.partitoin'; did you mean 'partition'?" in text
    assert "Unknown head 'sofmax'" in text


def test_measures_that_nobody_takes_are_told_before_the_run(tmp_path: Path) -> None:
    broken = study(
        heads=[
            "softmax",
            {
                "head": "cosine",
                "depends_on": {
                    "head.kappa": {"of": "softmax", "measure": "validation.kapa_star", "statistic": "same_seed"}
                },
                "seeds": [0, 7],
            },
        ],
        search={"parameters": {"training.learning_rate": [0.1, 1.0]}, "measure": "validation.acuracy"},
        columns=[{"measure": "test.acuracy", "title": "a"}],
        claims=[{"text": "t", "rule": "above", "measure": "tst.nll", "than": "softmax"}],
        figures=[{"title": "t", "kind": "dots", "measures": ["validation.class_separation"]}],
        paper={"table": "w-table-11", "title": "W"},
    )
    with pytest.raises(ConfigurationError) as caught:
        run(broken, executor="serial", out=tmp_path)
    text = str(caught.value)
    for words in (
        "Unknown measure 'validation.kapa_star'; did you mean 'validation.kappa_star'?",
        "Unknown measure 'validation.acuracy'; did you mean 'validation.accuracy'?",
        "Unknown measure 'test.acuracy'; did you mean 'test.accuracy'?",
        "Unknown measure 'tst.nll'; did you mean 'test.nll'?",
        "Unknown measure 'validation.class_separation'",
        "takes 'head.kappa' from the same seed of 'softmax', which has no seed 7",
        "'w-table-1'",
    ):
        assert words in text, (words, text)


def test_the_failure_of_another_studys_stage_is_none_of_this_one(tmp_path: Path) -> None:
    plain = study(heads=["softmax"], seeds=1)
    found = run(plain, executor="serial", out=tmp_path, report=False)
    (identity,) = found.results.records
    Store(tmp_path).write_error(identity, {}, {"kind": "TrialError", "message": "The stage 'mine' failed."})
    again = run(plain, executor="serial", out=tmp_path, report=False)
    assert again.complete
    assert again.failed == ()
    assert again.results.rows[0].failures == {}


def test_a_stage_that_failed_for_another_study_keeps_no_stage_from_running(tmp_path: Path) -> None:
    def asks(**stage: Any) -> dict[str, Any]:
        return study(name=next(iter(stage)), heads=["softmax"], seeds=1, stages=[stage])

    # Five images have no third to choose λ on.
    failing = asks(linear_probe={"data": "digits", "train_limit": 5})
    first = run(failing, executor="serial", out=tmp_path, report=False)
    assert "'linear_probe' failed" in first.results.rows[0].failures[0]
    shifted = asks(shift={"data": "digits"})
    before = run(asks(timing={"repeats": 1}), executor="serial", out=tmp_path, report=False)
    assert (before.failed, before.results.rows[0].failures) == ((), {})
    # What the note of the failure says is of the first study alone, until something has succeeded.
    run(failing, executor="serial", out=tmp_path, report=False)
    second = run(shifted, executor="serial", out=tmp_path, report=False)
    assert second.results.rows[0].failures == {}
    assert "shift.digits.accuracy" in second.results.rows[0].seeds[0]
    # One that fails for this study stays failed, and is not tried again unasked.
    run(failing, executor="serial", out=tmp_path, report=False)
    watch = Watch()
    again = run(failing, executor="serial", out=tmp_path, report=False, progress=watch)
    assert (watch.started, len(again.failed)) == ([], 1)
    found = study_status(tmp_path, "linear_probe")
    assert (found.done, found.failed, found.left) == (0, 1, 0)
    Store(tmp_path).trial_folder(next(iter(second.results.records))).joinpath("stages").rename(tmp_path / "gone")
    other = study_status(tmp_path, "shift")
    assert (other.done, other.failed, other.left) == (0, 0, 1)
    assert gather_results(tmp_path, "shift").rows[0].failures == {}


def test_seeds_in_another_order_are_the_same_row(tmp_path: Path) -> None:
    twins = study(heads=[{"head": "softmax", "seeds": [0, 1]}, {"head": "softmax", "label": "B", "seeds": [1, 0]}])
    with pytest.raises(ConfigurationError, match="The rows 'softmax' and 'B' are the same trial. Give it once."):
        run(twins, out=tmp_path)


def test_failures_stay_until_they_are_tried_again(tmp_path: Path) -> None:
    diverging = study(heads=["softmax"], seeds=1, training={"epochs": 1, "learning_rate": 1e30})
    first = run(diverging, executor="serial", out=tmp_path, report=False)
    assert len(first.failed) == 1
    assert "no longer finite" in first.results.rows[0].failures[0] or "loss" in first.results.rows[0].failures[0]
    watch = Watch()
    run(diverging, executor="serial", out=tmp_path, report=False, progress=watch)
    assert watch.started == []
    assert any("1 trial has failed before, and stay" in text for text in watch.notices)
    run(diverging, executor="serial", out=tmp_path, report=False, progress=watch, retry_failed=True)
    assert len(watch.started) == 1


def test_a_search_never_touches_the_test_images(tmp_path: Path) -> None:
    searched = study(
        heads=["softmax"], seeds=1,
        search={"parameters": {"training.learning_rate": [0.01, 0.1]}, "seeds": 1, "expansions": 0, "refinements": 0},
    )  # fmt: skip
    found = run(searched, executor="serial", out=tmp_path, report=False)
    store = Store(found.root)
    plan = read_plan(found.folder)
    for trial in plan.trials:
        result = store.record(trial.identity)["result"]
        assert bool(result["test"]) is (trial.role == "final")
        assert result["validation"]["accuracy"] > 0
    assert len(found.results.searched) == 2
    means = {
        point["training.learning_rate"]: found.results.searched[trial.identity]["validation.accuracy"]
        for trial in plan.trials
        if trial.role == "search" and (point := trial.settings)
    }
    assert found.results.rows[0].plan.chosen["training.learning_rate"] == max(means, key=lambda rate: means[rate])


def test_the_best_epoch_is_kept_when_it_is_asked_for(tmp_path: Path) -> None:
    found = run(
        study(heads=["softmax"], seeds=1, select_epoch="best", training={"epochs": 4, "learning_rate": 0.5}),
        executor="serial", out=tmp_path, report=False,
    )  # fmt: skip
    (record,) = found.results.records.values()
    history = [epoch["validation_accuracy"] for epoch in record["result"]["history"]]
    assert len(history) == 4
    assert record["result"]["selected_epoch"] == 1 + history.index(max(history))


def test_ood_sets_are_measured_of_the_rows_alone(tmp_path: Path) -> None:
    found = run(
        study(heads=["softmax"], seeds=1, stages=[{"ood": {"sets": "noise"}}]),
        executor="serial",
        out=tmp_path,
        report=False,
    )
    (measures,) = found.results.rows[0].seeds.values()
    assert 0 <= measures["ood.noise.max_logit_ap"] <= 1
    # Another set later: nothing is trained.
    watch = Watch()
    more = study(heads=["softmax"], seeds=1, stages=[{"ood": {"sets": ["noise", "patches"]}}])
    again = run(more, executor="serial", out=tmp_path, report=False, progress=watch)
    assert watch.started == []
    assert "ood.patches.max_logit_ap" in again.results.rows[0].seeds[0]


def test_a_folder_that_takes_nothing_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from logitlab.config.errors import LogitLabError
    from logitlab.records import study as files

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_json_atomic", full)
    with pytest.raises(LogitLabError, match="Cannot write the study in '.*': No space left on device. Give another"):
        run(study(), executor="serial", out=tmp_path)


def test_plans_are_plain_json(outcome: Any) -> None:
    found, _ = outcome
    values = json.loads((found.folder / "plan.json").read_text(encoding="utf-8"))
    assert values["rows"][2]["label"] == "2κ*"
    assert values["trials"][0]["role"] == "final"
