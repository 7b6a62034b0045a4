"""The executor ``slurm`` with submitit's processes on this machine."""

import json
import os
import pickle
import signal
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from logitlab.config.errors import ConfigurationError, LogitLabError
from logitlab.config.study import ExecutionConfig
from logitlab.records import Store
from logitlab.records.claims import holder
from logitlab.studies.agenda import Agenda, Task
from logitlab.studies.executors import Job, deliver
from logitlab.studies.executors.run_folder import RunFolder
from logitlab.studies.executors.slurm import _Batch, _Fleet
from logitlab.studies.executors.slurm_job import Begun, _begin, mark_of, who_began, work_through
from logitlab.studies.executors.submitit_jobs import make_executor
from logitlab.studies.executors.travelling import CutOffError, leaving_when_told, prepare_journey

LOCAL = {"cluster": "local"}


@pytest.fixture(autouse=True)
def _no_process_is_left():
    before = set(psutil.Process().children(recursive=True))
    yield
    psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=5)
    left = set(psutil.Process().children(recursive=True)) - before
    assert [process for process in left if "submitit" in " ".join(process.cmdline())] == []


@pytest.fixture
def job(tmp_path, fake_trials, monkeypatch):
    monkeypatch.setenv("LOGITLAB_CACHE", str(tmp_path / "cache"))
    return Job(fake_trials.run_fake, tmp_path / "runs", data_root="somewhere")


def run(job, trials, listener, **options):
    agenda = Agenda(trials, Store(job.root), listener.trial_ended, listener.notice)
    deliver(job, agenda, listener, ExecutionConfig(executor="slurm", **{"slurm": LOCAL, "workers": 2, **options}))


def notices(diary):
    return [event[1] for event in diary.events if event[0] == "notice"]


@pytest.mark.slow
def test_every_trial_leaves_a_record_and_a_job_that_dies_costs_an_attempt(job, make_trials, diary):
    trials = make_trials("slow", "die_once", "raise", "well", "threads")
    later = make_trials(*["well"] * 7)[5:]

    class Grows(type(diary)):
        def trial_ended(self, trial):
            super().trial_ended(trial)
            if trial == trials[0]:
                agenda.add(later)

    grows = Grows()
    agenda = Agenda(trials, Store(job.root), grows.trial_ended, grows.notice)
    deliver(job, agenda, grows, ExecutionConfig(executor="slurm", workers=2, slurm=LOCAL))
    store = Store(job.root)
    assert [store.is_done(trial.identity) for trial in [*trials, *later]] == [True, True, False, *[True] * 4]
    provenance = store.record(trials[4].identity)["provenance"]
    assert (provenance["threads"], provenance["omp"]) == (1, "1")
    assert provenance["data_root"] == os.path.realpath("somewhere")
    assert store.failure(trials[2].identity)["error"]["message"] == "the head broke"
    assert [event[0] for event in grows.of(trials[3].identity)] == ["started", "epoch", "epoch", "ended"]
    (again,) = notices(grows)
    assert "died with the trial 'softmax', seed 0" in again
    assert "tried again (attempt 2 of 3)" in again
    runs = [(store.trial_folder(trial.identity) / "runs").read_text().count("run") for trial in [*trials, *later]]
    assert runs == [1, 2, 1, 1, 1, 1, 1]
    assert sorted(path.name for path in job.root.iterdir()) == ["slurm", "trials"]


@pytest.mark.slow
def test_the_same_bits_as_in_this_process(tmp_path, small_study, monkeypatch):
    monkeypatch.setenv("LOGITLAB_CACHE", str(tmp_path / "cache"))
    alone = small_study(tmp_path / "a", "serial")
    assert len(alone) == 4
    assert alone == small_study(tmp_path / "b", "slurm", slurm=LOCAL, workers=2)
    (images,) = (tmp_path / "cache").glob("*.safetensors")
    images.unlink()
    assert alone == small_study(tmp_path / "c", "process", workers=2)
    # The user named the folder, so workers on this machine keep their images there, too.
    assert images.exists()


@pytest.mark.slow
def test_ctrl_c_drains_and_a_second_one_ends_the_jobs(job, make_trials, diary):
    class Presses(type(diary)):
        def __init__(self, times):
            super().__init__()
            self.times = times

        def trial_started(self, trial):
            super().trial_started(trial)
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
            self.times = 0

    store = Store(job.root)
    trials = make_trials(*["slow"] * 8, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run(job, trials, Presses(1))
    assert 1 <= sum(store.is_done(trial.identity) for trial in trials) <= 4
    began = time.monotonic()
    (asleep,) = make_trials("sleep")
    with pytest.raises(KeyboardInterrupt):
        run(job, [asleep], Presses(2))
    assert time.monotonic() - began < 60
    assert store.failure(asleep.identity) is None
    assert all(holder(store.trial_folder(trial.identity)) is None for trial in [*trials, asleep])


@pytest.mark.slow
def test_faults_that_concern_every_trial_are_told(job, make_trials, diary):
    with pytest.raises(LogitLabError, match=r"^cat/1\.jpg is truncated$"):
        run(job, make_trials("data", "well"), diary)
    away = Job(job.function, job.root, plugins=("no_such_module_anywhere",))
    with pytest.raises(LogitLabError, match="Cannot import the plugin 'no_such_module_anywhere'"):
        run(away, make_trials("well"), diary)


def test_parameters_that_submitit_refuses_are_told(job, make_trials, diary):
    with pytest.raises(ConfigurationError, match="submitit cannot use these parameters of 'slurm': .*colour"):
        run(job, make_trials("well"), diary, slurm={**LOCAL, "parameters": {"colour": "red"}})


def test_submitit_that_is_not_installed_is_told(job, make_trials, diary, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigurationError, match=r"needs submitit\. Install it with: pip install 'logitlab\[slurm\]'"):
        run(job, make_trials("well"), diary)


class Asked:
    """Stands for submitit, and remembers."""

    def __init__(self):
        self.parameters = {}

    def AutoExecutor(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        return self

    def update_parameters(self, **parameters):
        self.parameters = parameters


def test_what_slurm_is_asked_for(tmp_path, fake_trials):
    wishes = {"partition": "short", "memory_gb": 4.0, "timeout_minutes": 30, "parameters": {"slurm_account": "us"}}
    execution = ExecutionConfig(processes_per_trial=2, slurm=wishes)
    asked = make_executor(Asked(), "slurm", Job(fake_trials.run_fake, tmp_path, "cuda"), execution)
    assert asked.folder == tmp_path / "slurm"
    assert asked.parameters == {
        "name": "logitlab",
        "timeout_min": 30,
        "nodes": 1,
        "tasks_per_node": 1,
        "cpus_per_task": 2,
        "gpus_per_node": 2,
        "mem_gb": 4.0,
        "slurm_partition": "short",
        "slurm_account": "us",
    }
    plain = make_executor(Asked(), "slurm", Job(fake_trials.run_fake, tmp_path), ExecutionConfig())
    assert (plain.parameters["cpus_per_task"], plain.parameters["gpus_per_node"]) == (1, 0)
    assert "mem_gb" not in plain.parameters


@pytest.fixture
def fleet(job, diary, monkeypatch):
    monkeypatch.setattr(
        "logitlab.studies.executors.slurm.make_executor", lambda *arguments: SimpleNamespace(folder="logs")
    )
    agenda = Agenda((), Store(job.root), diary.trial_ended, diary.notice)
    run = RunFolder.make(job.root)
    fleet = _Fleet(None, job, run, agenda, diary, ExecutionConfig(executor="slurm", slurm=LOCAL))
    fleet.agenda = agenda
    return fleet


def ended_job(state, error=""):
    def refuse():
        raise RuntimeError("no result")

    return SimpleNamespace(job_id="7_1", state=state, exception=refuse, stderr=lambda: error)


def closed(fleet, trial, state, *, moved, deaths=0, left=False, heard=True):
    """Close a batch whose one job ended in ``state`` in the middle of ``trial``."""
    identity = trial.identity
    batch = _Batch({"job 0": ended_job(state)}, {identity: Task(trial, 1, deaths=deaths)}, fleet._run.path / "x.tasks")
    batch.silent = False
    if heard:
        batch.started[identity] = Begun("job 0", ("node7", 4242))
    else:
        mark_of(batch.file, identity).write_text('["job 0", "node7", 4242]')
    batch.moved |= {identity} if moved else set()
    batch.left |= {identity} if left else set()
    fleet._close(batch)
    return fleet.agenda.take()


def test_a_job_that_is_cut_off_while_its_trial_gets_on_costs_no_attempt(fleet, make_trials, diary):
    (trial,) = make_trials("well")
    assert closed(fleet, trial, "TIMEOUT", moved=True).deaths == 0
    (notice,) = notices(diary)
    assert "Slurm ended job 7_1 (TIMEOUT); its trial goes on from its last epoch" in notice
    # Without an epoch it would go on so for ever.
    assert closed(fleet, trial, "TIMEOUT", moved=False).deaths == 1
    assert closed(fleet, trial, "OUT_OF_MEMORY", moved=True).deaths == 1
    assert closed(fleet, trial, "FAILED", moved=True, deaths=2) is None
    error = Store(fleet._job.root).failure(trial.identity)["error"]
    assert error["message"].startswith("Its worker process (job 7_1, FAILED) died. That was attempt 3 of 3.")


def test_jobs_that_cannot_begin_are_told_with_their_last_words(fleet, make_trials):
    (trial,) = make_trials("well")
    jobs = {"job 0": ended_job("FAILED", "x\nNo module named 'logitlab'\n")}
    batch = _Batch(jobs, {trial.identity: Task(trial, 1)}, fleet._run.path / "x.tasks")
    with pytest.raises(LogitLabError, match=r"before their first trial: No module named 'logitlab'\. See 'logs'"):
        fleet._close(batch)


def test_a_job_that_was_told_to_leave_costs_no_attempt_once_its_trial_got_on(fleet, make_trials, diary):
    (trial,) = make_trials("well")
    # It ended well, as far as Slurm knows, or by the signal.
    assert closed(fleet, trial, "FAILED", moved=True, left=True).deaths == 0
    assert "Slurm told job 7_1 to leave; its trial goes on from its last epoch" in notices(diary)[0]
    assert closed(fleet, trial, "FAILED", moved=False, left=True).deaths == 1
    assert "was told to leave before the first epoch was over" in notices(diary)[1]
    assert closed(fleet, trial, "CANCELLED by 1000", moved=True, left=True).deaths == 1


@pytest.mark.parametrize("heard", [True, False])
def test_the_last_death_counts_though_the_claim_looks_alive(fleet, make_trials, heard):
    (trial,) = make_trials("well")
    store = Store(fleet._job.root)
    folder = store.trial_folder(trial.identity)
    folder.mkdir(parents=True)
    claim = {"host": "node7", "machine": "node7 boot pid", "pid": 4242, "process": "1"}
    (folder / "claim.1.json").write_text(json.dumps(claim))
    assert closed(fleet, trial, "OUT_OF_MEMORY", moved=False, deaths=2, heard=heard) is None
    assert (len(fleet.agenda), store.failure(trial.identity)["error"]["kind"]) == (0, "WorkerDied")


def test_a_trial_that_another_runner_took_over_is_left_to_it(fleet, make_trials):
    (trial,) = make_trials("well")
    folder = Store(fleet._job.root).trial_folder(trial.identity)
    folder.mkdir(parents=True)
    claim = {"host": "node8", "machine": "node8 boot pid", "pid": 4242, "process": "1"}
    (folder / "claim.1.json").write_text(json.dumps(claim))
    assert closed(fleet, trial, "OUT_OF_MEMORY", moved=False, deaths=2) is None
    assert (len(fleet.agenda), Store(fleet._job.root).failure(trial.identity)) == (1, None)


def test_jobs_that_wait_in_the_queue_for_nothing_are_cancelled(fleet, make_trials, diary, monkeypatch):
    monkeypatch.setattr("logitlab.studies.executors.slurm._LOOK_SECONDS", 0)
    (trial,) = make_trials("well")
    cancelled = []
    jobs = {
        "job 0": SimpleNamespace(done=lambda: True),
        "job 1": SimpleNamespace(done=lambda: False, cancel=lambda check: cancelled.append("job 1")),
    }
    fleet._local = False
    fleet.batches.append(_Batch(jobs, {trial.identity: Task(trial, 1)}, fleet._run.path / "x.tasks"))
    fleet.listen()
    assert (fleet.has_work(), cancelled) == (True, [])
    poster = fleet._run.poster("job 0")
    poster.say("started", trial.identity)
    poster.say("ended", trial.identity)
    fleet.listen()
    assert (fleet.has_work(), cancelled) == (False, ["job 1"])
    assert diary.of(trial.identity)[-1] == ("ended", trial.identity)


def refuse_as_submitit(number, frame):
    """Answer the signal as submitit does where it cannot put the job into the queue again."""
    from submitit.core.utils import UncompletedJobError

    raise UncompletedJobError("Job not requeued because: timed-out and not checkpointable.")


@pytest.fixture
def answer(monkeypatch):
    """Set what answers SIGUSR2 before; it is put back."""
    before = signal.getsignal(signal.SIGUSR2)
    yield lambda handler: signal.signal(signal.SIGUSR2, handler)
    signal.signal(signal.SIGUSR2, before)


def cut_off(trial, root, *, report=None, **options):
    os.kill(os.getpid(), signal.SIGUSR2)
    time.sleep(5)


def test_the_word_that_time_is_over_is_no_failure_of_the_trial(tmp_path, make_trials, answer):
    answer(refuse_as_submitit)
    (trial,) = make_trials("well")
    store = Store(tmp_path)
    run = RunFolder.make(tmp_path)
    file = run.path / "job 0.tasks"
    file.write_bytes(pickle.dumps([Task(trial, 1)]))
    # As for a job that has nothing left to do: the runner hears of its end at once.
    work_through(prepare_journey(Job(cut_off, tmp_path), run), file, 0, "job 0")
    assert store.failure(trial.identity) is None
    assert holder(store.trial_folder(trial.identity)) is None
    (path,) = run.path.glob("*.messages")
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == ["started", "left"]
    assert not mark_of(file, trial.identity).exists()
    assert signal.getsignal(signal.SIGUSR2) is refuse_as_submitit


@pytest.mark.parametrize("before", [refuse_as_submitit, signal.SIG_DFL, lambda number, frame: sys.exit(77)])
def test_who_is_to_run_again_leaves_with_the_code_of_submitit(answer, before):
    answer(before)
    with pytest.raises(SystemExit) as left, leaving_when_told():
        cut_off(None, None)
    queued = before not in (refuse_as_submitit, signal.SIG_DFL)
    assert (left.value.code, isinstance(left.value, CutOffError)) == ((77, False) if queued else (140, True))


def test_a_job_that_begins_again_takes_up_its_own_trial_and_no_other(tmp_path):
    file = tmp_path / "job 0.tasks"
    mark = mark_of(file, "a" * 16)
    assert who_began(mark) is None
    assert _begin(mark, "job 0")
    assert not _begin(mark, "job 1")
    assert _begin(mark, "job 0")
    assert who_began(mark).place == (os.uname().nodename, os.getpid())
    mark.write_text("[")
    assert not _begin(mark, "job 0")
