"""``logitlab compare``: from options to arguments, from results to what is printed."""

import sys
from pathlib import Path

import pytest

from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError
from logitlab.config.training import TrainingConfig
from logitlab.studies import Comparison


def record(name="softmax", seed=0, accuracy=0.9):
    config = {
        "data": {"name": "digits"},
        "data_fingerprint": "f",
        "backbone": {"name": "mlp"},
        "head": {"name": name, "parameters": {}},
        "training": {},
        "seed": seed,
    }
    return {
        "identity": f"{name}{seed}",
        "config": config,
        "result": {"test": {"accuracy": accuracy}},
        "provenance": {"seconds": 1.0},
    }


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Stand in for the study; remembers how it was called."""
    calls = []

    def compare(*arguments, **options):
        calls.append((arguments, options))
        return Comparison((record(), record("cosine")), tmp_path, 12.34)

    monkeypatch.setattr("logitlab.studies.compare", compare)
    monkeypatch.delenv("LOGITLAB_DATA", raising=False)
    return calls


def test_without_options_the_studys_own_defaults_hold(called):
    assert main(["compare"]) == 0
    ((arguments, options),) = called
    assert arguments == ("digits",)
    assert options.pop("progress") is not None
    assert options == {
        "heads": None,
        "backbone": "small_cnn",
        "seeds": 3,
        "out": Path("logitlab-runs"),
        "executor": "process",
        "workers": None,
        "device": None,
        "data_root": None,
        "plugins": (),
        "image_size": None,
        "train_limit": None,
        "validation_fraction": 0.1,
        "split_seed": 0,
        "ood": None,
        "measure": (),
        "tensorboard": False,
        "report": True,
    }


def test_every_option_arrives(called, tmp_path):
    line = (
        f"compare folder --head softmax --head cosine:kappa=20 --backbone resnet_cifar:depth=20 --seeds 5 "
        f"--out {tmp_path} --executor serial --workers 3 --device cpu --data-root {tmp_path} --plugin one "
        "--plugin two.py --image-size 32 --train-limit 100 --validation-fraction 0.2 --split-seed 4 --epochs -1 "
        "--ood noise --ood some/folder --tensorboard --no-report "
        "--learning-rate 1e-2 --optimizer adamw --no-nesterov --decay-norms-and-biases --ema-decay 0.99"
    )
    assert main(line.split()) == 0
    ((arguments, options),) = called
    del options["progress"]
    assert arguments == ("folder",)
    assert options == {
        "heads": ["softmax", "cosine:kappa=20"],
        "backbone": "resnet_cifar:depth=20",
        "seeds": 5,
        "out": tmp_path,
        "executor": "serial",
        "workers": 3,
        "device": "cpu",
        "data_root": tmp_path,
        "plugins": ["one", "two.py"],
        "image_size": 32,
        "train_limit": 100,
        "validation_fraction": 0.2,
        "split_seed": 4,
        "ood": ["noise", "some/folder"],
        "measure": (),
        "tensorboard": True,
        "report": False,
        "epochs": -1,
        "learning_rate": 0.01,
        "optimizer": "adamw",
        "nesterov": False,
        "decay_norms_and_biases": True,
        "ema_decay": 0.99,
    }


def test_the_environment_names_the_folder_of_data_sets(called, monkeypatch, tmp_path):
    monkeypatch.setenv("LOGITLAB_DATA", str(tmp_path))
    assert main(["compare"]) == 0
    assert called[0][1]["data_root"] == tmp_path


def test_every_field_of_the_recipe_is_an_option_with_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    for name, field in TrainingConfig.model_fields.items():
        prefix = "--no-" if field.default is True else "--"
        assert f"{prefix}{name.replace('_', '-')} " in shown
    assert "Passes over the training set" in shown
    assert "INT ≥ 1" in shown
    assert "FLOAT ≥ 0, < 1" in shown


def test_off_a_terminal_the_result_is_plain_lines(called, capsys, tmp_path):
    assert main(["compare"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    rows = [line.split()[0] for line in shown.splitlines() if line]
    assert {"softmax", "cosine"} <= set(rows)
    assert f"Took 12.3 s. Records and models: {tmp_path / 'trials'}\n" in shown
    assert "for accuracy" in shown


def test_on_a_terminal_the_result_is_a_rich_table(called, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["compare"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    assert "Took 12.3 s." in shown


def test_failed_trials_give_code_1_beside_the_table(monkeypatch, capsys, tmp_path):
    failure = {**record("sigmoid"), "error": {"kind": "TrialError", "message": "the loss is nan"}}
    del failure["result"]
    monkeypatch.setattr("logitlab.studies.compare", lambda *a, **o: Comparison((record(), failure), tmp_path, 1.0))
    assert main(["compare"]) == 1
    assert "the loss is nan" in capsys.readouterr().out


def test_ctrl_c_says_what_is_kept(monkeypatch, capsys):
    def interrupted(*arguments, progress, **options):
        progress.total, progress.finished = 21, 4
        raise KeyboardInterrupt

    monkeypatch.setattr("logitlab.studies.compare", interrupted)
    assert main(["compare", "--out", "here"]) == 130
    assert capsys.readouterr().err == (
        "logitlab: Interrupted. 4 of 21 trials are finished and kept in 'here'; the same command continues.\n"
    )


def test_sigterm_gives_its_own_code(monkeypatch, capsys):
    from logitlab.studies.interruption import Terminated

    def terminated(*arguments, **options):
        raise Terminated

    monkeypatch.setattr("logitlab.studies.compare", terminated)
    assert main(["compare"]) == 143
    assert capsys.readouterr().err.startswith("logitlab: Interrupted. 0 of 0 trials are finished")


def test_typos_in_values_are_told_together(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    line = ["compare", "--head", "sofmax", "--epochs", "-1", "--optimizer", "adam", "--out", str(tmp_path / "x")]
    assert main(line) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "logitlab: 'epochs' must be greater than or equal to 1. Got -1."
    assert lines[1].endswith("Got 'adam'; did you mean 'adamw'?")
    assert lines[2].startswith("logitlab: Unknown head 'sofmax'; did you mean 'softmax'?")
    assert len(lines) == 3
    assert not (tmp_path / "x").exists()


def test_the_fault_of_a_study_is_not_swallowed(monkeypatch):
    def fail(*arguments, **options):
        raise ConfigurationError("x")

    monkeypatch.setattr("logitlab.studies.compare", fail)
    assert main(["compare"]) == 2
