"""The Typer application: its commands and ``--version``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from .analyze import analyze
from .compare import compare
from .evaluate import evaluate
from .export_records import export_records
from .heads import heads
from .predict import predict
from .single import SingleValues
from .study import app as study
from .train import train

app = typer.Typer(name="logitlab", add_completion=False, pretty_exceptions_enable=False)
_COMMANDS = {
    "compare": compare,
    "train": train,
    "evaluate": evaluate,
    "analyze": analyze,
    "predict": predict,
    "heads": heads,
    "export-records": export_records,
}
for _name, _command in _COMMANDS.items():
    app.command(name=_name, cls=SingleValues)(_command)
app.add_typer(study, name="study")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"logitlab {version('logitlab')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def logitlab(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", metavar="", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Compare classifier heads (last layer, temperature, loss) on your own images."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
