"""What is left of a study when its faulty parts are taken out, so that the rest can be looked at in the same run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigurationError
from ..training import TrainingConfig
from .checks import without_rival
from .definition import MOST_SEEDS, StudyDefinition
from .rows import combinations
from .yaml_file import Place

# Each round takes at least one part out.
_ROUNDS = 50


class StudyFaultsError(ConfigurationError):
    """A study that cannot be run as it is written.

    Attributes:
        rest: what is left without its faulty parts; its heads, data and stages can be checked. None where nothing is.
    """

    def __init__(self, faults: tuple[str, ...] | list[str], rest: StudyDefinition | None) -> None:
        super().__init__(faults)
        self.rest = rest

    def __reduce__(self) -> Any:
        """Keep the faults when another process sends the error home."""
        return type(self), (self.faults, self.rest)


def salvage(values: Mapping[str, Any]) -> StudyDefinition | None:
    """Take the faulty parts out of a study.

    What hangs on other parts (grids of the study, searches, dependences, claims, figures, rows of the analysis) is
    taken out as well: a fault of these is told where they are read, and must not come twice in other words. An entry
    with a grid stands with its first values.

    Args:
        values: of the study, with what may be written short written out.

    Returns:
        the rest; None where no entry is left.
    """
    left: dict[str, Any] = {
        key: value
        for key, value in copy.deepcopy(dict(values)).items()
        if key not in ("grid", "search", "claims", "figures")
    }
    if isinstance(left.get("analysis"), dict):
        left["analysis"].pop("rows", None)
    heads, recipe = left.get("heads"), left.get("training")
    left["heads"] = (
        list(_entries(heads, recipe if isinstance(recipe, dict) else {})) if isinstance(heads, (list, tuple)) else []
    )
    for _ in range(_ROUNDS):
        try:
            return StudyDefinition.model_validate(left)
        except ValidationError as fault:
            if not left["heads"] or not _take_out(left, [error["loc"] for error in fault.errors()]):
                return None
    return None


def _entries(heads: Any, recipe: Mapping[str, Any]) -> Iterator[Any]:
    """Entries that stand by themselves, under names that differ, with the first values of their grids."""
    for place, entry in enumerate(heads):
        if not isinstance(entry, dict) or not isinstance(entry.get("head"), str):
            continue
        if entry.get("depends_on") or entry.get("search"):
            # Their heads lack what others give; the name alone can be looked at.
            # A seed of its own: without what others give it might look like another row.
            yield {"head": entry["head"], "label": f"{entry['head']} ({place})", "seeds": [MOST_SEEDS + place]}
            continue
        kept = {key: value for key, value in entry.items() if key in ("head", "parameters", "training", "seeds")}
        try:
            own = kept.get("training") or {}
            TrainingConfig.model_validate({**without_rival(recipe, own), **own})
        except (ValidationError, TypeError, AttributeError):
            kept.pop("training", None)
        grid = entry.get("grid")
        if isinstance(grid, dict):
            usable = {axis: value for axis, value in grid.items() if isinstance(value, list) and value}
            kept["grid"] = {axis: [value] for axis, value in combinations(usable)[0].items()}
        yield {**kept, "label": _plain(entry, place)}


def _plain(entry: Mapping[str, Any], place: int) -> str:
    label = entry.get("label")
    return label if isinstance(label, str) and "{" not in label else f"{entry['head']} ({place})"


def _take_out(values: dict[str, Any], places: list[Place]) -> bool:
    """Remove the values at these places; whether anything was removed."""
    removed = False
    # From the end: what stands before keeps its number.
    for place in sorted(places, key=str, reverse=True):
        at: Any = values
        last: tuple[Any, Any] | None = None
        for part in place:
            inside = part in at if isinstance(at, dict) else isinstance(at, list) and part in range(len(at))
            if inside:
                last, at = (at, part), at[part]
        if last is not None and last[1] != "heads":
            del last[0][last[1]]
            removed = True
    return removed
