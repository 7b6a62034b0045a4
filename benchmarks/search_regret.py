"""Whether the fast searches for κ* find the minimum: the regret of what they choose, in float64, on 100,000 rows.

The rows are of six families of features (``tests/helpers/feature_families.py``) in ten shapes each, and of a network in
real training: a perceptron with ``CosineHead(temperature=LeastSquares())`` on a mixture of Gaussians whose means form
families of ten, for 100 and for 1000 classes, at checkpoints from its first step to its last. The reference is the
energy of every candidate in float64. The searches get float32:

- certified: ``search_certified`` on all cosines;
- masked: the same as the fused step uses it, with the target's cosine taken out;
- auto: ``search_least_squares`` as it is called without a word.

The regret is the energy of the chosen candidate less that of the best one. Of the certified search the table shows how
often it names another candidate than float64 does (ties, mostly), the share of rows that one reconstruction was enough
for, and how many matrix products of the size of the reconstruction it took a row (plain: 20); of the rows, the share
that has more than one local minimum on the grid.

    python benchmarks/search_regret.py [--rows 100000] [--steps 600] [--quick]

Ends with 1 if any regret is above 2e-6.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from feature_families import FAMILIES, Family, make_family

from logitlab.functional import KAPPA_CANDIDATES, normalize, search_least_squares
from logitlab.functional.class_chunks import MASKED, lay_out, positions
from logitlab.functional.least_squares.certified import Found, Masked, search_certified
from logitlab.heads import CosineHead
from logitlab.temperature import LeastSquares

LIMIT = 2e-6
#: (C, D) and the share of a family's rows.
SHAPES = {
    (10, 64): 0.10,
    (10, 512): 0.10,
    (100, 64): 0.15,
    (100, 512): 0.15,
    (101, 2048): 0.10,
    (1000, 128): 0.15,
    (1000, 512): 0.10,
    (1000, 2048): 0.05,
    (5000, 128): 0.05,
    (5000, 512): 0.05,
}
QUICK_SHAPES = {(10, 64): 0.4, (150, 32): 0.6}
BATCH = 256
CHECKPOINTS = (0, 5, 20, 50, 100, 200, 400, 600)
CHECKPOINT_ROWS = 1024
SEARCHES = ("certified", "masked", "auto")


@dataclass
class Tally:
    """What is counted over rows."""

    rows: int = 0
    other: int = 0
    certified: int = 0
    products: float = 0.0
    multimodal: int = 0
    regrets: tuple[float, ...] = (0.0,) * len(SEARCHES)

    def __add__(self, more: Tally) -> Tally:
        return Tally(
            self.rows + more.rows,
            self.other + more.other,
            self.certified + more.certified,
            self.products + more.products,
            self.multimodal + more.multimodal,
            # NaN counts as the largest.
            tuple(b if b != b or b > a else a for a, b in zip(self.regrets, more.regrets)),
        )

    def line(self, name: str) -> str:
        share = [self.other / self.rows, self.certified / self.rows, self.multimodal / self.rows]
        regrets = "".join(f"{regret:>12.1e}" for regret in self.regrets)
        return (
            f"{name:<32}{self.rows:>8}{self.other:>7}{regrets}{share[1]:>11.3f}{self.products / self.rows:>10.2f}"
            f"{share[2]:>12.4f}"
        )


def exhaustive_energies(features: Tensor, weight: Tensor) -> Tensor:
    """Energy of every candidate in float64, ``[N, K]``; from the weights' products with each other where C < D."""
    features, weight = features.double(), weight.double()
    cosine = features @ weight.T
    gram = weight @ weight.T if len(weight) < weight.shape[1] else None
    square = features.square().sum(dim=1)
    energies = []
    for kappa in KAPPA_CANDIDATES:
        share = torch.softmax(kappa * cosine, dim=1)
        if gram is None:
            energies.append(0.5 * (features - share @ weight).square().sum(dim=1))
        else:
            rebuilt = ((share @ gram) * share).sum(dim=1)
            energies.append(0.5 * (square - 2 * (share * cosine).sum(dim=1) + rebuilt))
    return torch.stack(energies, dim=1)


def is_multimodal(energies: Tensor) -> Tensor:
    """Whether there is a second local minimum among the candidates. A step below 1e-7 is flat: float32 sees none."""
    falling = torch.ones(len(energies), dtype=torch.bool)
    minima = torch.zeros(len(energies), dtype=torch.int64)
    for step in energies.diff(dim=1).unbind(1):
        rises = step > 1e-7
        minima += falling & rises
        falling = torch.where(rises, False, falling | (step < -1e-7))
    return minima + falling.int() > 1


def run_certified(batch: Family, masked: bool) -> Found:
    """The certified search as the fused step sets it up, or on all cosines."""
    storage = batch.features.new_empty(len(batch.features) * len(batch.weight))
    chunks = lay_out(storage, batch.weight, None)
    for chunk in chunks:
        torch.mm(batch.features, chunk.weight.T, out=chunk.cosine)
    left_out = None
    if masked:
        place = positions(batch.target, len(batch.weight))
        left_out = Masked(storage[place], batch.weight[batch.target])
        storage[place] = MASKED
    return search_certified(chunks, batch.features, torch.tensor(KAPPA_CANDIDATES), left_out)


def audit(batch: Family) -> Tally:
    """Compare the searches on a batch with the float64 reference."""
    energies = exhaustive_energies(batch.features, batch.weight)
    least, best = energies.min(dim=1)
    found = run_certified(batch, masked=False)
    kappa = search_least_squares(batch.features, batch.weight)
    automatic = torch.searchsorted(torch.tensor(KAPPA_CANDIDATES), kappa * (1 - 1e-3))
    chosen = (found.candidate, run_certified(batch, masked=True).candidate, automatic)
    return Tally(
        rows=len(best),
        other=int((found.candidate != best).sum()),
        certified=int(found.certified.sum()),
        products=found.products * len(best),
        multimodal=int(is_multimodal(energies).sum()),
        regrets=tuple(float((energies.gather(1, index.unsqueeze(1)).squeeze(1) - least).max()) for index in chosen),
    )


def families(rows: int, shapes: dict[tuple[int, int], float]) -> Iterator[tuple[str, tuple[int, int], Tally]]:
    """The tally of each family in each shape; ``rows`` is their number together."""
    for name in FAMILIES:
        for (num_classes, dimension), share in shapes.items():
            left = math.ceil(rows / len(FAMILIES) * share)
            tally = Tally()
            for start in range(0, left, BATCH):
                batch = make_family(name, min(BATCH, left - start), num_classes, dimension, seed=start)
                tally += audit(batch)
            yield name, (num_classes, dimension), tally


def training(num_classes: int, dimension: int, steps: int, rows: int) -> Iterator[tuple[str, Tally]]:
    """Train a perceptron with the least-squares temperature, and audit features and weights at checkpoints."""
    torch.manual_seed(0)
    inputs = 128
    parents = torch.arange(num_classes) % max(1, num_classes // 10)
    means = 2 * torch.randn(num_classes, inputs)[parents] + 1.6 * torch.randn(num_classes, inputs)
    backbone = nn.Sequential(
        nn.Linear(inputs, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, dimension),
        nn.BatchNorm1d(dimension),
        nn.ReLU(),
    )
    head = CosineHead(dimension, num_classes, temperature=LeastSquares())
    model = nn.ModuleList([backbone, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=1e-4)
    for step in range(steps + 1):
        if step in CHECKPOINTS or step == steps:
            yield f"training, C = {num_classes}, step {step}", _audit_model(backbone, head, means, rows)
        target = torch.randint(num_classes, (BATCH,))
        loss = head(backbone(means[target] + torch.randn(BATCH, inputs)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _audit_model(backbone: nn.Module, head: CosineHead, means: Tensor, rows: int) -> Tally:
    tally = Tally()
    backbone.eval()
    for start in range(0, rows, BATCH):
        target = torch.randint(len(means), (min(BATCH, rows - start),))
        features = backbone(means[target] + torch.randn(len(target), means.shape[1]))
        tally += audit(Family(normalize(features), normalize(head.weight), target))
    backbone.train()
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the families")
    parser.add_argument("--steps", type=int, default=600, help="steps of each training")
    parser.add_argument("--quick", action="store_true", help="small shapes, and a training of 100 classes alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter(), time.process_time()
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, 1 thread, float32"
    )
    regrets = "".join(f"{search:>12}" for search in SEARCHES)
    header = f"{'':<32}{'rows':>8}{'other':>7}{regrets}{'one recon.':>11}{'products':>10}{'multimodal':>12}"
    print(f"{'':<47}largest regret of\n{header}")
    by_family: dict[str, Tally] = {}
    by_shape: dict[str, Tally] = {}
    for name, (num_classes, dimension), tally in families(options.rows, QUICK_SHAPES if options.quick else SHAPES):
        by_family[name] = by_family.get(name, Tally()) + tally
        shape = f"C = {num_classes}, D = {dimension}"
        by_shape[shape] = by_shape.get(shape, Tally()) + tally
    for name, tally in [*by_family.items(), *by_shape.items()]:
        print(tally.line(name), flush=True)
    trained: dict[str, Tally] = {}
    for num_classes, dimension in ((100, 64),) if options.quick else ((100, 256), (1000, 256)):
        for name, tally in training(num_classes, dimension, options.steps, 64 if options.quick else CHECKPOINT_ROWS):
            trained[name] = tally
            print(tally.line(name), flush=True)
    everything = sum([*by_family.values(), *trained.values()], Tally())
    print(everything.line("all"))
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"{wall:.0f} s, of which {cpu:.0f} s on the processor")
    fine = all(regret <= LIMIT for regret in everything.regrets)
    print("No regret is above 2e-6." if fine else "REGRET ABOVE 2e-6")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
