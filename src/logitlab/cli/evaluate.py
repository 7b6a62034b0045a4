"""``logitlab evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .borrowing import with_options_from
from .compare import compare


@with_options_from(compare, "plugin", "image_size", "data_root", "device")
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A folder with model.safetensors and model.json: a trial's, or what train --out made of one trial.",
            metavar="CKPT",
        ),
    ],
    data: Annotated[str, typer.Argument(help="As for 'logitlab compare', with the classes of the checkpoint.")],
    part: Annotated[
        str,
        typer.Option(
            help="Which images: test, validation, train or all. Split as in the training of the checkpoint.",
            metavar="NAME",
        ),
    ] = "test",
    ood: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure on images of another kind as well: noise, patches, notmnist, dtd, a data set, a folder of "
            "images, npz:FILE. Repeatable.",
            metavar="NAME|PATH",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    *,
    shared: dict[str, Any],
) -> None:
    """Measure a trained model on images with classes: accuracy, calibration, rejection, geometry.

    Exit code: 0; 2 for faults of the input.
    """
    from ..evaluation.checkpoint import evaluate_checkpoint
    from ..studies.components import read_device
    from ..studies.plugins import import_plugins

    import_plugins(shared["plugin"] or ())
    found = evaluate_checkpoint(
        checkpoint,
        data,
        part=part,
        ood=ood or (),
        image_size=shared["image_size"],
        data_root=shared["data_root"],
        device=read_device(shared["device"]),
    )
    sys.stdout.write(found.to_json_text() if as_json else found.to_text())
