"""``train``, ``evaluate``, ``predict``, ``heads`` and ``export-records`` from the command line."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy
import pytest
from PIL import Image

from logitlab.cli.main import main
from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import ModelDescription, create_backbone, save_checkpoint


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    backbone = create_backbone("mlp", channels=1, image_size=8, parameters={"widths": [16]})
    description = ModelDescription(
        backbone=ComponentConfig(name="mlp", parameters={"widths": [16]}),
        head=ComponentConfig(name="softmax"),
        channels=1,
        image_size=8,
        num_features=16,
        class_names=tuple(map(str, range(10))),
        pixel_mean=(0.3,),
        pixel_std=(0.3,),
        link="softmax",
    )
    save_checkpoint(tmp_path / "model", Classifier(backbone, create_head("softmax", 16, 10)), description)
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.fromarray(numpy.full((9, 7), 60 * number, numpy.uint8)).save(tmp_path / "images" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "model"


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "heads", "export-records"])
def test_help_never_imports_torch(command):
    script = (
        "import sys; from logitlab.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'timm'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else code)"
    )
    line = [sys.executable, "-c", script, command, "--help"]
    process = subprocess.run(line, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "Exit code" in process.stdout or command == "heads"


def test_predict_writes_csv_and_a_summary(checkpoint, capsys):
    assert main(["predict", checkpoint, "images", "--reject-below", "0.999"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["path"] for row in rows] == [f"images/{number}.png" for number in range(4)]
    assert {row["accepted"] for row in rows} == {"reject"}
    assert captured.err == "4 images: 0 accepted, 4 rejected. Accepted from a confidence of 0.999.\n"


def test_an_unreadable_image_is_listed_and_gives_code_1(checkpoint, capsys, tmp_path):
    (tmp_path / "images" / "bad.png").write_bytes(b"no")
    assert main(["predict", checkpoint, "images", "--format", "jsonl", "--output", "answers.jsonl"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("logitlab: Cannot read the image 'images/bad.png'")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["error"] is None for row in rows] == [True] * 4 + [False]


def test_what_is_no_regular_file_is_listed_and_not_waited_for(checkpoint, capsys, tmp_path):
    os.mkfifo(tmp_path / "images" / "pipe.png")
    assert main(["predict", checkpoint, "images"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("logitlab: Cannot read the image 'images/pipe.png': it is no regular file.")
    assert captured.out.count("accept,") == 4


def test_no_answer_at_all_gives_code_2(checkpoint, capsys, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    assert main(["predict", checkpoint, "bad.png"]) == 2
    assert capsys.readouterr().err.endswith("1 image: 0 accepted, 0 rejected, 1 unreadable.\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["images", "--reject-below", "1.5"], "'--reject-below' must be a number between 0 and 1"),
        (["images", "--reject-for-precision", "0"], "'--reject-for-precision' must be a number between 0 and 1"),
        (["images", "--reject-below", "0.5", "--reject-for-precision", "0.9"], "not both"),
        (["images", "--reject-for-precision", "0.9"], "outputs.npz"),
        (["images", "--output", "none/x.csv"], "there is no folder 'none'"),
        (["images", "--format", "xml"], "Unknown format 'xml'"),
        (["nothing"], "Cannot find the image 'nothing'"),
    ],
)
def test_faults_of_predict_are_one_line_and_damage_nothing(checkpoint, capsys, tmp_path, line, words):
    before = sorted(tmp_path.rglob("*"))
    assert main(["predict", checkpoint, *line]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fault_of_the_format_keeps_the_old_file(checkpoint, tmp_path):
    (tmp_path / "old.csv").write_text("old")
    assert main(["predict", checkpoint, "images", "--format", "xml", "--output", "old.csv"]) == 2
    assert (tmp_path / "old.csv").read_text() == "old"


def test_evaluate_prints_a_table_or_json(checkpoint, capsys):
    assert main(["evaluate", checkpoint, "digits", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("softmax on digits: 359 images (test)\naccuracy ")
    assert main(["evaluate", checkpoint, "digits", "--json", "--ood", "noise", "--device", "cpu"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert 0 <= values["measures"]["accuracy"] <= 1
    assert set(values["ood"]) == {"noise"}
    assert main(["evaluate", checkpoint, "nosuch"]) == 2
    assert "Unknown data set 'nosuch'" in capsys.readouterr().err


def test_heads_fit_80_columns_and_are_all_there(capsys):
    from logitlab.heads import NAMED_HEADS

    assert main(["heads"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for name, named in NAMED_HEADS.items():
        assert f"{name} " in shown
        assert named.source in shown
    assert "alpha=0.1 in [0, 1)" in shown
    for name in NAMED_HEADS:
        assert main(["heads", name]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["heads", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == sorted(NAMED_HEADS)
    assert main(["heads", "sofmax"]) == 2
    assert "did you mean 'softmax'" in capsys.readouterr().err


def test_heads_of_a_plugin_are_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "plugin_shown.py"
    path.write_text(
        "from logitlab.heads import Head, register_head\n\n\n@register_head('mine')\n"
        "def mine(in_features, num_classes, gamma=2.0):\n    return Head(in_features, num_classes)\n"
    )
    assert main(["heads", "mine", "--plugin", str(path)]) == 0
    assert "gamma [default: 2]" in capsys.readouterr().out
    sys.modules.pop("plugin_shown", None)


def test_train_hands_its_options_on_and_prints_the_folder_last(monkeypatch, capsys, tmp_path):
    from logitlab.studies import TrainedModel

    calls = []

    def train(*arguments, **options):
        calls.append((arguments, options))
        config = {"head": {"name": "cosine", "parameters": {"kappa": 20}}, "data": {"name": "photos"}}
        result = {
            "test": {"accuracy": 0.5, "class_separation": 0.25, "kappa": None},
            "images": {"train": 70, "test": 20},
        }
        return TrainedModel({"config": config, "result": result}, tmp_path, 1.0)

    monkeypatch.setattr("logitlab.studies.train", train)
    monkeypatch.delenv("LOGITLAB_DATA", raising=False)
    line = ["train", "photos", "--head", "cosine:kappa=20", "--epochs", "3", "--seed", "4", "--image-size", "32"]
    assert main([*line, "--plugin", "one", "--ood", "noise"]) == 0
    ((arguments, options),) = calls
    assert arguments == ("photos",)
    assert (options["head"], options["epochs"], options["seed"]) == ("cosine:kappa=20", 3, 4)
    assert (options["image_size"], options["plugins"], options["ood"]) == (32, ["one"], ["noise"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "cosine:kappa=20 on photos: 20 images (test)",
        "accuracy             0.5000  top-1, ties to the lower index",
        "class_separation     0.2500  cosine distance, classes weighted alike (train, n = 70)",
        "kappa                     –  not defined for this head or these answers",
    ]
    assert lines[-1] == str(tmp_path)


def test_a_training_that_fails_gives_code_1(monkeypatch, capsys):
    def fail(*arguments, **options):
        raise TrialError("the loss is nan")

    monkeypatch.setattr("logitlab.studies.train", fail)
    assert main(["train", "--head", "softmax"]) == 1
    assert capsys.readouterr().err == "logitlab: the loss is nan\n"


def test_a_failure_that_the_line_of_the_trial_told_is_not_told_again(monkeypatch, capsys):
    trial = TrialConfig(
        data=DataConfig(),
        data_fingerprint="f",
        backbone=ComponentConfig(name="mlp"),
        head=ComponentConfig(name="softmax"),
        training=TrainingConfig(),
        seed=0,
    )

    def fail(*arguments, progress, **options):
        progress.start([trial], [trial], 1)
        progress.trial_ended(trial, {"error": {"message": "the loss is nan"}})
        raise TrialError("The training of 'softmax' failed: the loss is nan")

    monkeypatch.setattr("logitlab.studies.train", fail)
    assert main(["train", "--head", "softmax"]) == 1
    assert capsys.readouterr().err.count("the loss is nan") == 1


def test_train_without_a_head_says_so(capsys):
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        "logitlab: Missing option '--head'. 'logitlab heads' lists them. See 'logitlab train --help'.\n"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["none"], "There is no such folder"),
        (["none", "--to", "xls"], "Unknown format 'xls'"),
        (["none", "--to", "parquet"], "Give --output FILE"),
        (["none", "--output", "gone/x.csv"], "there is no folder 'gone'"),
    ],
)
def test_faults_of_export(capsys, tmp_path, monkeypatch, line, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export-records", *line]) == 2
    assert words in capsys.readouterr().err
