"""The pictures of a page, drawn once and no more of them than the page can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from . import sections
from .artefacts import HeadArtefacts
from .figures import Panel
from .multiples import OwnPictures, own_pictures, side_by_side, strange_names


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


#: Pictures of all heads together: a dot a seed, learning curves, accuracy class by class.
SHARED: Final = ("dots", "curves", "classes")

_Part = TypeVar("_Part", bound=_Sized)


class Album:
    """Draws what a page asks for; a picture that was drawn for a larger page is kept for a smaller one.

    Args:
        heads: all heads of the page.
        names: of the classes.
    """

    def __init__(self, heads: Sequence[HeadArtefacts], names: Sequence[str]) -> None:
        self._heads = heads
        self._trained = [head for head in heads if head.seeds]
        self._names = names
        self._strange = strange_names(self._trained)
        self._own: list[OwnPictures] = []
        self._shared: dict[str, Any] = {}

    def page(
        self, thumbnails: int, side: int, number: int, room: int, *, shared: Sequence[str]
    ) -> dict[str, Any] | None:
        """Return the variables of the template that are pictures.

        Args:
            thumbnails: of each kind, for each head with pictures of its own.
            side: of a thumbnail, in pixels.
            number: how many heads have pictures of their own.
            room: bytes that the page has; where the pictures alone need more, drawing stops early.
            shared: which pictures are there that show all heads, of ``SHARED``.

        Returns:
            None where the pictures cannot fit.
        """
        shown = self._trained[:number]
        together = {kind: self._together(kind) if kind in shared else () for kind in SHARED}
        left = room - _size(together)
        own = self._fill(self._own, shown, left, lambda head: own_pictures(head, self._names, self._strange))
        if own is None:
            return None
        examples = self._fill(
            [],
            shown if thumbnails else [],
            left - sum(each.size for each in own),
            lambda head: sections.examples(head, self._names, thumbnails, side),
        )
        if examples is None:
            return None
        return {
            **together,
            **side_by_side(own, self._strange),
            "examples": examples,
            "shared": bool(shared),
            "left_out": [head.label for head in self._trained[number:]],
        }

    def _together(self, kind: str) -> Any:
        if kind not in self._shared:
            draw: dict[str, Callable[[], Any]] = {
                "dots": lambda: sections.dots(self._trained),
                "curves": lambda: sections.curves(self._heads),
                "classes": lambda: sections.classes(self._trained, self._names),
            }
            self._shared[kind] = draw[kind]()
        return self._shared[kind]

    def _fill(
        self, done: list[_Part], heads: Sequence[HeadArtefacts], room: int, draw: Callable[[HeadArtefacts], _Part]
    ) -> list[_Part] | None:
        """Return a part a head, of which the first are done; None as soon as they take more than ``room``."""
        if room < 0:
            return None
        taken = 0
        for place, head in enumerate(heads):
            if place == len(done):
                done.append(draw(head))
            taken += done[place].size
            if taken > room:
                return None
        return done[: len(heads)]


def _size(together: dict[str, Any]) -> int:
    panels: list[Panel] = [*together["dots"], *together["curves"]]
    if together["classes"]:
        panels.append(together["classes"]["panel"])
    return sum(panel.size for panel in panels)
