"""What our training loop costs beside a minimal one written by hand: the ratio of their times per epoch.

Both train ``small_cnn`` with the same head on the same Fashion-MNIST images, held in memory, on one CPU thread, and
look at the validation images after each epoch. By hand means: a permutation, uint8 to float, forward, backward, a step
of SGD and of the schedule, and no more. Ours also keeps a snapshot on the disk after each epoch, as every trial does.
Runs alternate, so that a busy machine slows both.

    LOGITLAB_DATA=... python benchmarks/training_overhead.py
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from logitlab.config.training import TrainingConfig
from logitlab.config.trial import DataConfig
from logitlab.data import load_data, split_data
from logitlab.heads import Classifier, create_head
from logitlab.models import create_backbone
from logitlab.training import fit
from logitlab.training.snapshot import Snapshot

BATCH = 128


def build(head: str) -> Classifier:
    torch.manual_seed(0)
    backbone = create_backbone("small_cnn", channels=1, image_size=28)
    return Classifier(backbone, create_head(head, backbone.num_features, 10)).to(memory_format=torch.channels_last)


def by_hand(model: nn.Module, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], epochs: int) -> float:
    """Train as a tutorial would; return the accuracy on the validation images."""
    pixels, labels = train
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    mean, std = 0.286, 0.353
    accuracy = 0.0
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            images = (pixels[chosen].float() / 255 - mean) / std
            loss = model(images, labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(
                int((model((images.float() / 255 - mean) / std).argmax(1) == target).sum())
                for images, target in zip(validation[0].split(BATCH), validation[1].split(BATCH))
            )
        accuracy = right / len(validation[1])
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="training images")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--heads", nargs="+", default=["softmax", "cosine_ls"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data("fashion-mnist")
    split = split_data(data, DataConfig(name="fashion-mnist", train_limit=options.images, validation_fraction=0.02))
    tensors = [next(iter(part.batches(torch.arange(len(part)), len(part)))) for part in (split.train, split.validation)]
    recipe = TrainingConfig(epochs=options.epochs, batch_size=BATCH, warmup_epochs=0, augmentation="none")
    print(
        f"torch {torch.__version__}, {platform.machine()}, 1 thread; {len(split.train)} training and "
        f"{len(split.validation)} validation images, batches of {BATCH}, {options.epochs} epochs a run"
    )
    for head in options.heads:
        ours, theirs, ratios = [], [], []
        fit(build(head), split.validation, split.validation, recipe)  # imports and caches, outside the clock
        for _ in range(options.runs):
            model = build(head)
            start = time.perf_counter()
            by_hand(model, tensors[0], tensors[1], options.epochs)
            theirs.append((time.perf_counter() - start) / options.epochs)
            model = build(head)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                snapshot = Snapshot(Path(folder) / "snapshot.pt", "benchmark")
                fit(model, split.train, split.validation, recipe, snapshot=snapshot)
            ours.append((time.perf_counter() - start) / options.epochs)
            ratios.append(ours[-1] / theirs[-1])
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(
            f"{head}: by hand {statistics.median(theirs):.2f} s an epoch, ours {statistics.median(ours):.2f} s; "
            f"ratio of medians {ratio:.3f}, of pairs {min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
