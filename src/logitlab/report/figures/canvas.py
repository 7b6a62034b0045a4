"""A matplotlib figure as inline SVG whose colours and fonts are the page's own, so that it follows dark mode.

matplotlib knows colours as numbers only. Figures are therefore drawn in stand-ins (:func:`series_colour`, ``INK``, …),
and :func:`to_svg` writes the page's CSS variables in their place.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from logitlab.config.names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010101"
MUTED = "#020202"
GRID = "#030303"
PAPER = "#040404"
KNOWN = "#050505"
STRANGE = ("#060601", "#060602", "#060603", "#060604")

#: Told apart by shape and dash as well: colour alone serves nobody in eight men in a hundred.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (8, 2)),
    (0, (3, 1.5)),
    (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)),
)
COLOURS = len(MARKERS)
#: Classes of a map have more colours than heads: the digits are ten.
CLASS_COLOURS = 10

_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    KNOWN: "var(--known)",
    **{stand_in: f"var(--strange-{index})" for index, stand_in in enumerate(STRANGE)},
    **{f"#0701{index:02x}": f"var(--series-{index})" for index in range(COLOURS)},
    **{f"#0702{index:02x}": f"var(--class-{index})" for index in range(CLASS_COLOURS)},
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_STYLE = {
    # Text stays text: it is searched, copied, read aloud, and takes the page's font.
    "svg.fonttype": "none",
    # Names of clip paths and markers are hashes; a fixed salt gives the same file for the same records.
    "svg.hashsalt": "logitlab",
    # A class called "$x$" is no formula.
    "text.parse_math": False,
    "font.size": 11.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
}
_DECIMALS = re.compile(r"(\.\d\d)\d+")
# A line of no length: the dot of a map of thousands.
_DOT = re.compile(r"M (\S+ \S+) L \1(?: |$)")


def series_colour(index: int) -> str:
    """Return the stand-in for the colour of the head ``index``; colours come round again after ``COLOURS`` heads."""
    return f"#0701{index % COLOURS:02x}"


def class_colour(index: int) -> str:
    """Return the stand-in for the colour of the class ``index``; they come round again after ``CLASS_COLOURS``."""
    return f"#0702{index % CLASS_COLOURS:02x}"


def new_axes(
    width: float,
    height: float,
    *,
    left: float = 46,
    right: float = 12,
    top: float = 10,
    bottom: float = 38,
) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes, every length in CSS pixels.

    Fixed margins cost nothing; matplotlib's own layout takes longer than the drawing.

    Args:
        width: of the figure.
        height: of the figure.
        left: margin for the labels of the vertical axis.
        right: margin.
        top: margin.
        bottom: margin for the labels of the horizontal axis.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # its stubs list the keys one by one
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes(
            (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        )
    # The page is the paper.
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Write a figure as an ``<svg>`` element that can stand in any page.

    Args:
        figure: made by :func:`new_axes`, coloured by stand-ins.
        name: unique in the page; it begins every identifier inside, so that figures never share one.
        description: what a screen reader says.
    """
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # The reader's font has the letters that matplotlib's own, which only measures here, may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(written.getvalue())
    _clean(root, name)
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": plain(description),
    }
    # ElementTree escapes every text and attribute.
    return Markup(ElementTree.tostring(root, encoding="unicode", method="html"))


def plain(text: str) -> str:
    r"""Make a name printable in XML: control characters and halves of surrogate pairs have no place there.

    >>> plain("caf\udce9\x00\tx")
    'caf\\xe9� x'
    """
    whole = " ".join(printable(text).split()) if text.strip() else text
    return "".join("�" if unicodedata.category(letter) in ("Cc", "Cs", "Cn") else letter for letter in whole)


def shorten(text: str, length: int) -> str:
    """Cut the middle out of a long name: names of classes and heads differ at both ends.

    >>> shorten("squared_error:kappa=9,target=60", 16)
    'squared_…rget=60'
    """
    text = plain(text)
    if len(text) <= length:
        return text
    return f"{text[: length - length // 2]}…{text[len(text) - length // 2 + 1 :]}"


def _clean(root: ElementTree.Element, name: str) -> None:
    """Keep what is drawn: no metadata, no name spaces, no styles for the whole page, no identifier without a use."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    used = {value for element in root.iter() for value in _references(element)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        kept: dict[str, str] = {}
        for key, value in element.attrib.items():
            if key == "id":
                if value.startswith("series-"):
                    # Lines of one head, wherever they are drawn: the legend finds them by it.
                    kept["class"] = value
                elif value in used:
                    kept["id"] = f"{name}-{value}"
            elif key == _HREF:
                kept["href"] = f"#{name}-{value[1:]}" if value.startswith("#") else "".join(value.split())
            elif key == "style":
                kept["style"] = _style(value)
            elif key == "clip-path":
                kept[key] = value.replace("url(#", f"url(#{name}-")
            elif key in ("d", "x", "y", "transform", "width", "height"):
                short = _DECIMALS.sub(r"\1", " ".join(value.split()))
                kept[key] = _DOT.sub(r"M\1h0", short) if key == "d" else short
            else:
                kept[key] = value
        element.attrib = kept
        if element.tag != "text":
            element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
    _drop_empty(root)


def _drop_empty(parent: ElementTree.Element) -> None:
    for child in list(parent):
        _drop_empty(child)
        if child.tag in ("g", "defs") and len(child) == 0:
            parent.remove(child)


def _references(element: ElementTree.Element) -> list[str]:
    found = re.findall(r"url\(#([^)]+)\)", element.get("clip-path", ""))
    href = element.get(_HREF, "")
    return [*found, href[1:]] if href.startswith("#") else found


def _style(value: str) -> str:
    """Replace stand-ins by the page's variables, and leave the font to the page."""
    kept = []
    for declaration in value.split(";"):
        key, _, setting = declaration.strip().partition(": ")
        if setting and key not in ("font-family", "stroke-linejoin"):
            kept.append(f"{key}:{_VARIABLES.get(setting, setting)}")
    return ";".join(kept)
