"""Unit features and class weights that are most likely to break a search for κ*, each at a random turn of space."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

NUM_SAMPLES = 8


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def aligned(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Features anywhere between their weight and noise."""
    weight = normalize(_normal(generator, num_classes, dimension))
    target = torch.randint(num_classes, (NUM_SAMPLES,), generator=generator)
    return weight[target] * 3 * _uniform(generator, 1) + 0.7 * _normal(generator, NUM_SAMPLES, dimension), weight


def duplicated(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Every weight stands several times."""
    features, weight = aligned(max(1, num_classes // 3), dimension, generator)
    return features, weight.repeat(3, 1)


def on_a_weight(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Features that equal a weight, or differ from it by 1e-7 to 0.1; this class outweighs all others."""
    weight = normalize(_normal(generator, num_classes, dimension))
    away = torch.logspace(-7, -1, NUM_SAMPLES, dtype=torch.float64).unsqueeze(1) * _normal(generator, 1, dimension)
    away[0] = 0
    return weight[:1] + away, weight


def opposite(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Weights in pairs that point away from each other."""
    features, weight = aligned(max(1, num_classes // 2), dimension, generator)
    return features, torch.cat([weight, -weight])


def mirrored(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Weights in pairs that lie symmetrically about the feature: what they rebuild has nothing across it."""
    feature = normalize(_normal(generator, 1, dimension))
    across = _normal(generator, max(1, num_classes // 2), dimension)
    across = normalize(across - (across @ feature.T) * feature)
    cosine = 0.2 + 0.5 * _uniform(generator, len(across), 1)
    along, side = cosine * feature, (1 - cosine.square()).sqrt() * across
    tilt = torch.logspace(-9, -1, NUM_SAMPLES, dtype=torch.float64).unsqueeze(1) * _normal(generator, 1, dimension)
    tilt[0] = 0
    return feature + tilt, torch.cat([along + side, along - side])


def nearly_equal_cosines(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """All weights at nearly one angle to the features."""
    feature = normalize(_normal(generator, 1, dimension))
    across = _normal(generator, num_classes, dimension)
    across = normalize(across - (across @ feature.T) * feature)
    cosine = 0.5 + 10 ** -float(1 + 6 * _uniform(generator, 1)) * _normal(generator, num_classes, 1)
    return feature.repeat(NUM_SAMPLES, 1), cosine * feature + (1 - cosine.square()).sqrt() * across


def nearly_parallel(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """All weights close to one direction."""
    centre = _normal(generator, 1, dimension)
    weight = centre + 10 ** -float(4 * _uniform(generator, 1)) * _normal(generator, num_classes, dimension)
    return centre + _normal(generator, NUM_SAMPLES, dimension), weight


def simplex(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Features near the vertices of a simplex, or of a cross where the space is too small for one."""
    size = min(num_classes, dimension)
    basis, _ = torch.linalg.qr(_normal(generator, dimension, dimension))
    corners = torch.eye(size, dimension, dtype=torch.float64)
    weight = (corners - corners.mean(dim=0) * float(size > 1)) @ basis
    noise = 10 ** -float(6 * _uniform(generator, 1)) * _normal(generator, NUM_SAMPLES, dimension)
    return weight[torch.arange(NUM_SAMPLES) % size] + noise, weight


def with_zero_rows(num_classes: int, dimension: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """A weight and a feature are zero; other features point away from all weights, so that the zero row is nearest."""
    centre = _normal(generator, 1, dimension)
    weight = centre + 0.3 * _normal(generator, num_classes, dimension)
    weight[0] = 0
    features = -centre + _uniform(generator, 1) * _normal(generator, NUM_SAMPLES, dimension)
    features[0] = 0
    return features, weight


Maker = Callable[[int, int, Generator], tuple[Tensor, Tensor]]
AWKWARD: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        aligned,
        duplicated,
        on_a_weight,
        opposite,
        mirrored,
        nearly_equal_cosines,
        nearly_parallel,
        simplex,
        with_zero_rows,
    )
}

#: Sets of candidates by name: T's, its levels of powers of two, close to them, few, far and dense.
CANDIDATE_SETS: dict[str, list[float]] = {
    "paper": [math.exp(-2 + 7 / 19 * step) for step in range(20)],
    "powers of two": [2.0**power for power in range(-3, 10)],
    "beside powers of two": [2.0**power * (1 + side) for power in range(9) for side in (-1e-3, 1e-3)],
    "one": [3.0],
    "two": [0.5, 60.0],
    "to 1000": [0.01, 0.3, 7.0, 55.0, 256.0, 400.0, 700.0, 1000.0],
    "dense": [math.exp(-2 + 7 / 99 * step) for step in range(100)],
}


def make_awkward(name: str, num_classes: int, dimension: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Features ``[N, D]`` and weights ``[C', D]``, rows of unit length or zero; C' is ``num_classes`` or about it.

    Args:
        name: a key of ``AWKWARD``.
        num_classes: at least 1.
        dimension: at least 2.
        seed: the same seed gives the same numbers.
        dtype: of the result.
    """
    features, weight = AWKWARD[name](num_classes, dimension, torch.Generator().manual_seed(seed))
    return normalize(normalize(features).to(dtype)), normalize(normalize(weight).to(dtype))
