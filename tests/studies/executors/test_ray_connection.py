"""Clusters of Ray that do not answer, or cannot hold a trial. Without Ray."""

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from logitlab.config.errors import LogitLabError
from logitlab.config.study import ExecutionConfig
from logitlab.records import Store
from logitlab.studies.agenda import Agenda
from logitlab.studies.executors import Job, ray_connection
from logitlab.studies.executors.job import bury
from logitlab.studies.executors.ray_cluster import _Delivery
from logitlab.studies.executors.ray_connection import cluster, find
from logitlab.studies.interruption import interruptible


@pytest.fixture
def interruption():
    with interruptible(lambda text: None, at_once=False) as interruption:
        yield interruption


@pytest.fixture
def silence(monkeypatch):
    """A network on which nobody answers; returns how often it was tried."""
    tries = []

    def connect(address, timeout):
        tries.append(address)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    return tries


def test_a_cluster_that_refuses_is_told_at_once(interruption):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LogitLabError, match=f"Ray cannot reach the cluster at '{address}': Connection refused"):
            find(address, interruption)
        with pytest.raises(LogitLabError, match=f"at 'ray://{address}'.*start it with 'ray start --head'"):
            find(f"ray://{address}", interruption)
        taken.listen()
        find(address, interruption)


def test_a_cluster_that_does_not_answer_is_told_after_some_tries(interruption, silence, monkeypatch):
    clock = iter([0.0, 4.0, 8.0, 12.0])
    monkeypatch.setattr(ray_connection, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(LogitLabError, match="'far:6379': it does not answer"):
        find("far:6379", interruption)
    assert silence == [("far", 6379)] * 3


@pytest.mark.parametrize(
    "address", ["auto", "local", "nonsense", "nonsense://nowhere", "host:99999", "anyscale://a:1/b"]
)
def test_what_names_no_machine_is_left_to_ray(interruption, silence, address):
    find(address, interruption)
    assert silence == []


@pytest.mark.parametrize("when", ["before", "probing", "connecting"])
def test_ctrl_c_ends_the_wait_for_a_cluster(interruption, monkeypatch, tmp_path, when):
    done = []

    def press(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)
        done.append("went on")

    if when == "before":
        press()
        done.clear()
    answers = press if when == "probing" else lambda *arguments, **options: SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(socket, "create_connection", answers)
    monkeypatch.setenv("RAY_ADDRESS", "far:6379")
    ray = SimpleNamespace(is_initialized=lambda: False, init=press, shutdown=lambda: done.append("shut down"))
    job = Job(press, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cluster(ray, job, ExecutionConfig(executor="ray"), interruption).__enter__()
    assert done == (["shut down"] if when == "connecting" else [])


def test_trials_that_no_machine_can_hold_are_told_once(diary):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 0.5}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]

    def see(cores, gpus):
        delivery = SimpleNamespace(
            _ray=SimpleNamespace(nodes=lambda: nodes), _cores=cores, _share=gpus, _told=False, _listener=diary
        )
        _Delivery._see_room(delivery)
        _Delivery._see_room(delivery)

    see(8, 0.0)
    see(1, 0.5)
    assert diary.events == []
    see(2, 1.0)
    ((_, text),) = diary.events
    assert "can hold a trial, which needs 2 cores and 1 GPUs; the most that one has is 8 cores and 0.5 GPUs" in text


def test_the_last_death_counts_where_nobody_heard_the_trial_begin(tmp_path, fake_trials, make_trials, diary):
    (trial,) = make_trials("well")
    store = Store(tmp_path)
    agenda = Agenda([trial], store, diary.trial_ended, diary.notice)
    job = Job(fake_trials.run_fake, tmp_path)
    for _ in range(3):
        task = agenda.take()
        folder = store.trial_folder(trial.identity)
        folder.mkdir(parents=True, exist_ok=True)
        # The claim of a worker elsewhere that is gone looks alive for a minute.
        claim = folder / "claim.1.json"
        claim.write_text('{"host": "node7", "machine": "node7 boot pid", "pid": 4242, "process": "1"}')
        bury(job, task, "was killed", 3, agenda, diary, None)
        claim.unlink()
    assert len(agenda) == 0
    assert store.failure(trial.identity)["error"]["message"].startswith("Its worker process was killed. That was")
