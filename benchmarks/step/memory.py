"""Peak memory above the inputs, of one form in a process of its own.

Counted twice: what torch's profiler saw allocated at once, and by how much the resident set grew (Linux only; it also
holds the workspaces of the libraries). Features and weight are inputs; their gradients are not.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .form import Form, Step
from .problem import Problem, Shape

REPOSITORY = Path(__file__).resolve().parents[2]

Peak = dict[str, float | None]


def measure(form: Form, problem: Problem) -> Peak:
    """Both peaks of one form in MB; for a process that has done nothing else."""
    small = form.build(Problem(Shape(8, problem.shape.classes if problem.shape.classes <= 64 else 512, 16)))
    small()  # libraries and their code, outside the account
    run = form.build(problem)
    if isinstance(run, Step):
        run.clear()
    gc.collect()
    mark = Path("/proc/self/clear_refs")
    resident = None
    if mark.exists():
        mark.write_text("5")  # the high-water mark begins at what is resident now
        before = _resident_megabytes("VmRSS")
        run()
        resident = _resident_megabytes("VmHWM") - before
    if isinstance(run, Step):
        run.clear()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return {"allocated": peak / 2**20, "resident": resident}


def peaks(section: str, form: str, problem: Problem) -> Peak:
    """The same, from a new process."""
    command = [sys.executable, "-m", "benchmarks", "--memory", section, form, "--family", problem.family]
    command += ["--shape", ",".join(map(str, problem.shape)), "--threads", str(torch.get_num_threads())]
    # Freed blocks go back at once, so that the resident set is what was in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The memory of {form!r} could not be measured:\n{done.stderr}")
    found: Peak = json.loads(done.stdout.splitlines()[-1])
    return found


def _resident_megabytes(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))
