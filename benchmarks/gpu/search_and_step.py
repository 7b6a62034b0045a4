"""The searches for κ* and the fused step on a device, beside the plain ones: agreement, and time of both.

On a GPU heads take the plain paths by themselves, since the fast ones look at values; this says what forcing them would
give, and that they are right there. Exit code 1 if they are not.

    python benchmarks/gpu/search_and_step.py [--device cuda] [--shape 256,1000,2048]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from logitlab.functional import KAPPA_CANDIDATES, choose_kappa, normalize, projection_energy
from logitlab.heads import CosineHead

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", action="append", help="B,C,D; repeatable")
    options = parser.parse_args()
    device, sound = torch.device(options.device), True
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, float32")
    for shape in options.shape or SHAPES:
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
            print(f"({shape}) search {method}: {spent:.2f} ms, regret {above:.0e}")
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
            print(f"({shape}) {what}: plain {plain:.2f} ms, fused {fused:.2f} ms, differ by {apart:.0e}")
    print("All agree." if sound else "They do NOT agree.")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
