"""Which process runs a trial: one at a time, and never nobody for long."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from logitlab.records import claims
from logitlab.records.claims import HEARTBEAT_SECONDS, STALE_SECONDS, Holder, holder, remove_claims, take_claim


def age(path, seconds):
    """Set the time of the last heartbeat back."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def left_by_a_dead_process(folder):
    code = "import sys, os, pathlib; from logitlab.records.claims import take_claim;" + (
        "take_claim(pathlib.Path(sys.argv[1])); print(os.getpid()); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    return int(done.stdout)


def edit(folder, **changes):
    (path,) = folder.glob("claim.*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_one_takes_it_and_the_others_see_who(tmp_path):
    folder = tmp_path / "trial"
    assert holder(folder) is None
    with take_claim(folder) as claim:
        assert take_claim(folder) is None
        seen = holder(folder)
        assert seen.pid == os.getpid()
        assert str(seen) == f"process {os.getpid()} on {seen.host}"
        assert not claim.is_lost()
    assert holder(folder) is None
    with take_claim(folder):
        assert holder(folder) is not None
    # The number goes on, so that a sleeper who looked long ago wins nothing.
    assert [path.name for path in folder.iterdir()] == ["claim.2.json"]


def test_the_claims_of_a_finished_trial_are_removed(tmp_path):
    with take_claim(tmp_path):
        (tmp_path / "record.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path):
    left_by_a_dead_process(tmp_path)
    assert holder(tmp_path) is None
    assert take_claim(tmp_path) is not None


def test_a_dead_process_that_nobody_waited_for_holds_nothing(tmp_path):
    code = "import sys, pathlib; from logitlab.records.claims import take_claim; take_claim(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as child:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("claim.1.json")) or holder(tmp_path) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert child.returncode is None  # a zombie


def test_a_process_with_the_number_of_a_dead_one_holds_nothing(tmp_path):
    left_by_a_dead_process(tmp_path)
    edit(tmp_path, pid=os.getpid())
    if claims._start_of(os.getpid()) is None:
        pytest.skip("this system does not tell when a process started")
    assert holder(tmp_path) is None


@pytest.mark.parametrize("change", [{"machine": "elsewhere"}, {"pid": None}])
def test_the_age_decides_about_other_machines(tmp_path, change):
    left_by_a_dead_process(tmp_path)
    path = edit(tmp_path, **change)
    age(path, STALE_SECONDS - 10)
    assert holder(tmp_path) is not None
    assert take_claim(tmp_path) is None
    age(path, 20)
    assert holder(tmp_path) is None
    assert take_claim(tmp_path) is not None


def test_a_living_process_without_heartbeat_is_overtaken_and_learns_of_it(tmp_path):
    claim = take_claim(tmp_path)
    age(tmp_path / "claim.1.json", STALE_SECONDS + 1)
    other = take_claim(tmp_path)
    assert claim.is_lost()
    assert not other.is_lost()
    # What the loser gives back is not the winner's.
    claim.release(done=False)
    assert holder(tmp_path) is not None
    other.release(done=False)


@pytest.mark.parametrize("content", ["", '{"pid": 1', "[1]", "\x00"])
def test_a_claim_cut_in_half_counts_until_it_is_old(tmp_path, content):
    path = tmp_path / "claim.7.json"
    path.write_text(content)
    assert holder(tmp_path) == Holder()
    assert str(holder(tmp_path)) == "another process"
    age(path, STALE_SECONDS + 1)
    assert holder(tmp_path) is None
    assert take_claim(tmp_path) is not None


def test_the_heart_beats(tmp_path, monkeypatch):
    assert HEARTBEAT_SECONDS * 5 < STALE_SECONDS
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.05)
    with take_claim(tmp_path) as claim:
        age(tmp_path / "claim.1.json", STALE_SECONDS + 1)
        deadline = time.monotonic() + 10
        while holder(tmp_path) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert holder(tmp_path) is not None
    assert not claim._thread.is_alive()


def test_of_many_that_find_a_stale_claim_one_wins(tmp_path):
    """Fifty rounds of eight threads that all find the same dead claim."""
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "claim.3.json"
        path.write_text("{}")
        age(path, STALE_SECONDS + 1)
        start, won = threading.Barrier(8), []

        def take(folder=folder, start=start, won=won):
            start.wait()
            won.append(take_claim(folder))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [claim for claim in won if claim is not None]
        winner.release(done=False)


def test_a_sleeper_that_wins_an_old_number_withdraws(tmp_path, monkeypatch):
    """It saw claim 1 stale; before it made claim 2, others had taken 2 and left it stale, and hold 3."""
    (tmp_path / "claim.3.json").write_text("{}")
    looks = iter([1, 3])
    monkeypatch.setattr(claims, "_highest", lambda folder: next(looks))
    assert take_claim(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim.3.json"]


def test_a_disk_that_takes_no_claim_says_so_and_is_left_clean(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        take_claim(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_claims_can_be_removed_by_hand(tmp_path):
    claim = take_claim(tmp_path)
    remove_claims(tmp_path)
    assert claim.is_lost()
    claim.release(done=False)
    assert list(tmp_path.iterdir()) == []
