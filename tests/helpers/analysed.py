"""An analysis as ``logitlab analyze`` writes it, made up: every measure, of as many models as asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy

from logitlab.records.analysis import BETWEEN_NAMES, MEASURE_NAMES, Analysis

#: Labels of models; the last two have no κ.
LABELS = ("cosine:kappa=5", "cosine:kappa=10", "cosine:kappa=20", "cosine:kappa=60", "softmax", "sigmoid")
LAYERS = ("stem", "block1", "block2", "block3", "features")
SCORES = ("max_logit", "max_scaled_logit", "max_probability", "energy", "feature_norm", "kappa_star")
CLASSES = 10
CORRUPTIONS = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")


def kappa_of(label: str) -> float | None:
    """Return the κ in a label such as ``cosine:kappa=5``."""
    _, mark, value = label.partition("kappa=")
    return float(value) if mark else None


def make_analysis(
    labels: Sequence[str] = LABELS,
    *,
    class_names: Sequence[str] | None = None,
    points: int = 600,
    ood: Sequence[str] = ("photographs", "uniform noise"),
    layers: Sequence[str] = LAYERS,
    failures: Sequence[dict[str, Any]] = (),
    without: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Analysis:
    """Return an analysis of made-up models.

    Args:
        labels: of the models; κ is read from ``kappa=``.
        class_names: None for ``class 0`` and so on.
        points: of each map.
        ood: names of the sets of strange images.
        layers: names of the layers of all models.
        failures: as the file holds them.
        without: measures, keys of ``between`` and ``"ood"`` that are left out.
        only: those that are there; None for all.
    """
    if only is not None:
        without = [key for key in (*MEASURE_NAMES, *BETWEEN_NAMES, "ood") if key not in only]
    draw = numpy.random.default_rng(0)
    names = [f"class {number}" for number in range(CLASSES)] if class_names is None else list(class_names)
    measures: dict[str, dict[str, Any]] = {}
    for place, label in enumerate(labels):
        for measure, entry in one_model(draw, place, kappa_of(label) or 30.0, len(names), points, list(layers)).items():
            measures.setdefault(measure, {})[label] = {
                "name": measure,
                "convention": f"convention of {measure}",
                "n": 1000,
                "split": "test",
                "warnings": [],
                **entry,
            }
    between = {"cka": cka(draw, labels, layers), **answers(draw, labels)}
    document = {
        "data": {"name": "digits", "fingerprint": "ab" * 32, "part": "test", "images": 1000, "class_names": names},
        "models": [
            {
                "label": label,
                "checkpoint": f"runs/{place}/model",
                "head": label,
                "backbone": "small_cnn",
                "kappa": kappa_of(label),
                "kappa_star": 4.5 + 0.1 * place,
                "seed": 0,
                "identity": f"{place * 100:016x}",
                "accuracy": 0.9 + 0.01 * place,
                "image_size": 28,
                "num_features": 128,
                "layers": list(layers),
            }
            for place, label in enumerate(labels)
        ],
        "measures": {key: value for key, value in measures.items() if key not in without},
        "between": {key: value for key, value in between.items() if key not in without},
        "ood": {}
        if "ood" in without
        else {
            label: {name: scores(draw, 0.5, 0.85 + 0.02 * place) for name in ood} for place, label in enumerate(labels)
        },
        "failures": list(failures),
    }
    # Through JSON, as a page gets it.
    return Analysis.model_validate_json(json.dumps(document))


def one_model(
    draw: numpy.random.Generator, place: int, kappa: float, classes: int, points: int, layers: list[str]
) -> dict[str, Any]:
    """Return every measure of one model; most grow or fall with κ, as the papers say."""
    share = numpy.log10(kappa) / 2
    count = len(layers)
    bins = numpy.linspace(0, 1, 16)
    confidence = (bins[1:] + bins[:-1]) / 2
    counts = [0, 0, *(numpy.arange(1, 14) ** 2).tolist()]
    known = [value if number else None for value, number in zip(confidence.tolist(), counts)]
    edges = numpy.linspace(0, 180, 91)
    degrees = (edges[1:] + edges[:-1]) / 2
    grid = numpy.linspace(0, 2, 512)
    labels = numpy.arange(points) % classes
    centres = 20 * draw.normal(size=(classes, 2))
    curve = numpy.linspace(0, 1, 300)
    return {
        "accuracy": {"value": 0.9 + 0.01 * place, "details": {"top5": 0.99, "balanced": 0.895 + 0.01 * place}},
        "calibration": {
            "value": 1.8 - share,
            "temperature": 1.8 - share,
            "nll_before": 0.41,
            "nll_after": 0.35,
            "ece_before": 0.082,
            "ece_after": 0.013,
        },
        "reliability": {
            "value": 0.08,
            "edges": bins.tolist(),
            "counts": counts,
            "confidence": known,
            "accuracy": [None if value is None else value**1.5 for value in known],
            "after": {
                "edges": bins.tolist(),
                "counts": counts,
                "confidence": known,
                "accuracy": [None if value is None else value**1.05 for value in known],
            },
        },
        "separation": {"value": 0.95 - 0.4 * share, "details": {"classes": classes, "null": (classes - 1) / 999}},
        "separation_by_layer": {
            "value": [0.05 + (0.9 - 0.4 * share) * (step / (count - 1 or 1)) ** 3 for step in range(count)],
            "layers": layers,
        },
        "sparsity_by_layer": {
            "value": [0.3 + 0.1 * step * (1 - 0.5 * share) for step in range(count)],
            "layers": layers,
        },
        "class_angle": {"value": 20 + 40 * share},
        "span_angle": {"value": 3 + 15 * share},
        "angle_histogram": {
            "value": 20 + 40 * share,
            "edges": edges.tolist(),
            "own": numpy.rint(1000 * bell(degrees, 20 + 40 * share, 7)).tolist(),
            "other": numpy.rint(1000 * bell(degrees, 85, 8)).tolist(),
        },
        "rank": {"value": 12 + round(60 * share), "details": {"energy_99": 12, "float32": 80, "entropy": 11.3}},
        "spectra": {
            "value": None,
            **{
                key: numpy.exp(-numpy.arange(size) / (4 + 30 * share)).tolist()
                for key, size in (("features", 128), ("weight", classes), ("centroids", classes))
            },
        },
        "densities": {
            "value": 0.12,
            "grid": grid.tolist(),
            "within": bell(grid, 0.2 + 0.2 * share, 0.1).tolist(),
            "between": bell(grid, 0.9, 0.15).tolist(),
        },
        "hardness": {
            "value": 0.04 + 0.04 * share,
            "grid": (grid / 10).tolist(),
            "density": bell(grid / 10, 0.04 + 0.04 * share, 0.01).tolist(),
        },
        "hull": {"value": 0.02 + 0.1 * share},
        "misclassification": {"value": 0.98, "scores": scores(draw, 0.9, 0.97)},
        "precision_recall": {
            score: {"recall": curve.tolist(), "precision": (1 - 0.1 * curve ** (3 + number + share)).tolist()}
            for number, score in enumerate(SCORES)
        },
        "risk_coverage": {
            score: {
                "coverage": curve.tolist(),
                "risk": (0.1 * curve ** (3 + number + share)).tolist(),
                "aurc": 0.02,
            }
            for number, score in enumerate(SCORES)
        },
        "tsne": {
            "value": 0.97,
            "points": (centres[labels] + draw.normal(size=(points, 2)) * 3).tolist(),
            "labels": labels.tolist(),
            "trustworthiness": 0.97,
        },
        "plane": {
            "value": 0.6,
            "points": (spokes(classes)[labels] * draw.gamma(4, 2, size=(points, 1)) + draw.normal(size=(points, 2)) / 2)
            .round(3)
            .tolist(),
            "labels": labels.tolist(),
            "weight": spokes(classes).tolist(),
            "centers": 1,
        },
        "loss_by_cosine": loss_by_cosine(kappa, classes),
        "sparse_softmax": sparse_softmax(classes),
        "probe": {
            "value": 0.8 + 0.1 * share,
            "strengths": numpy.logspace(-6, 5, 45).tolist(),
            "validation_accuracy": (0.5 + (0.3 + 0.1 * share) * bell(numpy.linspace(0, 1, 45), 0.6, 0.4)).tolist(),
        },
        "corruption": {
            "value": 0.4 + 0.02 * place,
            "by_corruption": {name: 0.3 + 0.05 * number for number, name in enumerate(CORRUPTIONS)},
        },
    }


def spokes(classes: int) -> numpy.ndarray:
    """Return a direction a class, evenly around the origin."""
    angles = 2 * numpy.pi * numpy.arange(classes) / max(1, classes)
    return numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)


def loss_by_cosine(kappa: float, classes: int) -> dict[str, Any]:
    """Return T's curve, and losses a little above it at the bins from 0 on."""
    edges, grid = numpy.linspace(-1, 1, 21), numpy.linspace(-1, 1, 161)
    centres = (edges[1:] + edges[:-1]) / 2

    def curve(z: numpy.ndarray) -> numpy.ndarray:
        return numpy.logaddexp(0, numpy.log(max(1, classes - 1)) - kappa * z)

    counts = [0] * 10 + [10 * (place + 1) ** 2 for place in range(10)]
    expected = curve(centres)
    return {
        "value": 0.2,
        "simplified": 0.15,
        "kappa": kappa,
        "num_classes": classes,
        "edges": edges.tolist(),
        "counts": counts,
        "loss": [None if not count else 1.1 * value for count, value in zip(counts, expected.tolist())],
        "expected": expected.tolist(),
        "grid": grid.tolist(),
        "curve": curve(grid).tolist(),
    }


def sparse_softmax(classes: int) -> dict[str, Any]:
    """Return small cosines, two of them larger than the rest, and their softmax at κ* = 102."""
    cosines = 0.02 * numpy.cos(numpy.arange(classes))
    cosines[:2] = 0.12, 0.11
    weights = numpy.exp(102 * cosines)
    return {
        "value": 102.0,
        "index": 7,
        "label": 1,
        "cosines": cosines.tolist(),
        "probabilities": (weights / weights.sum()).tolist(),
        "winners": [0, 1],
        "remainder": 0.1,
        "model_kappa": 61.5,
    }


def scores(draw: numpy.random.Generator, base: float, best: float) -> dict[str, dict[str, float]]:
    """Return the four measures of every confidence score."""
    return {
        score: {
            "ap": best - 0.01 * number,
            "auroc": best - 0.02 * number,
            "fpr95": 0.2 + 0.05 * number,
            "base_rate": base,
        }
        for number, score in enumerate(SCORES)
    }


def cka(draw: numpy.random.Generator, labels: Sequence[str], layers: Sequence[str]) -> list[dict[str, Any]]:
    """Return the matrices of every pair of models, with one control."""
    count = len(layers)
    step = abs(numpy.arange(count)[:, None] - numpy.arange(count))
    pairs = [(one, other) for place, one in enumerate(labels) for other in labels[place:]]
    found = []
    for first, second in [*pairs, (labels[0], f"{labels[0]} (control)")]:
        alike = numpy.exp(-step / 2.5)
        if first != second:
            late = 0.02 if "control" not in second else 0.15
            depth = numpy.maximum(numpy.arange(count)[:, None], numpy.arange(count))
            alike = alike * (0.99 - late * depth**2 * (0.7 + 0.3 * draw.random()))
        found.append(
            {
                "first": first,
                "second": second,
                "rows": list(layers),
                "columns": list(layers),
                "value": numpy.clip(alike, 0, 1).tolist(),
                "convention": "linear CKA, biased, feature maps flattened",
            }
        )
    return found


def answers(draw: numpy.random.Generator, labels: Sequence[str]) -> dict[str, Any]:
    """Return agreement of three kinds, its tree, and ensembles."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    count = len(labels)
    places = numpy.arange(count)
    same = 0.97 - 0.015 * abs(places[:, None] - places) - 0.01 * (places[:, None] != places)
    numpy.fill_diagonal(same, 1.0)
    if count < 2:
        return {}
    tree = linkage(squareform(1 - same, checks=False), "average")
    return {
        "agreement": [
            {"names": list(labels), "kind": kind, "value": (same - 0.02 * number * (same < 1)).tolist()}
            for number, kind in enumerate(("same", "both_right_or_both_wrong", "same_when_both_wrong"))
        ],
        "clustering": {
            "names": list(labels),
            "linkage": tree.tolist(),
            "order": places.tolist(),
            "value": 0.93,
            "convention": "average linkage of 1 − agreement",
        },
        "ensembles": {
            "names": list(labels),
            "value": (0.93 + 0.01 * (1 - same)).tolist(),
            "size": 4,
            "convention": "modal vote",
        },
    }


def bell(places: numpy.ndarray, middle: float, width: float) -> numpy.ndarray:
    """Return the density of a normal distribution."""
    return numpy.exp(-(((places - middle) / width) ** 2) / 2) / (width * numpy.sqrt(2 * numpy.pi))
