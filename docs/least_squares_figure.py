"""The picture and the counts of docs/least_squares.md: ``LOGITLAB_DATA=... python docs/least_squares_figure.py``.

A small convolutional network is trained with the head ``cosine_ls``, once with 128 features on Omniglot (964 written
characters; drawers 1 to 15, tested on 16 to 20) and once with only three on Fashion-MNIST (10 classes). The picture
shows for four test images what the certified search sees; the table is over all of them. All but the column of the
greatest regret is computed in float64 from the float32 features. Two to three minutes on one core.

Fashion-MNIST is read as ``logitlab.data.load_data`` says, Omniglot from ``omniglot/omniglot_28.npz`` in the same folder
(uint8 ``x_background`` [N, 28, 28], int64 ``y_background`` and ``drawer_background`` [N]).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch
from torch import Tensor, nn

import logitlab as ll
from logitlab.config.errors import DataError
from logitlab.data import load_data
from logitlab.functional import KAPPA_CANDIDATES, choose_kappa, normalize, projection_energy
from logitlab.functional.class_chunks import split_cosine
from logitlab.functional.least_squares.bounds import energy_bound
from logitlab.functional.least_squares.certified import TOLERANCE
from logitlab.functional.least_squares.power_sums import power_sums
from logitlab.functional.least_squares.surrogate import Surrogate

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(__file__).parent
BATCH = 128
# What a step up between two minima of the grid must be worth to count as one.
CLIMB = 1e-6
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#767676"


class Images(NamedTuple):
    """Pixels in [0, 1], ``[N, channels, H, W]``, and labels."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class View(NamedTuple):
    """What the search sees of some samples; columns are values of κ."""

    kappa: Tensor
    energy: Tensor
    surrogate: Tensor
    cheap: Tensor
    projection: Tensor
    start: Tensor


def load(name: str) -> Images:
    """Omniglot's first half by drawers, or any other data set as it is split; ends with a sentence where it is missing."""
    if name != "omniglot":
        try:
            data = load_data(name)
        except DataError as fault:
            sys.exit(str(fault))
        (train_pixels, train_labels), (test_pixels, test_labels) = (
            next(iter(part.batches(torch.arange(len(part)), len(part)))) for part in (data.train, data.test)
        )
        return Images(train_pixels.float() / 255, train_labels, test_pixels.float() / 255, test_labels)
    import numpy

    path = Path(os.environ.get("LOGITLAB_DATA") or "data").expanduser() / "omniglot" / "omniglot_28.npz"
    if not path.is_file():
        sys.exit(
            f"Cannot find '{path}'. Set LOGITLAB_DATA to the folder that holds omniglot/omniglot_28.npz, or give a "
            "data set that logitlab.data.load_data knows by --many, such as --many mnist."
        )
    with numpy.load(path) as archive:
        images, labels, drawer = (torch.from_numpy(archive[f"{key}_background"]) for key in ("x", "y", "drawer"))
    early = drawer <= 15
    return Images(_scaled(images[early]), labels[early], _scaled(images[~early]), labels[~early])


def _scaled(images: Tensor) -> Tensor:
    return images.unsqueeze(1).float() / 255


def build(channels: int, side: int, features: int) -> nn.Module:
    """Three strided convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels, side = width, (side + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, features), nn.BatchNorm1d(features))


def train(images: Images, features: int, epochs: int) -> tuple[nn.Module, Any]:
    """Train from a fixed seed, and print a row of counts at the start and at the end."""
    torch.manual_seed(0)
    network = build(images.train.shape[1], images.train.shape[2], features)
    head = ll.create_head("cosine_ls", features, int(images.train_labels.max()) + 1)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], weight_decay=1e-2)
    steps = len(images.train) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    label = f"C = {head.num_classes}, D = {features}"
    count(f"{label}, at the start", network, head, images)
    for _ in range(epochs):
        order = torch.randperm(len(images.train))
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            batch = images.train[rows]
            # A shift of up to two pixels.
            batch = batch.roll(tuple(torch.randint(-2, 3, (2,)).tolist()), (2, 3))
            optimizer.zero_grad()
            head(network(batch), images.train_labels[rows]).backward()
            optimizer.step()
            schedule.step()
    count(f"{label}, after {epochs} epochs", network, head, images)
    return network, head


@torch.no_grad()
def unit_rows(network: nn.Module, head: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and weights of unit length, as they are in float32."""
    network.eval()
    features = torch.cat([network(part) for part in images.split(1000)])
    network.train()
    return normalize(features), normalize(head.weight)


COUNTS = (
    "| test images | accuracy | mean κ* | several minima | surrogate right | within ±1 | its mean regret "
    "| first reconstruction enough | with the product | neither | greatest regret |\n|" + " --- |" * 11
)


class Fate(NamedTuple):
    """What rules out the candidates, bool ``[N, 20]``; the start is in none of them."""

    cheap: Tensor
    projection: Tensor
    left: Tensor


def fate(view: View) -> Fate:
    """Which bound rules out which candidate after the first reconstruction."""
    start = view.start.unsqueeze(1)
    threshold = view.energy.gather(1, start) - TOLERANCE
    others = torch.arange(view.energy.shape[1]) != start
    cheap = (view.cheap >= threshold) & others
    projection = (view.projection >= threshold) & others & ~cheap
    return Fate(cheap, projection, others & ~cheap & ~projection)


@torch.no_grad()
def count(name: str, network: nn.Module, head: Any, images: Images) -> None:
    """Print a row of the table."""
    features, weight = unit_rows(network, head, images.test)
    accuracy = (features @ weight.t()).argmax(dim=1).eq(images.test_labels).double().mean()
    view = look(features.double(), weight.double(), torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64))
    exact, least = view.energy.argmin(dim=1), view.energy.amin(dim=1)
    surrogate_regret = (view.energy.gather(1, view.start.unsqueeze(1)).squeeze(1) - least).mean()
    found = fate(view)
    left, asked = found.left.any(dim=1), found.projection.any(dim=1)
    kappa = choose_kappa(features, weight, method="certified").kappa.double()
    regret = (projection_energy(features.double(), weight.double(), kappa) - least).max().clamp_min(0)
    shares = [
        several_minima(view.energy),
        view.start.eq(exact),
        (view.start - exact).abs().le(1),
        ~left & ~asked,
        ~left & asked,
        left,
    ]
    several, right, near, *searched = (f"{share.double().mean():.1%}" for share in shares)
    sys.stdout.write(
        f"| {name} | {accuracy:.1%} | {torch.tensor(KAPPA_CANDIDATES)[exact].mean():.1f} | {several} | {right} | {near} "
        f"| {surrogate_regret:.0e} | {' | '.join(searched)} | {regret:.0e} |\n"
    )


def several_minima(energy: Tensor) -> Tensor:
    """Whether the way between two candidates leads over a third that lies higher, ``[N]``."""
    before = energy.cummin(dim=1).values
    after = energy.flip(1).cummin(dim=1).values.flip(1)
    return (energy > torch.maximum(before, after) + CLIMB).any(dim=1)


@torch.no_grad()
def look(features: Tensor, weight: Tensor, kappa: Tensor) -> View:
    """Energies and bounds of each sample at the values κ; the search itself starts from the twenty candidates."""
    candidates = torch.tensor(KAPPA_CANDIDATES, dtype=features.dtype)
    cosine = features @ weight.t()
    chunks = split_cosine(cosine, weight)
    reference, nearest = chunks.largest()
    sums = power_sums(chunks, nearest, reference, masked=False)
    alone = reference.unsqueeze(1)
    surrogate = Surrogate(sums, alone)
    start = surrogate.energy(candidates).argmin(dim=1)
    rebuilt = torch.softmax(candidates[start].unsqueeze(1) * cosine, dim=1) @ weight
    across = rebuilt - torch.linalg.vecdot(rebuilt, features).unsqueeze(1) * features
    along = normalize(across) @ weight.t()
    energy, projection = [], []
    for value in kappa.tolist():
        share = torch.softmax(value * cosine, dim=1)
        energy.append(0.5 * (features - share @ weight).square().sum(dim=1))
        mean, missed = (share * cosine).sum(dim=1), (share * along).sum(dim=1)
        projection.append(0.5 * ((1 - mean).square() + missed.square()))
    return View(
        kappa,
        torch.stack(energy, 1),
        surrogate.energy(kappa),
        energy_bound(sums, alone, kappa),
        torch.stack(projection, 1),
        start,
    )


def choose(view: View, right: Tensor, several: bool) -> list[int]:
    """Instructive samples of one network: one whose two minima lie far apart, or an easy, a usual and a hard one."""
    found = fate(view)
    energy = view.energy
    least = energy.amin(dim=1)
    if several:
        before, after = energy.cummin(dim=1).values, energy.flip(1).cummin(dim=1).values.flip(1)
        barrier = (energy - torch.maximum(before, after)).amax(dim=1)
        inside = (energy.argmin(dim=1) > 4) & (energy.argmin(dim=1) < 17) & right
        return [int(torch.where(inside, barrier, -1.0).argmax())]
    left, asked = found.left.sum(dim=1), found.projection.sum(dim=1)
    easy = torch.where((left == 0) & (asked == 0) & right, least, torch.inf).argmin()
    middle = torch.where((left == 0) & right, asked.double() - 10 * least, -torch.inf).argmax()
    regret = energy.gather(1, view.start.unsqueeze(1)).squeeze(1) - least
    unsure = torch.where(left >= 2, regret, -torch.inf).argmax()
    return [int(easy), int(middle), int(unsure)]


class Panel(NamedTuple):
    """One sample of the picture; the views have one row."""

    title: str
    pixels: Tensor
    grid: View
    curve: View


DENSE = torch.linspace(-2, 5, 401, dtype=torch.float64).exp()


@torch.no_grad()
def panels(network: nn.Module, head: Any, images: Images, titles: list[str], several: bool) -> list[Panel]:
    """Choose the samples of one network and look at them closely."""
    features, weight = (rows.double() for rows in unit_rows(network, head, images.test))
    right = (features @ weight.t()).argmax(dim=1).eq(images.test_labels)
    view = look(features, weight, torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64))
    return [
        Panel(
            title,
            images.test[row, 0],
            look(features[row : row + 1], weight, view.kappa),
            look(features[row : row + 1], weight, DENSE),
        )
        for title, row in zip(titles, choose(view, right, several), strict=True)
    ]


def draw(shown: list[Panel], path: Path) -> None:
    """Draw energies and bounds against κ, and under each candidate what rules it out."""
    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 9), sharex=True)
    for axis, panel, letter in zip(axes.flat, shown, "abcd", strict=True):
        _draw_panel(axis, panel, letter)
    for axis in axes[1]:
        axis.set_xlabel("κ (logarithmic)")
    for axis in axes[:, 0]:
        axis.set_ylabel("energy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=5, frameon=False)
    figure.tight_layout(rect=(0, 0.065, 1, 1))
    figure.savefig(path, dpi=110, facecolor="white")
    pyplot.close(figure)


def _draw_panel(axis: Any, panel: Panel, letter: str) -> None:
    kappa, grid, curve, found = panel.grid.kappa, panel.grid, panel.curve, fate(panel.grid)
    labels: dict[str, list[tuple[Tensor, float, str, str, tuple[int, int]]]] = {
        "c": [
            (curve.energy, 3.5, "energy E", "black", (36, 6)),
            (curve.surrogate, 60, "surrogate", ORANGE, (36, -14)),
            (curve.cheap, 11, "bound from the sums", GREEN, (-62, -10)),
            (curve.projection, 80, "projection bound", PURPLE, (10, -15)),
        ],
    }
    energy, start = grid.energy[0], int(grid.start)
    lowest = energy[start].item()
    axis.axhline(lowest, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    axis.plot(curve.kappa, curve.cheap[0], color=GREEN, linewidth=1.6, label="bound from the sums")
    axis.plot(curve.kappa, curve.projection[0], color=PURPLE, linewidth=1.6, dashes=(5, 1.5), label="projection bound")
    axis.plot(curve.kappa, curve.surrogate[0], color=ORANGE, linewidth=1.6, dashes=(2, 1.5), label="surrogate energy")
    axis.plot(curve.kappa, curve.energy[0], color="black", linewidth=2.2, label="energy E")
    kinds = (
        (found.cheap[0], "o", GREEN, "white", "ruled out by the sums"),
        (found.projection[0], "s", PURPLE, PURPLE, "ruled out by the product"),
        (found.left[0], "^", BLUE, BLUE, "left over: reconstruct"),
    )
    for chosen, marker, colour, face, label in kinds:
        style: dict[str, Any] = {"marker": marker, "linestyle": "", "color": colour, "markerfacecolor": face}
        axis.plot(kappa[chosen], energy[chosen], **style, markersize=6, zorder=4, label=label)
    axis.plot(kappa[start], energy[start], "D", color=ORANGE, markersize=8, zorder=5, label="first reconstruction")
    best = int(energy.argmin())
    axis.plot(
        kappa[best], energy[best], "*", color="white", markeredgecolor="black", markersize=15, zorder=6, label="κ*"
    )
    axis.set_xscale("log")
    top = max(0.5, float(energy.max()))
    axis.set_ylim(-0.02 * top, 1.08 * top)
    axis.set_xticks([0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], ["0.2", "0.5", "1", "2", "5", "10", "20", "50", "100"])
    axis.minorticks_off()
    counts = f"{int(found.cheap.sum())} by the sums, {int(found.projection.sum())} by the product, {int(found.left.sum())} left"
    axis.set_title(f"({letter}) {panel.title}\n{counts}", loc="left", fontsize=10.5)
    axis.text(0.112, lowest, "E(κ₀)", color=GREY, fontsize=9, va="bottom")
    for curve_values, at, text, colour, shift in labels.get(letter, []):
        index = int((curve.kappa - at).abs().argmin())
        axis.annotate(
            text,
            (at, curve_values[0, index]),
            shift,
            textcoords="offset points",
            color=colour,
            fontsize=9.5,
            ha="center",
        )
    inset = axis.inset_axes((0.03, 0.34, 0.16, 0.2))
    inset.imshow(panel.pixels, cmap="gray_r", interpolation="nearest")
    inset.axis("off")


def main() -> None:
    """Train, count and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", default="omniglot", help="data set of three of the panels (default: %(default)s)")
    parser.add_argument("--few", default="fashion-mnist", help="data set of the fourth (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "least_squares.png", help="the picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    many, few = load(arguments.many), load(arguments.few)
    sys.stdout.write(COUNTS + "\n")
    shown = panels(*train(many, 128, 8), many, TITLES[:3], several=False)
    shown += panels(*train(few, 3, 2), few, TITLES[3:], several=True)
    draw(shown, arguments.out)


TITLES = [
    "easy: no product at all",
    "usual: one product decides",
    "hard: the first guess is wrong",
    "two minima: three features only",
]

if __name__ == "__main__":
    main()
