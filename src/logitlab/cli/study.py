"""``logitlab study``: run studies, look at them, hand their trials on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config.errors import ConfigurationError, RecordError
from ..config.names import printable
from ..studies import DEFAULT_FOLDER
from .borrowing import with_options_from
from .compare import compare
from .printing import resolved, show_results
from .single import SingleValues
from .study_options import Executor, Folder, GpusPerTrial, ProcessesPerTrial, Scale, Slurm, Study, slurm_options

if TYPE_CHECKING:
    from ..studies.study_outcome import StudyOutcome

_SHARED = ("out", "plugin", "data_root", "workers", "device", "tensorboard", "no_report")

app = typer.Typer(
    name="study",
    help="Run the study of a paper, or your own: heads x settings x seeds, tables, claims and a report.",
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def study(context: typer.Context) -> None:
    """Run the study of a paper, or your own: heads x settings x seeds, tables, claims and a report."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@with_options_from(compare, *_SHARED)
def run(
    study: Annotated[
        str,
        typer.Argument(help="A preset ('logitlab study list' lists them) or a YAML file.", metavar="FILE_OR_PRESET"),
    ],
    *,
    scale: Scale = None,
    executor: Executor = None,
    gpus_per_trial: GpusPerTrial = None,
    processes_per_trial: ProcessesPerTrial = None,
    slurm: Slurm = None,
    shared: dict[str, Any],
) -> None:
    """Train and measure the trials of a study that are not done, and write its report.

    The same command continues a study; trials are shared with whatever was run in the same folder. Ctrl-C lets the
    running trials finish; a second one stops at once.

    Exit code: 0; 1 when trials failed; 2 for faults of the input; 130 for Ctrl-C; 143 for SIGTERM.
    """
    outcome = _run(
        study,
        shared,
        scale=scale,
        executor=executor,
        gpus_per_trial=gpus_per_trial,
        processes_per_trial=processes_per_trial,
        slurm=slurm_options(slurm or ()),
    )
    _show(outcome)
    if not outcome.complete:
        raise typer.Exit(1)


@with_options_from(compare, "data_root", "workers", "device", "tensorboard", "no_report")
def retry(
    folder: Folder = Path(DEFAULT_FOLDER),
    *,
    name: Study = None,
    executor: Executor = None,
    gpus_per_trial: GpusPerTrial = None,
    processes_per_trial: ProcessesPerTrial = None,
    slurm: Slurm = None,
    shared: dict[str, Any],
) -> None:
    """Run a study once more as its folder says it is, and try the trials again that failed.

    'study run' leaves alone what failed for a reason of its own, such as a loss that is no longer finite.

    Exit code: as of 'study run'.
    """
    from ..records.study import read_definition, study_folder
    from ..studies.catalogue import choose_studies

    root, names = choose_studies(folder, name)
    if not names:
        raise ConfigurationError(
            f"'{folder}' holds trials and no study, so nobody knows which of them are wanted. Run "
            "'logitlab compare' or 'logitlab study run' again."
        )
    # All are read before the first one runs.
    definitions = [read_definition(study_folder(root, each)) for each in names]
    given = slurm_options(slurm or ())
    failed = False
    for definition in definitions:
        if len(definitions) > 1:
            sys.stderr.write(f"Study '{definition.folder_name}':\n")
        outcome = _run(
            definition,
            {**shared, "out": root, "plugin": None},
            executor=executor,
            gpus_per_trial=gpus_per_trial,
            processes_per_trial=processes_per_trial,
            slurm=given,
            retry_failed=True,
        )
        _show(outcome)
        failed = failed or not outcome.complete
    if failed:
        raise typer.Exit(1)


def list_(
    out: Annotated[Path, typer.Option(help="A folder whose studies are listed as well.", metavar="DIR")] = Path(
        DEFAULT_FOLDER
    ),
) -> None:
    """List the presets with their scales, and the studies in a folder.

    Exit code: 0; 2 for faults of the input.
    """
    from ..records.study import list_studies
    from ..studies.catalogue import preset_summaries
    from ..studies.status import study_status
    from .study_list import folder_text, presets_text

    sys.stdout.write(presets_text(preset_summaries()))
    found = []
    for name in list_studies(out):
        try:
            found.append(study_status(out, name))
        except RecordError as fault:
            # One that cannot be read does not hide the others.
            sys.stderr.write(f"Note: {fault}\n")
    if found:
        sys.stdout.write("\n" + folder_text(out, found))


def show(
    study: Annotated[
        str,
        typer.Argument(
            help="A preset, a YAML file, or the folder of a study (DIR/studies/NAME).", metavar="NAME_OR_FILE"
        ),
    ],
    scale: Scale = None,
    yaml: Annotated[
        bool,
        typer.Option("--yaml", help="Print its definition at the scale, as YAML that 'study run' takes.", metavar=""),
    ] = False,
) -> None:
    """Show what a study asks, its settings, rows, searches, stages and claims, and how many trials it has.

    Exit code: 0; 2 for faults of the input.
    """
    from ..studies.catalogue import definition_yaml, read_definition_of
    from .study_show import study_text

    definition = read_definition_of(study, scale)
    sys.stdout.write(definition_yaml(definition) if yaml else study_text(definition))


def status(
    folder: Folder = Path(DEFAULT_FOLDER),
    name: Study = None,
    json: Annotated[bool, typer.Option("--json", help="Print it for a program.", metavar="")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds, until nothing is left.", metavar="")
    ] = False,
) -> None:
    """Say how many trials are done, running, failed (and why) and left, and how long the rest will take.

    The time left is the mean of the latest trials of each row, times those that are left, over the trials that run at
    a time. Stages, and what the search will yet ask for, are not in it.

    Exit code: 0; 2 for faults of the input.
    """
    from ..studies.catalogue import choose_studies
    from .study_status import show_status

    root, names = choose_studies(folder, name)
    show_status(root, names, as_json=json, watch=watch)


def report(folder: Folder = Path(DEFAULT_FOLDER), name: Study = None) -> None:
    """Write report.html and table.md of a study anew, from what its trials have left so far.

    Exit code: 0; 2 for faults of the input.
    """
    from ..records.study import study_folder
    from ..studies.catalogue import choose_studies
    from ..studies.results import gather_results
    from ..studies.study_outcome import StudyOutcome, write_report_of

    root, names = choose_studies(folder, name)
    if not names:
        raise ConfigurationError(
            f"'{folder}' holds trials and no study, so there is no table to draw. 'logitlab compare' and 'logitlab "
            "study run' leave one; 'logitlab study export' writes the trials as they are."
        )
    for each in names:
        place = study_folder(root, each)
        outcome = StudyOutcome(gather_results(root, each), root, place)
        page = write_report_of(outcome.results, place)
        sys.stdout.write(f"{outcome}\n\nReport: {printable(str(page.resolve()))}\n")


def export(
    folder: Folder = Path(DEFAULT_FOLDER),
    *,
    to: Annotated[
        str,
        typer.Option(
            help="csv or parquet: a row a trial; latex: the table (booktabs); mlflow: an experiment a study, a run a "
            "trial; tensorboard: event files and hyperparameters.",
            metavar="NAME",
        ),
    ] = "csv",
    name: Study = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Write here. mlflow: a file for an SQLite data base, a folder that gets mlflow.db, or the address of "
            "a tracking server; tensorboard: a folder.",
            metavar="PATH",
            show_default="the screen; DIR/mlflow.db; DIR/tensorboard-export",
        ),
    ] = None,
) -> None:
    """Write what the trials of a study have left for other programs.

    Exports that are made twice replace what they wrote, and add nothing twice. Values are written as they are: a
    spreadsheet may take a name that begins with =, +, - or @ for a formula, so import columns of names as text.

    Exit code: 0; 2 for faults of the input.
    """
    from ..studies.export import export_studies

    done = export_studies(folder, to, output, sys.stdout, name)
    for sentence in done.damage:
        sys.stderr.write(f"Note: {sentence}\n")
    if done.place is not None:
        sys.stderr.write(f"{done.summary}, in {printable(done.place)}\n")


_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "list": list_,
    "show": show,
    "status": status,
    "report": report,
    "retry": retry,
    "export": export,
}
for _name, _command in _COMMANDS.items():
    app.command(name=_name, cls=SingleValues)(_command)


def _run(study: Any, shared: dict[str, Any], **options: Any) -> StudyOutcome:
    from ..studies import run
    from .progress import create_reporter

    reporter = create_reporter(sys.stderr)
    try:
        return run(
            study,
            out=shared["out"],
            workers=shared["workers"],
            device=shared["device"],
            data_root=shared["data_root"],
            plugins=shared["plugin"] or (),
            report=not shared["no_report"],
            tensorboard=shared["tensorboard"],
            progress=reporter,
            **options,
        )
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(
            f"logitlab: Interrupted. {reporter.finished} of {reporter.total} trials are finished and kept in "
            f"'{printable(str(shared['out']))}'; the same command continues.\n"
        )
        raise typer.Exit(getattr(interrupt, "exit_code", 130)) from None


def _show(outcome: StudyOutcome) -> None:
    """Print the table, the verdicts, the seconds and the page."""
    # What stands behind each verdict takes a paragraph; the page has it.
    closing = [verdict.line for verdict in outcome.verdicts]
    if closing:
        closing.append("")
    closing.append(f"Took {outcome.seconds:.1f} s. Records and models: {resolved(outcome.root / 'trials')}")
    if outcome.report is not None:
        closing.append(f"Report: {resolved(outcome.report)}")
    show_results(outcome.table, closing)
