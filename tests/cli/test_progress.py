"""Lines off a terminal, bars on one."""

import io
from dataclasses import dataclass

import pytest

from logitlab.cli.progress import Bars, Lines, create_reporter, label, outcome
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig


@dataclass
class Epoch:
    identity: str
    epoch: int
    epochs: int = 4
    loss: float = 0.25
    accuracy: float = 0.875


def trial(name="cosine", seed=0, **parameters):
    return TrialConfig(
        data=DataConfig(),
        data_fingerprint="f",
        backbone=ComponentConfig(name="mlp"),
        head=ComponentConfig(name=name, parameters=parameters),
        training=TrainingConfig(epochs=4),
        seed=seed,
    )


DONE = {"result": {"test": {"accuracy": 0.975, "kappa": 4.4666}}, "provenance": {"seconds": 5.26}}
FAILED = {"error": {"kind": "TrialError", "message": "the loss\nis nan"}}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_off_a_terminal():
    stream = io.StringIO()
    lines = create_reporter(stream)
    assert type(lines) is Lines
    trials = [trial(seed=seed, kappa=20) for seed in range(3)]
    lines.prepare()
    lines.start(trials, trials[1:], 2)
    lines.notice("mind the gap.")
    for running, record in zip(trials[1:], (DONE, FAILED)):
        lines.trial_started(running)
        lines.epoch(Epoch(running.identity, 1))
        lines.trial_ended(running, record)
    lines.stop()
    assert stream.getvalue() == (
        "digits, mlp: 1 head x 3 seeds = 3 trials of 4 epochs; 1 recorded already; 2 at a time.\n"
        "Note: mind the gap.\n"
        "[2/3] cosine:kappa=20, seed 1: accuracy 97.50%, κ 4.47, 5.3 s\n"
        "[3/3] cosine:kappa=20, seed 2: FAILED: the loss is nan\n"
    )
    assert (lines.total, lines.finished) == (3, 2)


def test_nothing_to_do_is_said():
    stream = io.StringIO()
    reporter = create_reporter(stream)
    reporter.start([trial()], [], 1)
    reporter.stop()
    assert stream.getvalue() == (
        "digits, mlp: 1 head x 1 seed = 1 trial of 4 epochs; all of them are recorded already.\n"
    )


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_bars_on_a_terminal(terminal):
    bars = create_reporter(terminal)
    assert type(bars) is Bars
    trials = [trial(seed=0), trial("softmax", seed=0)]
    bars.prepare()
    bars._status._live.refresh()
    bars.start(trials, trials, 2)
    for running in trials:
        bars.trial_started(running)
    bars.epoch(Epoch(trials[0].identity, 1))
    study, first, second = bars._progress.tasks
    assert (study.completed, study.total) == (1, 8)
    assert (first.completed, first.total, second.completed) == (1, 4, 0)
    assert first.fields["note"] == "loss 0.25, accuracy 87.5%"
    bars._progress.refresh()
    bars.trial_ended(trials[0], DONE)
    # The epochs that early stopping saved count as done: the time left stays true.
    assert [task.completed for task in bars._progress.tasks] == [4, 0]
    bars.trial_ended(trials[1], FAILED)
    assert [task.completed for task in bars._progress.tasks] == [8]
    bars.stop()
    shown = terminal.getvalue()
    assert "checking heads and images" in shown
    assert "study" in shown
    assert "cosine, seed 0" in shown
    assert "[1/2] cosine, seed 0: accuracy 97.50%, κ 4.47, 5.3 s" in shown
    assert "[2/2] softmax, seed 0: FAILED: the loss is nan" in shown


def test_bars_are_not_shown_when_nothing_runs(terminal):
    bars = create_reporter(terminal)
    bars.start([trial()], [], 1)
    bars.stop()
    assert bars._progress.tasks == []


def test_bars_follow_trials_that_no_study_announced(terminal):
    bars = Bars(terminal)
    bars.trial_started(trial())
    bars.epoch(Epoch(trial().identity, 4))
    bars.trial_ended(trial(), DONE)
    bars.stop()
    assert "accuracy 97.50%" in terminal.getvalue()


def test_bars_of_a_resumed_trial_begin_where_it_was_killed(terminal):
    bars = Bars(terminal)
    trials = [trial(seed=0), trial(seed=1)]
    bars.start(trials, trials, 1)
    bars.trial_started(trials[0])
    bars.epoch(Epoch(trials[0].identity, 3))
    assert [task.completed for task in bars._progress.tasks] == [3, 3]
    bars.epoch(Epoch(trials[0].identity, 4))
    bars.trial_ended(trials[0], DONE)
    assert [task.completed for task in bars._progress.tasks] == [4]
    # Another runner ran it: it never started here.
    bars.trial_ended(trials[1], DONE)
    assert [(task.completed, task.total) for task in bars._progress.tasks] == [(8, 8)]
    bars.stop()


def test_a_dumb_terminal_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert type(create_reporter(terminal)) is Lines


def test_long_lines_are_never_wrapped(terminal):
    bars = Bars(terminal)
    bars.notice("word " * 100)
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (DONE, "accuracy 97.50%, κ 4.47, 5.3 s"),
        ({"result": {"test": {"accuracy": 0.5, "kappa": None}}, "provenance": {}}, "accuracy 50.00%, 0.0 s"),
        (FAILED, "FAILED: the loss is nan"),
    ],
)
def test_outcome(record, text):
    assert outcome(record) == text


def test_label():
    assert label(trial("cosine", seed=2, kappa=20, bias=True)) == "cosine:kappa=20,bias=true, seed 2"


def test_a_terminal_says_that_the_report_is_written():
    stream = Terminal()
    bars = Bars(stream)
    bars.prepare()
    bars.start([trial()], [], 1)
    bars.reporting()
    bars.notice("mind the gap.")
    bars.stop()
    assert "writing the report" in stream.getvalue()
    quiet = io.StringIO()
    Lines(quiet).reporting()
    assert quiet.getvalue() == ""
