"""Sections about what κ does: the loss that it leaves at a cosine, and the softmax that it makes of cosines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..figures.class_stems import class_stems
from ..figures.loss_curves import LossCurve, loss_curves
from .reading import Entry, Model, Reading, alike, number, numbers
from .section import Group, Limits, Section, section

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# More models than these are folded away.
_OPEN = 4


def loss_by_cosine(reading: Reading) -> list[Section]:
    """Return T's curve of every cosine head with its own mean loss (T Figure 2)."""
    import numpy

    curves = []
    for model, entry in reading.measured("loss_by_cosine", "edges"):
        lines, bins, edges = alike(entry, "grid", "curve"), alike(entry, "counts", "loss"), numbers(entry["edges"])
        kappa = number(entry.get("kappa"))
        if lines is None or bins is None or kappa is None or edges.shape != (len(bins[0]) + 1,):
            continue
        looked = bins[0] > 0
        if looked.any() and all(numpy.isfinite(each).all() for each in (*lines, edges, bins[0], bins[1][looked])):
            curves.append(LossCurve(model.index, model.label, kappa, lines[0], lines[1], edges, bins[0], bins[1]))
    chart = loss_curves(
        "loss-by-cosine",
        "loss by the cosine to the own class",
        curves,
        words="Lines: T Eq. (15) at the κ of each model; marks: its own mean loss, larger where more images lie.",
    )
    return section(
        "loss-by-cosine",
        "Loss by cosine",
        "What does κ ask of an image?",
        "With a small κ an image costs something even where its feature lies near the weight of its class, so that "
        "features are drawn together; with a large one the loss vanishes early. The lines take the cosines to all "
        "other classes for zero: marks above them say that some other class is nearer than that.",
        groups=[Group("", (chart,), "wide", reading.models)],
        conventions=reading.conventions("loss_by_cosine"),
    )


def sparse_softmax(reading: Reading, limits: Limits) -> list[Section]:
    """Return cosines and softmax of the image with the largest κ* of each model (TS Figure 5)."""
    import numpy

    groups: list[Group] = []
    left_out = []
    for model, entry in reading.measured("sparse_softmax", "cosines"):
        pair = alike(entry, "cosines", "probabilities")
        winners = _winners(entry, 0 if pair is None else len(pair[0]))
        kappa = number(entry.get("value"))
        if pair is None or winners is None or kappa is None or not all(numpy.isfinite(each).all() for each in pair):
            continue
        if len(groups) == limits.own:
            left_out.append(model.label)
            continue
        groups.append(_pair(reading, model, entry, pair, winners, kappa, folded=len(groups) >= _OPEN))
    return section(
        "sparse-softmax",
        "Sparse softmax",
        "What does the largest κ* make of the cosines?",
        "The image with the largest κ* of each model, a stem a class. Left: the cosines between its feature and the "
        "weights; early in training they are small, and it takes a large κ* to make a sparse softmax of them. Right: "
        "that softmax. Rings: the fewest classes that hold nine tenths of it.",
        groups=groups,
        conventions=reading.conventions("sparse_softmax"),
        left_out=left_out,
    )


def _pair(
    reading: Reading,
    model: Model,
    entry: Entry,
    pair: Sequence[NDArray[numpy.float64]],
    winners: Sequence[int],
    kappa: float,
    *,
    folded: bool,
) -> Group:
    cosines, probabilities = pair
    held = float(probabilities[list(winners)].sum())
    share = (
        f"{len(winners)} of {len(cosines):,} classes hold{'s' * (len(winners) == 1)} {100 * held:.3g} % of the softmax"
    )
    own = number(entry.get("label"))
    truth = f"; its class: {_class(reading, int(own))}" if own is not None else ""
    asked = number(entry.get("model_kappa"))
    rule = f" TS Eq. (29) would ask for κ = {asked:.3g} with as many classes at the largest cosine." if asked else ""
    first = ", ".join(_class(reading, each) for each in winners[:5]) + (" …" if len(winners) > 5 else "")
    panels = (
        class_stems(
            f"sparse-cosines-{model.index}",
            model.index,
            "cosines",
            cosines,
            winners,
            reading.class_names,
            label="cosine",
            said=f"{model.label}: from {cosines.min():.3g} to {cosines.max():.3g}. Ringed: {first}",
            words=f"Largest {cosines.max():.3g}{truth}.",
        ),
        class_stems(
            f"sparse-softmax-{model.index}",
            model.index,
            f"softmax at κ* = {kappa:.4g}",
            100 * probabilities,
            winners,
            reading.class_names,
            label="%",
            said=f"{model.label}: {share}: {first}",
            words=f"{share}.{rule}",
        ),
    )
    return Group(model.label, panels, "natural strip", folded=folded)


def _class(reading: Reading, place: int) -> str:
    return reading.class_names[place] if 0 <= place < len(reading.class_names) else str(place)


def _winners(entry: Entry, classes: int) -> list[int] | None:
    """Return the places of the classes to ring; None where they are no places."""
    found = numbers(entry.get("winners") or ())
    sound = found.ndim == 1 and len(found) and ((found >= 0) & (found < classes)).all()
    return [int(each) for each in found] if sound else None
