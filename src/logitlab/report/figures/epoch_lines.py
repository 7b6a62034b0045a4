"""A measure through the epochs: a line a head for the mean over seeds, thin lines for the seeds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from .canvas import DASHES, MARKERS, new_axes, series_colour, to_svg
from .model_lines import power
from .panel import Panel

History = Sequence[Mapping[str, Any]]
#: Epoch → value, of one seed.
EpochLine = Mapping[int, float]


def epoch_lines(
    name: str,
    title: str,
    lines: Mapping[int, Sequence[EpochLine]],
    *,
    logarithmic: bool = False,
    size: tuple[float, float] = (420, 260),
    words: str = "",
    said: str = "",
) -> Panel:
    """Draw one measure.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        lines: a head's place, which gives it its colour → one line a seed; some line is not empty.
        logarithmic: whether the vertical axis is; every value is then positive.
        size: width and height in pixels.
        words: below the picture.
        said: what a screen reader says after the title.
    """
    figure, axes = new_axes(*size, left=50)
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
            mean_line(head),
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            # Seven heads with their markers at the same epochs would hide each other.
            markevery=(index % max(1, len(epochs) // 6), max(1, len(epochs) // 6)),
            **style,
        )
    if logarithmic:
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
    description = f"{title}, {through}." + (f" {said}" if said else "")
    return Panel(title, to_svg(figure, name, description), words)


def mean_line(head: Sequence[EpochLine]) -> list[float]:
    """Return the mean over seeds at the epochs that all of them have, in their order.

    Args:
        head: one line a seed, at least one.

    >>> mean_line([{1: 2.0, 2: 4.0}, {1: 4.0}])
    [3.0]
    """
    epochs = sorted(set.intersection(*(set(line) for line in head)))
    return [sum(line[epoch] for line in head) / len(head) for epoch in epochs]


def epoch_line(history: History, key: str, factor: float = 1.0, shift: float = 0.0) -> dict[int, float]:
    """Return epoch → shift + factor * value; epochs without the measure are left out.

    Args:
        history: of one trial.
        key: of the measure.
        factor: 100 for per cent.
        shift: added to it.

    >>> epoch_line([{"epoch": 1, "accuracy": 0.75}, {"epoch": 2, "accuracy": None}], "accuracy", -100, 100)
    {1: 25.0}
    """
    found = {}
    for position, epoch in enumerate(history, start=1):
        value = epoch.get(key)
        if isinstance(value, (int, float)) and numpy.isfinite(value):
            found[int(epoch.get("epoch", position))] = shift + factor * float(value)
    return found


def _plain_numbers(axes: Any) -> None:
    """Label a logarithmic axis with 0.2 and 3, never with 10^0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    wide = high / low > 30
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not any(low <= tick <= high for tick in axes.get_yticks()):
            axes.set_yscale("linear")
