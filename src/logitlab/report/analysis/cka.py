"""The sections about CKA: layers against layers, corresponding layers, models against models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..figures.canvas import COLOURS
from ..figures.heat_map import heat_map
from ..figures.model_lines import Axis, Line, model_lines, thinned
from ..figures.panel import Panel
from .reading import Entry, Model, Reading, conventions_of, numbers
from .representations import first_and_last
from .section import Group, Limits, Section, section

_OPEN_PAIRS = 4
_OPEN_CONTROLS = 2
_OPEN_LAYERS = 6
_STRIP = "natural strip"


def cka(reading: Reading, limits: Limits) -> list[Section]:
    """Return the matrices of layers × layers, and the similarity of corresponding layers."""
    found = [each for each in reading.analysis.between.get("cka") or () if _is_matrix(each)]
    # As W Figure 3a: first pairs of networks, then the control, and only then all the rest.
    other = [each for each in found if each["first"] != each["second"] and not _is_control(each)]
    front = [*other[:_OPEN_PAIRS], *[each for each in found if _is_control(each)][:_OPEN_CONTROLS]]
    front = front or found[:1]
    rest = [each for each in found if each not in front][: max(limits.matrices - len(front), 0)]
    beyond = len(found) - len(front) - len(rest)
    # What stands open is drawn first: of the control there must be a line.
    lines = _diagonals([*front, *(each for each in other if each not in front)])
    across = _models_by_layer(reading, found, most=_OPEN_LAYERS if limits.scores else 1)
    return section(
        "cka",
        "CKA",
        "How alike are the layers?",
        "Linear CKA: 1 where two layers hold the same up to rotation and scale, 0 where they share nothing; the "
        "stronger the colour, the more alike. “Control”: weights as initialised, so what an untrained network "
        "would give.",
        groups=[
            *lines,
            Group("Models against models, layer by layer", tuple(across), _STRIP),
            Group("Layers against layers", tuple(_matrix(f"cka-{n}", each) for n, each in enumerate(front)), _STRIP),
            Group(
                f"{len(rest)} more matrices",
                tuple(_matrix(f"cka-more-{n}", each) for n, each in enumerate(rest)),
                _STRIP,
                folded=True,
                note=f"{beyond} more stand in analysis.json alone." if beyond > 0 else "",
            ),
        ],
        conventions=conventions_of("CKA", found),
    )


def _is_control(each: Entry) -> bool:
    return str(each["second"]).endswith("(control)")


def _matrix(name: str, each: Entry) -> Panel:
    return heat_map(
        name,
        _pair_title(each),
        each["rows"],
        each["columns"],
        numbers(each["value"]),
        low=0,
        high=1,
        write=_two_digits,
        row_label=str(each["first"]),
        column_label=str(each["second"]),
    )


def _is_matrix(each: Any) -> bool:
    if not isinstance(each, Mapping) or not all(each.get(key) for key in ("first", "second", "rows", "columns")):
        return False
    return numbers(each.get("value")).shape == (len(each["rows"]), len(each["columns"]))


def _pair_title(each: Entry) -> str:
    first, second = str(each["first"]), str(each["second"])
    return f"{first}, with itself" if first == second else f"{first} and {second}"


def _diagonals(found: Sequence[Entry]) -> list[Group]:
    """Return one chart a list of layers, a line a pair of two networks that have these layers."""
    import numpy

    together: dict[tuple[str, ...], list[Entry]] = {}
    for each in found:
        if each["first"] != each["second"] and list(each["rows"]) == list(each["columns"]) and len(each["rows"]) > 1:
            together.setdefault(tuple(map(str, each["rows"])), []).append(each)
    groups = []
    for place, (layers, pairs) in enumerate(together.items()):
        # More lines than marks and dashes could not be told apart.
        shown = [Model(number, _pair_title(each), "", None) for number, each in enumerate(pairs[:COLOURS])]
        lines = [
            Line(
                pair.index,
                pair.label,
                numpy.arange(float(len(layers))),
                numpy.diagonal(numbers(each["value"])).copy(),
            )
            for pair, each in zip(shown, pairs)
        ]
        chart = model_lines(
            f"cka-line-{place}",
            "CKA of corresponding layers",
            lines,
            Axis(""),
            Axis("CKA", limits=(0, 1.02)),
            layers=layers,
            marked=True,
            said=first_and_last(lines),
        )
        some = f"The first {len(shown)} of {len(pairs)} pairs; here" if len(pairs) > len(shown) else "Here"
        note = f"{some} a colour is a pair of models, not a model."
        groups.append(Group("Corresponding layers", (chart,), "wide", tuple(shown), note=note))
    return groups


def _models_by_layer(reading: Reading, found: Sequence[Entry], *, most: int) -> list[Panel]:
    """Return CKA of models against models at each layer that three or more share, as W Figure 3b; the last at least.

    Where models of one seed were compared with those of another alone, the ones are the rows, the others the columns.
    """
    import numpy

    labels = [model.label for model in reading.models]
    together: dict[tuple[str, ...], numpy.ndarray] = {}
    for each in found:
        layers = tuple(map(str, each["rows"]))
        if each["first"] in labels and each["second"] in labels and list(each["rows"]) == list(each["columns"]):
            row, column = labels.index(each["first"]), labels.index(each["second"])
            matrices = together.setdefault(layers, numpy.full((len(layers), len(labels), len(labels)), numpy.nan))
            matrices[:, row, column] = matrices[:, column, row] = numpy.diagonal(numbers(each["value"]))
    panels = []
    for place, (layers, matrices) in enumerate(together.items()):
        known = numpy.isfinite(matrices[-1])
        used = [model for model in range(len(labels)) if numpy.delete(known[model], model).any()]
        if len(used) < 3:
            continue
        pairs = [each for each in found if each["first"] in labels and each["second"] in labels]
        firsts = [model for model in used if any(each["first"] == labels[model] for each in pairs)]
        seconds = [model for model in used if any(each["second"] == labels[model] for each in pairs)]
        apart = not set(firsts) & set(seconds)
        down, across = (firsts, seconds) if apart else (used, used)
        panels += [
            heat_map(
                f"cka-layer-{place}-{layer}",
                layers[layer],
                [labels[model] for model in down],
                [labels[model] for model in across],
                matrices[layer][numpy.ix_(down, across)],
                low=0,
                high=1,
                write=_two_digits,
                words="On the diagonal: models that differ in their seed alone." if apart else "",
            )
            for layer in (thinned(len(layers), most) if most > 1 else [len(layers) - 1])
        ]
    return panels


def _two_digits(value: float) -> str:
    """Write a similarity in three letters.

    >>> _two_digits(0.934), _two_digits(1.0), _two_digits(-0.004)
    ('.93', '1', '0')
    """
    text = f"{value:.2f}".replace("0.", ".", 1)
    return {"1.00": "1", ".00": "0", "-.00": "0"}.get(text, text)
