"""What group softmax costs beside plain softmax: time and memory of a forward and a backward pass of the loss.

All forms run in turn in one process, so that a busy machine slows all of them, and their times are those of the
thread's own processor clock; the ratios are of medians. Peak memory is measured in a process of its own a form, twice:
what torch's profiler counts as allocated at once, and by how much the resident set grew (Linux; it also holds the
workspaces of the libraries). Features and weight are inputs; their gradients are not.

    python benchmarks/group_softmax.py [--shape 256,1000,2048,8] [--rounds 5]

A shape is batch, classes, features, groups; the option may be repeated. Without it there are three. Forms by the letter
of the paper, and masked products, run at the first one alone: elsewhere they take minutes, and gigabytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import (
    discriminative_grouping,
    fast_discriminative_grouping,
    fast_group_logits,
    group_logits,
    group_softmax_cross_entropy,
)
from logitlab.heads import GroupSoftmaxHead

#: Batch, classes, features, groups.
SHAPES = ((256, 1000, 2048, 8), (256, 8142, 2048, 8), (128, 93431, 512, 8))
#: The criteria of issue 4, for the first shape.
TIME_LIMIT, GROUPING_LIMIT, MEGABYTE_LIMIT = 7.5, 0.5, 65


class Problem:
    """Inputs, and every form of the loss on them."""

    def __init__(self, batch: int, classes: int, features: int, groups: int) -> None:
        torch.manual_seed(0)
        self.groups = groups
        self.features = (torch.randn(batch, features).relu() + 0.1 * torch.rand(batch, features)).requires_grad_()
        self.target = torch.randint(classes, (batch,))
        self.shape = (batch, classes, features, groups)
        self.heads = {kind: GroupSoftmaxHead(features, classes, groups=groups, kind=kind) for kind in ("I", "II")}
        self.heads["I"].weight, self.heads["I"].bias = self.heads["II"].weight, self.heads["II"].bias
        self.weight, self.bias = self.heads["II"].weight, self.heads["II"].bias

    def forms(self) -> dict[str, Callable[[], object]]:
        """What is measured, by name; all but the groupings end with gradients."""
        return {
            "plain softmax": self.softmax,
            "group softmax II, head": lambda: self.backward(self.heads["II"](self.features, self.target)),
            "group softmax I, head": lambda: self.backward(self.heads["I"](self.features, self.target)),
            "group softmax II, logits as a whole": lambda: self.functional(
                fast_group_logits, fast_discriminative_grouping
            ),
            "grouping alone": lambda: self.grouping(fast_discriminative_grouping),
            "grouping alone, plain (argsort)": lambda: self.grouping(discriminative_grouping),
            **({} if self.shape != SHAPES[0] else self.slow_forms()),
        }

    def slow_forms(self) -> dict[str, Callable[[], object]]:
        return {
            "masked products, plain version": lambda: self.functional(group_logits),
            "ingredient logits, naive, blocks of 16": lambda: self.functional(ingredient_group_logits),
        }

    def backward(self, loss: Tensor) -> None:
        for tensor in (self.features, self.weight, self.bias):
            if tensor is not None:
                tensor.grad = None
        loss.backward()  # type: ignore[no-untyped-call]

    def softmax(self) -> None:
        self.backward(F.cross_entropy(F.linear(self.features, self.weight, self.bias), self.target))

    def grouping(self, version: Callable[..., Tensor]) -> Tensor:
        return version(self.features, self.weight, self.target, self.groups)

    def functional(self, version: Callable[..., Tensor], part: Callable[..., Tensor] = discriminative_grouping) -> None:
        logits = version(self.features, self.weight, self.grouping(part), self.groups, self.bias)
        self.backward(group_softmax_cross_entropy(logits, self.target).mean())

    def agree(self) -> float:
        """Largest relative difference of the gradients between the head and the version with whole logits."""
        plain = group_logits if self.shape == SHAPES[0] else fast_group_logits
        gradients = []
        for run in (lambda: self.functional(plain), self.forms()["group softmax II, head"]):
            run()
            gradients.append(
                [tensor.grad.clone() for tensor in (self.features, self.weight) if tensor.grad is not None]
            )
        return max(float((a - b).norm() / a.norm()) for a, b in zip(*gradients))


def ingredient_group_logits(
    features: Tensor, weight: Tensor, grouping: Tensor, groups: int, bias: Tensor | None, block: int = 16
) -> Tensor:
    """By the letter of the paper: ``[16, C, D]`` ingredient logits, put in the order of their groups and added up.

    Without blocks these are 2 GB, and as much again in order. Autograd would keep them all, so that each block is
    computed again in the backward pass.
    """

    def one(features: Tensor, weight: Tensor, order: Tensor) -> Tensor:
        ingredients = features.unsqueeze(1) * weight
        ordered = ingredients.gather(2, order.unsqueeze(1).expand_as(ingredients))
        return ordered.view(len(features), len(weight), groups, -1).sum(dim=3).transpose(1, 2)

    order = torch.argsort(grouping, dim=1, stable=True)
    blocks = [
        torch.utils.checkpoint.checkpoint(one, part, weight, own, use_reentrant=False)
        for part, own in zip(torch.split(features, block), torch.split(order, block))
    ]
    logits = torch.cat(blocks)
    return logits if bias is None else logits + bias / groups


def memory(shape: tuple[int, ...], name: str) -> None:
    """Print the two peaks of one form, in MB above the inputs; runs in a process of its own."""
    torch.set_num_threads(1)
    batch, classes, features, groups = shape
    small = Problem(8, 16, 8 * groups, groups)
    {**small.forms(), **small.slow_forms()}[name]()  # libraries and their code, outside the account
    problem = Problem(batch, classes, features, groups)
    run = problem.forms()[name]
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins at what is resident now
    before = resident_megabytes("VmRSS")
    run()
    resident = resident_megabytes("VmHWM") - before
    for tensor in (problem.features, problem.weight, problem.bias):
        if tensor is not None:
            tensor.grad = None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    now = peak = 0
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    print(json.dumps({"allocated": peak / 2**20, "resident": resident}))


def resident_megabytes(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def peaks(shape: tuple[int, ...], name: str) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--memory", name, "--shape", ",".join(map(str, shape))]
    # Freed blocks go back at once, so that the resident set is what was in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    found: dict[str, float] = json.loads(lines[-1])
    return found


def measure(shape: tuple[int, int, int, int], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Print the figures of one shape; return times as multiples of plain softmax's, and megabytes allocated."""
    batch, classes, features, groups = shape
    print(f"\nbatch {batch}, {classes} classes, {features} features, {groups} groups")
    problem = Problem(*shape)
    print(f"gradients of the head differ from those of the whole logits by {problem.agree():.1e} (relative)")
    same = bool((problem.grouping(fast_discriminative_grouping) == problem.grouping(discriminative_grouping)).all())
    print(f"groupings of both versions are {'the same' if same else 'DIFFERENT'}")
    forms = problem.forms()
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, run in forms.items():
            if "naive" in name and turn % 4:
                continue
            start = time.thread_time()
            run()
            if turn:  # the first round warms up
                times[name].append(time.thread_time() - start)
    # In few rounds the naive form has run only to warm up.
    medians = {name: statistics.median(values) if values else float("nan") for name, values in times.items()}
    plain = medians["plain softmax"]
    print(f"{'':40s} {'ms':>8s} {'least':>8s} {'x plain':>8s} {'MB allocated':>13s} {'MB resident':>12s}")
    ratios, megabytes = {}, {}
    for name, values in times.items():
        peak = peaks(shape, name)
        ratios[name], megabytes[name] = medians[name] / plain, peak["allocated"]
        print(
            f"{name:40s} {1e3 * medians[name]:8.1f} {1e3 * min(values, default=float('nan')):8.1f} "
            f"{ratios[name]:8.2f} {peak['allocated']:13.1f} {peak['resident']:12.1f}"
        )
    return ratios, megabytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shape",
        action="append",
        type=lambda text: tuple(int(part) for part in text.split(",")),
        help="batch,classes,features,groups",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of all forms in turn; the naive one in every fourth")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = options.shape or SHAPES
    if options.memory:
        memory(shapes[0], options.memory)
        return 0
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, 1 thread, float32, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    reached = True
    for shape in shapes:
        ratios, megabytes = measure(shape, options.rounds)
        if shape != SHAPES[0]:
            continue
        met = [
            *(ratios[f"group softmax {kind}, head"] <= 1.1 * TIME_LIMIT for kind in ("I", "II")),
            *(megabytes[f"group softmax {kind}, head"] <= MEGABYTE_LIMIT for kind in ("I", "II")),
            ratios["grouping alone"] <= GROUPING_LIMIT,
        ]
        reached = all(met)
        print(
            f"Asked: at most {TIME_LIMIT} x (and 10% for noise), {MEGABYTE_LIMIT} MB allocated, grouping "
            f"{GROUPING_LIMIT} x: {'reached' if reached else 'NOT reached'}."
        )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
