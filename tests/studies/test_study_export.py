"""Studies for other programs: every format is read back."""

import csv
import io
import sys
import warnings

import pytest
from fabricated import make_config
from fabricated_study import EPOCHS, FabricatedStudy, identity, label

from logitlab.config.errors import ConfigurationError
from logitlab.records import Store
from logitlab.records.mlflow_export import check_mlflow, tracking_uri
from logitlab.records.study_trials import gather_trials, study_rows
from logitlab.records.tensorboard_export import check_tensorboard_writer
from logitlab.studies.export import export_studies


@pytest.fixture
def study(tmp_path):
    study = FabricatedStudy(tmp_path / "runs", stages=True, ood=True)
    for point in range(2):
        study.finish(1, point, "search")
    study.finish(0, 0)
    study.finish(1, 0)
    study.finish(1, 1, beside=False)
    study.fail(0, 1)
    return study


def exported(made, to="csv", output=None, **options):
    screen = io.StringIO()
    done = export_studies(made.root, to, output, screen, **options)
    return done, screen.getvalue()


def test_each_ended_trial_is_a_row_of_csv(study):
    done, text = exported(study)
    assert (done.place, done.summary, done.damage) == (None, "", ())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["row"], row["role"], row["seed"], row["status"]) for row in rows] == [
        (label(1), "search", "0", "finished"),
        (label(1), "search", "1", "finished"),
        (label(0), "final", "0", "finished"),
        (label(1), "final", "0", "finished"),
        (label(0), "final", "1", "failed"),
        (label(1), "final", "1", "finished"),
    ]
    assert {row["study"] for row in rows} == {"made-up"}
    # The point of a search, what a search chose, and what no row has.
    assert [row["training.learning_rate"] for row in rows] == ["0.01", "0.1", "0.1", "0.1", "0.1", "0.1"]
    assert [row["head.kappa"] for row in rows] == ["10", "10", "5", "10", "5", "10"]
    assert [row["test.accuracy"] for row in rows] == ["", "", "0.5", "0.6", "", "0.61"]
    assert [row["linear_probe.digits.accuracy"] for row in rows] == ["", "", "0.75", "0.75", "", ""]
    assert [row["ood.noise.max_logit_ap"] for row in rows] == ["", "", "0.9", "0.9", "", ""]
    assert rows[4]["error"] == "the loss is nan"
    assert rows[2]["versions.torch"] == "2.15.0"


def test_the_point_of_a_search_is_no_ones_choice(study):
    trials, damage = gather_trials(study.root, study.name, study.plan)
    assert damage == []
    axes = {trial.plan.identity: dict(trial.axes) for trial in trials}
    assert axes[identity(1, 0, "search")] == {"head.kappa": 10, "training.learning_rate": 0.01}
    assert axes[identity(1, 0)] == {"head.kappa": 10, "training.learning_rate": 0.1}
    assert axes[identity(0, 0)] == {"head.kappa": 5}
    assert trials[0].title == f"{label(1)}, seed 0, search"
    assert trials[2].title == f"{label(0)}, seed 0"


def test_every_measure_stands_under_its_flat_key(study):
    trials, _ = gather_trials(study.root, study.name, study.plan)
    rows = study_rows(trials)
    for trial, row in zip(trials, rows):
        assert trial.measures.items() <= row.items()
    assert rows[2]["selected_epoch"] == EPOCHS
    assert rows[2]["test.nll"] is None


def test_parquet_is_read_back(study, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trials.parquet"
    done, _ = exported(study, "parquet", path)
    assert done.place == str(path)
    assert done.summary == "6 trials of the study 'made-up'"
    table = parquet.read_table(path).to_pydict()
    assert table["head.kappa"] == [10, 10, 5, 10, 5, 10]
    assert table["test.accuracy"] == [None, None, 0.5, 0.6, None, 0.61]


def test_latex_is_the_table_of_the_study(study):
    _, text = exported(study, "latex")
    assert r"\toprule" in text
    assert r"\label{tab:made-up}" in text
    assert "50.00" in text


def test_several_studies_stand_one_after_another(study):
    FabricatedStudy(study.root, "other").finish(0, 0)
    _, text = exported(study)
    assert [row["study"] for row in csv.DictReader(io.StringIO(text))] == ["made-up"] * 6 + ["other"] * 6
    _, text = exported(study, study="other")
    assert {row["study"] for row in csv.DictReader(io.StringIO(text))} == {"other"}
    _, text = exported(study, "latex")
    assert text.count(r"\toprule") == 2


def test_damage_is_told_and_left_out(study):
    path = study.store.trial_folder(identity(0, 0)) / "record.json"
    path.write_text(path.read_text()[:50])
    stage = study.store.trial_folder(identity(1, 0)) / "stages" / ("ab" * 8 + ".json")
    stage.write_text("{")
    done, text = exported(study)
    assert len(list(csv.DictReader(io.StringIO(text)))) == 5
    assert len(done.damage) == 2
    assert all("is not whole JSON" in sentence for sentence in done.damage)


def test_trials_of_no_study_are_what_export_records_gives(tmp_path):
    from logitlab.studies.export import export_study

    store = Store(tmp_path)
    result = {"test": {"accuracy": 0.9}, "history": []}
    store.write_record("0" * 16, make_config("softmax", 0), result, {"seconds": 2.0})
    ours, theirs = io.StringIO(), io.StringIO()
    export_studies(tmp_path, "csv", None, ours)
    export_study(tmp_path, "csv", None, theirs)
    assert ours.getvalue() == theirs.getvalue() != ""


@pytest.mark.parametrize(
    ("to", "options", "words"),
    [
        ("cvs", {}, "Unknown format 'cvs'; did you mean 'csv'?"),
        ("parquet", {}, "Give --output FILE"),
        ("csv", {"output": "gone/x.csv"}, "there is no folder 'gone'"),
        ("mlflow", {"output": "gone/x.db"}, "there is no folder 'gone'"),
        ("csv", {"study": "mad-up"}, "Unknown study 'mad-up'; did you mean 'made-up'?"),
    ],
)
def test_faults(study, to, options, words):
    with pytest.raises(ConfigurationError) as fault:
        exported(study, to, **options)
    assert words in str(fault.value)


def test_nothing_that_has_ended_is_nothing_to_export(tmp_path):
    with pytest.raises(ConfigurationError, match="No trial of the study 'made-up' has ended yet"):
        exported(FabricatedStudy(tmp_path))


def test_tensorboard_is_read_back(study, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder = tmp_path / "events"
    for _ in range(2):  # an export that is made twice adds nothing
        done, _ = exported(study, "tensorboard", folder)
    assert done.summary == "5 of 6 trials of the study 'made-up'; the other 1 failed"
    runs = sorted(path for path in (folder / "made-up").iterdir() if path.is_dir())
    assert len(runs) == 5
    (run,) = (path for path in runs if path.name.endswith(identity(0, 0)))
    assert run.name == f"κ_=_5-seed0-{identity(0, 0)}"
    assert len(list(run.iterdir())) == 1
    with warnings.catch_warnings():
        # Of numpy's, in the reader.
        warnings.simplefilter("ignore", DeprecationWarning)
        events = EventAccumulator(str(run)).Reload()
        losses = events.Scalars("loss/train")
    assert [(event.step, event.value) for event in losses] == [
        (epoch, pytest.approx(1 / epoch)) for epoch in range(1, EPOCHS + 1)
    ]
    assert "temperature/kappa" not in events.Tags()["scalars"]
    assert events.Scalars("measures/test.accuracy")[0].value == pytest.approx(0.5)
    assert events.Scalars("measures/linear_probe.digits.accuracy")[0].value == pytest.approx(0.75)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["head.kappa"].number_value == 5
    assert settings["row"].string_value == label(0)
    assert "torch" not in str(type(events))


def test_tensorboard_replaces_no_files_of_others(study, tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "events" / "made-up"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds files that no export wrote"):
        exported(study, "tensorboard", tmp_path / "events")
    assert (folder / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_is_read_back_and_never_written_twice(study, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "tracking.db"
    first, _ = exported(study, "mlflow", database)
    assert first.summary == "6 trials of the study 'made-up': 6 written, 0 stood there unchanged"
    second, _ = exported(study, "mlflow", database)
    assert second.summary == "6 trials of the study 'made-up': 0 written, 6 stood there unchanged"

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=first.place)
    experiment = client.get_experiment_by_name("made-up")
    (failed,) = client.search_runs([experiment.experiment_id], filter_string="attributes.status = 'FAILED'")
    assert failed.data.tags["logitlab.error"] == "TrialError: the loss is nan"
    # A trial that has changed since is replaced.
    study.finish(0, 1)
    third, _ = exported(study, "mlflow", database)
    assert third.summary == "6 trials of the study 'made-up': 1 written, 5 stood there unchanged"
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    (run,) = (run for run in runs if run.data.tags["logitlab.identity"] == identity(1, 0))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{label(1)}, seed 0"
    assert run.data.metrics["test.accuracy"] == pytest.approx(0.6)
    assert run.data.metrics["linear_probe.digits.accuracy"] == pytest.approx(0.75)
    assert "test.nll" not in run.data.metrics
    assert run.data.params["head.parameters.kappa"] == "10"
    assert run.data.params["training.learning_rate"] == "0.1"
    assert run.data.tags["logitlab.row"] == label(1)
    assert run.data.tags["logitlab.versions.torch"] == "2.15.0"
    assert run.data.tags["logitlab.axis.head.kappa"] == "10"
    history = client.get_metric_history(run.info.run_id, "epoch.loss")
    assert [(point.step, point.value) for point in history] == [
        (epoch, pytest.approx(1 / epoch)) for epoch in range(1, EPOCHS + 1)
    ]
    assert run.info.end_time - run.info.start_time == 61_000
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("runs", "tracking.db")] == []


def test_mlflow_says_what_it_refuses(study, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    with pytest.raises(ConfigurationError, match="refuses: .* Give --output a file for an SQLite data base"):
        exported(study, "mlflow", f"nonsense://{tmp_path}/mlruns")


def test_where_mlflow_writes(tmp_path):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking_uri(tmp_path / "own.db") == f"sqlite:///{tmp_path / 'own.db'}"
    assert tracking_uri("http://localhost:5000") == "http://localhost:5000"


@pytest.mark.parametrize(
    ("check", "module", "extra"),
    [
        (check_mlflow, "mlflow", "mlflow"),
        (check_mlflow, "sqlalchemy", "mlflow"),
        (check_tensorboard_writer, "tensorboard.summary.writer.event_file_writer", "tensorboard"),
    ],
)
def test_missing_libraries_are_named(monkeypatch, check, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'logitlab\[{extra}\]'"):
        check()
