"""One small picture of many: what a figure gives to the page."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Panel:
    """A picture with its heading, or the reason why there is none.

    Attributes:
        title: what stands above it.
        svg: the picture; None where there is nothing to draw.
        words: a sentence below the picture, or in its place.
        series: the head that it shows, for the swatch beside the heading; None where it shows all.
    """

    title: str
    svg: Markup | None = None
    words: str = ""
    series: int | None = None

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page it takes."""
        return len(self.svg or "") + len(self.words)
