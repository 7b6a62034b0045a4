"""A dendrogram: which models answer alike, joined from the most alike to the least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
from numpy.typing import NDArray

from .canvas import INK, MARKERS, new_axes, plain, series_colour, shorten, to_svg
from .panel import Panel

_ROW = 24.0
_LABEL = 30


def dendrogram(
    name: str,
    title: str,
    names: Sequence[str],
    linkage: NDArray[numpy.float64],
    places: Mapping[str, int],
    *,
    axis: str,
    words: str = "",
) -> Panel:
    """Draw the tree of a hierarchical clustering, leaves on the left.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        names: the models ``[M]``, as the clustering numbers them.
        linkage: of SciPy ``[M - 1, 4]``.
        places: a model's name → its place, which gives it its mark; a name that is missing has none.
        axis: what the horizontal axis is.
        words: below the picture.
    """
    from scipy.cluster.hierarchy import dendrogram as coordinates
    from scipy.cluster.hierarchy import is_valid_linkage

    # SciPy does not look whether the groups that are joined exist.
    if (
        linkage.shape != (len(names) - 1, 4)
        or not is_valid_linkage(linkage)
        or (linkage[:, :2] >= len(names) + numpy.arange(len(linkage))[:, None]).any()
    ):
        return Panel(title, words="The clustering that was kept is no tree of these models.")
    tree = coordinates(linkage, no_plot=True)
    leaves = [names[place] for place in tree["leaves"]]
    written = [shorten(each, _LABEL) for each in leaves]
    left = 26 + 6.2 * max(len(each) for each in written)
    figure, axes = new_axes(250 + left, 50 + _ROW * len(names), left=left, right=14, top=8, bottom=38)
    for high, far in zip(tree["icoord"], tree["dcoord"]):
        # SciPy puts the leaves at 5, 15, 25, …
        axes.plot(far, (numpy.asarray(high) - 5) / 10, color=INK, linewidth=1.3, solid_capstyle="projecting")
    for row, each in enumerate(leaves):
        if each in places:
            index = places[each]
            axes.plot(
                [0],
                [row],
                marker=MARKERS[index % len(MARKERS)],
                markersize=7,
                color=series_colour(index),
                clip_on=False,
                zorder=3,
            )
    longest = float(linkage[:, 2].max())
    axes.set_xlim(0, 1.06 * longest if longest > 0 else 1.0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), written)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis)
    said = f"{title}. From top to bottom: {', '.join(plain(each) for each in leaves)}. {_joins(names, linkage)}"
    return Panel(title, to_svg(figure, name, said), words)


def _joins(names: Sequence[str], linkage: NDArray[numpy.float64]) -> str:
    """Say which models are joined first, and how far apart the last two groups are."""
    first, last = linkage[0], linkage[-1]
    one, other = (plain(names[int(place)]) for place in first[:2])
    return f"{one} and {other} join first, at {first[2]:.3g}; all are one group at {last[2]:.3g}."
