"""``logitlab train``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..config.errors import TrialError
from ..config.names import printable
from ..config.training import TrainingConfig
from .borrowing import with_options_from
from .compare import compare
from .options import with_options_of

_SHARED = (
    "backbone",
    "out",
    "plugin",
    "image_size",
    "train_limit",
    "validation_fraction",
    "split_seed",
    "data_root",
    "ood",
    "device",
    "tensorboard",
)


@with_options_of(TrainingConfig, panel="Training")
@with_options_from(compare, *_SHARED)
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="digits (embedded), fashion-mnist, mnist, cifar10, a torchvision set, a folder with a "
            "sub-folder a class, or npz:FILE."
        ),
    ] = "digits",
    *,
    head: Annotated[
        str,
        typer.Option(
            help="The head, with its parameters if you like: cosine:kappa=20,bias=true. 'logitlab heads' lists them.",
            metavar="NAME:KEY=VALUE,...",
        ),
    ],
    seed: Annotated[
        int, typer.Option(help="Of initialisation, order and augmentation, as in compare.", metavar="INT ≥ 0")
    ] = 0,
    shared: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Train one head and leave a model to use, with a model card; its folder is printed last.

    It is one trial of 'logitlab compare': what is recorded in --out is not trained again. torchrun -m logitlab train
    trains on several processes.

    Exit code: 0; 1 when the training failed; 2 for faults of the input; 130 for Ctrl-C; 143 for SIGTERM.
    """
    from ..studies import train as run
    from .progress import create_reporter

    shared["plugins"] = shared.pop("plugin") or ()
    shared["ood"] = shared["ood"] or None
    reporter = create_reporter(sys.stderr)
    try:
        trained = run(data, head=head, seed=seed, progress=reporter, **shared, **training)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("logitlab: Interrupted. The same command continues after the last finished epoch.\n")
        raise typer.Exit(getattr(interrupt, "exit_code", 130)) from None
    except TrialError as fault:
        # The line of the trial has said it already.
        if not reporter.failed:
            sys.stderr.write(f"logitlab: {fault}\n")
        raise typer.Exit(1) from None
    folder = printable(str(trained.folder.resolve()))
    sys.stdout.write(
        f"{trained.to_text()}"
        f"Took {trained.seconds:.1f} s. Model card: README.md in the folder of the checkpoint:\n{folder}\n"
    )
