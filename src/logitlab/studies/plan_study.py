"""From the definition of a study to all that its trials need; every fault is found before the first trial starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.errors import ConfigurationError
from ..config.names import nearest_name
from ..config.study import ExecutionConfig, StageConfig, StudyDefinition
from ..config.study.axes import as_axis_value, takes_whole_numbers
from ..config.study.report import HISTORY_KEYS
from ..config.study.rows import RowSpecification, unfold
from ..records import OodSource
from ..records.study import StageSource
from .analysis_measures import ANALYSIS
from .analysis_of_study import AnalysisPlan, plan_analysis
from .components import read_device
from .engine import TrialMaker
from .engine.grids import line_of
from .engine.programs import sources_of
from .faults import Faults
from .ood import read_ood_sets
from .plan import check_folder, registered_parts, worker_plugins
from .plugins import import_plugins

#: The stage that the engine itself sees to: out-of-distribution sets lie beside the record of a trial.
OOD_STAGE = "ood"


@dataclass(frozen=True)
class StudyParts:
    """What the trials of a study need.

    Attributes:
        rows: of the table.
        maker: of trials.
        device: the torch device.
        data_root: the folder that holds data sets; None for the default.
        plugins: what a worker imports before its first trial.
        homeless: heads, stages and data sets whose module no other process can import.
        ood: out-of-distribution sets that every trial of the table is measured on.
        stages: what is done with every model of the table.
        analysis: what is measured of all models together; None for nothing.
    """

    rows: tuple[RowSpecification, ...]
    maker: TrialMaker
    device: str
    data_root: str | None
    plugins: tuple[str, ...]
    homeless: tuple[str, ...]
    ood: tuple[OodSource, ...]
    stages: tuple[StageSource, ...]
    analysis: AnalysisPlan | None = None


def plan_study(
    definition: StudyDefinition, execution: ExecutionConfig, root: Path, data_root: str | None, faults: Faults
) -> StudyParts:
    """Check everything: plugins, device, folder, every row with its data, backbone, head and recipe, every stage.

    Args:
        definition: of the study.
        execution: how its trials will be delivered.
        root: the folder of the trials.
        data_root: the folder that holds data sets.
        faults: what was found wrong already.

    Raises:
        ConfigurationError: all faults at once, a sentence each.
    """
    chosen, whole = "cpu", not faults.sentences
    with faults:
        import_plugins(definition.plugins)
    with faults:
        check_folder(root)
    with faults:
        chosen = read_device(execution.device)
    rows = unfold(definition.heads, definition.grid, definition.seeds, definition.search)
    if any(row.search is not None and row.search.method == "optuna" for row in rows):
        from .engine.optuna_search import check_optuna

        with faults:
            check_optuna()
    maker = TrialMaker(definition, data_root)
    _check_rows(rows, maker, faults)
    _check_measures(definition, rows, faults)
    _check_table(definition, faults)
    sets = [stage for stage in definition.stages if stage.name == OOD_STAGE]
    ood = _ood(sets, maker, data_root, faults)
    stages = _stages([stage for stage in definition.stages if stage.name != OOD_STAGE], maker, data_root, faults)
    analysis = plan_analysis(definition.analysis, rows, maker, data_root, faults, whole=whole)
    faults.raise_all()
    names = [*(images.source.name for images in maker.loaded), *(source.name for source in ood)]
    parts = registered_parts(maker.components.values(), names)
    parts += [(stage.name, stage.module) for stage in stages]
    plugins, homeless = worker_plugins(definition.plugins, parts)
    return StudyParts(rows, maker, chosen, data_root, plugins, homeless, ood, stages, analysis)


def _check_rows(rows: Sequence[RowSpecification], maker: TrialMaker, faults: Faults) -> None:
    """Build every head and backbone once; see that no two rows are the same trial."""
    met: dict[tuple[str, str, str], str] = {}
    for row in rows:
        with faults:
            _check_seeds(row, sources_of(row, rows), rows)
        both = [] if row.search is None else sorted(row.entry.depends_on.keys() & row.search.parameters.keys())
        for axis in both:
            faults.add(f"'{row.label}' searches '{axis}', which another row gives. Leave one out.")
        if row.search is not None and any(each.statistic == "same_seed" for each in row.entry.depends_on.values()):
            faults.add(
                f"'{row.label}' is searched, and takes values of the same seed of another row, which a search has not. "
                "Take the statistic 'mean'."
            )
        guessed: dict[str, Any] = {
            axis: as_axis_value(axis, 10.0 * abs(each.times) or 1.0) for axis, each in row.entry.depends_on.items()
        }
        if row.search is not None:
            # What an expansion reaches may be out of range; what the user wrote must not be.
            guessed |= {
                axis: line_of(config, whole=takes_whole_numbers(axis)).values[0]
                for axis, config in row.search.parameters.items()
            }
        # Rows that are searched alike, and stand on alike values of other rows, are one row as well.
        how = (repr(row.search), repr(sorted(row.entry.depends_on.items())))
        twins: set[str] = set()
        with faults:
            for seed in dict.fromkeys(row.seeds):
                trial = maker.trial(row, seed, guessed)
                twins.add(met.setdefault((trial.identity, *how), row.label))
        for twin in twins - {row.label}:
            faults.add(f"The rows '{twin}' and '{row.label}' are the same trial. Give it once.")
        if len(set(row.seeds)) < len(row.seeds):
            faults.add(f"'{row.label}' has a seed twice. Got {list(row.seeds)}; give each once.")


def _check_seeds(row: RowSpecification, sources: Mapping[str, str], rows: Sequence[RowSpecification]) -> None:
    """See that a row whose seeds take their namesakes' values finds them.

    Raises:
        ConfigurationError: the other row lacks a seed.
    """
    for axis, label in sources.items():
        lacking = set(row.seeds) - set(next(other.seeds for other in rows if other.label == label))
        if row.entry.depends_on[axis].statistic == "same_seed" and lacking:
            raise ConfigurationError(
                f"'{row.label}' takes '{axis}' from the same seed of '{label}', which has no seed {min(lacking)}."
            )


def _check_measures(definition: StudyDefinition, rows: Sequence[RowSpecification], faults: Faults) -> None:
    """See that what is searched by, shown, claimed and drawn can be measured, before hours are spent on it."""
    from ..evaluation import MEASURES
    from ..training.trial import OF_TRAINING_IMAGES

    test = {f"test.{name}" for name in MEASURES}
    validation = {f"validation.{name}" for name in MEASURES if name not in OF_TRAINING_IMAGES}
    single = {"selected_epoch", "parameters", "seconds", "images.train", "images.validation", "images.test"}
    first = {stage.name for stage in definition.stages} | {"head_parameters"}
    if definition.analysis is not None:
        first.add(ANALYSIS)
    for name in ("first_epoch", "last_epoch"):
        single |= {f"{name}.{key}" for key in HISTORY_KEYS}
    asked: dict[str, set[str]] = {}
    for row in rows:
        chosen = [each.measure for each in row.entry.depends_on.values()]
        for measure in [*chosen, *([] if row.search is None else [row.search.measure])]:
            asked.setdefault(measure, set()).update(validation | {"selected_epoch"})
    shown = [column.measure for column in definition.columns] + [claim.measure for claim in definition.claims]
    shown += [claim.than_measure for claim in definition.claims if claim.than_measure is not None]
    # What figures through the epochs show was looked at when the study was read.
    drawn = [each for figure in definition.figures if figure.kind != "epochs" for each in figure.measures]
    for measure in [*shown, *drawn]:
        if measure.partition(".")[0] not in first:
            asked.setdefault(measure, set()).update(test | validation | single)
    for measure, known in asked.items():
        if measure not in known:
            nearest = nearest_name(measure, known)
            faults.add(
                f"Unknown measure '{measure}'"
                + (f"; did you mean '{nearest}'?" if nearest else ".")
                + " Known: test.NAME and validation.NAME of "
                + f"{', '.join(MEASURES)}; {', '.join(sorted(single))}; and what the stages of the study measure."
            )


def _check_table(definition: StudyDefinition, faults: Faults) -> None:
    if definition.paper is not None:
        from ..records.papers import read_paper_table

        with faults:
            read_paper_table(definition.paper.table)


def _ood(
    stages: Sequence[StageConfig], maker: TrialMaker, data_root: str | None, faults: Faults
) -> tuple[OodSource, ...]:
    """Load the out-of-distribution sets once, to see that they load and what they are."""
    if not stages:
        return ()
    names: list[str] = []
    for stage in stages:
        unknown = [key for key in stage.options if key != "sets"]
        given = stage.options.get("sets")
        listed = [given] if isinstance(given, str) else given
        if unknown:
            faults.add(f"Unknown option '{unknown[0]}' of the stage 'ood'; did you mean 'sets'?")
        if not isinstance(listed, (list, tuple)) or not listed or not all(isinstance(name, str) for name in listed):
            faults.add(f"The stage 'ood' needs 'sets', names such as [noise, notmnist]. Got {given!r}.")
            continue
        names += listed
    loaded = list(maker.loaded)
    shapes = {images.shape for images in loaded}
    if len({(shape.channels, shape.image_size) for shape in shapes}) > 1:
        faults.add("The stage 'ood' needs images of one form. Got data sets that differ; set 'data.image_size'.")
        return ()
    shape = loaded[0].shape if loaded else None
    return read_ood_sets(names, shape, loaded[0].fingerprint if loaded else None, data_root, faults)


def _stages(
    stages: Sequence[StageConfig], maker: TrialMaker, data_root: str | None, faults: Faults
) -> tuple[StageSource, ...]:
    if not stages:
        return ()
    from ..training.stages import plan_stage

    sides = {images.shape.image_size for images in maker.loaded}
    side = sides.pop() if len(sides) == 1 else None
    trained = [images.source for images in maker.loaded]
    found: list[StageSource] = []
    for stage in stages:
        planned = plan_stage(stage, image_size=side, data_root=data_root, trained=trained, faults=faults)
        if planned is None:
            continue
        if any(other.identity == planned.identity for other in found):
            faults.add(f"The stage '{stage.name}' is given twice with the same options. Give it once.")
        elif any(other.name == planned.name for other in found):
            faults.add(f"Two stages are called '{planned.name}', and results go by that name. Give one all options.")
        else:
            found.append(planned)
    return tuple(found)
