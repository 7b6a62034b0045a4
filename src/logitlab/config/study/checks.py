"""Faults of a study that no single field shows: names that must be known elsewhere in it, and circles."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..names import nearest_name, unknown_name
from ..training import TrainingConfig
from ..trial import DataConfig, canonical_json
from .definition import EntryConfig
from .report import HISTORY_MEASURES
from .rows import RowSpecification, entry_label, fill_label, label_axes, unfold
from .yaml_file import Place

Where = Callable[[Place], str]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_KINDS = {"training": TrainingConfig, "data": DataConfig}


def check_definition(values: Mapping[str, Any], where: Where) -> list[str]:
    """Look at a study whose single fields need not be right; return the faults that lie between them.

    Args:
        values: of the study, with what may be written short written out.
        where: says file and line of a place.
    """
    faults = [*_axes(values, where), *_recipes(values, where), *_texts(values, where), *_histories(values, where)]
    entries = _entries(values)
    for place, entry in entries:
        faults += _label(place, entry, where)
    if any(True for place, entry in entries for _ in _label(place, entry, where)):
        # Labels cannot be filled in, so rows cannot be named.
        labels = {entry_label(entry) for _, entry in entries}
    else:
        # An axis that is wrong is told by itself; the others lay out the rows.
        grid = {
            axis: found
            for axis, found in _mapping(values, "grid").items()
            if isinstance(found, (list, tuple)) and found
        }
        rows = unfold([entry for _, entry in entries], grid, 1, None)
        faults += _duplicates(rows, entries, where)
        labels = {row.label for row in rows} | {row.entry_label for row in rows}
    faults += _dependences(entries, labels, where)
    if len(entries) == len(_list(values, "heads")):
        faults += _mentions(values, labels, where)
    return faults


def _entries(values: Mapping[str, Any]) -> list[tuple[int, EntryConfig]]:
    """The entries that are right by themselves, with their places."""
    found = []
    for place, entry in enumerate(_list(values, "heads")):
        try:
            found.append((place, EntryConfig.model_validate(entry)))
        except ValidationError:
            continue
    return found


def _axes(values: Mapping[str, Any], where: Where) -> Iterator[str]:
    """Axes of grids, searches and dependences: fields that there are, values that differ."""
    for place, grid in _grids(values):
        for axis, given in grid.items():
            here = (*place, axis)
            field = _field(axis)
            if field is None:
                continue
            kind, name = field
            if name not in kind.model_fields:
                nearest = nearest_name(name, kind.model_fields)
                group = axis.split(".")[0]
                yield (
                    f"{where(here)}Unknown axis '{axis}'"
                    + (f"; did you mean '{group}.{nearest}'?" if nearest else f": '{group}' has no such field.")
                )
                continue
            if isinstance(given, (list, tuple)):
                adapter: TypeAdapter[Any] = TypeAdapter(kind.model_fields[name].rebuild_annotation())
                for index, value in enumerate(given):
                    try:
                        adapter.validate_python(value, strict=True)
                    except ValidationError as fault:
                        expected = fault.errors()[0]["msg"].removeprefix("Input ").replace("should", "must", 1)
                        yield f"{where((*here, index))}A value of the axis '{axis}' {expected}. Got {value!r}."
    for place, grid in _grids(values, searched=False):
        for axis, given in grid.items():
            if isinstance(given, (list, tuple)):
                forms = [_form(value) for value in given]
                twice = [value for index, value in enumerate(given) if forms[index] in forms[:index]]
                if twice:
                    yield f"{where((*place, axis))}The axis '{axis}' has the value {twice[0]!r} twice. Give it once."


def _recipes(values: Mapping[str, Any], where: Where) -> Iterator[str]:
    """The recipe of each entry, laid over that of the study."""
    base = _mapping(values, "training")
    for index, entry in enumerate(_list(values, "heads")):
        own = entry.get("training") if isinstance(entry, dict) else None
        if not isinstance(own, dict):
            continue
        try:
            TrainingConfig.model_validate({**without_rival(base, own), **own})
        except ValidationError as fault:
            for error in fault.errors():
                key = str(error["loc"][0]) if error["loc"] else ""
                here: Place = ("heads", index, "training", key)
                name = f"heads[{index}].training.{key}".rstrip(".")
                if error["type"] == "extra_forbidden":
                    if key in own:
                        nearest = nearest_name(key, TrainingConfig.model_fields)
                        yield (
                            f"{where(here)}Unknown option '{name}'"
                            + (f"; did you mean '{nearest}'?" if nearest else ".")
                        )
                elif not key:
                    yield f"{where(here)}'{name}': {error['msg'].removeprefix('Value error, ')}"
                elif key in own:
                    expected = error["msg"].removeprefix("Input ").replace("should", "must", 1)
                    yield f"{where(here)}'{name}' {expected}. Got {own[key]!r}{_quoted(own[key])}"


def without_rival(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of the study's recipe what an entry says in the other of two ways: the decay, or its product form."""
    rivals = {"weight_decay": "scaled_weight_decay", "scaled_weight_decay": "weight_decay"}
    gone = {rivals[key] for key in own if key in rivals and own[key] is not None}
    return {key: value for key, value in base.items() if key not in gone}


def _texts(values: Mapping[str, Any], where: Where) -> Iterator[str]:
    """Numbers that were written as text, where no type says that a number is meant."""
    found: list[tuple[Place, Any]] = []
    for place, grid in _grids(values, searched=False):
        for axis, given in grid.items():
            if axis.startswith(("head.", "backbone.")) and isinstance(given, (list, tuple)):
                found += [((*place, axis, index), value) for index, value in enumerate(given)]
    for index, entry in enumerate(_list(values, "heads")):
        parameters = entry.get("parameters") if isinstance(entry, dict) else None
        if isinstance(parameters, dict):
            found += [(("heads", index, "parameters", key), value) for key, value in parameters.items()]
    for place, value in found:
        name = next(str(part) for part in reversed(place) if isinstance(part, str))
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{where(place)}'{name}' must be a finite number. Got {value}."
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            yield f"{where(place)}'{name}' must be a number. Got the text '{value}'; write it without quotes."


def _histories(values: Mapping[str, Any], where: Where) -> Iterator[str]:
    """Measures of figures through the epochs: what a history holds."""
    for index, figure in enumerate(_list(values, "figures")):
        if not isinstance(figure, dict) or figure.get("kind") != "epochs":
            continue
        for number, measure in enumerate(_list(figure, "measures")):
            if isinstance(measure, str) and measure not in HISTORY_MEASURES:
                here: Place = ("figures", index, "measures", number)
                yield where(here) + unknown_name("measure of a history", measure, HISTORY_MEASURES)


def _label(place: int, entry: EntryConfig, where: Where) -> Iterator[str]:
    label = entry.label
    if label is None or not ("{" in label or "}" in label):
        return
    here: Place = ("heads", place, "label")
    strange = sorted(label_axes(label) - entry.grid.keys())
    first = {axis: values[0] for axis, values in entry.grid.items()}
    try:
        fill_label(label, first)
        for axis, values in entry.grid.items():
            for value in values:
                fill_label(label, {**first, axis: value})
    except (ValueError, KeyError, AttributeError, TypeError, IndexError):
        if strange:
            nearest = nearest_name(strange[0], entry.grid)
            yield (
                f"{where(here)}The label '{label}' names '{strange[0]}', which is no axis of its grid"
                + (f"; did you mean '{nearest}'?" if nearest else ". Name one, or double the braces.")
            )
        else:
            yield (
                f"{where(here)}The label '{label}' cannot be filled in: write an axis as {{head.kappa}} or "
                "{head.kappa:g}."
            )


def _duplicates(
    rows: tuple[RowSpecification, ...], entries: list[tuple[int, EntryConfig]], where: Where
) -> Iterator[str]:
    met: set[str] = set()
    for row in rows:
        if row.label in met:
            here: Place = ("heads", entries[row.place][0])
            yield f"{where(here)}Two rows are called '{row.label}'. Give labels that differ, or leave one out."
        met.add(row.label)


def _dependences(entries: list[tuple[int, EntryConfig]], labels: set[str], where: Where) -> Iterator[str]:
    owners = {entry_label(entry): place for place, entry in entries}
    needs: dict[str, set[str]] = {}
    for place, entry in entries:
        own = entry_label(entry)
        for axis, dependence in entry.depends_on.items():
            here: Place = ("heads", place, "depends_on", axis, "of")
            if dependence.of not in labels:
                yield where(here) + unknown_name("row", dependence.of, labels - {own})
                continue
            needs.setdefault(own, set()).add(_owner(dependence.of, owners))
            if axis in entry.grid:
                yield f"{where(here)}'{own}' gets '{axis}' from '{dependence.of}' and from its grid. Leave one out."
    told: set[frozenset[str]] = set()
    for start in needs:
        circle = _circle(start, needs)
        if circle and frozenset(circle) not in told:
            told.add(frozenset(circle))
            here = ("heads", owners.get(circle[0], 0), "depends_on")
            path = " → ".join(f"'{label}'" for label in (*circle, circle[0]))
            yield f"{where(here)}These rows wait for each other: {path}. One of them must not depend on the others."


def _owner(label: str, owners: Mapping[str, int]) -> str:
    """The entry that a row's label belongs to, as far as the words tell."""
    if label in owners:
        return label
    fitting = [owner for owner in owners if label.startswith(owner)]
    return max(fitting, key=len) if fitting else label


def _circle(start: str, needs: Mapping[str, set[str]]) -> list[str]:
    """Return a circle that leads back to ``start``, or nothing."""
    paths = [[start]]
    while paths:
        path = paths.pop()
        for following in sorted(needs.get(path[-1], ())):
            if following == start:
                return path
            if following not in path:
                paths.append([*path, following])
    return []


def _mentions(values: Mapping[str, Any], labels: set[str], where: Where) -> Iterator[str]:
    """Rows that claims, figures and the analysis name."""
    for part in ("claims", "figures"):
        for index, item in enumerate(_list(values, part)):
            if not isinstance(item, dict):
                continue
            named: list[tuple[Place, Any]] = [((part, index, "than"), item["than"])] if item.get("than") else []
            rows = item.get("rows")
            if isinstance(rows, (list, tuple)):
                named += [((part, index, "rows", number), row) for number, row in enumerate(rows)]
            for place, row in named:
                if isinstance(row, str) and row not in labels:
                    yield where(place) + unknown_name("row", row, labels)
    analysed = _mapping(values, "analysis").get("rows")
    for number, row in enumerate(analysed if isinstance(analysed, (list, tuple)) else ()):
        if isinstance(row, str) and row not in labels:
            yield where(("analysis", "rows", number)) + unknown_name("row", row, labels)


def _grids(values: Mapping[str, Any], *, searched: bool = True) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Mappings whose keys are axes, with their places."""
    holders: list[tuple[Place, Mapping[str, Any]]] = [((), values)]
    holders += [
        (("heads", index), entry) for index, entry in enumerate(_list(values, "heads")) if isinstance(entry, dict)
    ]
    for place, holder in holders:
        if isinstance(holder.get("grid"), dict):
            yield (*place, "grid"), holder["grid"]
        if not searched:
            continue
        if isinstance(holder.get("depends_on"), dict):
            yield (*place, "depends_on"), holder["depends_on"]
        search = holder.get("search")
        if isinstance(search, dict) and isinstance(search.get("parameters"), dict):
            yield (*place, "search", "parameters"), search["parameters"]


def _field(axis: str) -> tuple[Any, str] | None:
    """The configuration and the field that an axis stands for; None where no class says what there is."""
    group, point, name = axis.partition(".")
    return (_KINDS[group], name) if point and group in _KINDS else None


def _form(value: Any) -> str:
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        return repr(value)


def _quoted(value: Any) -> str:
    return "; write it without quotes." if isinstance(value, str) and _NUMBER.fullmatch(value) else "."


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key)
    return list(found) if isinstance(found, (list, tuple)) else []
