"""The searches for κ* and the fused step on a device, beside the plain ones: agreement, and time of both, in float32.

Each search is forced by name, the fast ones that look at values too, and so is each path of a head; the path that a
head takes by itself is said. Exit code 1 if they do not agree.

    python -m benchmarks.gpu.search_and_step [--shape 256,1000,2048]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from logitlab.functional import KAPPA_CANDIDATES, choose_kappa, normalize, projection_energy
from logitlab.heads import CosineHead

from .machine import describe, device_of, parser, say

SHAPES = ("128,100,512", "256,1000,2048", "128,93431,512")
REGRET, DIFFERENCE = 2e-6, 1e-4


def milliseconds(run: Callable[[], object], device: torch.device, rounds: int = 7) -> float:
    times = []
    for turn in range(rounds + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= 2:
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def regret(kappa: Tensor, rows: Tensor, weight: Tensor) -> float:
    """How far the energies of the choice lie above the least, in float64, of at most 64 samples."""
    rows, weight, kappa = rows[:64].double(), weight.double(), kappa[:64].double()
    energies = torch.stack([projection_energy(rows, weight, value) for value in KAPPA_CANDIDATES])
    return float((projection_energy(rows, weight, kappa) - energies.amin(dim=0)).max())


def gradients(head: CosineHead, features: Tensor, target: Tensor) -> list[Tensor]:
    features = features.detach().requires_grad_()
    head.weight.grad = None
    loss = head(features, target)
    loss.backward()
    assert features.grad is not None
    assert head.weight.grad is not None
    return [loss.detach(), features.grad, head.weight.grad.clone()]


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--shape", action="append", help="B,C,D; repeatable")
    options = made.parse_args()
    device, sound = device_of(options), True
    say(describe(device))
    for shape in options.shape or (("16,40,24",) if options.quick else SHAPES):
        batch, classes, size = (int(part) for part in shape.split(","))
        torch.manual_seed(0)
        weight = torch.randn(classes, size, device=device)
        target = torch.randint(classes, (batch,), device=device)
        features = normalize(weight)[target] + 0.8 * normalize(torch.randn(batch, size, device=device))
        rows, unit = normalize(features), normalize(weight)
        methods = ("plain", "gram", "certified") if classes <= 1000 else ("plain", "certified")
        for method in methods:
            chosen = choose_kappa(rows, unit, method=method)  # type: ignore[arg-type]
            above = regret(chosen.kappa, rows, unit)
            sound &= above <= REGRET
            spent = milliseconds(partial(choose_kappa, rows, unit, method=method), device)
            say(f"({shape}) search {method}: {spent:.2f} ms, regret {above:.0e}")
        for temperature in (None, "least_squares"):
            kappa = 16.0 if temperature is None else None
            heads = [
                CosineHead(size, classes, kappa=kappa, temperature=temperature, fused=fused, device=device)
                for fused in (False, True)
            ]
            heads[1].load_state_dict(heads[0].state_dict())
            both = [gradients(head, features, target) for head in heads]
            apart = max(float((a - b).norm() / a.norm()) for a, b in zip(*both))
            sound &= apart <= DIFFERENCE
            plain, fused = (milliseconds(partial(gradients, head, features, target), device) for head in heads)
            what = "fixed κ" if temperature is None else "least squares"
            heads[1].fused = "auto"
            path = heads[1].path(features, target).name
            say(
                f"({shape}) {what}: plain {plain:.2f} ms, fused {fused:.2f} ms, differ by {apart:.0e}; by itself {path}"
            )
    say("All agree." if sound else "They do NOT agree.")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
