"""A training step of ResNet-50 with and without least squares, beside what the paper's supplement gives (TS Table 11).

224 x 224 images, batch 256, 1000 and 101 classes, bfloat16 autocast, channels_last, SGD with momentum. One backbone
serves all heads in turn, each with an optimiser of its own, once a round: the softmax head, the cosine head of a fixed
κ, and that of least squares. Images are noise: what is timed does not depend on what they show. Then the two parts of
the search as the paper times them: the energies of all candidates, and the minimum over them; and our own search.

    python -m benchmarks.gpu.resnet50_step [--seconds 60]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from logitlab.functional import KAPPA_CANDIDATES, normalize, projection_energy
from logitlab.functional.least_squares import choose_kappa
from logitlab.heads import CosineHead, Head, create_head

from ..step.problem import KAPPA
from .clock import Clock, in_turn
from .machine import describe, device_of, first_line, parser, say, wait

SOFTMAX, FIXED, LEAST_SQUARES = "softmax", "cosine, fixed κ", "cosine, least squares"

#: TS Table 11, ms: data set, whole mini-batch, energies of all candidates, their minimum. The batches are those of TS
#: Table 8 (256 of Food-101, 128 of CIFAR-10); the machine is not named.
PAPER = (("Food-101, 101 classes", 304.0, 0.13, 0.015), ("CIFAR-10, 10 classes", 33.8, 0.118, 0.013))


def heads(features: int, classes: int, device: torch.device) -> dict[str, Head]:
    return {
        SOFTMAX: create_head("softmax", features, classes, device=device),
        FIXED: CosineHead(features, classes, kappa=KAPPA, device=device),
        LEAST_SQUARES: CosineHead(features, classes, temperature="least_squares", device=device),
    }


def training_step(backbone: nn.Module, head: Head, images: Tensor, target: Tensor) -> Callable[[], object]:
    """Forward, backward and SGD; the rate is so small that noise teaches nothing."""
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, weight_decay=1e-4)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16):
            loss = head(backbone(images), target)
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


def searches(features: Tensor, weight: Tensor) -> dict[str, Callable[[], object]]:
    """The parts of the search on the features of a batch, the cosines at hand as in every cosine head."""
    rows, unit = normalize(features), normalize(weight)
    cosine = rows @ unit.T
    energies = torch.stack([projection_energy(rows, unit, kappa) for kappa in KAPPA_CANDIDATES])
    candidates = torch.tensor(KAPPA_CANDIDATES, device=features.device)
    return {
        "energies of all candidates, as in the paper": lambda: [
            (rows - torch.softmax(kappa * cosine, dim=1) @ unit).square().sum(dim=1) for kappa in KAPPA_CANDIDATES
        ],
        "their minimum": lambda: candidates[energies.argmin(dim=0)],
        "our search": partial(choose_kappa, rows, unit, cosine=cosine),
    }


def measure(classes: int, size: int, batch: int, device: torch.device, seconds: float, most: int) -> None:
    """Steps and searches for so many classes."""
    begin = time.monotonic()
    torch.manual_seed(0)
    network = resnet50(weights=None)
    features = network.fc.in_features
    network.fc = nn.Identity()
    backbone = network.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    target = torch.randint(classes, (batch,), device=device)
    made = heads(features, classes, device)
    steps = {name: training_step(backbone, head, images, target) for name, head in made.items()}
    say(f"\n{classes} classes, {features} features, batch {batch}, {size} x {size}")
    for name, step in steps.items():
        start = time.monotonic()
        for _ in range(2 if device.type == "cuda" else 1):  # the choice of convolutions, and what has to be compiled
            loss = step()
        wait(device)
        assert isinstance(loss, Tensor)
        say(f"  {name}: warm after {time.monotonic() - start:.1f} s, loss {float(loss.detach()):.3f}")
    times = in_turn(steps, Clock(device), begin + 0.8 * seconds, most=most)
    rounds = len(times.rounds[SOFTMAX])
    for name in steps:
        over = times.ratio(name, FIXED)
        cost = "" if over is None or name == FIXED else f", {100 * (over - 1):+.2f}% of the step with a fixed κ"
        spent = f"{1e3 * (times.median(name) or 0):.3f} ms a step (± {times.spread(name):.1%}, rounds: {rounds})"
        say(f"{name}: {spent}{cost}")
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        rows = backbone(images).float()
    parts = searches(rows, made[LEAST_SQUARES].weight.detach())
    for part in parts.values():
        part()
    alone = in_turn(parts, Clock(device), begin + 0.9 * seconds, most=most)
    whole = times.median(LEAST_SQUARES) or 0.0
    for name in parts:
        search = alone.median(name) or 0.0
        say(f"{name}: {1e3 * search:.4f} ms, {search / whole:.3%} of a step")


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=60, help="of all together (default: 60)")
    options = made.parse_args()
    device = device_of(options)
    say(describe(device))
    for name, whole, energies, minimum in PAPER:
        say(
            f"The paper's (TS Table 11; its own machine), {name}: {whole} ms a mini-batch, energies {energies} ms, "
            f"minimum {minimum} ms: {(energies + minimum) / whole:.3%}"
        )
    failed = 0
    torch.backends.cudnn.benchmark = True
    all_classes = (7,) if options.quick else (1000, 101)
    for classes in all_classes:
        size, batch, most = (32, 2, 1) if options.quick else (224, 256, 30)
        try:
            measure(classes, size, batch, device, options.seconds / len(all_classes), most)
        except Exception as fault:  # the other number of classes may be possible
            say(f"{classes} classes: failed: {first_line(fault)}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
