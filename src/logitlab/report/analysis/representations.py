"""Sections about what the layers hold: separation, sparsity, spectra, densities, the map."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.embedding import embedding
from ..figures.model_lines import Axis, Line, model_lines
from ..figures.pairs_of_densities import Pair, pair_of_densities, reach
from ..figures.panel import Panel
from ..figures.plane import plane
from .reading import Entry, Model, Reading, alike, number, numbers
from .section import Group, Limits, Section, section


def by_layer(reading: Reading) -> list[Section]:
    """Return class separation and sparsity from layer to layer."""
    separation = _layered(reading, "separation_by_layer", 1.0)
    null = next((rate for rate in (_null(reading, model) for model in reading.models) if rate is not None), None)
    non_zero = _layered(reading, "sparsity_by_layer", -100.0, 100.0)
    panels = [
        model_lines(
            f"separation-{place}",
            "class separation R²",
            lines,
            Axis(""),
            Axis("R²", limits=(0, None)),
            layers=layers,
            baseline=None if null is None else (null, f"random labels {null:.3f}"),
            marked=True,
            said=first_and_last(lines),
        )
        for place, (layers, lines) in enumerate(separation)
    ]
    panels += [
        model_lines(
            f"sparsity-{place}",
            "activations that are not zero, %",
            lines,
            Axis(""),
            Axis("% not zero", limits=(0, None)),
            layers=layers,
            marked=True,
            said=first_and_last(lines),
        )
        for place, (layers, lines) in enumerate(non_zero)
    ]
    return section(
        "layers",
        "Layers",
        "Where do the classes come apart?",
        "From the first layer to the last. Class separation R²: 1 where each class is one point; dashed: what random "
        "labels would give, (K − 1)/(N − 1). Activations that are not exactly zero, mean over units and images: the "
        "fewer, the sparser.",
        groups=[Group("", tuple(panels), "wide", reading.models)],
        conventions=reading.conventions("separation_by_layer", "sparsity_by_layer"),
    )


def spectra(reading: Reading) -> list[Section]:
    """Return the singular values of features, weights and class centroids."""
    import numpy

    panels = []
    for key, title in (("features", "features"), ("weight", "class weights"), ("centroids", "class centroids")):
        lines = []
        for model, entry in reading.measured("spectra", key):
            values = numbers(entry[key])
            if values.ndim == 1 and len(values) and values[0] > 0:
                lines.append(Line(model.index, model.label, numpy.arange(1.0, len(values) + 1), values / values[0]))
        if lines:
            # What lies below is the rounding of float64 sums, not a direction.
            lowest = max(1e-8, min(float(line.y[line.y > 0].min()) for line in lines) / 2)
            panels.append(
                model_lines(
                    f"spectrum-{key}",
                    f"singular values of the {title}",
                    lines,
                    Axis("number of the singular value"),
                    Axis("relative to the largest", log=True, limits=(lowest, 1.5)),
                )
            )
    return section(
        "spectra",
        "Spectra",
        "How many directions are used?",
        "Singular values from the largest to the smallest, each divided by the largest, on a logarithmic axis: the "
        "earlier a line falls, the fewer directions the model uses.",
        groups=[Group("", tuple(panels), "wide", reading.models)],
        conventions=reading.conventions("spectra", "rank"),
    )


def densities(reading: Reading, limits: Limits) -> list[Section]:
    """Return cosine distances within and between classes."""
    found = [
        (model, entry, Pair(*arrays))
        for model, entry in reading.measured("densities", "grid")
        if (arrays := alike(entry, "grid", "within", "between")) is not None
    ]
    ends = reach([pair for _, _, pair in found])
    panels = []
    for model, entry, pair in found[: limits.own]:
        words = _overlap(entry)
        panels.append(
            pair_of_densities(
                f"densities-{model.index}",
                model.index,
                model.label,
                pair,
                x_label="cosine distance",
                y_label="density",
                said=f"Densities of the cosine distance within and between classes. {words}",
                words=words,
                limits=ends,
            )
        )
    return section(
        "densities",
        "Distances",
        "Are images of a class close to each other?",
        "Cosine distances between pairs of features. Filled: two images of one class; dashed: of two classes. The "
        "less they overlap, the better the classes are told apart.",
        groups=[Group("", tuple(panels), "strip")],
        conventions=reading.conventions("densities"),
        left_out=[model.label for model, _, _ in found[limits.own :]],
    )


def maps(reading: Reading, limits: Limits) -> list[Section]:
    """Return the t-SNE map of each model."""
    import numpy

    panels: list[Panel] = []
    left_out = []
    for model, entry in reading.measured("tsne", "points", "labels"):
        points, classes = numbers(entry["points"]), numbers(entry["labels"])
        if points.shape != (len(classes), 2) or not (numpy.isfinite(points).all() and numpy.isfinite(classes).all()):
            continue
        if len(panels) == limits.own:
            left_out.append(model.label)
            continue
        trust = number(entry.get("trustworthiness"))
        words = f"{len(points):,} images" if trust is None else f"trustworthiness {trust:.3f}, {len(points):,} images"
        if len(points) > limits.points:
            words += f", {limits.points:,} of them drawn"
        panels.append(
            embedding(
                f"map-{model.index}",
                model.index,
                model.label,
                points,
                classes.astype(numpy.int64),
                reading.class_names,
                most=limits.points,
                words=words,
            )
        )
    return section(
        "map",
        "Map",
        "A map of the features",
        "t-SNE: a dot an image, a colour a class; near dots are near in feature space. Sizes of groups and distances "
        "between them mean nothing; trustworthiness is 1 where every neighbour on the map is a true one.",
        groups=[Group("", tuple(panels), "natural strip")],
        conventions=reading.conventions("tsne"),
        left_out=left_out,
    )


def planes(reading: Reading, limits: Limits) -> list[Section]:
    """Return the features of each model whose features have two dimensions."""
    import numpy

    panels: list[Panel] = []
    left_out = []
    for model, entry in reading.measured("plane", "points", "labels", "weight"):
        points, classes, weight = (numbers(entry[key]) for key in ("points", "labels", "weight"))
        if points.shape != (len(classes), 2) or weight.ndim != 2 or weight.shape[1] != 2:
            continue
        if not all(numpy.isfinite(each).all() for each in (points, classes, weight)):
            continue
        if len(panels) == limits.own:
            left_out.append(model.label)
            continue
        separation = number(entry.get("value"))
        words = f"{len(points):,} images" + ("" if separation is None else f", R² {separation:.3f}")
        if len(points) > limits.points:
            words += f", {limits.points:,} of them drawn"
        panels.append(
            plane(
                f"plane-{model.index}",
                model.index,
                model.label,
                points,
                classes.astype(numpy.int64),
                weight,
                reading.class_names,
                most=limits.points,
                words=words,
            )
        )
    return section(
        "plane",
        "Plane",
        "The features themselves",
        "These features have two dimensions: a dot an image, a colour a class, as they are. An arrow points along the "
        "weight of each class; its length means nothing. The wider the empty sectors between the classes, the larger "
        "the angular margin.",
        groups=[Group("", tuple(panels), "natural strip")],
        conventions=reading.conventions("plane"),
        left_out=left_out,
    )


def _layered(
    reading: Reading, measure: str, factor: float, shift: float = 0.0
) -> list[tuple[tuple[str, ...], list[Line]]]:
    """Return the lines of models with the same layers together: different networks share no axis."""
    import numpy

    groups: dict[tuple[str, ...], list[Line]] = {}
    for model, entry in reading.measured(measure, "layers", "value"):
        values = numbers(entry["value"])
        layers = tuple(map(str, entry["layers"]))
        if values.shape == (len(layers),):
            places = numpy.arange(float(len(layers)))
            groups.setdefault(layers, []).append(Line(model.index, model.label, places, factor * values + shift))
    return list(groups.items())


def _null(reading: Reading, model: Model) -> float | None:
    for path in (("separation_by_layer", "null"), ("separation_by_layer", "details", "null")):
        if (found := reading.number(model, *path)) is not None:
            return found
    return reading.number(model, "separation", "details", "null")


def first_and_last(lines: Sequence[Line]) -> str:
    """Say where each line begins and ends, for a screen reader.

    Args:
        lines: of a chart over layers.
    """
    return "; ".join(f"{line.label}: {line.y[0]:.3g} first, {line.y[-1]:.3g} last" for line in lines)


def _overlap(entry: Entry) -> str:
    parts = [("overlap", "value"), ("mean within", "mean_within"), ("between", "mean_between")]
    found = [(name, value) for name, key in parts if (value := number(entry.get(key))) is not None]
    return ", ".join(f"{name} {value:.3f}" for name, value in found)
