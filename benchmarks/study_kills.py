"""Kill -9 a study's runner, its workers and a node of its Ray cluster at random moments; run the same command again.

Prints whether anything was lost: after all of it there must be a valid record for every trial, no record that stood at
a kill may have been written again, and no process may be left. The trials are tiny: a perceptron on digits, one epoch.

    python -m benchmarks.study_kills [--trials 360] [--runner-kills 5] [--worker-kills 10] [--no-ray] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from logitlab.records import Store
from logitlab.records.study import read_plan, study_folder

SECONDS = 900.0
MARK = "LOGITLAB_STUDY_KILLS"
STUDY = """\
name: kills
data: digits
backbone: mlp
training: {{epochs: 1}}
seeds: {seeds}
heads:
  - softmax
  - {{head: cosine, label: "κ = {{head.kappa:g}}", grid: {{head.kappa: {kappas}}}}}
"""


def start(file: Path, out: Path, executor: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "logitlab", "study", "run", str(file), "--out", str(out), "--no-report"]
    log = (out / "log").open("ab")
    return subprocess.Popen(
        [*command, "--executor", executor], stdout=log, stderr=log, env={**os.environ, **environment}
    )


def workers_of(runner: subprocess.Popen[bytes]) -> list[int]:
    """The runner's workers that have begun; not multiprocessing's own helper."""
    try:
        children = psutil.Process(runner.pid).children()
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def marked(mark: str) -> list[int]:
    """Processes that come from this script, by a variable of their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Identity → file and time of each record that is there: one that is written again is another file."""
    found = {}
    for path in out.glob("trials/*/record.json"):
        state = path.stat()
        found[path.parent.name] = (state.st_ino, state.st_mtime_ns)
    return found


def rewritten(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> list[str]:
    return [identity for identity, state in before.items() if now.get(identity) != state]


def wait_for(out: Path, count: int, runner: subprocess.Popen[bytes]) -> bool:
    """Wait until so many trials are finished; False when the runner ended before."""
    end = time.monotonic() + SECONDS
    while len(finished(out)) < count:
        if runner.poll() is not None:
            return False
        if time.monotonic() > end:
            raise SystemExit(f"The study stands still at {len(finished(out))} trials; see {out / 'log'}.")
        time.sleep(0.05)
    return True


def kill_process_study(file: Path, out: Path, moments: list[tuple[int, str]], chance: random.Random, mark: str) -> int:
    """Run the study by processes and kill at these moments (so many trials finished); return how often it was begun."""
    runs = 1
    runner = start(file, out, "process", **{MARK: mark})
    for count, whom in moments:
        while not wait_for(out, count, runner):
            runner = start(file, out, "process", **{MARK: mark})
            runs += 1
        time.sleep(chance.uniform(0, 0.3))
        before = finished(out)
        if whom == "runner":
            runner.send_signal(signal.SIGKILL)
            runner.wait()
            runner = start(file, out, "process", **{MARK: mark})
            runs += 1
        else:
            while not (found := workers_of(runner)) and runner.poll() is None:
                time.sleep(0.05)
            if found:
                os.kill(chance.choice(found), signal.SIGKILL)
        print(f"{len(before):4d} trials finished: killed a {whom}", flush=True)
        KEPT.append(before)
    # The rest is left to the next executor: SIGTERM, and what was begun is resumed there.
    runner.send_signal(signal.SIGTERM)
    runner.wait()
    return runs


@contextmanager
def two_nodes(mark: str) -> Iterator[object]:
    """A Ray cluster of two nodes with a core each; its own processes carry the mark as well."""
    from ray.cluster_utils import Cluster

    os.environ[MARK] = mark
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        yield cluster
    finally:
        cluster.shutdown()
        del os.environ[MARK]


def kill_ray_study(file: Path, out: Path, mark: str) -> None:
    """Go on by Ray, kill one of two nodes, and let the same command end."""
    with two_nodes(mark) as cluster:
        runner = start(file, out, "ray", RAY_ADDRESS=cluster.address, **{MARK: mark})  # type: ignore[attr-defined]
        wait_for(out, len(finished(out)) + 20, runner)
        before = finished(out)
        (node,) = cluster.worker_nodes  # type: ignore[attr-defined]
        cluster.remove_node(node, allow_graceful=False)  # type: ignore[attr-defined]
        print(f"{len(before):4d} trials finished: killed a node", flush=True)
        KEPT.append(before)
        code = runner.wait(SECONDS)
        if code:
            print(f"     the runner ended with {code}; the same command again", flush=True)
            runner = start(file, out, "ray", RAY_ADDRESS=cluster.address, **{MARK: mark})  # type: ignore[attr-defined]
            runner.wait(SECONDS)


KEPT: list[dict[str, tuple[int, int]]] = []


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=360)
    parser.add_argument("--runner-kills", type=int, default=5)
    parser.add_argument("--worker-kills", type=int, default=10)
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    chance = random.Random(chosen.seed)
    heads = 12 if chosen.trials % 12 == 0 else 2
    began, mark = time.monotonic(), uuid.uuid4().hex
    KEPT.clear()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        out.mkdir()
        file = Path(folder) / "kills.yaml"
        kappas = list(range(5, 5 * heads, 5))
        file.write_text(STUDY.format(seeds=chosen.trials // heads, kappas=kappas), encoding="utf-8")
        last = chosen.trials if chosen.no_ray else round(0.7 * chosen.trials)
        kinds = ["runner"] * chosen.runner_kills + ["worker"] * chosen.worker_kills
        chance.shuffle(kinds)
        counts = sorted(chance.sample(range(1, max(last - 10, len(kinds) + 2)), len(kinds)))
        runs = kill_process_study(file, out, list(zip(counts, kinds)), chance, mark)
        if not chosen.no_ray:
            kill_ray_study(file, out, mark)
        # The same command once more: it has nothing left to do, or does what is left.
        code = start(file, out, "process", **{MARK: mark}).wait(SECONDS)
        store, now = Store(out), finished(out)
        valid = [identity for identity in store.identities() if store.is_done(identity)]
        planned = {trial.identity for trial in read_plan(study_folder(out, "kills")).trials}
        again = [identity for before in KEPT for identity in rewritten(before, now)]
        litter = [
            path.name for path in out.glob("trials/*/*") if path.name.startswith(("claim.", ".", "snapshot", "error"))
        ]
        time.sleep(1.0)
        left = marked(mark)
        print(
            f"{len(valid)} valid records of {len(planned)} trials; {len(KEPT)} kills, {runs} runs by processes; "
            f"last exit code {code}; records written again: {len(again)}; files left over: {len(litter)}; "
            f"processes left: {len(left)}; {time.monotonic() - began:.0f} s"
        )
        if code or len(valid) != len(planned) or len(planned) != chosen.trials or again or litter or left:
            print((out / "log").read_text(encoding="utf-8")[-4000:])
            print("FAILED", again[:3], litter[:5], left)
            return 1
    print("PASSED")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
