"""The analysis of a study: what lies in all of its models together, measured after the last trial, once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from ..config.errors import LogitLabError, RecordError
from ..config.names import printable
from ..config.study import AnalysisConfig
from ..config.study.rows import RowSpecification
from ..config.trial import canonical_json
from ..config.validation import Configuration
from ..records import OodSource, Store
from ..records.analysis import ANALYSIS_FILE, BETWEEN_NAMES, Analysis, AnalysisFailure, read_analysis, write_analysis
from ..records.files import write_json_atomic
from ..records.reading import read_form
from ..records.study import ANALYSIS_FOLDER, PlannedTrial, StudyPlan
from .analysis_inputs import with_seed
from .analysis_text import failure_lines
from .engine import TrialMaker
from .faults import Faults
from .measuring import choose_measures, layered_parts, measure_models
from .ood import read_ood_sets

if TYPE_CHECKING:
    from ..evaluation.subjects import Subject

#: Raised with every change of LogitLab that gives the same analysis of the same trials another result.
ANALYSIS_REVISION: Final = 1

#: Beside ``analysis.json``: what it was made from.
SOURCE_FILE: Final = "source.json"
_SOURCE_VERSION: Final = 1

#: The passes of all models; they are gone when the analysis stands.
PASSES_FOLDER: Final = "passes"

_NEED_MODELS: Final = {
    "ensembles": "No row has two models: there are no ensembles of seeds.",
    "agreement": "It compares models, and there is one.",
    "clustering": "It compares models, and there is one.",
}


class _Source(Configuration):
    """What an ``analysis.json`` was made from.

    Attributes:
        version: of this form.
        identity: of trials, options, strange images and code.
        digest: SHA-256 of ``analysis.json``.
    """

    version: Literal[1] = _SOURCE_VERSION
    identity: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class AnalysisPlan:
    """An analysis whose names are all known.

    Attributes:
        config: as the study has it.
        names: of its measures.
        data: the data set that all of its rows look at.
        rows: label → seeds of the models that are looked at.
        ood: out-of-distribution sets.
        code: name of a user's measurement → digest of its code.
    """

    config: AnalysisConfig
    names: tuple[str, ...]
    data: str
    rows: Mapping[str, tuple[int, ...]]
    ood: tuple[OodSource, ...] = ()
    code: Mapping[str, str | None] = field(default_factory=dict)


def plan_analysis(
    config: AnalysisConfig | None,
    rows: Sequence[RowSpecification],
    maker: TrialMaker,
    data_root: str | None,
    faults: Faults,
    *,
    whole: bool = True,
) -> AnalysisPlan | None:
    """Check an analysis: its measures, its strange images, and that its rows look at the same images.

    Plugins are imported before.

    Args:
        config: as the study has it; None for none.
        rows: of the study.
        maker: has loaded their data.
        data_root: the folder that holds data sets.
        faults: receives what is wrong.
        whole: whether the rows are all that the study has; of one that was read with faults some are left out.

    Returns:
        the analysis; None where there is none, or a fault.
    """
    if config is None:
        return None
    before = len(faults.sentences)
    names: tuple[str, ...] = ()
    with faults:
        if "probe" in config.measures:
            faults.add(
                "The measure 'probe' is no part of a study's analysis. Take the stage 'linear_probe', with its data."
            )
        names = choose_measures([name for name in config.measures if name != "probe"] or ["basic"])
    if config.control and "cka" not in names:
        names = choose_measures([*names, "cka"]) if names else ()
    chosen = [row for row in rows if not config.rows or row.label in config.rows or row.entry_label in config.rows]
    found: dict[str, str] = {}
    shape = fingerprint = None
    for row in chosen:
        try:
            images = maker.images(row.axes)
        except LogitLabError:
            # Said where the rows are looked at.
            continue
        found.setdefault(images.source.name, row.label)
        if shape is None:
            shape, fingerprint = images.shape, images.fingerprint
    if whole and len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        faults.add(
            f"The analysis needs rows of one data set: its models look at the same images. Got '{one}' ('{first}') and "
            f"'{other}' ('{second}'); name the rows of one in 'analysis.rows'."
        )
    ood = read_ood_sets(config.ood, shape, fingerprint, data_root, faults)
    if len(faults.sentences) > before or not found:
        return None
    return AnalysisPlan(
        config,
        names,
        next(iter(found)),
        {row.label: tuple(dict.fromkeys(row.seeds))[: config.seeds] for row in chosen},
        ood,
        _code(names),
    )


def analyse_trials(
    analysis: AnalysisPlan,
    plan: StudyPlan,
    store: Store,
    folder: Path,
    *,
    device: str,
    data_root: str | None,
    again: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> bool:
    """Measure the finished trials of a study together and leave ``analysis/analysis.json`` in its folder.

    What was made from the same trials in the same way already is left as it is. The passes of a call that was cut off
    are continued; when all is measured they are removed.

    Args:
        analysis: from :func:`plan_analysis`.
        plan: of the study.
        store: of its trials.
        folder: of the study.
        device: a torch device.
        data_root: the folder that holds data sets.
        again: measure once more where a measure has failed before.
        tell: receives a sentence before each model, about those that are left out, and on what was not measured.

    Returns:
        whether anything was measured.

    Raises:
        LogitLabError: no model could be run.
        OSError: the file system refuses.
    """
    place = folder / ANALYSIS_FOLDER
    trials = _trials(analysis, plan)
    done = [trial for trial in trials if store.is_done(trial.identity)]
    if not done:
        tell("No trial that the analysis asks for is finished: nothing is analysed.")
        return False
    identity = _identity(analysis, done)
    if _stands(place, identity, again=again):
        return False
    if len(done) < len(trials):
        tell(f"The analysis is of {len(done)} of {len(trials)} models; the others are not finished.")
    subjects = _open(analysis, done, store, place, device, data_root, tell)
    if not subjects:
        return False
    try:
        found = _measure(analysis, subjects, tell)
        write_analysis(place, found)
    except OSError:
        # Most of all a full disk, which passes must not keep full.
        shutil.rmtree(place / PASSES_FOLDER, ignore_errors=True)
        raise
    if len(subjects) == len(done):
        # A model that could not be opened is tried again.
        write_json_atomic(
            place / SOURCE_FILE,
            _Source(identity=identity, digest=_digest(place / ANALYSIS_FILE)).model_dump(),
        )
    shutil.rmtree(place / PASSES_FOLDER, ignore_errors=True)
    for line in failure_lines(found):
        tell(line)
    return True


def _trials(analysis: AnalysisPlan, plan: StudyPlan) -> list[PlannedTrial]:
    """The models that are asked for, as far as they are known: row by row, each in the order of its seeds."""
    known = {(trial.row, trial.seed): trial for trial in plan.trials if trial.role == "final"}
    wanted = [(label, seed) for label, seeds in analysis.rows.items() for seed in seeds]
    return [known[each] for each in wanted if each in known]


def _identity(analysis: AnalysisPlan, trials: Sequence[PlannedTrial]) -> str:
    """Return the SHA-256 of all that the result depends on."""
    config = analysis.config
    essence = {
        "revision": ANALYSIS_REVISION,
        "trials": [[_label(analysis, trial), trial.row, trial.identity] for trial in trials],
        "measures": list(analysis.names),
        "options": config.model_dump(mode="json", include={"part", "limit", "control"}),
        "ood": [[source.title, source.fingerprint] for source in analysis.ood],
        "code": dict(analysis.code),
    }
    return hashlib.sha256(canonical_json(essence).encode()).hexdigest()


def _stands(place: Path, identity: str, *, again: bool) -> bool:
    """Whether the analysis is there, made from the same; one with failures does not count where it is tried again."""
    try:
        source = read_form(place / SOURCE_FILE, _Source, version=_SOURCE_VERSION, key="version")
        if source.identity != identity or source.digest != _digest(place / ANALYSIS_FILE):
            return False
        return not (again and read_analysis(place).failures)
    except (RecordError, OSError):
        return False


def _open(
    analysis: AnalysisPlan,
    trials: Sequence[PlannedTrial],
    store: Store,
    place: Path,
    device: str,
    data_root: str | None,
    tell: Callable[[str], None],
) -> list[Subject]:
    from ..evaluation.subjects import Surroundings, open_subject

    config = analysis.config
    around = Surroundings(
        data=analysis.data,
        part=config.part,
        root=place / PASSES_FOLDER,
        data_root=data_root,
        device=device,
        layers=("auto",),
        layered=layered_parts(analysis.names, config.part),
        pooling="mean",
        limit=config.limit,
        tell=lambda _: None,
    )
    subjects = []
    for trial in trials:
        label = _label(analysis, trial)
        try:
            subject = with_seed(open_subject(store.trial_folder(trial.identity), around))
        except LogitLabError as fault:
            tell(f"{label} is not analysed: {fault}")
            continue
        subject.label, subject.group = label, printable(trial.row)
        subjects.append(subject)
    return subjects


def _measure(analysis: AnalysisPlan, subjects: Sequence[Subject], tell: Callable[[str], None]) -> Analysis:
    from ..evaluation.analyses import Request

    config = analysis.config
    request = Request(ood=tuple(source.name for source in analysis.ood))
    found = measure_models(subjects, analysis.names, request, control=config.control, tell=tell)
    failed = {failure.measure for failure in found.failures}
    lacking = [
        AnalysisFailure(model=None, measure=name, message=_NEED_MODELS[name])
        for name in BETWEEN_NAMES
        if name in config.measures and name in _NEED_MODELS and name not in found.between and name not in failed
    ]
    # The folder of the study may be moved, and its file shown to others.
    models = tuple(model.model_copy(update={"checkpoint": f"trials/{model.identity}"}) for model in found.models)
    return found.model_copy(update={"models": models, "failures": (*found.failures, *lacking)})


def _label(analysis: AnalysisPlan, trial: PlannedTrial) -> str:
    """What a model is called: its row, with its seed where the row has several."""
    several = len(analysis.rows[trial.row]) > 1
    label = f"{trial.row}, seed {trial.seed}" if several else trial.row
    # A row that is called like a model of another one.
    while several and label in analysis.rows:
        label = f"{label} of '{trial.row}'"
    return printable(label)


def _code(names: Sequence[str]) -> dict[str, str | None]:
    from ..evaluation.measurements import MEASUREMENTS

    return {name: MEASUREMENTS.source(name) for name in names if name in MEASUREMENTS}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
