"""From entries and grids to the rows of the table."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from .definition import EntryConfig, seed_numbers
from .search import SearchConfig

# Of a format: more characters, or digits, than a label can have.
_WIDE = re.compile(r"\d{3,}")


@dataclass(frozen=True)
class RowSpecification:
    """A row of the table before anything is known of its trials.

    Attributes:
        label: what the table calls it; no two rows share one.
        entry: the entry that makes it.
        entry_label: what the entry is called.
        shared: axis → value, of the grid of the whole study.
        own: axis → value, of the grid of the entry.
        seeds: of its final trials.
        search: how its hyperparameters are found; None for none.
    """

    label: str
    entry: EntryConfig
    entry_label: str
    shared: Mapping[str, Any]
    own: Mapping[str, Any]
    seeds: tuple[int, ...]
    search: SearchConfig | None
    place: int = field(default=0, compare=False)

    @property
    def axes(self) -> dict[str, Any]:
        """Axis → value, those of the study and of the entry."""
        return {**self.shared, **self.own}


def unfold(
    entries: Sequence[EntryConfig],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | tuple[int, ...],
    search: SearchConfig | None,
) -> tuple[RowSpecification, ...]:
    """Lay out the rows: the grid of the study outside, the entries in their order, the grid of each inside.

    Args:
        entries: of the study.
        grid: axis → values, of the whole study.
        seeds: of entries that have none of their own.
        search: of entries that say nothing of one.
    """
    rows: list[RowSpecification] = []
    several = len(combinations(grid)) > 1
    for shared in combinations(grid):
        for place, entry in enumerate(entries):
            # What the entry says itself is not crossed with the study's values.
            here = {axis: value for axis, value in shared.items() if axis not in entry.grid}
            if any(row.place == place and row.shared == here for row in rows):
                continue
            for own in combinations(entry.grid):
                chosen = search if entry.search is None else (entry.search or None)
                numbers = seed_numbers(seeds if entry.seeds is None else entry.seeds)
                base = entry_label(entry)
                label = row_label(base, own, here if several else {}, entry)
                rows.append(RowSpecification(label, entry, base, here, own, numbers, chosen, place))
    return tuple(rows)


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the values of a grid; one empty combination for no grid.

    >>> combinations({"head.kappa": [1, 2], "data": ["a"]})
    [{'head.kappa': 1, 'data': 'a'}, {'head.kappa': 2, 'data': 'a'}]
    """
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def entry_label(entry: EntryConfig) -> str:
    """Return what an entry is called: its label, or its head as it is written."""
    if entry.label is not None:
        return entry.label
    if not entry.parameters:
        return entry.head
    extra = ",".join(f"{key}={value}" for key, value in entry.parameters.items())
    return f"{entry.head}{',' if ':' in entry.head else ':'}{extra}"


def row_label(base: str, own: Mapping[str, Any], shared: Mapping[str, Any], entry: EntryConfig) -> str:
    """Return what a row is called: the label with its axes filled in, or followed by those that it does not name.

    >>> entry = EntryConfig(head="cosine", label="κ = {head.kappa:g}", grid={"head.kappa": (5, 10)})
    >>> row_label("κ = {head.kappa:g}", {"head.kappa": 5}, {"data": "digits"}, entry)
    'κ = 5 [data = digits]'
    """
    # A label that nobody wrote may hold braces of a parameter.
    named = label_axes(base) if entry.label is not None else set()
    values = {**shared, **own}
    text = fill_label(base, values) if named else base
    rest = {axis: value for axis, value in values.items() if axis not in named and len(entry.grid.get(axis, "**")) > 1}
    if not rest:
        return text
    return f"{text} [{', '.join(f'{short(axis)} = {value}' for axis, value in rest.items())}]"


def label_axes(label: str) -> set[str]:
    """Return the axes that a label names in braces; none where its braces cannot be read."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(label) if name}
    except ValueError:
        return set()


def fill_label(label: str, values: Mapping[str, Any]) -> str:
    """Fill the axes in.

    Raises:
        ValueError, KeyError, AttributeError, TypeError: the label names an axis that has no value, or a form that the
            value does not take.
    """
    if any(_WIDE.search(form or "") for _, _, form, _ in string.Formatter().parse(label)):
        raise ValueError("the width of a value must be below 100")
    groups: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for axis, value in values.items():
        group, point, name = axis.partition(".")
        if point:
            groups.setdefault(group, {})[name] = value
        else:
            plain[axis] = value
    spaces = {group: _Named(str(plain.get(group, group)), **names) for group, names in groups.items()}
    return label.format(**{**plain, **spaces})


class _Named(SimpleNamespace):
    """Values of a group of axes; as text the plain axis of the same name."""

    def __init__(self, text: str, **values: Any) -> None:
        super().__init__(**values)
        self._text = text

    def __format__(self, form: str) -> str:
        return format(self._text, form)


def short(axis: str) -> str:
    """Return an axis without its group.

    >>> short("training.learning_rate"), short("data")
    ('learning_rate', 'data')
    """
    return axis.rpartition(".")[2]
