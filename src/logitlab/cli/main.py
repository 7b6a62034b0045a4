"""The command ``logitlab``: faults become one line each on the error stream, never a traceback."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence

from ..config.errors import ConfigurationError, LogitLabError
from ..config.torchrun import torchrun_launch

FAULT = 2  # the exit code of a command that was called wrongly, as of every POSIX tool
INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows ``logitlab``; None takes the process's own.

    Returns:
        the exit code: 0 for success, 1 when trials failed, 2 for faults of the input, 130 for Ctrl-C, 143 for
        SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        # κ, ± and R² must not end a study on a terminal that cannot show them.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        launch = torchrun_launch()
        # Of several processes that train together one tells; a fault is told by whoever meets it.
        helps = launch is not None and launch.rank > 0
        with contextlib.redirect_stdout(io.StringIO()) if helps else contextlib.nullcontext():
            return _run(arguments)
    except ConfigurationError as fault:
        return _say(*fault.faults)
    except LogitLabError as fault:
        return _say(str(fault))
    except KeyboardInterrupt:
        return _say("Interrupted.", code=INTERRUPTED)
    except BrokenPipeError:
        # The reader (`head`, `less`) has seen enough; Python would complain when it flushes at exit.
        sys.stdout = None
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        import typer

        from .app import app
    except ModuleNotFoundError as fault:
        if fault.name is not None and fault.name.partition(".")[0] == "logitlab":
            raise
        return _say(f"The command needs '{fault.name}'. Install it with: pip install 'logitlab[lab]'")
    command = typer.main.get_command(app)
    try:
        code = command.main(None if arguments is None else list(arguments), prog_name="logitlab", standalone_mode=False)
    except typer.Abort as fault:
        return _say("Interrupted.", code=getattr(fault.__cause__, "exit_code", INTERRUPTED))
    except Exception as fault:
        # Typer's usage errors, which have moved between modules from version to version.
        if not hasattr(fault, "format_message"):
            raise
        return _say(_usage(fault))
    return code if isinstance(code, int) else 0


def _usage(fault: Exception) -> str:
    text = " ".join(str(fault.format_message()).split())  # type: ignore[attr-defined]
    context = getattr(fault, "ctx", None)
    path = "logitlab" if context is None else context.command_path
    end = "" if text.endswith((".", "?", ")")) else "."
    return f"{text}{end} See '{path} --help'."


def _say(*faults: str, code: int = FAULT) -> int:
    for fault in faults:
        sys.stderr.write(f"logitlab: {' '.join(fault.split())}\n")
    return code
