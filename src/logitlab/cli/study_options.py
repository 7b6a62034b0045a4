"""Options and arguments that the commands of ``logitlab study`` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.errors import ConfigurationError
from ..config.specification import parse_specification

_EXECUTION = "Execution"

Folder = Annotated[
    Path,
    typer.Argument(
        help="The folder of trials and studies (--out of 'study run' and 'compare'), or of one study in it.",
        metavar="DIR",
        show_default=True,
    ),
]
Study = Annotated[
    str | None,
    typer.Option("--study", help="One of several studies in DIR.", metavar="NAME", show_default="all that there are"),
]
Scale = Annotated[
    str | None,
    typer.Option(
        help="Which of its scales, such as tiny, small or paper.", metavar="NAME", show_default="the study's own"
    ),
]
Executor = Annotated[
    str | None,
    typer.Option(
        help="process: trials side by side on this machine; serial: in this process; ray: a Ray cluster (RAY_ADDRESS), "
        "or one on this machine; slurm: jobs of a cluster.",
        metavar="NAME",
        show_default="the study's own, else ray where RAY_ADDRESS is set, else process",
        rich_help_panel=_EXECUTION,
    ),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        help="Share of a GPU that Ray and Slurm reserve for a trial.",
        metavar="FLOAT ≥ 0",
        show_default="1 where the device is cuda",
        rich_help_panel=_EXECUTION,
    ),
]
ProcessesPerTrial = Annotated[
    int | None,
    typer.Option(
        help="Above 1, torchrun trains each trial with so many processes.",
        metavar="INT ≥ 1",
        show_default="1",
        rich_help_panel=_EXECUTION,
    ),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        help="What the executor slurm asks of the cluster: cluster, array_tasks, timeout_minutes, partition, "
        "cpus_per_task, memory_gb, or parameters.NAME as submitit calls it. Repeatable.",
        metavar="KEY=VALUE",
        rich_help_panel=_EXECUTION,
    ),
]


def slurm_options(items: Sequence[str]) -> dict[str, Any] | None:
    """Read ``key=value`` options: numbers, words, and ``parameters.NAME`` for what submitit alone knows.

    Raises:
        ConfigurationError: every item that is none, or that is given twice.

    >>> slurm_options(["partition=gpu", "memory_gb=8", "parameters.slurm_account=abc"])
    {'partition': 'gpu', 'memory_gb': 8, 'parameters': {'slurm_account': 'abc'}}
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for item in items:
        key, equals, text = item.partition("=")
        group, point, name = key.strip().partition(".")
        place = values.setdefault("parameters", {}) if group == "parameters" and point else values
        name = name if place is not values else key.strip()
        if not equals or not name or not text.strip():
            faults.append(f"'--slurm' takes KEY=VALUE, such as partition=gpu. Got '{item}'.")
        elif name in place:
            faults.append(f"'--slurm' sets '{key.strip()}' twice. Set it once.")
        else:
            place[name] = _value(text.strip())
    if faults:
        raise ConfigurationError(faults)
    return values or None


def _value(text: str) -> Any:
    try:
        return parse_specification(f"slurm:value={text}").parameters["value"]
    except ConfigurationError:
        return text
