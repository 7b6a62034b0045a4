"""TensorBoard sees every epoch, and the record does not see TensorBoard."""

from __future__ import annotations

import sys

import pytest
from preloaded import ForkedWorkers

from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError
from logitlab.records import Store
from logitlab.studies import compare
from logitlab.training import execute
from logitlab.training.fitting import EpochRecord
from logitlab.training.tensorboard import EpochLog

pytest.importorskip("tensorboard")


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture
def no_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("head", ["softmax", "cosine_ls"])
def test_the_log_is_the_history_and_leaves_the_result_alone(tmp_path, make_trial, head):
    trial = make_trial(head, epochs=3)
    execute(trial, tmp_path / "logged", tensorboard=True)
    execute(trial, tmp_path / "plain")
    logged, plain = (Store(tmp_path / name).record(trial.identity) for name in ("logged", "plain"))
    assert logged["result_sha256"] == plain["result_sha256"]
    assert not (tmp_path / "plain" / "tensorboard").exists()
    found = scalars(tmp_path / "logged" / "tensorboard" / f"{head}-seed0-{trial.identity}")
    history = logged["result"]["history"]
    for tag, key in {
        "loss/train": "loss",
        "loss/validation": "validation_loss",
        "accuracy/train": "accuracy",
        "accuracy/validation": "validation_accuracy",
        "temperature/kappa_star": "kappa_star",
        "learning_rate": "learning_rate",
    }.items():
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        assert [value for _, value in found[tag]] == pytest.approx([epoch[key] for epoch in history], rel=1e-6)
    assert ("temperature/kappa" in found) == (head == "cosine_ls")


def test_epochs_that_are_trained_again_replace_the_lost_ones(tmp_path, make_trial):
    def epoch(number, loss):
        return EpochRecord(number, 0.1, loss, 0.5, 1.0, 0.5, None, 2.0)

    trial = make_trial()
    with EpochLog(tmp_path, trial) as log:
        for number in (1, 2, 3):
            log(epoch(number, 9.0))
    with EpochLog(tmp_path, trial) as again:
        for number in (2, 3):
            again(epoch(number, 1.0))
    assert scalars(log.folder)["loss/train"] == [(1, 9.0), (2, 1.0), (3, 1.0)]


def test_a_trial_without_an_epoch_leaves_no_folder(tmp_path, make_trial):
    with EpochLog(tmp_path, make_trial()):
        pass
    assert not list(tmp_path.iterdir())


def test_without_the_package_nothing_starts(tmp_path, no_tensorboard):
    with pytest.raises(ConfigurationError, match=r"pip install 'logitlab\[tensorboard\]'"):
        compare("digits", heads=["softmax"], out=tmp_path / "runs", executor="serial", tensorboard=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", [["compare", "digits"], ["train", "digits"]])
def test_the_commands_say_it_in_one_line(tmp_path, no_tensorboard, capsys, command):
    assert main([*command, "--head", "softmax", "--tensorboard", "--out", str(tmp_path / "runs")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("logitlab: 'tensorboard' needs the package tensorboard")


@pytest.mark.slow
def test_workers_log_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr("logitlab.studies.executors.process.multiprocessing", ForkedWorkers())
    options = {"heads": ["softmax", "cosine"], "backbone": "mlp", "seeds": 1, "epochs": 2, "train_limit": 60}
    options |= {"ood": ["none"], "report": False}
    comparison = compare("digits", **options, out=tmp_path, executor="process", workers=1, tensorboard=True)
    for record in comparison.records:
        folder = tmp_path / "tensorboard" / f"{record['config']['head']['name']}-seed0-{record['identity']}"
        assert [step for step, _ in scalars(folder)["loss/train"]] == [1, 2]
