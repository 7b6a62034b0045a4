"""What trials have left, for other programs: tables, LaTeX, MLflow, TensorBoard. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..config.errors import ConfigurationError, RecordError
from ..config.names import unknown_name
from ..records.export import Row, check_parquet, gather_records, rows_of, write_csv, write_parquet
from ..records.outgoing import check_output, whole_file
from ..records.study import PlannedTrial, StudyPlan, read_definition, read_plan, study_folder
from ..records.study_trials import StudyTrial, gather_trials, study_rows
from ..report import comparison_table
from ..report.latex import to_latex
from .catalogue import choose_studies
from .results import analysis_of, gather_results

#: Of trials, whatever study they belong to.
FORMATS = ("csv", "parquet", "latex")
#: Of studies.
STUDY_FORMATS = (*FORMATS, "mlflow", "tensorboard")

#: What the last two write, below the folder of the trials, without an output.
MLFLOW_FILE, TENSORBOARD_FOLDER = "mlflow.db", "tensorboard-export"
#: What trials of no study are an experiment of.
_NO_STUDY = "trials"


@dataclass(frozen=True)
class Export:
    """What an export did.

    Attributes:
        place: where it wrote; None for the screen.
        summary: what it wrote, in a sentence; empty for the screen.
        damage: a sentence for each file that is damaged and left out.
    """

    place: str | None
    summary: str
    damage: tuple[str, ...]


def export_study(folder: Path | str, to: str, output: Path | str | None, screen: IO[str]) -> list[str]:
    """Write the records below a folder, whatever study they belong to.

    Args:
        folder: of the study.
        to: ``"csv"`` or ``"parquet"`` (a row a trial, failed ones included), or ``"latex"`` (the table of heads).
        output: a file, which is replaced once the new one is whole; None for ``screen``.
        screen: where text goes without a file.

    Returns:
        a sentence for each record that is damaged and left out.

    Raises:
        ConfigurationError: another format, a file that cannot be written, or Parquet without pyarrow or a file.
        RecordError: the folder holds no records.
        InputError: LaTeX of more than one data set.
    """
    target = _target(to, output, FORMATS)
    records, damage = gather_records(Path(folder))
    if to == "latex":
        _write_text(to_latex(comparison_table(records)), target, screen)
    else:
        _write_rows(rows_of(records), to, target, screen)
    return damage


def export_studies(
    folder: Path | str, to: str, output: Path | str | None, screen: IO[str], study: str | None = None
) -> Export:
    """Write the studies below a folder.

    Args:
        folder: of the trials and studies (``--out`` of ``study run``), or of one study.
        to: ``"csv"`` or ``"parquet"``: a row a trial that has ended, with its row, role, axes and every number;
            ``"latex"``: the table of each study; ``"mlflow"``: an experiment a study, a run a trial;
            ``"tensorboard"``: event files and hyperparameters of each finished trial.
        output: a file; for ``"mlflow"`` see :func:`~logitlab.records.mlflow_export.tracking_uri`, for
            ``"tensorboard"`` a folder. None for ``screen``, and a place below ``folder`` for the last two.
        screen: where text goes without a file.
        study: one of several; None for all. Trials of no study are written as ``export_study`` does.

    Raises:
        ConfigurationError: another format, no such folder or study, a place that cannot be written, a library that is
            not installed.
        RecordError: a study is damaged, or has no trial that has ended.
        OSError: the file system refuses.
    """
    target = _target(to, output, STUDY_FORMATS)
    root, names = choose_studies(folder, study)
    if not names and to in FORMATS:
        damage = tuple(export_study(folder, to, output, screen))
        return _export(target, "The records of all trials", damage)
    if to == "latex":
        _write_text("\n".join(_latex(root, name) for name in names), target, screen)
        return _export(target, f"The table of {_listed(names)}", ())
    trials, found = _trials(root, names)
    count = f"{len(trials)} trial{'s' * (len(trials) != 1)}"
    whose = f"{count} of {_listed(names)}" if names else count
    if to == "mlflow":
        from ..records.mlflow_export import export_mlflow

        place, new, kept = export_mlflow(trials, root / MLFLOW_FILE if output is None else output)
        return Export(place, f"{whose}: {new} written, {kept} stood there unchanged", tuple(found))
    if to == "tensorboard":
        from ..records.tensorboard_export import export_tensorboard

        place_there = root / TENSORBOARD_FOLDER if output is None else Path(output)
        shown = export_tensorboard(trials, place_there)
        left_out = f"; the other {len(trials) - shown} failed" if shown < len(trials) else ""
        return Export(str(place_there), f"{shown} of {whose}{left_out}", tuple(found))
    _write_rows(study_rows(trials), to, target, screen)
    return _export(target, whose, tuple(found))


def _target(to: str, output: Path | str | None, formats: Sequence[str]) -> Path | None:
    """See that the format is one, and that its file can be written, before anything is read."""
    if to not in formats:
        raise ConfigurationError(unknown_name("format", to, formats))
    if to == "parquet":
        if output is None:
            raise ConfigurationError("Parquet is no text for the screen. Give --output FILE (output=…).")
        check_parquet()
    if output is None or to not in FORMATS:
        return None
    check_output(Path(output))
    return Path(output)


def _trials(root: Path, names: Sequence[str]) -> tuple[list[StudyTrial], list[str]]:
    if not names:
        return _unplanned(root)
    trials: list[StudyTrial] = []
    damage: list[str] = []
    for name in names:
        folder = study_folder(root, name)
        plan = read_plan(folder)
        found, faults = gather_trials(root, name, plan)
        numbers, fault = _analysed(plan, folder)
        trials += [
            replace(trial, analysis=numbers.get(trial.plan.identity, {})) if trial.plan.role == "final" else trial
            for trial in found
        ]
        faults += [fault] if fault else []
        damage += [fault for fault in faults if fault not in damage]
    if not trials:
        raise ConfigurationError(
            " ".join([f"No trial of {_listed(names)} has ended yet, so there is nothing to export.", *damage])
        )
    return trials, damage


def _analysed(plan: StudyPlan, folder: Path) -> tuple[dict[str, dict[str, float | None]], str]:
    """Return identity of a trial → what the analysis of its study says of its model; and what is damaged."""
    try:
        asked = read_definition(folder).analysis is not None
    except RecordError:
        # The plan alone says what is to be exported.
        return {}, ""
    _, numbers, fault = analysis_of(plan, folder) if asked else (None, {}, "")
    return numbers, fault and f"The analysis of '{folder.name}' is left out. {fault}"


def _unplanned(root: Path) -> tuple[list[StudyTrial], list[str]]:
    """Trials of no study: their heads are their rows."""
    records, damage = gather_records(root)
    trials = []
    for record, row in zip(records, rows_of(records)):
        planned = PlannedTrial(identity=record["identity"], row=row["head"] or "", seed=record["config"].get("seed", 0))
        parameters = (record["config"].get("head") or {}).get("parameters") or {}
        axes = {f"head.{key}": value for key, value in parameters.items()}
        trials.append(StudyTrial(_NO_STUDY, planned, axes, record, record.get("ood") or {}))
    return trials, damage


def _latex(root: Path, name: str) -> str:
    from ..report.study import study_table

    return study_table(gather_results(root, name)).to_latex(label=f"tab:{name}")


def _write_rows(rows: Sequence[Row], to: str, target: Path | None, screen: IO[str]) -> None:
    if target is None:
        write_csv(rows, screen)
    elif to == "parquet":
        with whole_file(target, binary=True) as stream:
            write_parquet(rows, stream)
    else:
        with whole_file(target) as stream:
            write_csv(rows, stream)


def _write_text(text: str, target: Path | None, screen: IO[str]) -> None:
    if target is None:
        screen.write(text)
    else:
        with whole_file(target) as stream:
            stream.write(text)


def _export(target: Path | None, what: str, damage: tuple[str, ...]) -> Export:
    return Export(None, "", damage) if target is None else Export(str(target), what, damage)


def _listed(names: Sequence[str]) -> str:
    return ("the study " if len(names) == 1 else "the studies ") + ", ".join(f"'{name}'" for name in names)
