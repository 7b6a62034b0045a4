"""The picture of docs/scale.md: an estimated step and its parts against the number of ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib

from .roofline import Times, times
from .setting import Machine, Setting
from .tables import power

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

ROWS = 128
RANKS = [2**exponent for exponent in range(3, 11)]
COLOURS = {
    "products": "#0072b2",
    "kernels": "#56b4e9",
    "sums": "#009e73",
    "weight": "#999999",
    "network": "#d55e00",
    "latency": "#e69f00",
}


def draw(base: Setting, machine: Machine, path: Path) -> None:
    """Two rows of two panels: fixed κ and least squares, 10 and 1 million classes."""
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True, layout="constrained")
    for row, classes in zip(panels, (10**7, 10**6)):
        for axes, searched in zip(row, (False, True)):
            here = replace(base, rows=ROWS, classes=classes, least_squares=searched)
            _draw_panel(axes, here, machine)
        top = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(0, top)
        row[0].set_ylabel("ms a step (estimate)")
    for axes in panels[1]:
        axes.set_xlabel("ranks")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_panel(axes: Axes, setting: Setting, machine: Machine) -> None:
    places = range(len(RANKS))
    found = [times(replace(setting, ranks=ranks), machine) for ranks in RANKS]
    below = [0.0] * len(RANKS)
    for name in Times._fields:
        heights = [1e3 * getattr(each, name) for each in found]
        axes.bar(places, heights, bottom=below, color=COLOURS[name], label=name, width=0.75)
        below = [low + height for low, height in zip(below, heights)]
    fast = [1e3 * times(replace(setting, ranks=ranks), replace(machine, rails=True)).total for ranks in RANKS]
    axes.plot(places, fast, "k_", markersize=22, markeredgewidth=1.5, label="step, 8 cards a ring")
    axes.set_xticks(places, [str(ranks) for ranks in RANKS])
    name = "least squares" if setting.least_squares else "fixed κ"
    axes.set_title(f"{name}, C = {power(setting.classes)}, {ROWS} samples a rank", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
