"""Sections about directions: the specialise–generalise card, angles to the class weights, hardness."""

from __future__ import annotations

from ..figures.card import Dot, card
from ..figures.model_lines import Axis, Line, model_lines
from ..figures.pairs_of_densities import Pair, pair_of_densities, reach
from .reading import Reading, alike, numbers
from .section import Group, Limits, Section, section
from .tables import CARD


def cards(reading: Reading) -> list[Section]:
    """Return the card: what features give up for the classes, what they keep, what that is good for."""
    panels = []
    for scalar in CARD:
        dots = [
            Dot(model.index, model.label, model.head.partition(":")[0], model.kappa, scalar.read(reading, model))
            for model in reading.models
        ]
        if any(dot.value is not None for dot in dots):
            panels.append(card(f"card-{scalar.column.key.replace('_', '-')}", scalar.column, dots))
    over_kappa = len({model.kappa for model in reading.models if model.kappa is not None}) > 1
    how = (
        "Each over κ; a line joins models of one head by their means, and heads without κ stand in the strip on the "
        "right."
        if over_kappa
        else "A row a model."
    )
    return section(
        "card",
        "Specialise or generalise",
        "Does it specialise or generalise?",
        "A large R² with a small rank and span angle: the features hold the classes and little else, which serves "
        f"these classes and costs other tasks. {how}",
        groups=[Group("", tuple(panels), "middle", reading.models if over_kappa else ())],
        conventions=reading.conventions("separation", "rank", "span_angle"),
    )


def angles(reading: Reading, limits: Limits) -> list[Section]:
    """Return the angle to the own class weight and to the nearest other."""
    found = []
    for model, entry in reading.measured("angle_histogram", "edges"):
        arrays = alike(entry, "own", "other")
        edges = numbers(entry["edges"])
        if arrays is not None and edges.shape == (len(arrays[0]) + 1,) and (arrays[0] > 0).any():
            own, other = (100 * counts / max(float(counts.sum()), 1.0) for counts in arrays)
            found.append((model, Pair(edges, own, other)))
    ends = reach([pair for _, pair in found])
    panels = []
    for model, pair in found[: limits.own]:
        mean = reading.number(model, "angle_histogram", "value")
        words = "" if mean is None else f"mean angle to the own weight {mean:.1f}°"
        panels.append(
            pair_of_densities(
                f"angles-{model.index}",
                model.index,
                model.label,
                pair,
                x_label="angle, degrees",
                y_label="% of the images",
                said=f"Angles to the own class weight and to the nearest other. {words}",
                words=words,
                limits=ends,
            )
        )
    return section(
        "angles",
        "Angles",
        "How near do features point to their class?",
        "Filled: angle between a feature and the weight of its own class; dashed: the weight of the nearest other "
        "class. The farther apart the two lie, the larger the margin by which images are told apart.",
        groups=[Group("", tuple(panels), "strip")],
        conventions=reading.conventions("angle_histogram", "class_angle"),
        left_out=[model.label for model, _ in found[limits.own :]],
    )


def hardness(reading: Reading) -> list[Section]:
    """Return the density of angular visual hardness."""
    lines = []
    for model, entry in reading.measured("hardness", "grid"):
        arrays = alike(entry, "grid", "density")
        if arrays is not None:
            lines.append(Line(model.index, model.label, *arrays))
    chart = model_lines(
        "hardness",
        "density of angular visual hardness",
        lines,
        Axis("angular visual hardness"),
        Axis("density", limits=(0, None)),
    )
    return section(
        "hardness",
        "Hardness",
        "How hard are the images?",
        "Angular visual hardness: the angle to the own class weight, divided by the sum of the angles to all; small "
        "for an image that is easy, 1/C for one that points nowhere.",
        groups=[Group("", (chart,), "wide", reading.models)],
        conventions=reading.conventions("hardness"),
    )
