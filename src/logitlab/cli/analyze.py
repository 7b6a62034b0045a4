"""``logitlab analyze``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..config.names import printable
from .borrowing import with_options_from
from .compare import compare


@with_options_from(compare, "plugin", "data_root", "device", "no_report")
def analyze(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="Folders with model.safetensors and model.json: trials', or what train --out made of one trial.",
            metavar="CKPT...",
        ),
    ],
    data: Annotated[str, typer.Argument(help="As for 'logitlab compare', with the classes of the checkpoints.")],
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="all, basic (a number a model, quick), or a measure: accuracy, separation, cka, hull, tsne, "
            "plane (features of two dimensions), corruption (75 passes: never by all) and so on. Repeatable. "
            + escape("[default: all]"),
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            help="Which images: test, validation, train or all. Split as in the training of each checkpoint.",
            metavar="NAME",
        ),
    ] = "test",
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Modules of the backbones whose outputs are compared. Repeatable. "
            + escape("[default: auto, their blocks]"),
            metavar="auto|NAME",
            show_default=False,
        ),
    ] = None,
    pooling: Annotated[
        str, typer.Option(help="Feature maps as vectors: mean (over space) or flatten.", metavar="NAME")
    ] = "mean",
    ood: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure on images of another kind as well: noise, patches, notmnist, dtd, a data set, a folder of "
            "images, npz:FILE. Repeatable.",
            metavar="NAME|PATH",
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Train a linear classifier on the features of another data set. Repeatable.", metavar="NAME|PATH"
        ),
    ] = None,
    control: Annotated[
        bool,
        typer.Option("--control", help="Compare layers with an untrained network's as well.", metavar=""),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Look at no more images of a part than these.",
            metavar="INT ≥ 1",
            show_default="all; 10,000 training images",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the analysis. Passes over images that lie there are not run again.", metavar="DIR"
        ),
    ] = Path("logitlab-analysis"),
    as_json: Annotated[bool, typer.Option("--json", help="Print analysis.json instead of a table.")] = False,
    *,
    shared: dict[str, Any],
) -> None:
    """Measure trained models side by side: features, layers, angles, calibration, confidence, with pictures.

    Each model passes over the images once; what it says is kept below --out. A measure that is undefined for a model
    is told, and the others go on.

    Exit code: 0; 2 for faults of the input; 130 for Ctrl-C, after which the same command continues.
    """
    from ..records.analysis import analysis_text
    from ..studies import analyze as run

    def tell(sentence: str) -> None:
        sys.stderr.write(f"{printable(sentence)}\n")
        sys.stderr.flush()

    try:
        found = run(
            checkpoints,
            data,
            measures=measure or "all",
            part=part,
            layers=layers or "auto",
            pooling=pooling,
            ood=ood or (),
            probes=probe or (),
            control=control,
            limit=limit,
            out=out,
            device=shared["device"],
            data_root=shared["data_root"],
            plugins=shared["plugin"] or (),
            report=not shared["no_report"],
            tell=tell,
        )
    except KeyboardInterrupt:
        tell("Interrupted. The same command goes on from the passes that are done.")
        raise
    for notice in found.notices:
        tell(notice)
    if as_json:
        sys.stdout.write(analysis_text(found.analysis))
        return
    # A file or a pipe has no width, unless COLUMNS gives it one.
    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    sys.stdout.write(found.to_text(max(shutil.get_terminal_size().columns, 40) if wide else None))
    sys.stdout.write(f"Took {found.seconds:.1f} s. Numbers: {printable(str((out / 'analysis.json').resolve()))}\n")
    if found.report is not None:
        sys.stdout.write(f"Report: {printable(str(found.report.resolve()))}\n")
