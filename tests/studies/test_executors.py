"""Both executors keep one contract: a trial that fails costs itself alone."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from logitlab.config.errors import ConfigurationError, DataError, LogitLabError
from logitlab.records import Store
from logitlab.records.claims import holder, take_claim
from logitlab.studies.executors import Job, environment, one_thread, run_in_processes, run_serial, worker_count
from logitlab.studies.executors.worker import portable
from logitlab.studies.interruption import Terminated


def serial(job, trials, listener):
    run_serial(job, trials, listener)


def processes(job, trials, listener):
    run_in_processes(job, trials, listener, workers=2)


@pytest.fixture(params=[serial, processes])
def run(request):
    return request.param


@pytest.fixture
def job(tmp_path, fake_trials):
    return Job(fake_trials.run_fake, tmp_path, data_root="somewhere")


def gone(pid):
    """Whether no process has this id; our own children are waited for, so none is left as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_every_trial_leaves_a_record_and_tells_of_its_epochs(run, job, make_trials, diary):
    trials = make_trials("threads", "well", "well")
    before = torch.get_num_threads()
    run(job, trials, diary)
    for trial in trials:
        record = Store(job.root).record(trial.identity)
        assert record["provenance"]["threads"] == (1 if trial is trials[0] else None)
        assert record["provenance"]["device"] == "cpu"
        assert record["provenance"]["data_root"] == "somewhere"
        assert diary.of(trial.identity) == [
            ("started", trial.identity),
            ("epoch", trial.identity, 1),
            ("epoch", trial.identity, 2),
            ("ended", trial.identity),
        ]
    assert torch.get_num_threads() == before


def test_a_failing_trial_is_recorded_and_the_others_go_on(run, job, make_trials, diary):
    trials = make_trials("raise", "well", "memory", "record", "well")
    run(job, trials, diary)
    store = Store(job.root)
    assert [store.is_done(trial.identity) for trial in trials] == [False, True, False, False, True]
    failure = store.failure(trials[0].identity)["error"]
    assert (failure["kind"], failure["message"], failure["attempt"]) == ("RuntimeError", "the head broke", 1)
    assert "RuntimeError: the head\nbroke" in failure["traceback"]
    assert store.failure(trials[2].identity)["error"]["message"].endswith("Take a smaller batch_size.")
    assert sum(event[0] == "ended" for event in diary.events) == 5


def test_data_that_no_trial_can_read_stop_the_study(run, job, make_trials, diary):
    with pytest.raises(DataError, match=r"^cat/1\.jpg is truncated$"):
        run(job, make_trials("data", "well", "well"), diary)
    assert multiprocessing.active_children() == []


def test_a_store_that_takes_nothing_stops_the_study(tmp_path, fake_trials, make_trials, diary):
    job = Job(fake_trials.cannot_store, tmp_path)
    with pytest.raises(OSError, match="trials"):
        serial(job, make_trials("well"), diary)
    with pytest.raises(OSError, match="(Not a directory|File exists)"):
        processes(job, make_trials("well"), diary)


def test_workers_are_reused_and_run_one_thread(job, make_trials, diary):
    trials = make_trials("well", "well", "well", "well", "well")
    run_in_processes(job, trials, diary, workers=2)
    left = [Store(job.root).record(trial.identity)["provenance"] for trial in trials]
    pids = {value["pid"] for value in left}
    assert len(pids) <= 2
    assert os.getpid() not in pids
    assert {value["omp"] for value in left} == {"1"}
    assert all(gone(pid) for pid in pids)


def test_the_users_script_is_not_run_again_in_a_worker(job, make_trials, diary):
    (trial,) = make_trials("well")
    run_in_processes(job, [trial], diary, workers=1)
    main_file = Store(job.root).record(trial.identity)["provenance"]["main_file"]
    assert main_file is None or "pytest" not in main_file


@pytest.mark.parametrize(
    ("behaviour", "how"), [("die", r"was killed by signal 9 \(SIGKILL\)"), ("leave", "ended with exit code 7")]
)
def test_a_worker_that_dies_each_time_costs_its_own_trial_alone(job, make_trials, diary, behaviour, how):
    trials = make_trials(behaviour, "well", "well", "well")
    run_in_processes(job, trials, diary, workers=2, attempts=2)
    store = Store(job.root)
    assert [store.is_done(trial.identity) for trial in trials] == [False, True, True, True]
    error = store.failure(trials[0].identity)["error"]
    assert (error["kind"], error["attempt"]) == ("WorkerDied", 1)
    assert re.search(how + r"\. That was attempt 2 of 2\. Take fewer workers or a smaller batch_size", error["message"])
    assert (store.trial_folder(trials[0].identity) / "runs").read_text() == "run\n" * 2
    (again,) = (text for text in notices(diary) if "tried again" in text)
    assert re.search(how + r" with the trial 'softmax', seed 0 .* tried again \(attempt 2 of 2\)", again)
    assert [event[0] for event in diary.of(trials[0].identity)] == ["started", "epoch", "started", "epoch", "ended"]


def test_one_attempt_is_enough_where_the_user_says_so(job, make_trials, diary):
    (trial,) = make_trials("leave")
    run_in_processes(job, [trial], diary, workers=1, attempts=1)
    error = Store(job.root).failure(trial.identity)["error"]
    assert error["message"].startswith("Its worker process ended with exit code 7. Take fewer workers")
    assert notices(diary) == []


def test_a_worker_that_dies_once_costs_an_attempt(job, make_trials, diary):
    trials = make_trials("die_once", "well")
    run_in_processes(job, trials, diary, workers=2)
    store = Store(job.root)
    assert all(store.is_done(trial.identity) for trial in trials)
    fewer, again = notices(diary)
    assert "perhaps because memory ran out: from now on 1 trial runs at a time" in fewer
    assert "tried again (attempt 2 of 3)" in again


LEAVES = """
import os, signal, time
from logitlab.records import Store

def run(trial, root, **options):
    store = Store(root)
    tried = store.trial_folder(trial.identity) / "tried"
    if not tried.exists():
        tried.touch()
        if os.fork() == 0:
            tried.write_text(str(os.getpid()))
            time.sleep(60)
            os._exit(0)
        while not tried.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    store.write_record(trial.identity, trial.model_dump(mode="json"), {"test": {"accuracy": 0.9}}, {})
"""


def test_a_worker_is_dead_though_a_child_of_its_holds_the_pipe_open(tmp_path, make_trials, diary, monkeypatch):
    (tmp_path / "leaves_a_child.py").write_text(LEAVES)
    monkeypatch.syspath_prepend(str(tmp_path))
    from leaves_a_child import run

    (trial,) = make_trials("well")
    store = Store(tmp_path)
    run_in_processes(Job(run, tmp_path), [trial], diary, workers=1)
    child = int((store.trial_folder(trial.identity) / "tried").read_text())
    # It lives on, and was not waited for.
    os.kill(child, signal.SIGKILL)
    assert store.is_done(trial.identity)
    assert "was killed by signal 9 (SIGKILL)" in notices(diary)[0]


class UnreadableError(DataError):
    """A user's own kind of fault, that pickle cannot make from its words alone."""

    def __init__(self, path, why):
        super().__init__(f"{path} {why}")


def test_a_users_own_kind_of_fault_comes_home():
    fault = portable(UnreadableError("cat.jpg", "is truncated"))
    assert (type(fault), str(fault)) == (DataError, "cat.jpg is truncated")
    faults = portable(ConfigurationError(["epochs", "seeds"]))
    assert faults.faults == ("epochs", "seeds")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_breaks_is_no_failure_of_the_trial(tmp_path, make_trials, diary, number):
    def breaks(trial, root, **options):
        raise OSError(number, os.strerror(number))

    (trial,) = make_trials("well")
    with pytest.raises(OSError, match=os.strerror(number)):
        serial(Job(breaks, tmp_path), [trial], diary)
    assert Store(tmp_path).failure(trial.identity) is None


def test_a_plugin_that_workers_cannot_import_is_told(tmp_path, fake_trials, make_trials, diary):
    job = Job(fake_trials.run_fake, tmp_path, plugins=("no_such_module_anywhere",))
    with pytest.raises(LogitLabError, match="Cannot import the plugin 'no_such_module_anywhere'"):
        run_in_processes(job, make_trials("well"), diary, workers=1)


def test_workers_that_cannot_start_are_told(tmp_path, fake_trials, make_trials, diary, monkeypatch):
    (tmp_path / "breaks.py").write_text("import os; os._exit(3)")
    job = Job(fake_trials.run_fake, tmp_path, plugins=(str(tmp_path / "breaks.py"),))
    with pytest.raises(LogitLabError, match="ended with exit code 3 before its first trial"):
        run_in_processes(job, make_trials("well"), diary, workers=1)


def notices(diary):
    return [event[1] for event in diary.events if event[0] == "notice"]


def test_the_first_ctrl_c_lets_the_running_trials_finish(job, make_trials, diary):
    # Two epochs, an interrupt each: the interrupted trial itself presses twice, so it has one epoch only.
    trials = [*make_trials("slow", epochs=4), *make_trials("well", "interrupt_parent", "well", "well", epochs=1)]
    trials = [trials[0], *trials[2:]]
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(job, trials, diary, workers=2)
    store = Store(job.root)
    assert [store.is_done(trial.identity) for trial in trials] == [True, True, False, False]
    (notice,) = notices(diary)
    assert "trials that run are finished, no new ones start" in notice
    assert multiprocessing.active_children() == []
    diary.events.clear()
    run_in_processes(job, trials, diary, workers=2)
    assert all(store.is_done(trial.identity) for trial in trials)


def test_ctrl_c_during_the_last_trial_leaves_a_whole_study(job, make_trials, diary):
    (trial,) = make_trials("interrupt_parent", epochs=1)
    run_in_processes(job, [trial], diary, workers=1)
    assert Store(job.root).is_done(trial.identity)


def test_in_this_process_the_first_ctrl_c_finishes_the_trial_and_the_second_does_not(job, make_trials, diary):
    store = Store(job.root)
    once, other = make_trials("interrupt", "well", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        serial(job, [once, other], diary)
    assert (store.is_done(once.identity), store.is_done(other.identity)) == (True, False)
    assert len(notices(diary)) == 1
    (twice,) = make_trials("interrupt", epochs=2)
    with pytest.raises(KeyboardInterrupt):
        serial(job, [twice], diary)
    assert not store.is_done(twice.identity)
    # Neither a failure nor a claim that would keep others from it.
    assert store.failure(twice.identity) is None
    assert holder(store.trial_folder(twice.identity)) is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_ends_this_process_at_once(job, make_trials, diary):
    (trial,) = make_trials("terminate")
    began = time.monotonic()
    with pytest.raises(Terminated):
        serial(job, [trial], diary)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("behaviour", "how", "kind"),
    [
        ("sleep", "interrupt_parent_twice", KeyboardInterrupt),
        ("stubborn", "interrupt_parent_twice", KeyboardInterrupt),
        ("sleep", "terminate_parent", Terminated),
    ],
)
def test_the_second_ctrl_c_and_sigterm_end_the_workers_and_keep_what_is_done(
    job, make_trials, diary, behaviour, how, kind, monkeypatch
):
    monkeypatch.setattr("logitlab.studies.executors.process._GRACE_SECONDS", 0.5)
    trials = make_trials("well", behaviour, how, "well")
    with pytest.raises(kind):
        run_in_processes(job, trials, diary, workers=2)
    store = Store(job.root)
    assert store.is_done(trials[0].identity)
    assert not store.is_done(trials[3].identity)
    assert multiprocessing.active_children() == []
    for trial in trials[:3]:
        pid = store.trial_folder(trial.identity) / "pid"
        assert not pid.exists() or gone(int(pid.read_text()))
    # Nothing is noted as a failure that the user asked for, and no claim keeps the next call waiting.
    assert store.failure(trials[2].identity) is None
    assert all(holder(store.trial_folder(trial.identity)) is None for trial in trials)


def test_a_full_disk_stops_the_study_and_is_no_failure_of_the_trial(run, job, make_trials, diary):
    trials = make_trials("full", "sleep")
    with pytest.raises(OSError, match="No space left on device") as fault:
        run(job, trials, diary)
    assert fault.value.errno == errno.ENOSPC
    assert Store(job.root).failure(trials[0].identity) is None


def test_a_trial_that_another_process_holds_is_waited_for(run, job, make_trials, diary, monkeypatch):
    trials = make_trials("well", "well")
    store = Store(job.root)
    claim = take_claim(store.trial_folder(trials[0].identity))

    def finish():
        while not store.is_done(trials[1].identity):
            time.sleep(0.05)
        time.sleep(0.5)
        store.write_record(trials[0].identity, trials[0].model_dump(mode="json"), {"test": {}}, {"by": "another"})
        claim.release(done=True)

    thread = threading.Thread(target=finish)
    thread.start()
    run(job, trials, diary)
    thread.join()
    assert store.record(trials[0].identity)["provenance"] == {"by": "another"}
    assert diary.of(trials[0].identity) == [("ended", trials[0].identity)]
    assert diary.events[-1] == ("ended", trials[0].identity)
    (notice,) = notices(diary)
    assert f"1 of the trials is running already, in process {os.getpid()} on " in notice


def test_a_trial_that_another_process_gave_up_is_taken_over(run, job, make_trials, diary):
    (trial,) = make_trials("well")
    store = Store(job.root)
    claim = take_claim(store.trial_folder(trial.identity))
    timer = threading.Timer(0.5, claim.release, kwargs={"done": False})
    timer.start()
    run(job, [trial], diary)
    timer.join()
    assert store.is_done(trial.identity)


def test_a_trial_that_failed_elsewhere_meanwhile_is_not_tried_again(run, job, make_trials, diary):
    (trial,) = make_trials("well")
    store = Store(job.root)
    claim = take_claim(store.trial_folder(trial.identity))

    def fail():
        store.write_error(trial.identity, trial.model_dump(mode="json"), {"kind": "TrialError", "message": "nan"})
        claim.release(done=False)

    timer = threading.Timer(0.5, fail)
    timer.start()
    run(job, [trial], diary)
    timer.join()
    assert store.failure(trial.identity)["error"]["attempt"] == 1
    # The next call is another matter.
    run(job, [trial], diary)
    assert store.is_done(trial.identity)


def test_a_runner_that_lost_its_claim_leaves_the_trial_alone(job, make_trials, diary):
    (trial,) = make_trials("well")
    store = Store(job.root)

    class Robbed(type(diary)):
        def trial_started(self, trial):
            super().trial_started(trial)
            if len(self.events) == 1:
                for path in store.trial_folder(trial.identity).glob("claim.*.json"):
                    path.unlink()

    robbed = Robbed()
    serial(job, [trial], robbed)
    # Once robbed, once for good.
    assert [event[0] for event in robbed.events] == ["started", "started", "epoch", "epoch", "ended"]


def test_two_runners_never_run_one_trial_twice(tmp_path, fake_trials, make_trials):
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    trials = make_trials(*["slow"] * 12)
    (tmp_path / "trials.json").write_text(json.dumps([trial.model_dump(mode="json") for trial in trials]))
    folder = str(Path(fake_trials.__file__).parent)
    commands = [
        [sys.executable, str(script), folder, str(tmp_path), executor] for executor in ("serial", "serial", "process")
    ]
    runners = [subprocess.Popen(command) for command in commands]
    assert [runner.wait(120) for runner in runners] == [0, 0, 0]
    store = Store(tmp_path)
    for trial in trials:
        folder = store.trial_folder(trial.identity)
        assert (folder / "runs").read_text() == "run\n"
        assert {path.name for path in folder.iterdir()} == {"record.json", "runs", "pid"}
    # It was no accident: more than one process took part.
    assert len({(store.trial_folder(trial.identity) / "pid").read_text() for trial in trials}) > 1


RUNNER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fake_trials
from logitlab.config.trial import TrialConfig
from logitlab.studies.executors import Job, run_in_processes, run_serial

class Quiet:
    def notice(self, text): pass
    def trial_started(self, trial): pass
    def epoch(self, progress): pass
    def trial_ended(self, trial): ended.append(trial.identity)

ended = []
root = Path(sys.argv[2])
trials = [TrialConfig(**values) for values in json.loads((root / "trials.json").read_text())]
job = Job(fake_trials.run_fake, root)
if sys.argv[3] == "serial":
    run_serial(job, trials, Quiet())
else:
    run_in_processes(job, trials, Quiet(), 2)
# Those that another runner ran have ended as well.
assert sorted(ended) == sorted(trial.identity for trial in trials)
"""


def test_workers_run_from_another_thread_too(job, make_trials, diary):
    (trial,) = make_trials("well")
    thread = threading.Thread(target=run_in_processes, args=(job, [trial], diary, 1))
    thread.start()
    thread.join(60)
    assert Store(job.root).is_done(trial.identity)


ORPHAN = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import fake_trials
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.studies.executors import Job, run_in_processes

class Quiet:
    def notice(self, text): pass
    def trial_started(self, trial): pass
    def epoch(self, progress): print(progress.identity, flush=True)
    def trial_ended(self, trial): pass

# No guard: a worker must not run this script again.
trial = TrialConfig(data=DataConfig(), data_fingerprint="f", backbone=ComponentConfig(name="mlp"),
                    head=ComponentConfig(name="softmax", parameters={{"behaviour": "sleep"}}),
                    training=TrainingConfig(), seed=0)
run_in_processes(Job(fake_trials.run_fake, Path({root!r})), [trial], Quiet(), 1)
"""


def test_no_orphan_outlives_a_killed_parent(tmp_path, fake_trials):
    script = tmp_path / "study.py"
    script.write_text(ORPHAN.format(folder=str(Path(fake_trials.__file__).parent), root=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with parent:
        identity = parent.stdout.readline().strip()
        pid = int((Store(tmp_path).trial_folder(identity) / "pid").read_text())
        assert not gone(pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)


@pytest.mark.parametrize(
    ("device", "workers", "trials", "expected"),
    [
        ("cpu", None, 100, None),
        ("cpu", None, 1, 1),
        ("cpu", 8, 3, 3),
        ("cpu", 2, 3, 2),
        ("cuda", None, 9, 1),
        ("cuda", 2, 9, 2),
        ("cpu", None, 0, 1),
    ],
)
def test_how_many_trials_run_at_a_time(device, workers, trials, expected):
    import joblib

    assert worker_count(device, workers, trials) == (expected or min(joblib.cpu_count(), trials))


def test_an_accelerator_keeps_its_threads():
    before = torch.get_num_threads()
    with one_thread("cuda"):
        assert torch.get_num_threads() == before


def test_environment_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("LOGITLAB_TEST_A", "before")
    monkeypatch.delenv("LOGITLAB_TEST_B", raising=False)
    with environment(LOGITLAB_TEST_A="x", LOGITLAB_TEST_B="y"):
        assert (os.environ["LOGITLAB_TEST_A"], os.environ["LOGITLAB_TEST_B"]) == ("x", "y")
    assert os.environ["LOGITLAB_TEST_A"] == "before"
    assert "LOGITLAB_TEST_B" not in os.environ
