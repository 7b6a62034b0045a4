"""Train one head and keep the model: the step from comparison to use."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import RecordError, TrialError
from ..config.names import printable
from ..config.specification import Specification
from ..config.study import ExecutionConfig
from ..config.torchrun import torchrun_launch
from ..config.trial import TrialConfig
from ..records import Store
from ..records.store import CARD_FILE
from .compare import run_plan, trial_function
from .defaults import DEFAULT_FOLDER
from .ood import attach_ood, choose_ood
from .plan import Plan, plan_comparison
from .progress import Reporter, Silent
from .together import run_together

if TYPE_CHECKING:
    from ..heads import Classifier
    from ..serving import Predictor


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what it measured.

    Attributes:
        record: of its trial: ``config``, ``result``, ``provenance``, and ``ood`` where it was asked for.
        folder: holds ``model.safetensors``, ``model.json``, ``outputs.npz``, ``record.json`` and the model card
            ``README.md``.
        seconds: how long this call took; a trial that was done before costs nothing.
    """

    record: dict[str, Any] = field(repr=False)
    folder: Path
    seconds: float

    @property
    def measures(self) -> Mapping[str, float | None]:
        """What was measured once on the test images."""
        return self.record["result"]["test"]  # type: ignore[no-any-return]

    @property
    def numbers(self) -> dict[str, float]:
        """The measures that are defined, those on out-of-distribution sets included (``"max_logit_ap, noise"``)."""
        strange = {
            f"{name}, {title}": value
            for title, measures in self.record.get("ood", {}).items()
            for name, value in measures.items()
        }
        return {name: value for name, value in {**self.measures, **strange}.items() if isinstance(value, (int, float))}

    def to_text(self) -> str:
        """Return a line a measure, as ``logitlab evaluate`` prints it: name, value, convention."""
        from ..evaluation.table import measures_text

        config, images = self.record["config"], self.record["result"].get("images") or {}
        head = Specification(config["head"]["name"], config["head"]["parameters"])
        count = f"{images['test']} images (test)" if "test" in images else "the test images"
        return measures_text(
            f"{head} on {printable(str(config['data']['name']))}: {count}",
            self.measures,
            ood=self.record.get("ood"),
            where={"class_separation": f"train, n = {images['train']}"} if "train" in images else None,
        )

    @property
    def card(self) -> str:
        """The model card, in Markdown."""
        return (self.folder / CARD_FILE).read_text(encoding="utf-8")

    def load(self) -> Classifier:
        """Build the model, on the CPU and in evaluation mode."""
        from ..models import load_checkpoint

        return load_checkpoint(self.folder)[0]

    def predictor(self, **options: Any) -> Predictor:
        """Return what answers about images; options as of :meth:`~logitlab.serving.Predictor.load`."""
        from ..serving import Predictor

        return Predictor.load(self.folder, **options)

    def __str__(self) -> str:
        head = self.record["config"]["head"]
        shown = [f"{name} {value:.4g}" for name, value in self.numbers.items()]
        return f"{Specification(head['name'], head['parameters'])}: {', '.join(shown)}\n{self.folder}"


def train(
    data: str | Path = "digits",
    *,
    head: str | Specification,
    backbone: str | Specification = "small_cnn",
    seed: int = 0,
    out: str | Path = DEFAULT_FOLDER,
    device: str | None = None,
    data_root: str | Path | None = None,
    plugins: Sequence[str] = (),
    image_size: int | None = None,
    train_limit: int | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    ood: Sequence[str] | str | None = None,
    tensorboard: bool = False,
    progress: Reporter | None = None,
    **training: Any,
) -> TrainedModel:
    """Train one head, measure it once on the test images, and leave a checkpoint with a model card.

    It is a trial like those of :func:`~logitlab.compare`, with the same identity: a trial that a comparison has
    done in ``out`` is not run again, and gets its model card.

    Processes that torchrun started, each with the same call, train the trial together with the gradients of one
    process; see :mod:`logitlab.training.distributed`. They share ``out``, and all of them return the model.

    Args:
        data: as in :func:`~logitlab.compare`.
        head: a name with its parameters, such as ``"cosine:kappa=20"``.
        backbone: the network below the head.
        seed: of initialisation, order and augmentation.
        out: the folder of records and trained models.
        device: a torch device; None for a GPU where there is one.
        data_root: the folder that holds data sets; None for ``$LOGITLAB_DATA``.
        plugins: modules or files that register heads of your own.
        image_size: side to which images are resized, in pixels.
        train_limit: at most this many training images, class-balanced.
        validation_fraction: share of the training images that is held out.
        split_seed: seed of that choice.
        ood: out-of-distribution sets to measure the model on, as in :func:`~logitlab.compare`.
        tensorboard: log every epoch in ``out/tensorboard``.
        progress: receives the events; None for silence.
        **training: fields of :class:`~logitlab.config.training.TrainingConfig`, for instance ``epochs=30``.

    Raises:
        ConfigurationError: every fault of the arguments and the data, before training starts.
        TrialError: the training failed, for instance because its loss is no longer finite.
        RecordError: the trial is recorded, but its model is gone.
    """
    began = time.monotonic()
    folder = Path(out)
    root = None if data_root is None else str(data_root)
    launch = torchrun_launch()
    leads = launch is None or launch.rank == 0
    reporter = (progress if leads else None) or Silent()
    try:
        reporter.prepare()
        plan = plan_comparison(
            data={
                "name": str(data),
                "image_size": image_size,
                "train_limit": train_limit,
                "validation_fraction": validation_fraction,
                "split_seed": split_seed,
            },
            heads=[head],
            backbone=backbone,
            training=training,
            seeds=[seed],
            out=folder,
            executor="serial",
            workers=None,
            device=device,
            data_root=root,
            plugins=plugins,
            ood=choose_ood(ood, str(data)),
            options=[name for name in train.__annotations__ if name not in ("training", "return")],
        )
        function = trial_function(tensorboard)

        def run(plan: Plan) -> None:
            run_plan(plan, function, folder, root, ExecutionConfig(executor="serial"), reporter)

        if launch is None:
            run(plan)
        else:
            run_together(launch, plan, run, folder, root)
    finally:
        reporter.stop()
    (trial,) = plan.trials
    store = Store(folder)
    record = attach_ood(store, _finished(store, trial), plan.ood)
    place = store.trial_folder(trial.identity)
    if leads:
        write_card(place, record)
    return TrainedModel(record, place, time.monotonic() - began)


def write_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the model card of a finished trial beside its model.

    Args:
        folder: of the trial.
        record: of the trial.

    Raises:
        RecordError: the model is missing or damaged.
        ConfigurationError: the folder takes no file.
    """
    from ..heads.description import describe_head
    from ..heads.papers import full_source
    from ..models.checkpoint import WEIGHTS_FILE, read_description
    from ..records.outgoing import whole_file
    from ..records.outputs import read_outputs
    from ..report.model_card import model_card

    if not (folder / WEIGHTS_FILE).is_file():
        raise RecordError(
            f"The trial of '{folder}' is recorded, but its model is gone. Remove the folder to train it again."
        )
    description = read_description(folder).model_dump(mode="json")
    try:
        outputs = read_outputs(folder)
    except RecordError:
        # A card without the rows that rest on single answers is still a card.
        outputs = None
    source = full_source(describe_head(description["head"]["name"]).source)
    with whole_file(folder / CARD_FILE) as file:
        file.write(model_card(record, description, source, outputs))


def _finished(store: Store, trial: TrialConfig) -> dict[str, Any]:
    if store.is_done(trial.identity):
        # The record may stem from a comparison that wrote the head, or the path of the data, otherwise.
        return {**store.record(trial.identity), "config": trial.model_dump(mode="json")}
    failure = store.failure(trial.identity)
    reason = "it left no record" if failure is None else failure["error"].get("message") or "no reason was given"
    written = Specification(trial.head.name, trial.head.parameters)
    raise TrialError(f"The training of '{written}' failed: {' '.join(str(reason).split())}")
