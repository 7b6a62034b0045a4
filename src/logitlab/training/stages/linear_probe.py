"""The stage ``linear_probe``: how well a linear classifier on the frozen features solves other tasks (W A.2)."""

from __future__ import annotations

from typing import Any

from logitlab.analysis import linear_probe as probe
from logitlab.models.checkpoint import read_description
from logitlab.records.stages import CONVENTION
from logitlab.records.study import StageSource

from .context import StageContext
from .options import LinearProbeOptions
from .validated import planned_sets, validated


def linear_probe(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Fit logistic regression to the features of each data set and measure it on its test part.

    Images are resized and get the channels of the model. A set that brings validation images chooses λ on them, others
    on a part that is held out by the stage's seed, the same for every head of a seed.

    Returns:
        set → ``accuracy``, ``strength`` (the λ chosen), ``validation_accuracy`` (with it), counts of images and the
        convention; and ``mean``: the mean accuracy over the sets.
    """
    options = validated(LinearProbeOptions, source)
    sets = planned_sets(context, source, options.data, read_description(context.folder).image_size)
    subject = context.subject()
    found: dict[str, Any] = {}
    for name, data in zip(options.data, sets):
        _, train = subject.other(name, "train", options.train_limit)
        _, test = subject.other(name, "test", options.limit)
        held: dict[str, Any] = {}
        if data.validation is not None and options.variant == "kornblith":
            _, validation = subject.other(name, "validation", options.limit)
            held = {"x_validation": validation["features"], "y_validation": validation["labels"]}
        result = probe(
            train["features"],
            train["labels"],
            test["features"],
            test["labels"],
            **held,
            variant=options.variant,
            seed=context.seed,
            device=context.device,
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
            split=f"test of {data.name}",
        )
        context.notes.extend(f"{data.name}: {sentence}" for sentence in result.warnings)
        found[data.name] = {
            "accuracy": result.value,
            "strength": result.strength,
            "validation_accuracy": _chosen(result),
            "train_images": train.rows,
            "test_images": test.rows,
            CONVENTION: result.convention,
        }
    return {**found, "mean": {"accuracy": sum(each["accuracy"] for each in found.values()) / len(found)}}


def _chosen(result: Any) -> float | None:
    """Accuracy on what was held out, with the strength that was chosen; None where nothing was."""
    if not result.validation_count:
        return None
    place = result.strengths.tolist().index(result.strength)
    return float(result.validation_accuracy[place])
