"""Do the trends of the papers hold on Fashion-MNIST? 10,000 training images, a small network, three
seeds.

Trains 16 heads (W's nine in their CIFAR-10 settings, the cosine head at six fixed κ, least squares at κ* and 2κ*),
measures them and judges four claims by rules that stand in this file, so that they were fixed before the run:

1. R² of every regularised head lies above softmax's (W Table 4): the mean over seeds, and how many seeds of three.
2. R² grows with τ = 1/κ over at least five values (W Table 6): the means over seeds strictly grow.
3. CKA between heads is high in early blocks and lower in the last (W Figure 3): against softmax of the same seed, the
   first block's CKA is at least 0.9 and above the last block's, for every head in the mean over seeds.
4. MISS and OOD average precision at κ near κ* lie above those at κ = 60 (T Figure 4): the mean over seeds of
   ``cosine_ls``, and of the fixed κ nearest to its κ*, on every set.

    python benchmarks/paper_trends.py [--backbone NAME] [--epochs N] [--out DIR] [--workers N] [--results FILE]

An hour on two cores. Trials and passes that lie in the folder are not run again.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import logitlab
from logitlab.records import Store
from logitlab.statistics import mean_and_error

REGULARIZED = (
    "squared_error:preset=cifar10",
    "dropout:preset=cifar10",
    "label_smoothing:preset=cifar10",
    "final_l2:preset=cifar10",
    "logit_penalty:preset=cifar10",
    "logit_norm:preset=cifar10",
    "cosine:preset=cifar10",
    "sigmoid",
)
KAPPAS = (60, 40, 20, 10, 5)
FIXED = tuple(f"cosine:kappa={kappa}" for kappa in KAPPAS)
HEADS = ("softmax", *REGULARIZED, *FIXED, "cosine_ls", "cosine_2ls")
OOD = ("notmnist", "dtd")
SEEDS = 3

#: head → one record a seed.
Records = Mapping[str, list[dict[str, Any]]]


def train(out: Path, backbone: str, epochs: int, workers: int | None) -> Records:
    comparison = logitlab.compare(
        "fashion-mnist",
        heads=HEADS,
        backbone=backbone,
        seeds=SEEDS,
        train_limit=10_000,
        epochs=epochs,
        ood=OOD,
        out=out,
        workers=workers,
        report=False,
    )
    by_head: dict[str, list[dict[str, Any]]] = {}
    # The records come in the order of the plan: seed by seed, and in each head by head.
    for place, record in enumerate(comparison.records):
        head = HEADS[place % len(HEADS)]
        assert record["config"]["head"]["name"] == head.partition(":")[0]
        by_head.setdefault(head, []).append(record)
    return by_head


def values(records: Records, head: str, measure: str) -> list[float]:
    return [record["result"]["test"][measure] for record in records[head]]


def ood_values(records: Records, head: str, name: str) -> list[float]:
    """Average precision with the largest logit (of a cosine head: the largest cosine)."""
    return [record["ood"][name]["max_logit_ap"] for record in records[head]]


def shown(numbers: list[float], digits: int = 3) -> str:
    found = mean_and_error(numbers)
    return f"{found.mean:.{digits}f} ± {found.error:.{digits}f}"


def mean(numbers: list[float]) -> float:
    return statistics.fmean(numbers)


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def separation(records: Records) -> list[str]:
    softmax = values(records, "softmax", "class_separation")
    lines = ["", "## 1. Regularised heads separate classes more (W Table 4)", ""]
    lines += [row("head", "R² (training images)", "accuracy", "seeds above softmax"), row("-", "-", "-", "-")]
    verdicts = []
    for head in ("softmax", *REGULARIZED):
        found = values(records, head, "class_separation")
        above = sum(mine > other for mine, other in zip(found, softmax, strict=True))
        verdicts.append(head == "softmax" or mean(found) > mean(softmax))
        accuracy = shown(values(records, head, "accuracy"))
        lines.append(row(f"`{head}`", shown(found), accuracy, "" if head == "softmax" else f"{above} of {len(found)}"))
    missing = [head for head, good in zip(("softmax", *REGULARIZED), verdicts, strict=True) if not good]
    return [*lines, "", verdict(not missing, f"not above softmax: {', '.join(missing)}" if missing else "")]


def temperature(records: Records) -> list[str]:
    lines = ["", "## 2. R² grows with τ (W Table 6)", "", row("τ", "κ", "R²", "accuracy"), row("-", "-", "-", "-")]
    means = []
    for kappa, head in zip(KAPPAS, FIXED, strict=True):
        found = values(records, head, "class_separation")
        means.append(mean(found))
        lines.append(row(f"{1 / kappa:.4f}", str(kappa), shown(found), shown(values(records, head, "accuracy"))))
    return [*lines, "", verdict(all(low < high for low, high in pairwise(means)))]


def alignment(records: Records, out: Path) -> list[str]:
    """CKA of each head with softmax of the same seed, block by block; and of softmax with itself over seeds."""
    store = Store(out)

    def folders(head: str) -> list[Path]:
        return [store.trial_folder(record["identity"]) for record in records[head]]

    found: dict[str, list[list[float]]] = {}
    layers: list[str] = []
    softmax = folders("softmax")
    pairs = [("softmax, other seeds", list(zip(softmax, [*softmax[1:], softmax[0]], strict=True)))]
    pairs += [(head, list(zip(softmax, folders(head), strict=True))) for head in (*REGULARIZED, *FIXED, "cosine_ls")]
    for head, both in pairs:
        for pair in both:
            report = logitlab.analyze(
                pair, "fashion-mnist", measures=["cka"], limit=2000, out=out / "cka", report=False
            )
            (entry,) = [e for e in report.analysis.between["cka"] if e["first"] != e["second"]]
            layers = entry["rows"]
            found.setdefault(head, []).append([line[place] for place, line in enumerate(entry["value"])])
    lines = ["", "## 3. Early blocks are alike, the last less (W Figure 3)", ""]
    lines += [
        "Linear CKA with softmax of the same seed, blocks averaged over space, 2,000 test images.",
        "",
        row("head", *layers),
        row(*("-" for _ in range(len(layers) + 1))),
    ]
    good = True
    for head, seeds in found.items():
        by_layer = [mean(list(column)) for column in zip(*seeds, strict=True)]
        if head != "softmax, other seeds":
            good &= by_layer[0] >= 0.9 and by_layer[0] > by_layer[-1]
        lines.append(row(f"`{head}`", *(f"{value:.3f}" for value in by_layer)))
    return [*lines, "", verdict(good)]


def confidence(records: Records) -> list[str]:
    star = mean(values(records, "cosine_ls", "kappa_star"))
    nearest = min(KAPPAS, key=lambda kappa: abs(kappa - star))
    lines = ["", "## 4. Near κ* confidence rejects better than at κ = 60 (T Figure 4)", ""]
    lines += [f"κ* of least squares: {star:.2f}; the nearest fixed κ is {nearest}. Score: the largest cosine.", ""]
    lines += [
        row("head", "κ", "MISS AP", *(f"OOD AP, {name}" for name in OOD)),
        row("-", "-", "-", *("-" for _ in OOD)),
    ]
    sweep = [("cosine_ls", f"{star:.1f} (κ*)"), ("cosine_2ls", "2κ*")]
    sweep += [(head, str(kappa)) for kappa, head in sorted(zip(KAPPAS, FIXED, strict=True))] + [("softmax", "")]
    for head, kappa in sweep:
        cells = [shown(values(records, head, "miss_ap"), 4)] + [shown(ood_values(records, head, name)) for name in OOD]
        lines.append(row(f"`{head}`", kappa, *cells))
    faults = []
    for head in ("cosine_ls", f"cosine:kappa={nearest}"):
        columns = {"MISS": [values(records, name, "miss_ap") for name in (head, FIXED[0])]}
        columns |= {name: [ood_values(records, each, name) for each in (head, FIXED[0])] for name in OOD}
        faults += [f"{head} on {name}" for name, (mine, other) in columns.items() if mean(mine) <= mean(other)]
    return [*lines, "", verdict(not faults, f"not above κ = 60: {', '.join(faults)}" if faults else "")]


def verdict(holds: bool, why: str = "") -> str:
    return f"**{'Holds' if holds else 'Does not hold at this scale'}**{f' ({why})' if why else ''}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--backbone", default="small_cnn")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--results", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        records = train(out, given.backbone, given.epochs, given.workers)
        lines = [
            "# Trends of the papers on Fashion-MNIST",
            "",
            f"`python benchmarks/paper_trends.py --backbone {given.backbone} --epochs {given.epochs}`: 10,000 training "
            f"images (1,000 of them held out), batch 32, {SEEDS} seeds; mean ± standard error over seeds. "
            f"{platform.machine()}, CPU, torch {torch.__version__.split('+')[0]}.",
        ]
        lines += separation(records) + temperature(records) + alignment(records, out) + confidence(records)
    text = "\n".join(lines) + "\n"
    print(text)
    if given.results:
        given.results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
