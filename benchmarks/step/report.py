"""One measurement from its options to its text: runs, tables, checks, and the file of results."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .checks import NOISE, checks
from .figures import Figures
from .measuring import Measured, measure, weigh
from .memory import REPOSITORY
from .ours import FIXED
from .problem import SHAPES, Shape
from .table import environment, load, table

#: From the root of the repository.
RESULTS = "benchmarks/results/step.txt"

#: One shape for each way to search, and one that is large enough for the fused step.
QUICK_SHAPES = (Shape(32, 10, 64), Shape(32, 100, 64), Shape(32, 600, 64))
GROUP_SHAPES = (Shape(256, 1000, 2048), QUICK_SHAPES[-1])


def report(options: argparse.Namespace) -> int:
    """Measure, print, save; return the exit code."""
    lines: list[str] = []

    def say(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    say("uv run python -m benchmarks " + " ".join(sys.argv[1:]))
    say(environment(options.threads))
    tables, faults = [], []
    for runs in several_runs(options) if options.runs > 1 else ([found] for found in measurements(options)):
        figures = Figures(runs)
        tables.append(figures)
        if not options.no_memory:
            # A process takes seconds: one is enough to see that it works.
            one = QUICK_SHAPES[-1] == figures.first.shape and FIXED in figures.first.times
            weigh(figures.first, list(figures.first.times) if not options.quick else [FIXED] * one)
        say("\n" + table(figures))
        faults += [f"{figures.first.shape}: {fault}" for run in runs for fault in run.disagreements()]
    say(f"\nLoad at the end: {load()}.")
    for fault in faults:
        say(f"DISAGREEMENT: {fault}")
    if not faults:
        say("All forms agree with their formulas.")
    missed = False
    if options.check:
        found = list(checks(tables))
        missed = not all(check.passed for check in found)
        say(f"\nWhat is asked (at most), and what was measured; up to {NOISE:.0%} above a ratio of times is noise:")
        for check in found:
            say(str(check))
        counted = sum(check.verdict == "reached" for check in found)
        say(
            f"{len(found)} figures asked: {counted} reached, {sum(check.passed for check in found) - counted} within "
            f"noise, {sum(not check.passed for check in found)} NOT reached or not measured."
        )
    if options.save:
        (REPOSITORY / options.save).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if faults or missed else 0


def measurements(options: argparse.Namespace) -> Iterator[Measured]:
    """All tables of one run, without memory."""
    rounds = options.rounds or (2 if options.quick else 9)
    seconds = options.seconds if options.seconds is not None else (0.0 if options.quick else 5.0)
    for shape in options.shape or (QUICK_SHAPES if options.quick else SHAPES):
        yield measure("cosine", shape, options.family, options.only, rounds, seconds)
        if shape in GROUP_SHAPES and (not options.only or any("group" in word for word in options.only)):
            yield measure("groups", shape, options.family, options.only, rounds, seconds)


def several_runs(options: argparse.Namespace) -> list[list[Measured]]:
    """The same from several processes, one after the other: for each table what each of them found."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(options.runs):
            print(f"run {run + 1} of {options.runs} …", file=sys.stderr)
            file = Path(folder) / f"{run}.json"
            command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--json", str(file)]
            subprocess.run(command, cwd=REPOSITORY, check=True)
            found = [Measured(**{**each, "shape": Shape(*each["shape"])}) for each in json.loads(file.read_text())]
            runs.append(found)
    return [list(tables) for tables in zip(*runs)]


def one_run(options: argparse.Namespace) -> None:
    """What a process of several runs does."""
    Path(options.json).write_text(json.dumps([found.json() for found in measurements(options)]))
