"""Records as a flat table."""

import csv
import io
import json
import sys

import pytest

from logitlab.config.errors import ConfigurationError, RecordError
from logitlab.records import Store
from logitlab.records.export import check_parquet, columns_of, gather_records, rows_of, write_csv, write_parquet

OOD = {"max_logit_ap": 0.7, "max_logit_auroc": 0.6, "feature_norm_ap": None, "feature_norm_auroc": 0.5}


def config(head, seed, **parameters):
    return {
        "data": {"name": "caf\udce9", "image_size": None},
        "data_fingerprint": "f" * 64,
        "backbone": {"name": "mlp", "parameters": {"widths": [16, 8]}},
        "head": {"name": head, "parameters": parameters},
        "training": {"epochs": 3, "nesterov": True},
        "seed": seed,
    }


@pytest.fixture
def study(tmp_path):
    store = Store(tmp_path / "runs")
    identities = ("00000000000000a1", "00000000000000a0", "00000000000000a2")
    for number, identity in enumerate(identities[:2]):
        settings = json.loads(json.dumps(config("cosine", number, kappa=20)).replace("\\udce9", "é"))
        result = {"test": {"accuracy": 0.9, "nll": None}, "history": [{"loss": 1.0}], "images": {"test": 5}}
        store.write_record(identity, settings, result, {"seconds": 2.5, "versions": {"torch": "2.11"}})
    settings = json.loads(json.dumps(config("arc, face", 0)).replace("\\udce9", "é"))
    store.write_error(identities[2], settings, {"kind": "TrialError", "message": "the loss\nis nan"})
    folder = store.trial_folder(identities[0]) / "ood"
    folder.mkdir()
    record = {
        "format_version": 1,
        "name": "noise",
        "fingerprint": "0" * 64,
        "images": 4,
        "measures": {**OOD, "base_rate": 0.5},
    }
    (folder / "0000000000000000.json").write_text(json.dumps(record))
    (folder / "1111111111111111.json").write_text("{")
    return tmp_path / "runs"


def test_each_trial_is_a_row_with_all_that_is_known(study):
    records, damage = gather_records(study)
    assert damage == []
    rows = rows_of(records)
    assert [(row["head"], row["seed"], row["status"]) for row in rows] == [
        ("arc, face", 0, "failed"),
        ("cosine:kappa=20", 0, "finished"),
        ("cosine:kappa=20", 1, "finished"),
    ]
    failed, first, second = rows
    assert failed["error"] == "the loss is nan"
    assert failed["error.kind"] == "TrialError"
    assert (first["test.accuracy"], first["test.nll"], first["seconds"]) == (0.9, None, 2.5)
    assert (first["head.parameters.kappa"], first["training.epochs"], first["images.test"]) == (20, 3, 5)
    assert first["backbone.parameters.widths"] == "[16, 8]"
    assert first["versions.torch"] == "2.11"
    assert (first["ood.noise.max_logit_ap"], first["ood.noise.feature_norm_ap"]) == (0.7, None)
    assert "ood.noise.max_logit_ap" not in second
    assert not any("history" in key for row in rows for key in row)


def test_csv_is_read_back(study):
    target = io.StringIO()
    rows = rows_of(gather_records(study)[0])
    write_csv(rows, target)
    found = list(csv.DictReader(io.StringIO(target.getvalue())))
    assert list(found[0]) == columns_of(rows)
    assert list(found[0])[:5] == ["identity", "status", "error", "head", "backbone"]
    assert [row["test.accuracy"] for row in found] == ["", "0.9", "0.9"]
    assert found[0]["head"] == "arc, face"


def test_the_folder_of_the_trials_does_as_well(study):
    assert gather_records(study / "trials") == gather_records(study)


def test_a_damaged_record_is_told_and_left_out(study):
    path = study / "trials" / "00000000000000a0" / "record.json"
    path.write_text(path.read_text()[:40])
    records, damage = gather_records(study)
    assert len(records) == 2
    assert "is not whole JSON" in damage[0]


def test_no_records_are_said(tmp_path):
    with pytest.raises(RecordError, match="There is no such folder"):
        gather_records(tmp_path / "none")
    with pytest.raises(RecordError, match="It holds no trials"):
        gather_records(tmp_path)


def test_names_that_are_not_utf8_can_be_written():
    record = {"identity": "a", "config": config("softmax", 0), "error": {"message": None, "kind": "KilledError"}}
    target = io.StringIO()
    write_csv(rows_of([record]), target)
    assert "caf\\xe9" in target.getvalue()
    target.getvalue().encode()
    assert "KilledError" in target.getvalue()


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'logitlab\[parquet\]'"):
        check_parquet()


def test_parquet_is_read_back(study):
    parquet = pytest.importorskip("pyarrow.parquet")
    target = io.BytesIO()
    write_parquet(rows_of(gather_records(study)[0]), target)
    table = parquet.read_table(io.BytesIO(target.getvalue())).to_pydict()
    assert table["test.accuracy"] == [None, 0.9, 0.9]
    assert table["seed"] == [0, 0, 1]
    assert table["training.nesterov"] == [True, True, True]


def test_it_needs_no_torch(study):
    import subprocess

    script = (
        "import sys; from logitlab.cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit('imported torch' if 'torch' in sys.modules else code)"
    )
    for form in ("csv", "latex"):
        line = [sys.executable, "-c", script, "export-records", str(study), "--to", form]
        process = subprocess.run(line, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        assert "cosine:kappa=20" in process.stdout
