"""How many workers fit into memory: arithmetic with numbers that the tests give."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from logitlab.records import Store
from logitlab.studies.executors import run_in_processes
from logitlab.studies.executors.job import Job
from logitlab.studies.executors.memory import (
    LEAST_ESTIMATE,
    MemoryGauge,
    available_memory,
    peak_memory,
    resident_memory,
    workers_that_fit,
)

GB = 2**30


@pytest.mark.parametrize(
    ("available", "held", "need", "expected"),
    [
        (10 * GB, [], GB, 9),  # a tenth is left to others
        (10 * GB, [], 20 * GB, 1),  # one always runs
        (0, [GB, GB], GB, 2),  # what runs has its place
        (2 * GB, [0, 0], GB, 1),  # two that have just started will need all there is and more
        (2 * GB, [GB, GB], GB, 3),
        (0, [], GB, 1),
        (GB, [], 0, int(0.9 * GB)),
    ],
)
def test_workers_that_fit(available, held, need, expected):
    assert workers_that_fit(available, held, need) == expected


def gauge(available, held, **options):
    return MemoryGauge(lambda: available["free"], lambda number: held.get(number, 0), **options)


def test_the_largest_worker_so_far_is_the_measure(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("logitlab.studies.executors.memory.time.monotonic", lambda: clock.now)
    free = {"free": 10 * GB}
    one = gauge(free, {}, estimate=3 * GB)
    assert one.fitting([]) == 3
    one.learn(0)  # says nothing
    assert one.need == 3 * GB
    one.learn(GB)  # the first measurement stands for the estimate, and counts at once
    assert (one.need, one.fitting([])) == (GB, 9)
    one.learn(GB // 2)
    assert one.need == GB
    one.learn(2 * GB)
    assert one.fitting([]) == 4
    free["free"] = GB
    assert one.fitting([]) == 4  # looked up once a second
    clock.now += 1.0
    assert one.fitting([]) == 1


def test_before_the_first_measurement_a_worker_is_taken_for_one_like_this_process():
    here = os.getpid()
    assert gauge({"free": GB}, {here: 5 * GB}).need == 5 * GB
    assert gauge({"free": GB}, {here: 1000}).need == LEAST_ESTIMATE


def test_the_words():
    assert gauge({"free": 3 * GB}, {}, estimate=GB).why() == "3.0 GB are free and a trial takes about 1.0 GB"


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(str(value))


def test_the_limits_of_groups_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    mine = tmp_path / "cgroup"
    mine.write_text("0::/user/job\n")
    groups = tmp_path / "groups"
    group(groups / "user" / "job", memory__max="max", memory__current=GB)
    # The group above is the narrower one; cached files are given up for others.
    group(groups / "user", memory__max=8 * GB, memory__current=6 * GB, memory__stat=f"anon 1\ninactive_file {GB}\n")
    assert available_memory(groups, mine) == 3 * GB
    mine.write_text("5:cpu,memory:/docker/abc\n1:name=systemd:/\n0::/\n")
    old = groups / "memory"
    group(old, **{"memory.limit_in_bytes": 4 * GB, "memory.usage_in_bytes": GB})
    group(old, **{"memory.stat": f"total_inactive_file {GB // 2}\n"})
    assert available_memory(groups, mine) == 3.5 * GB
    assert available_memory(groups, tmp_path / "nowhere") == 100 * GB
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=GB))
    assert available_memory(groups, mine) == GB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process itself is read in /proc")
def test_the_peak_is_this_process_alone():
    """A child of a process that holds much does not begin with its parent's peak."""
    ballast = bytearray(256 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from logitlab.studies.executors.memory import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert min(peak_memory(), resident_memory(os.getpid())) > 256 * 2**20
    assert 0 < child < peak_memory() - 128 * 2**20


def test_a_process_that_is_gone_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert resident_memory(process.pid) == 0


def test_memory_and_not_cores_decides(tmp_path, fake_trials, make_trials, diary):
    trials = make_trials("well", "wait", "wait", "wait", epochs=1)
    store = Store(tmp_path)

    class LetsGo(type(diary)):
        def trial_started(self, trial):
            super().trial_started(trial)
            # Once the first trial has been measured, there is room for two at a time: alone, one would wait for ever.
            if len({event[1] for event in self.events if event[0] == "started"}) == 3:
                (tmp_path / "trials" / "go").touch()

    lets_go = LetsGo()
    tight = MemoryGauge(lambda: 2 * GB, lambda number: 0, estimate=3 * GB)
    run_in_processes(Job(fake_trials.run_fake, tmp_path), trials, lets_go, workers=2, memory=tight)
    assert all(store.is_done(trial.identity) for trial in trials)
    assert [event[1] for event in lets_go.events if event[0] == "notice"] == [
        "Memory decides how many trials run at a time: 1, not 2. 2.0 GB are free and a trial takes about 3.0 GB."
    ]
    ended = [event[1] for event in lets_go.events if event[0] == "ended"]
    assert ended[0] == trials[0].identity


def test_workers_for_which_there_is_no_room_any_more_are_let_go(tmp_path, fake_trials, make_trials, diary):
    trials = make_trials(*["well"] * 8)
    free = {"free": 9 * GB}

    class Shrinks(type(diary)):
        def trial_ended(self, trial):
            super().trial_ended(trial)
            shrinking.need, shrinking._until = 10 * GB, 0.0

    shrinking = MemoryGauge(lambda: free["free"], lambda number: 0, estimate=GB)
    run_in_processes(Job(fake_trials.run_fake, tmp_path), trials, Shrinks(), workers=2, memory=shrinking)
    pids = [Store(tmp_path).record(trial.identity)["provenance"]["pid"] for trial in trials]
    # From then on one worker does it all.
    assert len(set(pids[3:])) == 1
