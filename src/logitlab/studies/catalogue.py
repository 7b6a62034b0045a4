"""The studies that there are: presets, files, and folders that hold some. No torch."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.errors import ConfigurationError
from ..config.names import unknown_name
from ..config.study import SearchConfig, StudyDefinition
from ..config.study.extending import read_document
from ..config.study.reading import read_study, scale_names
from ..config.study.rows import RowSpecification, unfold
from ..records.study import PLAN_FILE, STUDY_FILE, list_studies, read_definition
from .presets import list_presets, preset_path
from .study_source import define, study_file


@dataclass(frozen=True)
class TrialCount:
    """How large a study is.

    Attributes:
        rows: of its table.
        final: trials of the table.
        search: trials that choose hyperparameters.
        at_least: whether the search may need more: a coarse-to-fine one grows where its best point lies on an edge.
    """

    rows: int
    final: int
    search: int = 0
    at_least: bool = False

    @property
    def total(self) -> int:
        """All trials."""
        return self.final + self.search

    def __str__(self) -> str:
        """As a user reads it.

        >>> print(TrialCount(2, 6), "-", TrialCount(1, 3, 25, at_least=True))
        6 - at least 28
        """
        return f"{'at least ' if self.at_least else ''}{self.total}"


@dataclass(frozen=True)
class StudySummary:
    """A line of the catalogue.

    Attributes:
        name: of the study.
        source: where it comes from.
        title: one line.
        scales: name of a scale (None for a study without scales) → its size; the default first.
    """

    name: str
    source: str
    title: str
    scales: Mapping[str | None, TrialCount]


def preset_summaries() -> list[StudySummary]:
    """Return a line of the catalogue for each preset.

    Raises:
        ConfigurationError: a preset is damaged.
    """
    return [summarise(preset_path(name)) for name in list_presets()]


def summarise(path: Path) -> StudySummary:
    """Return what the catalogue says of the study in a file.

    Raises:
        ConfigurationError: every fault of the file.
    """
    # Parsed once: a file takes longer to read than its scales to check.
    values = read_document(path, study_file).values
    scales = scale_names(values) or (None,)
    definitions = {scale: read_study(values, scale=scale) for scale in scales}
    first = next(iter(definitions.values()))
    counts = {scale: count_trials(definition) for scale, definition in definitions.items()}
    return StudySummary(first.name, first.source, first.title, counts)


def read_definition_of(study: str | Path, scale: str | None = None) -> StudyDefinition:
    """Read a preset, a file, or what a folder of a study (``DIR/studies/NAME``) says it is.

    Args:
        study: a name or a path.
        scale: which of its scales; None for its default.

    Raises:
        ConfigurationError: every fault; for an unknown name the nearest right one.
        RecordError: the study of a folder is damaged.
    """
    folder = Path(study)
    if not (folder / STUDY_FILE).is_file():
        return define(study, scale)
    found = read_definition(folder)
    if scale not in (None, found.scale):
        held = "without scales" if found.scale is None else f"of the scale '{found.scale}'"
        raise ConfigurationError(
            f"'{folder}' holds a study {held}. Got '{scale}'; name the preset or the file instead."
        )
    return found


def study_rows(definition: StudyDefinition) -> tuple[RowSpecification, ...]:
    """Return the rows of a study, in the order of its table."""
    return unfold(definition.heads, definition.grid, definition.seeds, definition.search)


def count_trials(definition: StudyDefinition) -> TrialCount:
    """Return how large a study is.

    A search counts with its first grid and the grids that are sure to follow; two trials that turn out to be the same
    are run once, and count twice here.

    >>> count_trials(StudyDefinition(name="x", heads=[{"head": "softmax"}, {"head": "cosine"}], seeds=3))
    TrialCount(rows=2, final=6, search=0, at_least=False)
    """
    rows = study_rows(definition)
    searches = [row.search for row in rows if row.search is not None]
    return TrialCount(
        len(rows),
        sum(len(row.seeds) for row in rows),
        sum(least_points(search) * search.seeds for search in searches),
        any(search.method == "coarse_to_fine" for search in searches),
    )


def least_points(search: SearchConfig) -> int:
    """Return how many points a search looks at, at least.

    The first grid is sure. Each refinement halves the step on both sides of the best; where a range may end there
    (``low``, ``high``), perhaps on one side alone.

    >>> axis = {"values": [0.01, 0.1, 1.0]}
    >>> least_points(SearchConfig(parameters={"training.learning_rate": axis}))
    5
    >>> least_points(SearchConfig(parameters={"training.learning_rate": {**axis, "high": 1.0}}))
    4
    """
    if search.method == "optuna":
        return search.trials
    axes = search.parameters.values()
    ended = [axis.low is not None or axis.high is not None for axis in axes]
    finer = math.prod(3 if end else 5 for end in ended)
    known = math.prod(2 if end else 3 for end in ended)
    return math.prod(len(axis.values) for axis in axes) + search.refinements * (finer - known)


def definition_yaml(definition: StudyDefinition) -> str:
    """Write a definition as YAML that ``study run`` takes, without what is so anyway.

    >>> print(definition_yaml(StudyDefinition(name="x", heads=[{"head": "softmax"}], seeds=(1, 2))), end="")
    name: x
    heads:
      - head: softmax
    seeds: [1, 2]
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq
    from ruamel.yaml.scalarstring import LiteralScalarString

    def written(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: written(item) for key, item in value.items()}
        if isinstance(value, list):
            items = CommentedSeq([written(item) for item in value])
            if not any(isinstance(item, (dict, list, LiteralScalarString)) for item in items):
                items.fa.set_flow_style()
            return items
        return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(written(definition.model_dump(mode="json", exclude_defaults=True)), stream)
    return stream.getvalue()


def choose_studies(folder: Path | str, name: str | None) -> tuple[Path, tuple[str, ...]]:
    """Return the store that a user means and the names of its studies.

    Args:
        folder: ``--out`` of a run, the folder of one of its studies (``DIR/studies/NAME``), or ``trials`` in it.
        name: of one study; None for all that there are.

    Returns:
        the root of the store; the names, which are none where the folder holds trials alone.

    Raises:
        ConfigurationError: the folder is not there, holds no trials and no study, or no study of this name.
    """
    root = Path(folder)
    try:
        if not root.is_dir():
            what = "That is a file." if root.exists() else "There is no such folder."
            raise ConfigurationError(f"Expected the folder of a study, such as logitlab-runs, in '{folder}'. {what}")
        if (root / PLAN_FILE).is_file() and root.parent.name == "studies":
            own, root = root.name, root.parent.parent
            if name not in (None, own):
                raise ConfigurationError(f"'{folder}' is the folder of the study '{own}'. Leave --study out.")
            name = own
        elif root.name == "trials" and not (root / "trials").is_dir():
            root = root.parent
        known = list_studies(root)
        empty = not known and not (root / "trials").is_dir()
    except OSError as fault:
        raise ConfigurationError(f"Cannot read '{folder}': {fault.strerror or fault}. Check who may read it.") from None
    if empty:
        raise ConfigurationError(
            f"Expected the folder of a study, such as logitlab-runs, in '{folder}'. It holds no trials and no studies."
        )
    if name is None:
        return root, tuple(known)
    if name not in known:
        if not known:
            raise ConfigurationError(f"'{folder}' holds trials and no study. Leave --study out. Got '{name}'.")
        raise ConfigurationError(unknown_name("study", name, known))
    return root, (name,)
