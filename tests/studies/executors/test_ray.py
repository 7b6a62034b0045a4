"""The executor ``ray`` on a local cluster of two nodes with one core each."""

import os
import signal
import sys
import time

import psutil
import pytest

from logitlab.config.errors import ConfigurationError, LogitLabError
from logitlab.config.study import ExecutionConfig
from logitlab.records import Store
from logitlab.records.claims import holder
from logitlab.studies.agenda import Agenda
from logitlab.studies.executors import Job, deliver, executor_name

pytestmark = [
    pytest.mark.slow,
    # Ray's own: files and sockets that it leaves to the garbage collector, and what it says of its future.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
]


class TwoNodes:
    """A cluster whose second node can be lost."""

    def __init__(self):
        from logitlab.studies.executors.ray_connection import import_ray

        # What other tests keep running, such as their ranks, is none of Ray's.
        self.others = set(psutil.Process().children(recursive=True))
        import_ray()
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        self.second = None
        self.seen = set()
        self.restore()

    def restore(self):
        if self.second is None:
            self.second = self.cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            self.cluster.wait_for_nodes()
        self.remember()

    def remember(self):
        """Note every process below this one, and the raylets' too: they are Ray's."""
        self.seen |= set(psutil.Process().children(recursive=True)) - self.others

    def lose_second(self):
        self.remember()
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None

    def end(self):
        import ray

        self.remember()
        ray.shutdown()
        self.cluster.shutdown()
        _, left = psutil.wait_procs(self.seen, timeout=20)
        assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def nodes():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        nodes = TwoNodes()
        yield nodes
        nodes.end()
    finally:
        # Ray answers SIGTERM in its own way, and would in every test that comes.
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def two_nodes(nodes):
    """With a connection that the tests share: a new one starts new workers."""
    import ray

    nodes.restore()
    if not ray.is_initialized():
        ray.init(address=nodes.cluster.address, log_to_driver=False, logging_level="ERROR")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield nodes
    nodes.remember()


def run(job, trials, listener, **options):
    agenda = Agenda(trials, Store(job.root), listener.trial_ended, listener.notice)
    deliver(job, agenda, listener, ExecutionConfig(executor="ray", **options))


def notices(diary):
    return [event[1] for event in diary.events if event[0] == "notice"]


@pytest.fixture
def job(tmp_path, fake_trials):
    return Job(fake_trials.run_fake, tmp_path / "runs", data_root="somewhere")


def test_the_same_bits_as_in_this_process(nodes, tmp_path, small_study, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    cache = tmp_path / "cache"
    alone, beside = small_study(tmp_path / "a", "serial"), small_study(tmp_path / "b", "ray", cache=cache)
    nodes.remember()
    assert len(alone) == 4
    assert alone == beside
    assert len(list(cache.glob("*.safetensors"))) == 1


def test_every_trial_leaves_a_record_and_a_worker_that_dies_costs_an_attempt(two_nodes, job, make_trials, diary):
    trials = make_trials("threads", "die_once", "raise", "well", "die")
    run(job, trials, diary, attempts=2)
    store = Store(job.root)
    assert [store.is_done(trial.identity) for trial in trials] == [True, True, False, True, False]
    provenance = store.record(trials[0].identity)["provenance"]
    assert (provenance["threads"], provenance["data_root"]) == (1, os.path.realpath("somewhere"))
    assert store.failure(trials[2].identity)["error"]["message"] == "the head broke"
    error = store.failure(trials[4].identity)["error"]
    assert (error["kind"], error["message"].split(".")[0]) == ("WorkerDied", "Its worker process was killed")
    assert [event[0] for event in diary.of(trials[3].identity)] == ["started", "epoch", "epoch", "ended"]
    assert sum("tried again (attempt 2 of 2)" in text for text in notices(diary)) == 2
    # Nothing of the run is left beside the trials.
    assert [path.name for path in job.root.iterdir()] == ["trials"]


def test_trials_that_come_to_be_known_by_the_end_of_others_run_too(two_nodes, job, make_trials, diary):
    first, *others = make_trials("well", "well", "well")

    class Grows(type(diary)):
        def trial_ended(self, trial):
            super().trial_ended(trial)
            if trial == first:
                agenda.add(others)

    grows = Grows()
    agenda = Agenda([first], Store(job.root), grows.trial_ended, grows.notice)
    deliver(job, agenda, grows, ExecutionConfig(executor="ray"))
    assert all(Store(job.root).is_done(trial.identity) for trial in others)


def test_a_lost_node_costs_its_trials_an_attempt(two_nodes, job, make_trials, diary):
    trials = make_trials(*["slow"] * 5, epochs=6)

    class Loses(type(diary)):
        def trial_started(self, trial):
            super().trial_started(trial)
            started = {event[1] for event in self.events if event[0] == "started"}
            if len(started) == 2 and two_nodes.second is not None:
                two_nodes.lose_second()

    loses = Loses()
    run(job, trials, loses)
    store = Store(job.root)
    assert all(store.is_done(trial.identity) for trial in trials)
    runs = [(store.trial_folder(trial.identity) / "runs").read_text().count("run") for trial in trials]
    # What was in flight there alone began anew.
    assert sorted(runs) == [1, 1, 1, 1, 2]
    (again,) = notices(loses)
    assert "tried again (attempt 2 of 3)" in again


def test_ctrl_c_drains_and_a_second_one_cancels(two_nodes, job, make_trials, diary):
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
    done = sum(store.is_done(trial.identity) for trial in trials)
    assert 1 <= done <= 2
    assert all(holder(store.trial_folder(trial.identity)) is None for trial in trials)
    began = time.monotonic()
    (asleep,) = make_trials("sleep")
    with pytest.raises(KeyboardInterrupt):
        run(job, [asleep], Presses(2))
    assert time.monotonic() - began < 60
    assert not store.is_done(asleep.identity)
    assert store.failure(asleep.identity) is None
    assert holder(store.trial_folder(asleep.identity)) is None


def test_a_folder_that_a_node_does_not_see_and_faults_of_all_trials_are_told(
    two_nodes, job, make_trials, diary, monkeypatch
):
    with pytest.raises(LogitLabError, match="cat/1.jpg is truncated"):
        run(job, make_trials("data"), diary)
    away = Job(job.function, job.root, plugins=("no_such_module_anywhere",))
    with pytest.raises(LogitLabError, match="Cannot import the plugin 'no_such_module_anywhere'"):
        run(away, make_trials("well"), diary)
    monkeypatch.setattr("logitlab.studies.executors.ray_cluster._sees", lambda run: False)
    with pytest.raises(LogitLabError, match=r"is not the same on '.*'\. Give a folder that all machines"):
        run(job, make_trials("well"), diary)


def test_a_cluster_that_is_not_there_is_told(nodes, job, make_trials, diary, monkeypatch):
    import ray

    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "nonsense://nowhere")
    with pytest.raises(LogitLabError, match="Ray cannot reach the cluster at 'nonsense://nowhere'"):
        run(job, make_trials("well"), diary)


def test_ray_that_is_not_installed_is_told(job, make_trials, diary, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"needs Ray\. Install it with: pip install 'logitlab\[ray\]'"):
        run(job, make_trials("well"), diary)


def test_an_address_of_ray_chooses_the_executor(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert executor_name(ExecutionConfig()) == "ray"
    assert executor_name(ExecutionConfig(executor="serial")) == "serial"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert executor_name(ExecutionConfig()) == "process"
