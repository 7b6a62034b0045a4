"""What becomes of κ when a network is trained from scratch with each temperature: T Figure 1 and Table 1, small.

Rule of thumb, maximum likelihood, trainable and least squares train the same backbone from the same seeds. The picture
shows the κ of inference after every epoch, on a logarithmic axis; the table its first and last value, r̄ of the class
weights (T (4)) and the accuracy on the test images. Nothing is selected on those: the last epoch counts. A run that
breaks off is reported as such.

    python benchmarks/temperature_training.py --out kappa.png
    LOGITLAB_DATA=... python benchmarks/temperature_training.py --data digits fashion-mnist --limit 2000 --out kappa.png
    python benchmarks/temperature_training.py --dimension 2048 --out kappa.png
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from logitlab.config.errors import LogitLabError
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import DataConfig
from logitlab.data import load_data, split_data
from logitlab.data.splitting import Split
from logitlab.functional import normalize
from logitlab.heads import Classifier, CosineHead
from logitlab.models import create_backbone
from logitlab.temperature import LeastSquares, MaximumLikelihood, RuleOfThumb, Temperature, Trainable
from logitlab.training import fit

TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "rule of thumb": RuleOfThumb,
    "maximum likelihood": MaximumLikelihood,
    "trainable": Trainable,
    "least squares": LeastSquares,
}
# T Table 1: ImageNet, ResNet-50.
PAPER = {
    "rule of thumb": (65525, 3.36),
    "maximum likelihood": (0.14, 0.10),
    "trainable": (120.8, 75.51),
    "least squares": (12.83, 77.27),
}


@dataclass
class Trial:
    """What one run left."""

    kappas: list[float]
    concentration: float
    accuracy: float = float("nan")
    gathered: float = float("nan")
    failure: str = ""


@dataclass
class Panel:
    """All runs on one data set."""

    title: str
    trials: dict[str, list[Trial]] = field(default_factory=dict)


def concentration(model: Classifier) -> float:
    """r̄ of T (4): the length of the mean unit weight."""
    return float(normalize(model.head.weight.detach()).mean(dim=0).norm())


def train(split: Split, build: Callable[[], Temperature], seed: int, options: argparse.Namespace) -> Trial:
    torch.manual_seed(seed)
    sample, _ = next(iter(split.train.batches(torch.arange(1), 1)))
    parameters = {} if options.dimension is None else {"widths": [256, options.dimension]}
    name = options.backbone if options.dimension is None else "mlp"
    backbone = create_backbone(name, channels=sample.shape[1], image_size=sample.shape[-1], parameters=parameters)
    classes = int(split.train.labels.max()) + 1
    model = Classifier(backbone, CosineHead(backbone.num_features, classes, temperature=build()))
    start = model.head.kappa
    assert start is not None
    trial = Trial([start.item()], concentration(model))
    recipe = TrainingConfig(epochs=options.epochs, batch_size=options.batch, augmentation="none")
    try:
        run = fit(
            model,
            split.train,
            split.test,
            recipe,
            seed=seed,
            report=lambda record: trial.kappas.append(float("nan") if record.kappa is None else record.kappa),
        )
        trial.accuracy = run.history[-1].validation_accuracy
    except LogitLabError as error:
        trial.failure = str(error)
    trial.gathered = concentration(model)
    return trial


def show(panel: Panel) -> None:
    """Print the table of a data set: means over the seeds."""
    print(f"\n{panel.title}")
    print(
        f"{'temperature':<20}{'accuracy %':>16}{'κ start':>10}{'κ epoch 1':>11}{'κ last':>11}"
        f"{'r̄ start':>10}{'r̄ last':>9}   T Table 1 (ImageNet): κ, %"
    )
    for name, trials in panel.trials.items():
        done = [trial for trial in trials if not trial.failure]
        accuracy = [100 * trial.accuracy for trial in done]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
        shown = f"{statistics.mean(accuracy):.2f}{spread}" if accuracy else "failed"
        columns = [
            statistics.mean(trial.kappas[0] for trial in trials),
            statistics.mean(trial.kappas[min(1, len(trial.kappas) - 1)] for trial in trials),
            statistics.mean(trial.kappas[-1] for trial in trials),
        ]
        gathered = [statistics.mean(getattr(trial, key) for trial in trials) for key in ("concentration", "gathered")]
        paper = PAPER[name]
        print(
            f"{name:<20}{shown:>16}{columns[0]:>10.4g}{columns[1]:>11.4g}{columns[2]:>11.4g}"
            f"{gathered[0]:>9.3f}{gathered[1]:>8.3f}   {paper[0]:g}, {paper[1]:g}"
        )
        for seed, trial in enumerate(trials):
            if trial.failure:
                print(f"  seed {seed} broke off after {len(trial.kappas) - 1} epochs: {trial.failure}")


def draw(panels: list[Panel], out: Path) -> None:
    """Draw κ by epoch, a panel a data set, a thin line a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (panel, axes) in enumerate(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0])):
        for colour, (name, trials) in enumerate(panel.trials.items()):
            for number, trial in enumerate(trials):
                label = name if number == 0 else None
                axes.plot(range(len(trial.kappas)), trial.kappas, color=f"C{colour}", linewidth=1.2, label=label)
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_title(panel.title, fontsize=9)
        if index == 0:
            axes.set_ylabel("κ at inference")
            # Beside the axes: some line is everywhere.
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(out, dpi=150)
    print(f"\n{out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--limit", type=int, default=None, help="training images of each data set")
    parser.add_argument("--backbone", default="small_cnn")
    parser.add_argument("--dimension", type=int, default=None, help="D: a perceptron with so many features instead")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = options.backbone if options.dimension is None else f"mlp, D = {options.dimension}"
    print(
        f"torch {torch.__version__}, {platform.machine()}, 1 thread; {backbone}, {options.epochs} epochs, batches of "
        f"{options.batch}, {options.seeds} seeds"
    )
    panels = []
    for name in options.data:
        split = split_data(load_data(name), DataConfig(name=name, train_limit=options.limit))
        panel = Panel(f"{name}, {len(split.train)} training images, {backbone}")
        for temperature, build in TEMPERATURES.items():
            panel.trials[temperature] = [train(split, build, seed, options) for seed in range(options.seeds)]
        show(panel)
        panels.append(panel)
    draw(panels, options.out)


if __name__ == "__main__":
    main()
