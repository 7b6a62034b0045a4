"""The command ``logitlab``: faults become one line each on the error stream, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from ..config.errors import ConfigurationError, LogitLabError
from ..config.names import printable
from ..config.torchrun import torchrun_launch

FAULT = 2  # the exit code of a command that was called wrongly, as of every POSIX tool
INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows ``logitlab``; None takes the process's own.

    Returns:
        the exit code: 0 for success, 1 when trials failed, 2 for faults of the input and output that cannot be
        written, 130 for Ctrl-C, 143 for SIGTERM.
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
            code = _run(arguments)
            # Now, and not when Python exits: a full disk is told in words.
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except ConfigurationError as fault:
        return _say(*fault.faults)
    except LogitLabError as fault:
        return _say(str(fault))
    except KeyboardInterrupt:
        return _say("Interrupted.", code=INTERRUPTED)
    except BrokenPipeError:
        # The reader (`head`, `less`) has seen enough.
        _abandon(sys.stdout)
        return 1
    except OSError as fault:
        return _say(_refusal(fault))


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
    if text.startswith("Missing") and getattr(getattr(fault, "param", None), "name", None) == "head":
        text += " 'logitlab heads' lists them."
    context = getattr(fault, "ctx", None)
    path = "logitlab" if context is None else context.command_path
    end = "" if text.endswith((".", "?", ")")) else "."
    return f"{text}{end} See '{path} --help'."


def _refusal(fault: OSError) -> str:
    """Say what the system refused: a file that it names, or to take what is written."""
    reason = fault.strerror or str(fault) or type(fault).__name__
    if fault.filename is not None:
        return f"Cannot use '{printable(str(fault.filename))}': {reason}."
    # It may keep what it could not write, and fail with it once more at exit.
    _abandon(sys.stdout)
    return f"Cannot write the output: {reason}. Make room, or send it elsewhere."


def _abandon(stream: TextIO) -> None:
    """Let a stream that takes nothing more be; Python would complain when it flushes it at exit."""
    if stream is not sys.__stdout__:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _say(*faults: str, code: int = FAULT) -> int:
    # Where nothing can be said the code says it.
    with contextlib.suppress(OSError):
        for fault in faults:
            sys.stderr.write(f"logitlab: {' '.join(fault.split())}\n")
    return code
