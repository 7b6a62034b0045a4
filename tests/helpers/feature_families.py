"""Six families of unit features and class weights, from a network at its start to the hardest that training leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize


class Family(NamedTuple):
    """A batch and the weights of its classes.

    Attributes:
        features: rows of unit length, float32 ``[N, D]``.
        weight: rows of unit length, float32 ``[C, D]``.
        target: the class that each feature was made for, ``[N]``; any class for those that were made for none.
    """

    features: Tensor
    weight: Tensor
    target: Tensor


def near_their_weights(weight: Tensor, target: Tensor, noise: Tensor, cosine: Tensor) -> Tensor:
    """Features at a given cosine to their own weights.

    Args:
        weight: rows of unit length, ``[C, D]``.
        target: ``[N]``.
        noise: the direction away from the weight, ``[N, D]``; what it has along the weight is taken out.
        cosine: ``[N, 1]``.
    """
    own = weight[target]
    across = normalize(noise - (noise * own).sum(dim=1, keepdim=True) * own)
    return normalize(cosine * own + (1 - cosine.square()).sqrt() * across)


def _cosine(mean: float, num_samples: int, generator: Generator) -> Tensor:
    return (mean + 0.12 * torch.randn(num_samples, 1, generator=generator)).clamp(0.1, 0.98)


def _nearly_orthogonal(num_classes: int, dimension: int, generator: Generator) -> Tensor:
    """What training makes of the weights: a simplex, but for noise. Beyond D classes directions are random anyway."""
    noise = torch.randn(num_classes, dimension, generator=generator)
    if num_classes > dimension or num_classes == 1:
        return normalize(noise)
    basis, _ = torch.linalg.qr(torch.randn(dimension, num_classes, generator=generator))
    weight = normalize(basis.T + 0.2 * noise / dimension**0.5)
    return normalize(weight - weight.mean(dim=0))


def random(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """Directions that know nothing of each other: a network before its first step."""
    features = torch.randn(num_samples, dimension, generator=generator)
    weight = torch.randn(num_classes, dimension, generator=generator)
    return Family(normalize(features), normalize(weight), target)


def post_relu(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """Features without a negative entry, which share a large mean."""
    features = torch.randn(num_samples, dimension, generator=generator).relu() + 0.5
    weight = torch.randn(num_classes, dimension, generator=generator)
    return Family(normalize(features), normalize(weight), target)


def trained(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """Features at a cosine of about 0.75 to their weights, which are nearly orthogonal."""
    weight = _nearly_orthogonal(num_classes, dimension, generator)
    cosine = _cosine(0.75, num_samples, generator)
    noise = torch.randn(num_samples, dimension, generator=generator)
    return Family(near_their_weights(weight, target, noise, cosine), weight, target)


def hard(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """The same at a cosine of about 0.45: many are nearer to another class."""
    weight = _nearly_orthogonal(num_classes, dimension, generator)
    cosine = _cosine(0.45, num_samples, generator)
    noise = torch.randn(num_samples, dimension, generator=generator)
    return Family(near_their_weights(weight, target, noise, cosine), weight, target)


def hierarchical(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """Ten classes to a family, whose weights share a direction; features stray towards a sibling class."""
    parents = max(1, num_classes // 10)
    shared = normalize(torch.randn(parents, dimension, generator=generator))
    own = normalize(torch.randn(num_classes, dimension, generator=generator))
    weight = normalize(0.6 * shared[torch.arange(num_classes) % parents] + 0.8 * own)
    steps = torch.randint(1, max(2, num_classes // parents), (num_samples,), generator=generator)
    sibling = weight[(target + parents * steps) % num_classes]
    noise = 0.6 * sibling + 0.8 * normalize(torch.randn(num_samples, dimension, generator=generator))
    cosine = _cosine(0.7, num_samples, generator)
    return Family(near_their_weights(weight, target, noise, cosine), weight, target)


def anisotropic(num_samples: int, num_classes: int, dimension: int, generator: Generator, target: Tensor) -> Family:
    """A spectrum that falls like 1/i, and a mean that all weights share."""
    spread = torch.arange(1, dimension + 1).float().rsqrt()
    mean = 0.3 * spread.norm() / dimension**0.5 * torch.randn(1, dimension, generator=generator)
    weight = normalize(spread * torch.randn(num_classes, dimension, generator=generator) + mean)
    noise = spread * torch.randn(num_samples, dimension, generator=generator)
    cosine = _cosine(0.7, num_samples, generator)
    return Family(near_their_weights(weight, target, noise, cosine), weight, target)


FAMILIES: dict[str, Callable[[int, int, int, Generator, Tensor], Family]] = {
    "random": random,
    "post-ReLU": post_relu,
    "trained": trained,
    "hard": hard,
    "hierarchical": hierarchical,
    "anisotropic": anisotropic,
}


def make_family(name: str, num_samples: int, num_classes: int, dimension: int, seed: int = 0) -> Family:
    """A family by its name.

    Args:
        name: a key of ``FAMILIES``.
        num_samples: N.
        num_classes: C.
        dimension: D.
        seed: the same seed gives the same numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(num_classes, (num_samples,), generator=generator)
    return FAMILIES[name](num_samples, num_classes, dimension, generator, target)
