"""A study's own files, beside its trials: what it is, which trials it has, and its rows with what they measured.

``ROOT/studies/NAME/study.json`` is the definition, ``plan.json`` the trials that are known so far. The trials lie in
``ROOT/trials`` like all others, so that studies that share a folder share what they have trained. What was measured of
all models together lies in ``ROOT/studies/NAME/analysis/analysis.json``. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from ..config.study import StudyDefinition
from ..config.study.report import HISTORY_KEYS
from ..config.validation import Configuration
from .analysis import Analysis
from .files import write_json_atomic
from .ood import OodSource
from .reading import Form, read_form

STUDIES_FOLDER: Final = "studies"
STUDY_FILE: Final = "study.json"
PLAN_FILE: Final = "plan.json"
#: The folder of its analysis, in that of a study.
ANALYSIS_FOLDER: Final = "analysis"
STUDY_VERSION: Final = 1

Role = Literal["final", "search"]


class StageSource(Configuration):
    """A stage with all that its result depends on.

    Attributes:
        name: of the stage; keys of its measures begin with it.
        identity: 16 hexadecimal digits: of its options, its data and, for a user's stage, its code.
        options: as the stage takes them.
        module: for a user's stage, the module whose import registers it; None for built-in ones.
    """

    name: str
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    options: dict[str, Any] = Field(default_factory=dict)
    module: str | None = None


class PlannedTrial(Configuration):
    """A trial of a study.

    Attributes:
        identity: of the trial.
        row: label of the row that it belongs to.
        seed: of the trial.
        role: ``"final"`` for a trial of the table, ``"search"`` for one that chooses hyperparameters.
        settings: axis → value, of those that its row does not say: the point of the search.
    """

    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    row: str
    seed: int
    role: Role = "final"
    settings: dict[str, Any] = Field(default_factory=dict)


class PlannedRow(Configuration):
    """A row of the table.

    Attributes:
        label: what the table calls it; no two rows share one.
        entry: label of the entry that made it.
        head: as it is written on a command line, as far as it is known.
        settings: axis → value: all that tells it from other rows, its head's parameters and recipe included.
        chosen: axis → value: what a search or another row has given.
        expected: how many trials it has in all, at least; a search may need more.
        waiting: why its trials are not all known, in a sentence; None where they are.
        blocked: why they will never be, in a sentence; None otherwise.
        remarks: what is to be known of its search, a sentence each: an optimum on the edge, points that failed.
        paper_row: the row of the paper's table beside it.
    """

    label: str
    entry: str
    head: str
    settings: dict[str, Any] = Field(default_factory=dict)
    chosen: dict[str, Any] = Field(default_factory=dict)
    expected: int = Field(default=0, ge=0)
    waiting: str | None = None
    blocked: str | None = None
    remarks: Annotated[tuple[str, ...], Field(strict=False)] = ()
    paper_row: str | None = None


class StudyPlan(Configuration):
    """The trials of a study that are known so far.

    Attributes:
        version: of this form.
        rows: in the order of the table.
        trials: in the order in which they are run.
        ood: out-of-distribution sets that every final trial is measured on: name, title, fingerprint.
        stages: of every final trial.
        workers: how many trials ran at a time, of the last runner.
    """

    version: Literal[1] = STUDY_VERSION
    rows: Annotated[tuple[PlannedRow, ...], Field(strict=False)]
    trials: Annotated[tuple[PlannedTrial, ...], Field(strict=False)]
    ood: Annotated[tuple[dict[str, str], ...], Field(strict=False)] = ()
    stages: Annotated[tuple[StageSource, ...], Field(strict=False)] = ()
    workers: int = Field(default=1, ge=1)

    @property
    def sources(self) -> tuple[OodSource, ...]:
        """The out-of-distribution sets."""
        return tuple(OodSource(**values) for values in self.ood)


@dataclass(frozen=True)
class StudyRow:
    """A row of a study with what its final trials have measured.

    Attributes:
        plan: the row.
        seeds: seed → key of a measure → value, None where it is undefined; finished trials alone. Keys are
            ``test.accuracy``, ``validation.nll``, ``parameters``, ``selected_epoch``, ``seconds``,
            ``ood.SET.max_logit_ap``, ``STAGE.KEY``, ``first_epoch.KEY`` and ``last_epoch.KEY`` of the history.
        failures: seed → why its trial, or a stage of it, failed, in one line.
        missing: seeds whose trial is not finished and has not failed.
    """

    plan: PlannedRow
    seeds: Mapping[int, Mapping[str, float | None]]
    failures: Mapping[int, str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """What the table calls it."""
        return self.plan.label

    def values(self, measure: str) -> dict[int, float | None]:
        """Return seed → value of a measure; None where it is undefined."""
        return {seed: measures.get(measure) for seed, measures in self.seeds.items()}


@dataclass(frozen=True)
class StudyResults:
    """A study with all that it has measured so far.

    Attributes:
        definition: what it is.
        plan: its trials.
        rows: in the order of the table.
        records: of finished final trials, for histories and provenance: identity → record.
        folder: of the study (``ROOT/studies/NAME``).
        searched: identity of a trial of a search → its measures; None where it failed or is not there yet.
        analysis: what was measured of all models together; None where nothing was asked for, or is there yet.
        analysis_fault: why an analysis that is there cannot be shown, in a sentence; empty where it can.
    """

    definition: StudyDefinition
    plan: StudyPlan
    rows: tuple[StudyRow, ...]
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    folder: Path | None = None
    searched: Mapping[str, Mapping[str, float | None] | None] = field(default_factory=dict, repr=False)
    analysis: Analysis | None = field(default=None, repr=False)
    analysis_fault: str = ""


def study_folder(root: Path | str, name: str) -> Path:
    """Return where a study keeps its own files."""
    return Path(root) / STUDIES_FOLDER / name


def list_studies(root: Path | str) -> list[str]:
    """Return the names of the studies below a folder, sorted."""
    return sorted(path.parent.name for path in (Path(root) / STUDIES_FOLDER).glob(f"*/{PLAN_FILE}"))


class _StoredDefinition(StudyDefinition):
    """A definition as its file has it."""

    version: Literal[1] = STUDY_VERSION


def write_definition(folder: Path, definition: StudyDefinition) -> None:
    """Write ``study.json``.

    Raises:
        OSError: the file system refuses.
    """
    write_json_atomic(folder / STUDY_FILE, {"version": STUDY_VERSION, **definition.model_dump(mode="json")})


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Write ``plan.json``.

    Raises:
        OSError: the file system refuses.
    """
    write_json_atomic(folder / PLAN_FILE, plan.model_dump(mode="json"))


def read_definition(folder: Path) -> StudyDefinition:
    """Read ``study.json``.

    Raises:
        RecordError: the file is missing, damaged, or of a newer version.
    """
    found = _read(folder / STUDY_FILE, _StoredDefinition)
    return StudyDefinition.model_validate(found.model_dump(exclude={"version"}))


def read_plan(folder: Path) -> StudyPlan:
    """Read ``plan.json``; raises as :func:`read_definition`."""
    return _read(folder / PLAN_FILE, StudyPlan)


def flat_measures(
    record: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, float | None]] | None = None,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, float | None]:
    """Every number of a finished trial under one key each.

    Args:
        record: of the trial.
        ood: title of a set → its measures.
        stages: name of a stage → its result.

    >>> record = {"result": {"test": {"accuracy": 0.5, "nll": None}, "parameters": 10}, "provenance": {"seconds": 2.0}}
    >>> flat_measures(record, stages={"linear_probe": {"gtsrb": {"accuracy": 0.25}}})
    {'test.accuracy': 0.5, 'test.nll': None, 'parameters': 10, 'seconds': 2.0, 'linear_probe.gtsrb.accuracy': 0.25}
    """
    result = {key: value for key, value in record["result"].items() if key not in ("history", "head_parameters")}
    found = _numbers(result)
    if history := record["result"].get("history"):
        for part, entry in (("first_epoch", history[0]), ("last_epoch", history[-1])):
            found |= _numbers({part: {key: entry.get(key) for key in HISTORY_KEYS}})
    found["seconds"] = record.get("provenance", {}).get("seconds")
    found |= _numbers({"ood": dict(ood or {})})
    found |= _numbers(dict(stages or {}))
    return found


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            found[f"{prefix}{key}"] = value
    return found


def _read(path: Path, form: type[Form]) -> Form:
    return read_form(path, form, version=STUDY_VERSION, key="version", advice="'logitlab study run' makes one.")
