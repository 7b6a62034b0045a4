"""The worst mistakes and the least confident images of one seed, as small pictures inside the page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

WORST_MISTAKES = 0
LEAST_CONFIDENT = 1


@dataclass(frozen=True)
class Thumbnail:
    """One image with what was said of it.

    Attributes:
        source: a ``data:`` address.
        true: name of its class.
        predicted: name of the class that the head chose.
        wrong: whether they differ.
        score: the confidence as a text, or the largest logit where there is no confidence.
        index: its place among the test images.
        coarse: few pixels, to be enlarged without smoothing.
    """

    source: str
    true: str
    predicted: str
    wrong: bool
    score: str
    index: int
    coarse: bool


def thumbnails(
    outputs: Mapping[str, numpy.ndarray], kind: int, names: Sequence[str], *, number: int, side: int
) -> list[Thumbnail]:
    """Return the examples of one kind.

    Args:
        outputs: of one trial.
        kind: ``WORST_MISTAKES`` or ``LEAST_CONFIDENT``.
        names: of the classes.
        number: at most this many.
        side: pixels that no side exceeds.
    """
    found = []
    chosen = [place for place, each in enumerate(outputs["example_kind"].tolist()) if each == kind][:number]
    total = len(outputs["labels"])
    for place in chosen:
        index = int(outputs["example_index"][place])
        if not 0 <= index < total:
            continue
        true, predicted = int(outputs["labels"][index]), int(outputs["predicted"][index])
        confidence = float(outputs["confidence"][index])
        score = f"{confidence:.0%}" if math.isfinite(confidence) else f"max logit {outputs['max_logit'][index]:.2f}"
        source, coarse = _png(outputs["example_pixels"][place], side)
        found.append(Thumbnail(source, names[true], names[predicted], true != predicted, score, index, coarse))
    return found


def _png(pixels: numpy.ndarray, side: int) -> tuple[str, bool]:
    """Write ``[channels, height, width]`` as a PNG; more than three channels show their first three."""
    import numpy
    from PIL import Image

    plane = pixels[0] if len(pixels) < 3 else numpy.moveaxis(pixels[:3], 0, -1)
    image = Image.fromarray(numpy.ascontiguousarray(plane))
    if max(image.size) > side:
        image.thumbnail((side, side))
    written = io.BytesIO()
    image.save(written, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}", max(image.size) < 48
