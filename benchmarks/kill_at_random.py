"""Kill -9 a comparison at random moments, runner or workers, and run the same command again until it ends.

Prints whether anything was lost: no finished trial may run again, every result must be that of a comparison that
nobody disturbed, and some trial must have gone on from its snapshot. Half of the kills hit the runner, half one of its
workers (Linux: children are found in /proc). Half of them come at any moment, half while a trial trains.

    python benchmarks/kill_at_random.py [KILLS] [--seed N] [--epochs N] [-- OPTIONS OF logitlab compare]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from logitlab.records import Store


def start(options: list[str], out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "logitlab", "compare", *options, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def children(pid: int) -> list[int]:
    """Workers of a runner: its children that are not multiprocessing's own helper."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def finished(out: Path) -> dict[str, str]:
    """Each finished trial with all of its record, time and host included: one that ran again would differ."""
    store = Store(out)
    return {identity: repr(store.record(identity)) for identity in store.identities() if store.is_done(identity)}


def until_the_kill(
    process: subprocess.Popen[bytes], out: Path, *, training: bool, seconds: float, chance: random.Random
) -> float | None:
    """Wait for the moment of a kill; return the seconds, or None when the comparison ended before.

    Args:
        process: the comparison.
        out: its folder.
        training: wait for a trial of this call to keep a snapshot, and a moment longer; else for any moment.
        seconds: how long an undisturbed comparison takes.
        chance: chooses.
    """
    began = time.time()
    end = began + chance.uniform(0.1, 1) * seconds
    while process.poll() is None:
        if training:
            with contextlib.suppress(FileNotFoundError):
                if any(path.stat().st_mtime > began for path in out.glob("trials/*/snapshot.pt")):
                    training, end = False, time.time() + chance.uniform(0, 0.3)
        elif time.time() >= end:
            return time.time() - began
        time.sleep(0.005)
    return None


def resumed(out: Path) -> int:
    """How many trials went on from a snapshot."""
    store = Store(out)
    return sum(store.record(identity)["provenance"]["resumed_epochs"] > 0 for identity in store.identities())


def results(out: Path) -> dict[str, str]:
    store = Store(out)
    return {identity: store.record(identity)["result_sha256"] for identity in store.identities()}


def disturb(
    options: list[str], out: Path, kills: range, seconds: float, chance: random.Random
) -> tuple[int, list[str]]:
    """Kill and start again until the comparison is done; return how many kills there were, and what went wrong."""
    faults: list[str] = []
    kept: dict[str, str] = {}
    done, calls = 0, 0
    while True:
        calls += 1
        process = start(options, out)
        waited = None
        if done < len(kills):
            waited = until_the_kill(process, out, training=done % 2 == 0, seconds=seconds, chance=chance)
        if waited is not None:
            workers = children(process.pid)
            victim = chance.choice(workers) if workers and chance.random() < 0.5 else process.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            who = "runner" if victim == process.pid else "worker"
            print(f"kill {kills[done]}: {who} after {waited:.2f} s; {len(finished(out))} trials finished")
            done += 1
        process.wait()
        code = process.returncode if waited is None else None
        errors = process.communicate()[1].decode()
        now = finished(out)
        faults += [
            f"{identity} was lost or ran again" for identity, value in kept.items() if now.get(identity) != value
        ]
        kept = now
        if code == 0:
            return done, faults
        # A call that a kill made fail is made again; one that fails by itself would be for ever.
        if code is not None and (done >= len(kills) or calls > 10 + 2 * len(kills)):
            return done, [*faults, f"the last call ended with code {code}: {errors}"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    words = sys.argv[1:] if arguments is None else arguments
    # argparse loses what follows "--" once the number of kills is read.
    end = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:end])
    options = [*words[end + 1 :], "--epochs", str(given.epochs)]
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        began = time.monotonic()
        process = start(options, undisturbed)
        errors = process.communicate()[1].decode()
        if process.returncode:
            sys.exit(f"The undisturbed comparison failed: {errors}")
        seconds = time.monotonic() - began
        print(f"undisturbed: {len(results(undisturbed))} trials in {seconds:.1f} s")
        done, rounds, went_on, chance = 0, 0, 0, random.Random(given.seed)
        faults: list[str] = []
        # A comparison that ends before its kills came is followed by another one.
        while done < given.kills and not faults:
            rounds += 1
            if rounds > 3 * given.kills:
                faults.append(f"{rounds - 1} comparisons ended before {given.kills} kills came: train longer")
                break
            disturbed = Path(folder) / f"disturbed{rounds}"
            kills, found = disturb(options, disturbed, range(done + 1, given.kills + 1), seconds, chance)
            done += kills
            went_on += resumed(disturbed)
            if results(undisturbed) != results(disturbed):
                found.append("the results differ from those of the undisturbed comparison")
            litter = [*disturbed.rglob("*.pt"), *disturbed.rglob("*.tmp"), *disturbed.rglob("claim.*")]
            faults += [*found, *(f"litter: {path.name}" for path in litter)]
        if not went_on:
            faults.append("no trial went on from its snapshot: they all began anew")
    print(
        "\n".join(faults)
        or f"PASSED: {given.kills} kills, nothing lost, nothing repeated, the same results; {went_on} trials went on "
        "from a snapshot."
    )
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
