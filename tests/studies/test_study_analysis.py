"""The analysis of a study: all models of the table together, after the last trial, once."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from logitlab.cli.study_show import study_text
from logitlab.config.errors import ConfigurationError
from logitlab.evaluation import between, passes
from logitlab.evaluation.measurements import MEASUREMENTS, register_measurement
from logitlab.records import Store
from logitlab.records.analysis import read_analysis
from logitlab.records.study import ANALYSIS_FOLDER
from logitlab.studies import analysis_of_study, define, gather_results, run
from logitlab.studies.catalogue import definition_yaml
from logitlab.studies.export import export_studies

# Two rows of one head: what groups models by their head would take them for one.
HEADS = [
    {"head": "cosine", "label": "slow"},
    {"head": "cosine", "label": "fast", "training": {"learning_rate": 0.3}},
]
LABELS = ["slow, seed 0", "slow, seed 1", "fast, seed 0", "fast, seed 1"]
MEASURES = ["accuracy", "separation", "agreement", "clustering", "ensembles", "cka"]


def study(name: str, analysis: Any = None, **changes: Any) -> dict[str, Any]:
    values = {
        "name": name,
        "data": {"name": "digits", "train_limit": 200},
        "backbone": "mlp",
        "training": {"epochs": 1, "learning_rate": 0.05},
        "seeds": 2,
        "heads": HEADS,
        **changes,
    }
    return values if analysis is None else {**values, "analysis": analysis}


class Watch:
    """Notes what a study tells."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.started: list[str] = []

    def prepare(self) -> None: ...
    def start(self, trials: Any, pending: Any, workers: int) -> None: ...
    def planned(self, trials: Any) -> None: ...
    def notice(self, text: str) -> None:
        self.notices.append(text)

    def trial_started(self, trial: Any) -> None:
        self.started.append(trial.identity)

    def epoch(self, progress: Any) -> None: ...
    def trial_ended(self, trial: Any, record: Any) -> None: ...
    def reporting(self) -> None: ...
    def stop(self) -> None: ...


def go(values: Any, out: Path, **options: Any) -> tuple[Any, Watch]:
    watch = Watch()
    return run(values, executor="serial", out=out, progress=watch, **{"report": False, **options}), watch


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all studies here: they share their trials."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def whole(out: Path) -> Any:
    found, _ = go(study("whole", {"measures": MEASURES}), out, report=True)
    return found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many models each analysis measured."""
    counts: list[int] = []
    original = analysis_of_study.measure_models

    def spy(subjects: Any, *given: Any, **options: Any) -> Any:
        counts.append(len(subjects))
        return original(subjects, *given, **options)

    monkeypatch.setattr(analysis_of_study, "measure_models", spy)
    return counts


def answers(outcome: Any) -> tuple[dict[str, numpy.ndarray], numpy.ndarray]:
    """Label of a model → what its trial says that it answered; and the truth."""
    store, found = Store(outcome.root), {}
    for trial in outcome.results.plan.trials:
        with numpy.load(store.trial_folder(trial.identity) / "outputs.npz") as kept:
            found[f"{trial.row}, seed {trial.seed}"], truth = kept["predicted"], kept["labels"]
    return found, truth


def vote(members: list[numpy.ndarray]) -> numpy.ndarray:
    """The most common class of each image, of equally common ones the smallest."""
    return numpy.array([numpy.bincount(column).argmax() for column in numpy.stack(members, axis=1)])


def test_models_are_called_by_their_row_and_seed(whole: Any) -> None:
    analysis = whole.results.analysis
    assert [model.label for model in analysis.models] == LABELS
    known = {trial.identity: f"{trial.row}, seed {trial.seed}" for trial in whole.results.plan.trials}
    assert {model.identity: model.label for model in analysis.models} == known
    # No path of this machine.
    assert [model.checkpoint for model in analysis.models] == [f"trials/{model.identity}" for model in analysis.models]
    assert (analysis.data.name, analysis.data.part) == ("digits", "test")
    assert set(analysis.measures) == {"accuracy", "separation"}
    assert not analysis.failures


def test_rows_that_are_called_like_models_of_another_stay_apart() -> None:
    rows = {"a": (0, 1), "a, seed 0": (0,), "a, seed 0 of 'a'": (0,), "a, seed 1": (0, 1)}
    plan = SimpleNamespace(rows=rows)
    trials = [SimpleNamespace(row=row, seed=seed) for row, seeds in rows.items() for seed in seeds]
    labels = [analysis_of_study._label(plan, trial) for trial in trials]  # type: ignore[arg-type]
    assert labels[0] == "a, seed 0 of 'a' of 'a'"
    assert len(set(labels)) == len(trials)


def test_agreement_is_what_the_trials_answered(whole: Any) -> None:
    said, truth = answers(whole)
    same, right, wrong, ensembles = whole.results.analysis.between["agreement"]
    for row, column in itertools.product(range(4), repeat=2):
        one, other = said[LABELS[row]], said[LABELS[column]]
        assert same["value"][row][column] == pytest.approx(float((one == other).mean()))
        both = (one == truth) == (other == truth)
        assert right["value"][row][column] == pytest.approx(float(both.mean()))
        missed = (one != truth) & (other != truth)
        assert wrong["value"][row][column] == pytest.approx(float((one == other)[missed].mean()))
    assert same["names"] == LABELS
    votes = [vote([said[f"{row}, seed {seed}"] for seed in (0, 1)]) for row in ("slow", "fast")]
    assert ensembles["names"] == ["slow", "fast"]
    assert ensembles["kind"] == between.OF_ENSEMBLES
    assert ensembles["value"][0][1] == pytest.approx(float((votes[0] == votes[1]).mean()))
    assert 0 < ensembles["value"][0][1] < 1


def test_ensembles_are_of_rows_not_of_heads(whole: Any) -> None:
    said, truth = answers(whole)

    def accuracy(*members: str) -> float:
        return float((vote([said[each] for each in members]) == truth).mean())

    found = whole.results.analysis.between["ensembles"]
    assert found["names"] == ["slow", "fast"]
    assert found["value"][0][0] == pytest.approx(accuracy("slow, seed 0", "slow, seed 1"))
    assert found["value"][1][1] == pytest.approx(accuracy("fast, seed 0", "fast, seed 1"))
    mixed = accuracy("slow, seed 0", "fast, seed 1") + accuracy("slow, seed 1", "fast, seed 0")
    assert found["value"][0][1] == pytest.approx(mixed / 2)


def test_no_pass_is_left(whole: Any) -> None:
    assert sorted(path.name for path in (whole.folder / ANALYSIS_FOLDER).iterdir()) == ["analysis.json", "source.json"]


def test_the_page_holds_its_sections(whole: Any) -> None:
    text = whole.report.read_text(encoding="utf-8")
    for part in ('id="analysis"', 'id="analysis-agreement"', 'id="analysis-ensembles"', 'id="analysis-cka"'):
        assert part in text
    assert "slow, seed 1" in text
    assert "same answer of ensembles, %" in text


def test_a_second_run_measures_nothing(whole: Any, out: Path, measured: list[int]) -> None:
    again, watch = go(study("whole", {"measures": MEASURES}), out)
    assert watch.started == []
    assert measured == []
    assert again.results.analysis == whole.results.analysis


def test_what_has_changed_is_measured_again(whole: Any, out: Path, measured: list[int]) -> None:
    given = {"measures": ["separation", "agreement"], "limit": 50, "rows": ["slow"]}
    found, _ = go(study("less", given), out)
    assert [model.label for model in found.results.analysis.models] == LABELS[:2]
    assert found.results.analysis.data.images == 50
    # Measured on training images, of which there are more.
    assert found.results.analysis.measures["separation"]["slow, seed 0"]["n"] == 50
    go(study("less", {**given, "limit": 60}), out)
    go(study("less", {**given, "limit": 60, "rows": []}), out)
    go(study("less", {**given, "limit": 60, "rows": [], "seeds": 1}), out)
    found, _ = go(study("less", {**given, "limit": 60, "rows": [], "seeds": 1}), out)
    assert measured == [2, 2, 4, 2]
    # One model a row is called as the row is.
    assert [model.label for model in found.results.analysis.models] == ["slow", "fast"]


def test_a_run_that_was_cut_off_keeps_its_passes(whole: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []
    original = passes._fill
    monkeypatch.setattr(passes, "_fill", lambda *given: filled.append(1) or original(*given))

    def cut_off(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(analysis_of_study, "write_analysis", cut_off)
        with pytest.raises(KeyboardInterrupt):
            go(study("cut-off", {"measures": ["agreement"]}), out)
    place = out / "studies" / "cut-off" / ANALYSIS_FOLDER
    assert len(filled) == 4
    assert not (place / "analysis.json").exists()
    found, _ = go(study("cut-off", {"measures": ["agreement"]}), out)
    assert len(filled) == 4
    assert found.results.analysis.between["agreement"] == whole.results.analysis.between["agreement"]
    assert not (place / "passes").exists()


def test_a_full_disk_is_told_and_its_passes_removed(whole: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(analysis_of_study, "write_analysis", full)
    found, watch = go(study("full", {"measures": ["accuracy"]}), out)
    assert found.results.analysis is None
    assert found.complete
    assert any("The analysis cannot be written" in each and "No space left" in each for each in watch.notices)
    assert not (found.folder / ANALYSIS_FOLDER / "passes").exists()


def test_a_measure_that_fails_is_said_and_the_others_go_on(
    whole: Any, out: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(outputs: Any) -> float:
        raise ValueError("no luck")

    register_measurement("my_measure")(mine)
    try:
        asked = study("unlucky", {"measures": ["accuracy", "my_measure"]})
        found, watch = go(asked, out)
        analysis = found.results.analysis
        assert {failure.model for failure in analysis.failures} == set(LABELS)
        assert "Not measured: slow, seed 0: my_measure: ValueError: no luck" in watch.notices
        assert set(analysis.measures["accuracy"]) == set(LABELS)
        go(asked, out)
        assert measured == [4]
        go(asked, out, retry_failed=True)
        assert measured == [4, 4]
        # Other code under the same name is another measurement.
        register_measurement("my_measure", overwrite=True)(lambda outputs: 2.0)
        monkeypatch.setattr(MEASUREMENTS, "source", lambda name: "0" * 64)
        found, _ = go(asked, out)
        assert measured == [4, 4, 4]
        assert found.results.analysis.measures["my_measure"]["fast, seed 1"]["value"] == 2.0
    finally:
        MEASUREMENTS.forget("my_measure")


def test_what_needs_more_models_is_said(whole: Any, out: Path) -> None:
    asked = {"measures": ["accuracy", "agreement", "ensembles"]}
    found, watch = go(study("lonely", {**asked, "seeds": 1}), out)
    assert "Not measured: ensembles: No row has two models: there are no ensembles of seeds." in watch.notices
    assert len(found.results.analysis.between["agreement"]) == 3
    _, watch = go(study("alone", {**asked, "seeds": 1, "rows": ["fast"]}), out)
    assert "Not measured: agreement: It compares models, and there is one." in watch.notices


def test_models_that_are_not_there_are_left_out(out: Path, whole: Any) -> None:
    heads = [*HEADS, {"head": "softmax", "label": "diverges", "training": {"learning_rate": 1e9}}]
    found, watch = go(study("diverging", {"measures": ["accuracy"]}, heads=heads), out)
    assert len(found.failed) == 2
    assert "The analysis is of 4 of 6 models; the others are not finished." in watch.notices
    assert [model.label for model in found.results.analysis.models] == LABELS
    nothing, watch = go(study("nothing", {"measures": ["accuracy"], "rows": ["diverges"]}, heads=heads), out)
    assert "No trial that the analysis asks for is finished: nothing is analysed." in watch.notices
    assert nothing.results.analysis is None


def test_a_model_that_cannot_be_opened_is_told_and_tried_again(whole: Any, tmp_path: Path, measured: list[int]) -> None:
    root = tmp_path / "out"
    shutil.copytree(whole.root, root)
    weights = Store(root).trial_folder(whole.results.plan.trials[0].identity) / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:100])
    asked = study("damaged", {"measures": ["accuracy"]})
    found, watch = go(asked, root)
    first = whole.results.plan.trials[0]
    label = f"{first.row}, seed {first.seed}"
    assert any(each.startswith(f"{label} is not analysed: ") for each in watch.notices)
    assert label not in [model.label for model in found.results.analysis.models]
    weights.write_bytes(kept)
    found, _ = go(asked, root)
    assert measured == [3, 4]
    assert len(found.results.analysis.models) == 4


def test_every_fault_comes_before_the_first_trial(tmp_path: Path) -> None:
    analysis = {"measures": ["agrement", "accuracy", "probe"], "ood": ["nois"], "rows": ["slo"]}
    with pytest.raises(ConfigurationError) as caught:
        go(study("faulty", analysis, backbone="mpl"), tmp_path)
    text = "\n".join(caught.value.faults)
    for part in (
        "Unknown measure 'agrement'; did you mean 'agreement'?",
        "Take the stage 'linear_probe'",
        "Unknown row 'slo'; did you mean 'slow'?",
        "'nois'",
        "'mpl'",
    ):
        assert part in text, part
    assert not (tmp_path / "trials").exists()


def test_rows_of_other_images_are_no_rows_of_one_analysis(tmp_path: Path) -> None:
    numpy.savez(
        tmp_path / "other.npz",
        x_train=numpy.zeros((40, 8, 8), numpy.uint8),
        y_train=numpy.arange(40) % 10,
        x_test=numpy.zeros((20, 8, 8), numpy.uint8),
        y_test=numpy.arange(20) % 10,
    )
    other = f"npz:{tmp_path / 'other.npz'}"
    values = study("both", {"measures": ["agreement"]}, grid={"data": ["digits", other]}, data="digits")
    with pytest.raises(ConfigurationError, match="rows of one data set") as caught:
        go(values, tmp_path / "out")
    assert caught.value.faults == (
        f"The analysis needs rows of one data set: its models look at the same images. Got 'digits' "
        f"('slow [data = digits]') and '{other}' ('slow [data = {other}]'); name the rows of one in 'analysis.rows'.",
    )
    parts = define({**values, "analysis": {"measures": ["agreement"], "rows": ["slow [data = digits]"]}})
    assert parts.analysis is not None


def test_a_damaged_analysis_is_told_and_made_anew(whole: Any, out: Path, measured: list[int]) -> None:
    found, _ = go(study("spoilt", {"measures": ["agreement"]}), out, report=True)
    file = found.folder / ANALYSIS_FOLDER / "analysis.json"
    kept = file.read_text()
    file.write_text(kept[:50])
    results = gather_results(out, "spoilt")
    assert results.analysis is None
    # The same words wherever the study lies.
    assert results.analysis_fault.startswith("Cannot read 'analysis.json': it is not whole JSON")
    assert results.analysis_fault.endswith("'logitlab study run' makes it anew.")
    assert [list(row.values("test.accuracy").values()) for row in results.rows] == [
        list(row.values("test.accuracy").values()) for row in found.results.rows
    ]
    again, _ = go(study("spoilt", {"measures": ["agreement"]}), out)
    assert measured == [4, 4]
    assert again.results.analysis == found.results.analysis
    assert file.read_text() == kept


def test_numbers_between_models_of_another_form_are_told(whole: Any, out: Path) -> None:
    found, _ = go(study("edited", {"measures": ["agreement"]}), out)
    file = found.folder / ANALYSIS_FOLDER / "analysis.json"
    values = json.loads(file.read_text())
    for wrong in ({"agreement": 3}, {"agreement": [{}]}, {"ensembles": {"names": ["slow"], "value": [[None]]}}):
        file.write_text(json.dumps({**values, "between": wrong}))
        results = gather_results(out, "edited")
        assert results.analysis is None
        assert results.analysis_fault.startswith("'analysis.json' is damaged: what lies between its models")
        assert results.analysis_fault.endswith("'logitlab study run' makes it anew.")


def test_its_numbers_are_exported(whole: Any, out: Path) -> None:
    found, _ = go(study("outgoing", {"measures": ["agreement"]}), out)
    target = out / "outgoing.csv"
    assert not export_studies(out, "csv", target, sys.stdout, "outgoing").damage
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    key = "analysis.agreement.same_row"
    expected = {(row.label, seed): value for row in found.results.rows for seed, value in row.values(key).items()}
    assert len(expected) == 4
    assert {(row["row"], int(row["seed"])): float(row[key]) for row in rows} == pytest.approx(expected)
    (found.folder / ANALYSIS_FOLDER / "analysis.json").write_text("{")
    (damage,) = export_studies(out, "csv", target, sys.stdout, "outgoing").damage
    assert damage.startswith("The analysis of 'outgoing' is left out. Cannot read 'analysis.json': it is not whole")


def test_an_analysis_of_other_trials_is_not_shown(whole: Any, out: Path) -> None:
    found, _ = go(study("others", {"measures": ["accuracy"]}), out)
    file = found.folder / ANALYSIS_FOLDER / "analysis.json"
    values = json.loads(file.read_text())
    values["models"][0]["identity"] = "0" * 16
    file.write_text(json.dumps(values))
    assert "other trials than the study has now" in gather_results(out, "others").analysis_fault
    # A study that asks for none shows none.
    plain, _ = go(study("others"), out)
    assert (plain.results.analysis, plain.results.analysis_fault) == (None, "")


@pytest.mark.slow
def test_its_report_is_drawn_again_without_torch(whole: Any, tmp_path: Path) -> None:
    root = tmp_path / "out"
    shutil.copytree(whole.root, root)
    page = root / "studies" / "whole" / "report.html"
    before = page.read_bytes()
    page.unlink()
    program = (
        "import sys; from logitlab.cli.main import main\n"
        f"code = main(['study', 'report', {str(root)!r}, '--study', 'whole'])\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert page.read_bytes() == before


def test_it_is_shown(out: Path) -> None:
    given = {"measures": ["cka", "tsne"], "limit": 1000, "control": True, "ood": ["noise"], "rows": ["slow"]}
    definition = define(study("shown", {**given, "seeds": 1}))
    text = " ".join(study_text(definition).split())
    assert (
        "Analysis of all models, after the last trial: cka, tsne; test images, at most 1,000; rows slow; the first "
        "seed of each row; with the untrained control; strange images noise" in text
    )
    path = out / "shown.yaml"
    path.write_text(definition_yaml(definition), encoding="utf-8")
    assert define(path) == definition
    assert "Analysis" not in study_text(define(study("plain")))


def models(groups: int, seeds: int, *, grouped: bool = True) -> list[Any]:
    """Models without weights: two rows of one head each time."""
    return [
        SimpleNamespace(
            label=f"row {row}, seed {seed}",
            seed=seed,
            group=f"row {row}" if grouped else "",
            group_key=(f"row {row}",) if grouped else (f"head {row // 2}", "mlp"),
        )
        for row in range(groups)
        for seed in range(seeds)
    ]


def test_of_many_models_one_of_each_row_stands_for_it() -> None:
    many = models(5, 2)
    assert [each.label for each in between.representatives(many)] == [f"row {row}, seed 0" for row in range(5)]
    pairs = [name for name, _ in between.cka(many)]
    # W Figure 3b: never two models that started from the same weights; on the diagonal two seeds of one row.
    assert pairs == [f"row {one}, seed 0 with row {other}, seed 1" for one in range(5) for other in range(5)]
    # Nine models of one seed each have no others to compare with.
    assert [name for name, _ in between.cka(models(9, 1))][:2] == [
        "row 0, seed 0 with itself",
        "row 0, seed 0 with row 1, seed 0",
    ]
    few = models(4, 2)
    assert between.representatives(few) == few
    assert len([name for name, _ in between.cka(few)]) == 8 * 9 // 2
    # Models of no row are grouped by their heads, as ever.
    assert len(list(between.cka(models(6, 2, grouped=False)))) == 3 * 4 // 2


def test_what_is_left_of_the_file_is_what_analyze_writes(whole: Any) -> None:
    assert read_analysis(whole.folder / ANALYSIS_FOLDER) == whole.results.analysis
