"""``logitlab compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ..config.training import TrainingConfig
from ..config.trial import DataConfig
from ..studies import DEFAULT_FOLDER, DEFAULT_HEADS, DEFAULT_SEEDS
from .options import attribute_help, sentence, with_options_of
from .printing import resolved, show_results

if TYPE_CHECKING:
    from ..studies import Comparison

_DATA = {name: escape(sentence(text)) for name, text in attribute_help(DataConfig).items()}
_IMAGES = "Images"
_EXECUTION = "Execution"


@with_options_of(TrainingConfig, panel="Training")
def compare(
    data: Annotated[
        str,
        typer.Argument(
            help="digits (embedded), fashion-mnist, mnist, cifar10, a torchvision set, a folder with a "
            "sub-folder a class, or npz:FILE."
        ),
    ] = "digits",
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="A head, with its parameters if you like: cosine:kappa=20,bias=true. Once for each head. "
            + escape(f"[default: {', '.join(DEFAULT_HEADS)}]"),
            metavar="NAME:KEY=VALUE,...",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="The network below the heads: mlp, small_cnn, resnet_cifar:depth=20, all_cnn_c, "
            "wide_resnet:depth=16,width=8, resnet34_cifar, or any timm model.",
            metavar="NAME:KEY=VALUE,...",
        ),
    ] = "small_cnn",
    seeds: Annotated[int, typer.Option(help="Runs of each head, paired between heads.", metavar="INT ≥ 1")] = (
        DEFAULT_SEEDS
    ),
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of records and trained models. Trials that are recorded there are not run again.",
            metavar="DIR",
        ),
    ] = Path(DEFAULT_FOLDER),
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A module of your own that registers heads. Repeatable.", metavar="MODULE|FILE.py"),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help=_DATA["image_size"], metavar="INT ≥ 4", rich_help_panel=_IMAGES)
    ] = None,
    train_limit: Annotated[
        int | None, typer.Option(help=_DATA["train_limit"], metavar="INT ≥ 2", rich_help_panel=_IMAGES)
    ] = None,
    validation_fraction: Annotated[
        float,
        typer.Option(help=_DATA["validation_fraction"], metavar="FLOAT > 0, < 1", rich_help_panel=_IMAGES),
    ] = 0.1,
    ood: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure the trained models on images of another kind as well: noise, patches, notmnist, dtd, a data "
            "set, a folder of images, npz:FILE, or none. Repeatable; works on finished studies without training. "
            + escape("[default: patches and noise for digits, otherwise none]"),
            metavar="NAME|PATH",
            show_default=False,
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure the trained models further, as 'logitlab analyze' does: all, basic, or a measure such as cka "
            "or separation. Repeatable; works on finished studies without training.",
            metavar="NAME",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(help=_DATA["split_seed"], metavar="INT ≥ 0", rich_help_panel=_IMAGES)] = 0,
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds data sets.",
            metavar="DIR",
            envvar="LOGITLAB_DATA",
            show_default="data",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="process: trials side by side (one after another on a GPU); serial: in this process; ray; slurm.",
            metavar="NAME",
            rich_help_panel=_EXECUTION,
        ),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Trials at a time.",
            metavar="INT ≥ 1",
            show_default="one a CPU core",
            rich_help_panel=_EXECUTION,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="A torch device: cpu, cuda, cuda:1, mps.",
            metavar="NAME",
            show_default="a GPU where there is one",
            rich_help_panel=_EXECUTION,
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Log every epoch for TensorBoard in the folder 'tensorboard' below --out.",
            metavar="",
            rich_help_panel=_EXECUTION,
        ),
    ] = False,
    no_report: Annotated[
        bool,
        typer.Option(
            "--no-report", help="Leave report.html, the page of pictures, out.", metavar="", rich_help_panel=_EXECUTION
        ),
    ] = False,
    *,
    training: dict[str, Any],
) -> None:
    """Train classifier heads on the same images and say which one serves which purpose.

    Every head is trained with every seed and measured once on the test images. The same command continues a study.
    Ctrl-C lets the running trials finish; a second one stops at once.

    Exit code: 0; 1 when trials failed; 2 for faults of the input; 130 for Ctrl-C; 143 for SIGTERM.
    """
    from ..studies import compare as run
    from .progress import create_reporter

    reporter = create_reporter(sys.stderr)
    try:
        comparison = run(
            data,
            heads=head or None,
            backbone=backbone,
            seeds=seeds,
            out=out,
            executor=executor,
            workers=workers,
            device=device,
            data_root=data_root,
            plugins=plugin or (),
            image_size=image_size,
            train_limit=train_limit,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            ood=ood or None,
            measure=measure or (),
            progress=reporter,
            tensorboard=tensorboard,
            report=not no_report,
            **training,
        )
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(
            f"logitlab: Interrupted. {reporter.finished} of {reporter.total} trials are finished and kept in "
            f"'{out}'; the same command continues.\n"
        )
        raise typer.Exit(getattr(interrupt, "exit_code", 130)) from None
    _show(comparison)
    if comparison.failed:
        raise typer.Exit(1)


def _show(comparison: Comparison) -> None:
    """Print the table, the recommendations, the seconds and the folder."""
    closing = [
        *comparison.recommendations,
        "",
        f"Took {comparison.seconds:.1f} s. Records and models: {resolved(comparison.folder / 'trials')}",
    ]
    if comparison.analysis is not None:
        closing.append(f"Measures: {resolved(comparison.folder / 'analysis' / 'analysis.json')}")
    if comparison.report is not None:
        closing.append(f"Report: {resolved(comparison.report)}")
    show_results(comparison.table, closing)
