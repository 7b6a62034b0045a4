"""``logitlab analyze`` from the command line."""

import json
import subprocess
import sys

import pytest
from checkpoints import write_checkpoint

from logitlab.cli.main import main


@pytest.fixture
def models(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "one", head="cosine")
    write_checkpoint(tmp_path / "two", backbone="small_cnn", parameters={"width": 4}, side=12)
    monkeypatch.chdir(tmp_path)
    return ["one", "two"]


def test_help_never_imports_torch():
    script = (
        "import sys; from logitlab.cli.main import main; code = main(['analyze', '--help']); "
        "heavy = {'torch', 'numpy', 'timm'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else code)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "Exit code" in process.stdout


def test_two_models_and_their_data(models, capsys):
    line = ["analyze", *models, "digits", "--measure", "accuracy", "--measure", "cka", "--limit", "30", "--no-report"]
    assert main([*line, "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    rows = captured.out.splitlines()
    assert rows[0] == "digits: 30 images (test)"
    assert [row.split()[0] for row in rows[3:5]] == ["cosine", "softmax"]
    assert rows[-1].endswith("analysis.json")
    assert "cosine: a pass over 30 images (test)." in captured.err
    assert main([*line, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [len(entry["value"]) for entry in found["between"]["cka"]] == [3, 3, 4]
    # The passes were there.
    assert "a pass over" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "digits", "--measure", "acuracy"], "Unknown measure 'acuracy'; did you mean 'accuracy'?"),
        (["one", "gone", "digits"], "Expected a checkpoint in 'gone'"),
        (["one", "two"], "'two' is a checkpoint; the data set comes last."),
        (["one"], "Missing argument"),
        (["one", "digits", "--part", "tests"], "Unknown part 'tests'; did you mean 'test'?"),
    ],
)
def test_faults_are_one_line_each(models, capsys, arguments, message):
    assert main(["analyze", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("logitlab: ")
    assert message in line


def test_a_missing_file_and_other_classes_are_told_together(models, tmp_path, capsys):
    write_checkpoint(tmp_path / "three", names=("a", "b", "c"))
    (tmp_path / "two" / "model.safetensors").unlink()
    assert main(["analyze", "one", "two", "three", "digits"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "There is no 'two/model.safetensors'" in lines[0]
    assert "has 3 classes, 'digits' has 10" in lines[1]


def test_ctrl_c_is_answered(models, monkeypatch, capsys):
    from logitlab.evaluation import passes

    def pressed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(passes, "_look", pressed)
        assert main(["analyze", "one", "digits", "--limit", "5", "--no-report"]) == 130
    assert "Interrupted. The same command goes on" in capsys.readouterr().err


def test_the_table_fits_the_terminal(models, monkeypatch, capsys):
    line = ["analyze", "one", "digits", "--measure", "basic", "--limit", "60", "--no-report", "--device", "cpu"]
    monkeypatch.setenv("COLUMNS", "60")
    assert main(line) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("model ") for row in rows) > 1
    assert all(len(row) <= 60 for row in rows[:-1])
    monkeypatch.delenv("COLUMNS")
    assert main(line) == 0
    assert sum(row.startswith("model ") for row in capsys.readouterr().out.splitlines()) == 1
