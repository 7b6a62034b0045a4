"""``logitlab predict``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.errors import ConfigurationError
from .borrowing import with_options_from
from .compare import compare


@with_options_from(compare, "plugin", "device")
def predict(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A folder with model.safetensors and model.json: a trial's, or what train --out made of one trial.",
            metavar="CKPT",
        ),
    ],
    images: Annotated[
        list[str], typer.Argument(help="Files, folders (with all below them) and patterns such as 'photos/**/*.jpg'.")
    ],
    reject_below: Annotated[
        float | None,
        typer.Option(
            help="Reject answers of less than this: the largest probability, a number between 0 and 1; for a head "
            "without probabilities (squared_error) the largest logit, any number.",
            metavar="FLOAT",
        ),
    ] = None,
    reject_for_precision: Annotated[
        float | None,
        typer.Option(
            help="Choose the lowest threshold at which accepted answers about the validation images are right this "
            "often. An estimate, a little optimistic, for images like those; 30 of them at the least.",
            metavar="FLOAT > 0, < 1",
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="csv, or jsonl (a JSON object a line).", metavar="NAME")
    ] = "csv",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write here instead of to the screen; what stands there is replaced when all is written.",
            metavar="FILE",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.", metavar="INT ≥ 1")] = 64,
    *,
    shared: dict[str, Any],
) -> None:
    """Say of each image which class it shows, how surely, and whether to accept the answer.

    Images are converted and resized as in training. The columns are path, class, probability (max_logit for a head
    without probabilities), accepted (accept or reject) and error. Names of files and classes are written as they
    are: a spreadsheet may take one that begins with =, +, - or @ for a formula, so import those columns as text.

    Exit code: 0; 1 when an image could not be read (the others are answered); 2 when none could, and for faults of
    the input.
    """
    if reject_below is not None and reject_for_precision is not None:
        raise ConfigurationError("Give --reject-below or --reject-for-precision, not both.")
    from ..records.outgoing import whole_file
    from ..serving import Predictor, list_images, write_predictions
    from ..studies.components import read_device
    from ..studies.plugins import import_plugins

    import_plugins(shared["plugin"] or ())
    predictor = Predictor.load(checkpoint, device=read_device(shared["device"]), batch_size=batch_size)
    threshold = predictor.choose_threshold(
        reject_below, reject_for_precision, called=("--reject-below", "--reject-for-precision")
    )
    paths = list_images(images)
    with ExitStack() as stack:
        target = sys.stdout if output is None else stack.enter_context(whole_file(output))
        summary = write_predictions(
            predictor.stream(paths, threshold=threshold.value),
            target,
            form=form,
            score=predictor.score,
            complain=lambda fault: sys.stderr.write(f"logitlab: {fault}\n"),
        )
    sys.stderr.write(f"{summary}{threshold}\n")
    if summary.unreadable:
        raise typer.Exit(1 if summary.answered else 2)
