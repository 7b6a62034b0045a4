"""How processes elsewhere and their runner hear of each other."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest

from logitlab.config.errors import ConfigurationError, DataError, LogitLabError
from logitlab.records.claims import _start_of, this_process
from logitlab.studies.executors import Job
from logitlab.studies.executors.run_folder import Inbox, RunFolder, fault_of, hand_on, written_fault
from logitlab.studies.executors.travelling import prepare_journey
from logitlab.training import Progress


@pytest.fixture
def run(tmp_path):
    return RunFolder.make(tmp_path)


def test_messages_are_read_once_and_never_in_part(run):
    inbox, poster = Inbox(run), run.poster("job 3")
    assert inbox.news() == []
    poster.say("started", "a" * 16)
    progress = Progress("a" * 16, 1, 2, 0.1 + 0.2, 0.5)
    poster.epoch(progress)
    first, second = inbox.news()
    assert (first.kind, first.identity, first.label) == ("started", "a" * 16, "job 3")
    assert Progress(**second.values) == progress
    (path,) = run.path.glob("*.messages")
    whole = path.read_text()
    path.write_text(whole + whole[:10])
    assert inbox.news() == []
    path.write_text(whole * 2)
    assert [news.kind for news in inbox.news()] == ["started", "epoch"]
    assert inbox.news() == []


def test_a_line_that_makes_no_sense_is_passed_over(run):
    (run.path / "host.1.messages").write_text('nonsense\n["started", "b", {}, "host", 1, ""]\n[1]\n')
    assert [news.identity for news in Inbox(run).news()] == ["b"]


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (DataError("cat/1.jpg is truncated"), DataError, "cat/1.jpg is truncated"),
        (type("Mine", (DataError,), {})("cat/1.jpg"), DataError, "cat/1.jpg"),
        (ConfigurationError("epochs"), ConfigurationError, "epochs"),
        (RuntimeError("broke"), LogitLabError, "RuntimeError: broke"),
        (OSError(errno.ENOSPC, "No space left on device"), OSError, r"\[Errno 28\] No space left on device"),
        (OSError("odd"), LogitLabError, "OSError: odd"),
    ],
)
def test_faults_survive_the_journey(run, diary, fault, kind, words):
    run.poster().fault(fault)
    (news,) = Inbox(run).news()
    with pytest.raises(kind, match=f"^{words}$"):
        hand_on(news, lambda identity: None, diary)
    assert type(fault_of(written_fault(fault))) is kind


def test_the_listener_hears_of_trials_that_run(run, diary, make_trials):
    (trial,) = make_trials("well")
    poster = run.poster()
    for identity in (trial.identity, "0" * 16):
        poster.say("started", identity)
        poster.epoch(Progress(identity, 1, 2, 0.5, 0.5))
    for news in Inbox(run).news():
        hand_on(news, {trial.identity: trial}.get, diary)
    assert diary.events == [("started", trial.identity), ("epoch", trial.identity, 1)]


def test_stopping_and_the_end(run):
    assert run.is_seen()
    assert not run.is_stopped()
    run.stop()
    assert run.is_stopped()
    run.remove()
    # The runner is gone, or this machine sees another folder: either way nothing more begins.
    assert (run.is_seen(), run.is_stopped()) == (False, True)
    run.poster().say("started", "nobody hears it")
    assert Inbox(run).news() == []


def test_paths_and_variables_travel_with_the_job(tmp_path, run, fake_trials, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGITLAB_DATA", "images")
    journey = prepare_journey(Job(fake_trials.run_fake, tmp_path.relative_to(tmp_path) / "runs"), run)
    assert journey.job.root == tmp_path / "runs"
    assert journey.job.data_root == str(tmp_path / "images")
    assert journey.folder == str(tmp_path)
    monkeypatch.delenv("LOGITLAB_DATA")
    assert prepare_journey(Job(fake_trials.run_fake, tmp_path), run).job.data_root is None


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path, run, fake_trials):
    journey = prepare_journey(Job(fake_trials.run_fake, tmp_path / "runs"), run)
    run.remove()
    with pytest.raises(LogitLabError, match=r"/runs', is not the same on '.+'\. Give a folder that all machines"):
        journey.arrive()


def test_what_a_killed_runner_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living, elsewhere, odd = (RunFolder.make(tmp_path) for _ in range(4))
    here = this_process()
    (left.path / "runner.json").write_text(json.dumps(here._replace(pid=dead.pid)))
    # A container may share the machine's name, and count its processes from 1.
    (elsewhere.path / "runner.json").write_text(json.dumps([f"{here.machine} another container", dead.pid, "1"]))
    (odd.path / "runner.json").write_text("[")
    RunFolder.make(tmp_path)
    assert [run.is_seen() for run in (left, living, elsewhere, odd)] == [False, True, True, True]


def test_a_runner_that_nobody_waited_for_and_one_whose_number_another_has_now_are_dead(tmp_path):
    zombie = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = this_process()._replace(pid=zombie.pid, start=_start_of(zombie.pid))
    left = RunFolder.make(tmp_path)
    (left.path / "runner.json").write_text(json.dumps(name))
    RunFolder.make(tmp_path)
    assert left.is_seen()
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert not name.may_run()
    RunFolder.make(tmp_path)
    assert not left.is_seen()
    zombie.communicate()
    assert this_process().may_run()
    assert not this_process()._replace(start="1").may_run()


def test_what_a_runner_of_another_machine_left_a_week_ago_is_removed(tmp_path):
    old, quiet, waiting = (RunFolder.make(tmp_path) for _ in range(3))
    for run in (old, quiet, waiting):
        (run.path / "runner.json").write_text(json.dumps(["elsewhere", 1, "1"]))
        (run.path / "elsewhere.1.messages").touch()
        for path in (run.path / "elsewhere.1.messages", run.path / "runner.json", run.path):
            os.utime(path, (time.time() - 8 * 24 * 3600,) * 2)
    # One whose jobs still speak, and one that waits for its turn in a queue.
    quiet.poster().say("epoch")
    inbox = Inbox(waiting)
    inbox._shown -= 2 * 3600
    assert inbox.news() == []
    RunFolder.make(tmp_path)
    assert [run.is_seen() for run in (old, quiet, waiting)] == [False, True, True]
