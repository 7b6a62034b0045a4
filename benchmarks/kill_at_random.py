"""Kill -9 a comparison at random moments, runner or workers, and run the same command again until it ends.

Prints whether anything was lost: no finished trial may run again, and every result must be that of a comparison that
nobody disturbed. Half of the kills hit the runner, half one of its workers (Linux: children are found in /proc).

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


def results(out: Path) -> dict[str, str]:
    store = Store(out)
    return {identity: store.record(identity)["result_sha256"] for identity in store.identities()}


def disturb(
    options: list[str], out: Path, kills: range, seconds: float, chance: random.Random
) -> tuple[int, list[str]]:
    """Kill and start again until the comparison is done; return how many kills there were, and what went wrong."""
    faults: list[str] = []
    kept: dict[str, str] = {}
    done = 0
    while True:
        process = start(options, out)
        delay = chance.uniform(0.1, 1) * seconds if done < len(kills) else None
        try:
            code = process.wait(delay)
        except subprocess.TimeoutExpired:
            workers = children(process.pid)
            victim = chance.choice(workers) if workers and chance.random() < 0.5 else process.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            who = "runner" if victim == process.pid else "worker"
            if who == "worker":
                process.wait()
            code = None
            print(f"kill {kills[done]}: {who} after {delay:.2f} s; {len(finished(out))} trials finished")
            done += 1
        errors = process.communicate()[1].decode()
        now = finished(out)
        faults += [
            f"{identity} was lost or ran again" for identity, value in kept.items() if now.get(identity) != value
        ]
        kept = now
        if code == 0:
            return done, faults
        if code is not None and done >= len(kills):
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
        done, rounds, chance = 0, 0, random.Random(given.seed)
        faults: list[str] = []
        # A comparison that ends before its kills came is followed by another one.
        while done < given.kills:
            rounds += 1
            disturbed = Path(folder) / f"disturbed{rounds}"
            kills, found = disturb(options, disturbed, range(done + 1, given.kills + 1), seconds, chance)
            done += kills
            if results(undisturbed) != results(disturbed):
                found.append("the results differ from those of the undisturbed comparison")
            litter = [*disturbed.rglob("*.pt"), *disturbed.rglob("*.tmp"), *disturbed.rglob("claim.*")]
            faults += [*found, *(f"litter: {path.name}" for path in litter)]
    print("\n".join(faults) or f"PASSED: {given.kills} kills, nothing lost, nothing repeated, the same results.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
