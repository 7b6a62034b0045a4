"""Accuracy, loss and κ* through the epochs: a line a head for the mean, thin lines for its seeds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from .canvas import DASHES, MARKERS, new_axes, series_colour, to_svg
from .panel import Panel

History = Sequence[Mapping[str, Any]]

# key of an epoch, heading, factor, logarithmic
_MEASURES = (
    ("validation_accuracy", "accuracy on the validation images, %", 100.0, False),
    ("loss", "loss on the training images", 1.0, True),
    ("validation_loss", "loss on the validation images", 1.0, True),
    ("kappa_star", "κ* on the validation images", 1.0, False),
)


def learning_curves(histories: Mapping[int, Sequence[History]]) -> list[Panel]:
    """Draw every measure of the history.

    Args:
        histories: a head's place → one history a finished seed.

    Returns:
        one panel a measure; words in place of a picture where no epoch has it.
    """
    return [_curves(histories, *measure) for measure in _MEASURES]


def _curves(
    histories: Mapping[int, Sequence[History]], key: str, title: str, factor: float, logarithmic: bool
) -> Panel:
    lines = {
        index: [line for history in seeds if (line := _line(history, key, factor))]
        for index, seeds in histories.items()
    }
    if not any(lines.values()):
        return Panel(title, words="The records hold no such history.")
    positive = all(value > 0 for head in lines.values() for line in head for value in line.values())
    figure, axes = new_axes(420, 260, left=50)
    for index, head in lines.items():
        if not head:
            continue
        # Where one seed has stopped, a mean over the others would rise or fall without any of them doing so.
        epochs = sorted(set.intersection(*(set(line) for line in head)))
        style: dict[str, Any] = {"color": series_colour(index), "gid": f"series-{index}"}
        if len(head) > 1:
            for line in head:
                axes.plot(list(line), list(line.values()), linewidth=0.7, alpha=0.4, **style)
        if not epochs:
            continue
        axes.plot(
            epochs,
            [sum(line[epoch] for line in head) / len(head) for epoch in epochs],
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            # Seven heads with their markers at the same epochs would hide each other.
            markevery=(index % max(1, len(epochs) // 6), max(1, len(epochs) // 6)),
            **style,
        )
    if logarithmic and positive:
        axes.set_yscale("log")
        _plain_numbers(axes)
    axes.set_xlabel("epoch")
    longest = max(max(line) for head in lines.values() for line in head)
    # One epoch alone stands in the middle, for its axis has no length of its own.
    margin = 0.02 * longest if longest > 1 else 1
    axes.set_xlim(left=1 - margin, right=longest + margin)
    if longest > 1:
        axes.locator_params(axis="x", integer=True, nbins=8)
    else:
        axes.set_xticks([1])
    through = f"through {longest} epochs" if longest > 1 else "after one epoch"
    return Panel(title, to_svg(figure, f"curve-{key.replace('_', '-')}", f"{title}, {through}."))


def _line(history: History, key: str, factor: float) -> dict[int, float]:
    """Epoch → value; epochs without the measure are left out."""
    found = {}
    for position, epoch in enumerate(history, start=1):
        value = epoch.get(key)
        if isinstance(value, (int, float)) and numpy.isfinite(value):
            found[int(epoch.get("epoch", position))] = factor * float(value)
    return found


def _plain_numbers(axes: Any) -> None:
    """Label a logarithmic axis with 0.2 and 3, never with 10^0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    wide = high / low > 30
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not any(low <= tick <= high for tick in axes.get_yticks()):
            axes.set_yscale("linear")
