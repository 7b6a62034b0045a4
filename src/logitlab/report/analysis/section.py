"""One section of an analysis: how to read it, its pictures and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..figures import Panel
from .reading import Convention, Model
from .tables import Table


@dataclass(frozen=True)
class Limits:
    """How much is drawn, so that the page can be sent by mail.

    Attributes:
        points: of each map.
        own: how many models have pictures of their own.
        matrices: how many pairs of models have a CKA matrix of their own.
        scores: whether the curves of every confidence score are drawn, or those of the first alone.
    """

    points: int = 2000
    own: int = 24
    matrices: int = 24
    scores: bool = True


@dataclass(frozen=True)
class Group:
    """Pictures side by side.

    Attributes:
        title: above them; empty where the section's heading says enough.
        panels: the pictures.
        kind: how they are laid out, classes of the style sheet.
        legend: the models that can be shown alone in these pictures; empty for none.
        folded: whether the page opens with them hidden.
        note: one sentence above them.
    """

    title: str
    panels: tuple[Panel, ...]
    kind: str = ""
    legend: tuple[Model, ...] = ()
    folded: bool = False
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        key: names it in addresses, small letters.
        short: its name in the list of sections.
        title: its heading.
        lead: one sentence that says how to read it.
        groups: its pictures.
        tables: its tables.
        conventions: name and convention of each of its measures.
        left_out: labels of models that have no picture of their own here.
    """

    key: str
    short: str
    title: str
    lead: str
    groups: tuple[Group, ...] = ()
    tables: tuple[Table, ...] = ()
    conventions: tuple[Convention, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page its pictures take."""
        return sum(panel.size for group in self.groups for panel in group.panels)


def section(
    key: str,
    short: str,
    title: str,
    lead: str,
    *,
    groups: Sequence[Group] = (),
    tables: Sequence[Table] = (),
    conventions: Sequence[Convention] = (),
    left_out: Sequence[str] = (),
) -> list[Section]:
    """Return a section without its empty groups; nothing where nothing is left to show or to say.

    Args:
        key: see :class:`Section`.
        short: likewise.
        title: likewise.
        lead: likewise.
        groups: likewise; those without a picture are dropped.
        tables: likewise.
        conventions: likewise.
        left_out: likewise.
    """
    filled = tuple(group for group in groups if any(panel.svg for panel in group.panels))
    if not filled and not tables and not left_out:
        return []
    return [Section(key, short, title, lead, filled, tuple(tables), tuple(conventions), tuple(left_out))]
