"""Trials that two processes train together, on the CPU."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from preloaded import run_python

from logitlab.config.errors import DataError, TrialError
from logitlab.config.study import ExecutionConfig
from logitlab.records import Store
from logitlab.records.claims import holder
from logitlab.studies.agenda import Agenda
from logitlab.studies.executors import Job, deliver
from logitlab.studies.executors.torchrun import Together, _fault, together


def test_one_process_needs_no_torchrun(tmp_path, fake_trials):
    job = Job(fake_trials.run_fake, tmp_path, plugins=("my_heads",))
    assert together(job, 1) is job
    assert together(job, 2).function == Together(fake_trials.run_fake, 2, ("my_heads",))


def test_how_a_failure_is_put_into_words():
    own = {"class": "TrialError", "own": True, "words": "the loss is not finite.", "number": None}
    assert str(_fault([own], 1, "")) == "the loss is not finite."
    assert isinstance(_fault([{**own, "class": "DataError"}], 1, ""), DataError)
    foreign = _fault([{**own, "class": "KeyError", "own": False, "words": "'x'"}], 1, "")
    assert (type(foreign), str(foreign)) == (TrialError, "KeyError: 'x'")
    assert _fault([{**own, "number": 28}], 1, "").errno == 28
    printed = "Traceback\nRuntimeError: a helper broke.\n====\nroot cause\n"
    assert str(_fault([], 1, printed)).endswith("ended with exit code 1: RuntimeError: a helper broke.")
    assert str(_fault([], -9, "")).endswith("ended with exit code -9: nothing was printed.")


def test_ctrl_c_and_the_word_that_time_is_over_reach_the_executor_alone(
    tmp_path, fake_trials, make_trials, monkeypatch
):
    code = "import os, signal; print('ValueError:', os.getsid(0) == os.getpid(),"
    code += " signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, [])); raise SystemExit(1)"

    class Popen(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__([sys.executable, "-S", "-c", code], **options)

    monkeypatch.setattr("logitlab.studies.executors.torchrun.subprocess.Popen", Popen)
    with pytest.raises(TrialError, match="exit code 1: ValueError: True True"):
        Together(fake_trials.run_fake, 2)(*make_trials("well"), tmp_path)
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.slow
def test_no_process_outlives_a_killed_worker(tmp_path, fake_trials, make_trials, diary):
    (asleep,) = make_trials("sleep")
    seen = []
    # Ranks that other tests keep are none of these.
    others = {one.pid for one in psutil.Process().children()}

    class Kills(type(diary)):
        def epoch(self, progress):
            super().epoch(progress)
            (worker,) = (one for one in psutil.Process().children() if one.pid not in others and one.children())
            seen.extend(worker.children(recursive=True))
            os.kill(worker.pid, signal.SIGKILL)

    kills = Kills()
    agenda = Agenda([asleep], Store(tmp_path), kills.trial_ended, kills.notice)
    execution = ExecutionConfig(executor="process", workers=1, processes_per_trial=2, attempts=1)
    deliver(Job(fake_trials.run_fake, tmp_path), agenda, kills, execution)
    assert len(seen) >= 3
    _, left = psutil.wait_procs(seen, timeout=20)
    assert left == []


@pytest.mark.slow
def test_the_same_bits_as_training_under_torchrun(tmp_path, diary):
    from logitlab.config.trial import TrialConfig
    from logitlab.training import execute

    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "logitlab", "train"]
    command += ["digits", "--head", "cosine_ls", "--backbone", "mlp", "--epochs", "2", "--train-limit", "101"]
    command += ["--device", "cpu", "--ood", "none", "--out", str(tmp_path / "train")]
    done = run_python(*command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    (identity,) = Store(tmp_path / "train").identities()
    expected = Store(tmp_path / "train").record(identity)
    trial = TrialConfig(**expected["config"])
    assert trial.identity == identity
    store = Store(tmp_path / "study")
    agenda = Agenda([trial], store, diary.trial_ended, diary.notice)
    execution = ExecutionConfig(executor="serial", processes_per_trial=2)
    deliver(Job(execute, store.root), agenda, diary, execution)
    record = store.record(identity)
    assert record["provenance"]["processes"] == expected["provenance"]["processes"] == 2
    assert record["result_sha256"] == expected["result_sha256"]
    assert [event[0] for event in diary.events] == ["started", "epoch", "epoch", "ended"]


@pytest.mark.slow
def test_what_goes_wrong_inside_comes_home(tmp_path, fake_trials, make_trials):
    (broken,) = make_trials("raise")
    with pytest.raises(TrialError, match="^RuntimeError: the head\nbroke$"):
        Together(fake_trials.run_fake, 2)(broken, tmp_path)


@pytest.mark.slow
def test_an_interruption_ends_the_processes(tmp_path, fake_trials, make_trials, diary):
    (asleep,) = make_trials("sleep")
    seen = []

    class Presses(type(diary)):
        def epoch(self, progress):
            seen.extend(psutil.Process().children(recursive=True))
            raise KeyboardInterrupt

    presses = Presses()
    agenda = Agenda([asleep], Store(tmp_path), presses.trial_ended, presses.notice)
    with pytest.raises(KeyboardInterrupt):
        deliver(
            Job(fake_trials.run_fake, tmp_path),
            agenda,
            presses,
            ExecutionConfig(executor="serial", processes_per_trial=2),
        )
    mine = [process for process in seen if process.pid != os.getpid()]
    assert len(mine) >= 3
    _, left = psutil.wait_procs(mine, timeout=20)
    # The server of forks that other tests use may be among them.
    assert [process for process in left if "trial_process" in " ".join(process.cmdline())] == []
    assert holder(Store(tmp_path).trial_folder(asleep.identity)) is None
