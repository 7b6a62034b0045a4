"""What choosing κ costs in the training of a network: the share of the search in a step of ResNet-18 on small images.

The network is timm's ResNet-18 with the stem for 32 × 32 images (a 3 × 3 convolution of stride 1, no pooling), its
head ``CosineHead(temperature=LeastSquares())``. A step is forward, backward and SGD with momentum on a batch of noise:
what is timed does not depend on what the images show. After each step the search alone is run on the features of the
same images, so that both take turns on a busy machine. With one thread the clock is its processor time.

    uv run python -m benchmarks.resnet_step [--batch 128] [--classes 100] [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from torch import Tensor, nn

from logitlab.functional import normalize, search_least_squares
from logitlab.heads import Classifier, CosineHead
from logitlab.models import create_backbone
from logitlab.temperature import LeastSquares

from .step.table import environment, load
from .step.timing import clock

#: Of a step's time, where (B, C) = (128, 100).
LIMIT = 0.02


def build(classes: int) -> Classifier:
    backbone = create_backbone("resnet18", channels=3, image_size=32)
    network = backbone.model
    assert isinstance(network, nn.Module)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return Classifier(backbone, CosineHead(backbone.num_features, classes, temperature=LeastSquares()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(environment(options.threads))
    model = build(options.classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    now = clock()

    def step(images: Tensor, target: Tensor) -> float:
        start = now()
        loss = model(images, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return now() - start

    def search(images: Tensor) -> float:
        """The search alone; the cosines are at hand in every cosine head."""
        with torch.no_grad():
            features, weight = normalize(model.backbone(images)), normalize(model.head.weight)
            cosine = features @ weight.T
        start = now()
        search_least_squares(features, weight, cosine=cosine)
        return now() - start

    steps, searches, shares = [], [], []
    for turn in range(options.rounds + 1):
        images = torch.randn(options.batch, 3, 32, 32)
        times = step(images, torch.randint(options.classes, (options.batch,))), search(images)
        if turn:
            steps.append(times[0])
            searches.append(times[1])
            shares.append(times[1] / times[0])
    share = statistics.median(shares)
    print(
        f"ResNet-18 at 32 x 32, batch {options.batch}, {options.classes} classes, {options.rounds} rounds: a step "
        f"{statistics.median(steps):.2f} s, the search alone {1e3 * statistics.median(searches):.2f} ms; share "
        f"{share:.3%} ({min(shares):.3%} to {max(shares):.3%}); load at the end {load()}"
    )
    print(f"Asked: at most {LIMIT:.0%}: {'reached' if share <= LIMIT else 'NOT reached'}.")
    return 0 if share <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
