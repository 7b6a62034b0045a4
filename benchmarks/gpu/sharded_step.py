"""``ShardedHead``: a step on one GPU alone, and on as many GPUs as there are, by NCCL, beside the dense fused head.

Of each head: the loss and the gradients, relative to the dense head's on all samples at once; the time of a step, the
slowest rank's; the memory above the inputs; and what a rank sends. Every rank has B samples. With one GPU the
collectives are not run: two processes of one GPU cannot use NCCL.

    python -m benchmarks.gpu.sharded_step [--classes 1000000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from logitlab.heads import CosineHead
from logitlab.heads.sharded import ShardedHead

from ..step.form import Step
from ..step.problem import KAPPA, Shape
from .checks import Checks, apart
from .clock import Clock, in_turn, peak_bytes
from .inputs import Inputs
from .machine import describe, device_of, parser, say

#: Of losses and gradients. Where two candidates are as good, the order of a sum decides which is κ*.
LIMIT = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
HEADS: dict[str, dict[str, Any]] = {"fixed κ": {"kappa": KAPPA}, "least squares": {"temperature": "least_squares"}}


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--classes", type=int, action="append", help="repeatable; default: 93431 and 1000000")
    made.add_argument("--seconds", type=float, default=60, help="of all together (default: 60)")
    made.add_argument("--ranks", type=int, help="processes; default: one a GPU. On a CPU they use gloo")
    options = made.parse_args()
    if "RANK" in os.environ:
        return with_others(options)
    device = device_of(options)
    say(describe(device))
    checks = Checks()
    begin = time.monotonic()
    measure(options, device, checks, begin + options.seconds / 2)
    failed = checks.verdict()
    ranks = options.ranks or (torch.cuda.device_count() if device.type == "cuda" else 1)
    if ranks == 1:
        say("one GPU only: NCCL not run" if device.type == "cuda" else "one process only: gloo not run")
        return failed
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["-m", "benchmarks.gpu.sharded_step", *sys.argv[1:]]
    left = options.seconds - (time.monotonic() - begin) + 60
    try:
        done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], timeout=left)
    except subprocess.TimeoutExpired:
        say(f"{ranks} processes: ended, because they took longer than {left:.0f} s")
        return 1
    return failed or int(done.returncode != 0)


def with_others(options: argparse.Namespace) -> int:
    """What each process of several does."""
    on_gpu = torch.device(options.device).type == "cuda"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=60))
    try:
        checks = Checks(quiet=dist.get_rank() > 0)
        measure(options, device, checks, time.monotonic() + options.seconds / 2)
        return checks.verdict()
    finally:
        dist.destroy_process_group()


def measure(options: argparse.Namespace, device: torch.device, checks: Checks, deadline: float) -> None:
    """Every shape, dtype and head."""
    size, batch = (32, 8) if options.quick else (512, 512)
    all_classes = options.classes or ([301] if options.quick else [93_431, 1_000_000])
    cases = [(classes, dtype) for classes in all_classes for dtype in (torch.bfloat16, torch.float32)]
    for index, (classes, dtype) in enumerate(cases):
        share = max(0.0, deadline - time.monotonic()) / (len(cases) - index)
        shape = Shape(batch, classes, size)
        # Memory that the other's error holds is a fault too, but the next case may do.
        checks.attempt(f"{shape}, {dtype}", lambda: one_case(shape, dtype, device, checks, share))  # noqa: B023
        if device.type == "cuda":
            torch.cuda.empty_cache()


def one_case(shape: Shape, dtype: torch.dtype, device: torch.device, checks: Checks, seconds: float) -> None:
    """Both heads at one shape: compared, weighed, timed in turn."""
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    every = Inputs(shape._replace(batch=shape.batch * ranks), device, dtype)  # the same on every rank
    mine = slice(rank * shape.batch, (rank + 1) * shape.batch)
    steps, lines = {}, {}
    for name, parameters in HEADS.items():
        template = CosineHead(shape.features, shape.classes, device="meta", dtype=dtype, **parameters)
        head = ShardedHead(template, data_parallel=False, uneven_batches=False, device=device)
        with torch.no_grad():
            head.weight.copy_(every.weight[head.rows_here])
        features, target = every.features.detach()[mine].clone().requires_grad_(), every.target[mine]
        step = Step(lambda head=head, features=features, target=target: head(features, target), features, head.weight)
        found = step.outcome()
        expected = dense(every, parameters)
        right = (expected[0], expected[1][mine], expected[2][head.rows_here])
        far = max(apart(one, other) for one, other in zip(found, right))
        label = f"{shape} a rank, {str(dtype).removeprefix('torch.')}, {ranks} ranks, {name}"
        checks.within(f"{label}: sharded beside dense", largest(far, device), LIMIT[dtype])
        del found, expected, right
        sent = sum(each.bytes for each in head.traffic)
        peak = peak_bytes(step, device)
        step.clear()
        steps[name] = step
        lines[label] = (name, peak, sent, head.weight.numel() * head.weight.element_size())
    # As many rounds on every rank: each step is one of all.
    times = in_turn(steps, Clock(device), 0.0, least=3)
    rounds = min(50, max(3, int(seconds / 2 / max(1e-3, sum(times.median(name) or 0 for name in steps)))))
    if ranks > 1:
        counted = torch.tensor(rounds, device=device)
        dist.all_reduce(counted, dist.ReduceOp.MIN)
        rounds = int(counted)
    times = in_turn(steps, Clock(device), 0.0, least=rounds)
    for label, (name, peak, sent, gradient) in lines.items():
        slowest = largest(times.median(name) or 0.0, device)
        memory = "" if peak is None else f", {(peak - gradient) / 1e6:.1f} MB beyond the gradient of W"
        checks.remark(f"{label}: {1e3 * slowest:.3f} ms, {rounds} rounds{memory}, {sent / 1e6:.3f} MB sent")


def dense(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients of the dense fused head on the samples of all ranks."""
    _, classes, size = inputs.shape
    head = CosineHead(size, classes, fused=True, device=inputs.device, dtype=inputs.dtype, **parameters)
    head.weight = nn.Parameter(inputs.weight.detach())
    features = inputs.features.detach().requires_grad_()
    return Step(lambda: head(features, inputs.target), features, head.weight).outcome()


def largest(value: float, device: torch.device) -> float:
    """Of all ranks."""
    if not dist.is_initialized():
        return value
    held = torch.tensor(value, device=device, dtype=torch.float64)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return float(held)


if __name__ == "__main__":
    sys.exit(main())
