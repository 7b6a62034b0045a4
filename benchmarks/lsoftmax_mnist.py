"""L-Softmax on MNIST with two features: L's scatter pictures drawn again, and what they show in numbers.

For each m a small convolutional network with a last linear layer to two features and the head ``lsoftmax`` (no bias;
m = 1 is softmax) is trained from the same seeds. The picture shows, a column an m, the features of the training and of
the test images coloured by class with the directions of the class weights, and the directions in which each class has
the largest logit ‖w_c‖‖x‖cos θ_c: a longer weight takes a wider angle. The table gives the angular spread within
classes (the mean angle between a feature and the mean direction of its class, averaged over the classes) and the
accuracies. Nothing is selected on the test images: the last epoch counts.

    LOGITLAB_DATA=... python benchmarks/lsoftmax_mnist.py --out lsoftmax.png --jobs 2
    LOGITLAB_DATA=... python benchmarks/lsoftmax_mnist.py --out quick.png --train-limit 10000 --epochs 4 --seeds 1
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitlab.data import load_data
from logitlab.functional import normalize
from logitlab.heads import Classifier, create_head

# L, "MNIST example": test accuracy in percent.
PAPER = {1: 98.45, 2: 98.96, 3: 99.22, 4: 99.34}
# Issue 4: at m = 1 at least, and not lower at m = 4.
LEAST_ACCURACY = 0.975
DIRECTIONS = 7200


class TwoFeatures(nn.Module):
    """Four convolutions, three of them with stride 2, and a linear layer to two features without activation."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, size, stride in ((1, 16, 5, 2), (16, 32, 3, 2), (32, 64, 3, 1), (64, 64, 3, 2)):
            layers += [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 2))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def published(steps: int) -> tuple[float, float, float, float]:
    """λ of the published Caffe code of L on MNIST (1000, 0.000025, 35, 0 for 20,000 steps), for ``steps`` steps.

    It passes 1 after 0.44 of them and ends at 0.0007.
    """
    return 1000.0, 0.000025 * 20_000 / steps, 35.0, 0.0


def prepare(pixels: Tensor) -> Tensor:
    """Mean and standard deviation of MNIST's training pixels taken out; pixels lie channels last."""
    return ((pixels.float() / 255 - 0.1307) / 0.3081).contiguous(memory_format=torch.channels_last)


def train(margin: int, seed: int, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run: its figures, and the features of all images."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    began = time.perf_counter()
    data = load_data("mnist")
    chosen = torch.arange(len(data.train))
    if options.train_limit:
        chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[: options.train_limit]
    steps = options.epochs * math.ceil(len(chosen) / options.batch)
    annealing = dict(zip(("start", "gamma", "power", "minimum"), options.annealing or published(steps)))
    head = create_head("lsoftmax", 2, data.num_classes, margin=margin, annealing=annealing)
    model = Classifier(TwoFeatures(), head).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=options.weight_decay
    )
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warmup, (1 + math.cos(math.pi * t / steps)) / 2)
    )
    for _ in range(options.epochs):
        model.train()
        for pixels, target in data.train.batches(chosen[torch.randperm(len(chosen))], options.batch):
            optimizer.zero_grad()
            loss = model(prepare(pixels), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            schedule.step()
    weight = head.weight.detach().double()
    arrays = {"weight": weight}
    figures: dict[str, Any] = {"margin": margin, "seed": seed, "last_loss": loss.item()}
    for part, images, indices in (
        ("train", data.train, chosen),
        ("test", data.test, torch.arange(len(data.test))),
    ):
        features, labels = collect(model, images, indices)
        spread = angular_spread(features, labels, data.num_classes)
        arrays |= {part: features.float(), f"{part}_labels": labels}
        figures[f"{part}_accuracy"] = ((features @ weight.T).argmax(dim=1) == labels).double().mean().item()
        figures[f"{part}_spread"] = statistics.mean(spread)
        figures[f"{part}_spread_by_class"] = spread
        figures[f"{part}_feature_length"] = features.norm(dim=1).mean().item()
    owner = owners(weight)
    figures["weight_length"] = weight.norm(dim=1).tolist()
    figures["region_degrees"] = [360 / DIRECTIONS * int((owner == c).sum()) for c in range(data.num_classes)]
    figures["last_lambda"] = None if margin == 1 else head.margin.annealing.weight.item()
    figures["seconds"] = time.perf_counter() - began
    # As NumPy: a tensor would travel through shared memory of a process that ends.
    return figures, {name: array.numpy() for name, array in arrays.items()}


@torch.no_grad()
def collect(model: Classifier, images: Any, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``[N, 2]`` in eval mode, in float64, and labels ``[N]``."""
    model.eval()
    batches = [(model.backbone(prepare(pixels)), labels) for pixels, labels in images.batches(indices, 1000)]
    return torch.cat([features for features, _ in batches]).double(), torch.cat([labels for _, labels in batches])


def angular_spread(features: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Mean angle between a feature and the mean direction of its class, in degrees, a number a class."""
    spread = []
    for c in range(num_classes):
        unit = normalize(features[labels == c])
        mean = normalize(unit.mean(dim=0))
        across = unit[:, 0] * mean[1] - unit[:, 1] * mean[0]
        spread.append(torch.atan2(across.abs(), unit @ mean).rad2deg().mean().item())
    return spread


def owners(weight: Tensor) -> Tensor:
    """The class with the largest logit in each of ``DIRECTIONS`` directions of the plane, counterclockwise from +x."""
    angle = torch.arange(DIRECTIONS, dtype=torch.float64) * (2 * math.pi / DIRECTIONS)
    return (torch.stack([angle.cos(), angle.sin()], dim=1) @ weight.T).argmax(dim=1)


def draw(drawn: dict[int, tuple[dict[str, Any], dict[str, Tensor]]], out: Path) -> None:
    """Draw features and regions, a column an m."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Wedge

    figure = Figure(figsize=(4.2 * len(drawn), 12.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, len(drawn), squeeze=False)
    for column, (margin, (figures, arrays)) in enumerate(drawn.items()):
        weight, classes = arrays["weight"], range(len(arrays["weight"]))
        for row, (part, name) in enumerate((("train", "training"), ("test", "test"))):
            axes, features, labels = panels[row, column], arrays[part], arrays[f"{part}_labels"]
            # A few outliers would shrink all others to a dot.
            reach = 1.05 * features.norm(dim=1).quantile(0.995).item()
            axes.scatter(*features.T.numpy(), c=labels.numpy(), cmap="tab10", s=1.5, linewidths=0, rasterized=True)
            for c in classes:
                x, y = normalize(weight[c]).tolist()
                axes.plot([0, reach * x], [0, reach * y], color="black", linewidth=0.7)
                axes.text(1.08 * reach * x, 1.08 * reach * y, str(c), color=f"C{c}", weight="bold", ha="center")
            axes.set(xlim=(-1.2 * reach, 1.2 * reach), ylim=(-1.2 * reach, 1.2 * reach), aspect="equal")
            axes.set_title(
                f"m = {margin}, {name} images: {100 * figures[f'{part}_accuracy']:.2f} %, "
                f"spread {figures[f'{part}_spread']:.1f}°",
                fontsize=9,
            )
        axes, owner = panels[2, column], owners(weight)
        step = 360 / DIRECTIONS
        for c in classes:
            own = owner == c
            if not own.any():
                continue
            # The region is one range of directions, which may run over the x axis.
            first = int((own & ~own.roll(1)).int().argmax()) if not own.all() else 0
            end = first + int(own.sum())
            axes.add_patch(Wedge((0, 0), 1, first * step, end * step, color=f"C{c}", alpha=0.35, linewidth=0))
            middle = math.radians((first + end) / 2 * step)
            text = f"{c}: {figures['region_degrees'][c]:.0f}°"
            axes.text(1.14 * math.cos(middle), 1.14 * math.sin(middle), text, fontsize=8, ha="center", va="center")
        for c, (x, y) in enumerate((weight / weight.norm(dim=1).max()).tolist()):
            axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": f"C{c}", "linewidth": 1.6})
        axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"m = {margin}: w_c, and where class c has the largest logit", fontsize=9)
    figure.savefig(out, dpi=110)


def mean_and_spread(values: list[float], digits: int) -> str:
    """Mean and, of several, standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def summarize(runs: list[dict[str, Any]], margins: list[int]) -> list[dict[str, Any]]:
    """Print the table, a line an m; return its means over the seeds."""
    print(
        f"{'m':>2}{'test %':>16}{'train %':>16}{'spread test °':>16}{'spread train °':>16}{'‖w‖ min, max':>16}"
        f"{'region ° min, max':>20}{'L: test %':>11}"
    )
    means = []
    for margin in margins:
        own = [run for run in runs if run["margin"] == margin]
        accuracy = {part: [100 * run[f"{part}_accuracy"] for run in own] for part in ("train", "test")}
        spread = {part: [run[f"{part}_spread"] for run in own] for part in ("train", "test")}
        lengths = [statistics.mean(pick(run["weight_length"]) for run in own) for pick in (min, max)]
        regions = [statistics.mean(pick(run["region_degrees"]) for run in own) for pick in (min, max)]
        print(
            f"{margin:>2}{mean_and_spread(accuracy['test'], 2):>16}{mean_and_spread(accuracy['train'], 2):>16}"
            f"{mean_and_spread(spread['test'], 2):>16}{mean_and_spread(spread['train'], 2):>16}"
            f"{f'{lengths[0]:.2f}, {lengths[1]:.2f}':>16}{f'{regions[0]:.1f}, {regions[1]:.1f}':>20}"
            f"{PAPER.get(margin, math.nan):>11.2f}"
        )
        names = ("test_accuracy", "train_accuracy", "test_spread", "train_spread")
        means.append({"margin": margin} | {name: statistics.mean(run[name] for run in own) for name in names})
    return means


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--margins", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--clip", type=float, default=5.0, help="largest norm of the gradient")
    parser.add_argument(
        "--annealing",
        type=float,
        nargs=4,
        metavar=("START", "GAMMA", "POWER", "MIN"),
        help="λ; by default the published MNIST schedule, stretched to the steps of this run",
    )
    parser.add_argument("--train-limit", type=int, default=None, help="training images, drawn once")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write; the figures go beside it as JSON")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(
        f"torch {torch.__version__}, {platform.machine()}, {options.jobs} x 1 thread; MNIST, "
        f"{options.train_limit or 'all'} training images, {options.epochs} epochs, batches of {options.batch}, rate "
        f"{options.rate:g}, λ "
        + (" ".join(f"{number:g}" for number in options.annealing) if options.annealing else "as published")
    )
    tasks = [(margin, seed) for seed in range(options.seeds) for margin in options.margins]
    runs, drawn = [], {}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for figures, arrays in pool.map(train, *zip(*tasks), [options] * len(tasks)):
            runs.append(figures)
            if figures["seed"] == 0:
                drawn[figures["margin"]] = figures, {name: torch.from_numpy(array) for name, array in arrays.items()}
            print(
                f"m = {figures['margin']}, seed {figures['seed']}: test {100 * figures['test_accuracy']:.2f} %, train "
                f"{100 * figures['train_accuracy']:.2f} %, spread {figures['test_spread']:.2f}° (train "
                f"{figures['train_spread']:.2f}°), {figures['seconds']:.0f} s",
                flush=True,
            )
    means = summarize(runs, options.margins)
    draw(drawn, options.out)
    given = {key: value for key, value in vars(options).items() if key != "out"}
    report = {"options": given, "torch": torch.__version__, "paper_test_percent": PAPER, "means": means, "runs": runs}
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{options.out}, {options.out.with_suffix('.json')}")
    if options.margins != [1, 2, 3, 4]:
        return 0
    met = [
        means[0]["test_accuracy"] >= LEAST_ACCURACY,
        means[3]["test_accuracy"] >= means[0]["test_accuracy"],
        *(
            after[part] < before[part]
            for before, after in itertools.pairwise(means)
            for part in ("train_spread", "test_spread")
        ),
    ]
    print(
        f"Asked: {100 * LEAST_ACCURACY} % at m = 1 and no less at m = 4, a spread that shrinks as m grows: "
        f"{'reached' if all(met) else 'NOT reached'}."
    )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
