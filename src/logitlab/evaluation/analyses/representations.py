"""Measures of features and of the layers below them."""

from __future__ import annotations

import math
from typing import Any

import numpy

from logitlab.analysis import (
    UndefinedError,
    class_centroids,
    class_separation,
    cosine_densities,
    feature_rank,
    singular_values,
)
from logitlab.analysis import separation_by_layer as _separation_by_layer

from ..pass_cache import Pass
from ..subjects import Subject
from .requests import Request, on_training_images, plain_entry

#: Points of the map of features. Its time grows with them, and the map takes most of the time of an analysis.
MAP_POINTS = 1000
_PERPLEXITY = 30.0
_NEIGHBOURS = 5
_DISTANCES = ("cosine", "centered_cosine", "euclidean")

#: What the layers of a pass are, and after them the features themselves.
FEATURES = "features"


def separation(subject: Subject, request: Request) -> dict[str, Any]:
    """R² on training features by cosine distance (W Table 4); the details hold all three distances (W Table E.1)."""
    train = subject.train
    found = {
        distance: class_separation(train["features"], train["labels"], distance, split="train")  # type: ignore[arg-type]
        for distance in _DISTANCES
    }
    entry = found["cosine"].to_json()
    entry["details"] |= {distance: plain_entry(each)["value"] for distance, each in found.items()}
    return on_training_images(subject, entry)


def separation_by_layer(subject: Subject, request: Request) -> dict[str, Any]:
    """R² of each layer on training images (W Figure 4)."""
    train = subject.train
    found = _separation_by_layer(vectors(train), train["labels"], split="train")
    first = next(iter(found.values()))
    classes = len(numpy.unique(train["labels"]))
    entry = {
        "layers": list(found),
        "value": [each.value for each in found.values()],
        "convention": f"{first.convention}; {pooling_text(subject)}",
        "null": (classes - 1) / (train.rows - 1),
        "n": train.rows,
        "split": "train",
        "warnings": list(dict.fromkeys(warning for each in found.values() for warning in each.warnings)),
    }
    return on_training_images(subject, entry)


def sparsity_by_layer(subject: Subject, request: Request) -> dict[str, Any]:
    """Share of units that are exactly zero after each block (W Figure 2 shows the rest), before any pooling."""
    outputs = subject.measured
    if not outputs.layers:
        raise UndefinedError("The backbone has no blocks that were found. Name layers by --layers (layers=…).")
    means = numpy.asarray(outputs["zeros"]).mean(axis=0)
    return {
        "layers": list(outputs.layers),
        "value": means.tolist(),
        "convention": "share of exact zeros, mean over units and images, before pooling",
        "n": outputs.rows,
        "split": subject.around.part,
        "warnings": [] if means.any() else ["No unit is exactly zero: the blocks do not end with a ReLU."],
    }


def rank(subject: Subject, request: Request) -> Any:
    """How many dimensions the features take up (T Table 3), by three rules."""
    return feature_rank(subject.measured["features"], split=subject.around.part)


def spectra(subject: Subject, request: Request) -> dict[str, Any]:
    """Singular values of training features, of the weight, and of the class centroids (W Figure E.1)."""
    train = subject.train
    features = singular_values(train["features"], split="train")
    centroids = class_centroids(train["features"], train["labels"])
    entry = {
        "features": features.value,
        "weight": singular_values(subject.weight).value,
        "centroids": singular_values(centroids).value,
        "value": float(features.value[0]),
        "convention": f"value: the largest of the features; {features.convention}",
        "n": train.rows,
        "split": "train",
        "warnings": list(features.warnings),
    }
    return on_training_images(subject, entry)


def densities(subject: Subject, request: Request) -> dict[str, Any]:
    """Densities of cosine distances within and between classes, on training images (W Figure E.2)."""
    train = subject.train
    found = cosine_densities(train["features"], train["labels"], seed=request.seed, split="train")
    return on_training_images(subject, plain_entry(found))


def tsne(subject: Subject, request: Request) -> dict[str, Any]:
    """A map of features in two dimensions (T Figure 3), with how far its neighbourhoods can be trusted."""
    from sklearn.manifold import TSNE, trustworthiness

    outputs = subject.measured
    chosen = numpy.arange(outputs.rows)
    if len(chosen) > MAP_POINTS:
        chosen = numpy.sort(numpy.random.default_rng(request.seed).choice(outputs.rows, MAP_POINTS, replace=False))
    count = len(chosen)
    if count < 4:
        raise UndefinedError(f"Expected at least 4 images for a map. Got {count}.")
    features = numpy.asarray(outputs["features"][chosen], dtype=numpy.float32)
    if not numpy.ptp(features, axis=0).any():
        raise UndefinedError("All features are equal: there is nothing to map.")
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    # The principal components of fewer than two dimensions are not two.
    start = "pca" if min(features.shape) > 1 else "random"
    points = TSNE(2, perplexity=perplexity, init=start, random_state=request.seed).fit_transform(features)
    neighbours = min(_NEIGHBOURS, math.ceil(count / 2) - 1)
    trust = float(trustworthiness(features, points, n_neighbors=neighbours))
    return {
        "points": [[round(float(value), 3) for value in point] for point in points],
        "labels": numpy.asarray(outputs["labels"][chosen]).tolist(),
        "trustworthiness": trust,
        "value": trust,
        "convention": f"t-SNE of scikit-learn, perplexity {perplexity:g}, seed {request.seed}; "
        f"value: trustworthiness of {neighbours} neighbours"
        + (f"; {count} of {outputs.rows} images" if count < outputs.rows else ""),
        "n": count,
        "split": subject.around.part,
        "warnings": [],
    }


def vectors(outputs: Pass) -> dict[str, numpy.ndarray]:
    """The vectors of every layer, the features last; memory maps."""
    return {**{name: outputs.layer(name) for name in outputs.layers}, FEATURES: outputs["features"]}


def pooling_text(subject: Subject) -> str:
    """How feature maps became vectors, in words."""
    return "layers averaged over space" if subject.around.pooling == "mean" else "layers flattened"
