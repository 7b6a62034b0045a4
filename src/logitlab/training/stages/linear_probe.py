"""The stage ``linear_probe``: how well a linear classifier on the frozen features solves other tasks (W A.2)."""

from __future__ import annotations

from typing import Any, Final

from logitlab.analysis import linear_probe as probe
from logitlab.evaluation.pass_cache import Pass
from logitlab.models.checkpoint import read_description
from logitlab.records.stages import CONVENTION
from logitlab.records.study import StageSource

from .context import StageContext
from .options import LinearProbeOptions
from .validated import planned_sets, validated

#: What the trial's own classes, learned anew, are called among the sets.
HELD_OUT: Final = "held_out"


def linear_probe(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Fit logistic regression to the features of each data set and measure it on its test part.

    Images are resized and get the channels of the model. A set that brings validation images chooses λ on them, others
    on a part that is held out by the stage's seed, the same for every head of a seed.

    Returns:
        set → ``accuracy``, ``strength`` (the λ chosen), ``validation_accuracy`` (with it), counts of images and the
        convention; ``held_out``, where it is asked for: the same for the trial's own classes, learned anew; and
        ``mean``: the mean accuracy over the sets, without ``held_out``.
    """
    options = validated(LinearProbeOptions, source)
    sets = planned_sets(context, source, options.data, read_description(context.folder).image_size)
    subject = context.subject()
    found: dict[str, Any] = {}
    for name, data in zip(options.data, sets):
        _, train = subject.other(name, "train", options.train_limit)
        _, test = subject.other(name, "test", options.limit)
        held = None
        if data.validation is not None and options.variant == "kornblith":
            _, held = subject.other(name, "validation", options.limit)
        found[data.name] = _probe(context, options, data.name, train, test, held)
    mean = sum(each["accuracy"] for each in found.values()) / len(found)
    if options.held_out:
        # A limit is one of both parts here.
        train = context.subject("validation", options.train_limit).measured
        test = context.subject("test", options.limit).measured
        found[HELD_OUT] = _probe(context, options, context.trial.data.name, train, test, None)
    return {**found, "mean": {"accuracy": mean}}


def _probe(
    context: StageContext, options: LinearProbeOptions, name: str, train: Pass, test: Pass, held: Pass | None
) -> dict[str, Any]:
    """Fit to the rows of one pass and measure on those of another; λ is chosen on a third where there is one."""
    chosen_on: dict[str, Any] = {}
    if held is not None:
        chosen_on = {"x_validation": held["features"], "y_validation": held["labels"]}
    result = probe(
        train["features"],
        train["labels"],
        test["features"],
        test["labels"],
        **chosen_on,
        variant=options.variant,
        seed=context.seed,
        device=context.device,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        split=f"test of {name}",
    )
    context.notes.extend(f"{name}: {sentence}" for sentence in result.warnings)
    return {
        "accuracy": result.value,
        "strength": result.strength,
        "validation_accuracy": _chosen(result),
        "train_images": train.rows,
        "test_images": test.rows,
        CONVENTION: result.convention,
    }


def _chosen(result: Any) -> float | None:
    """Accuracy on what was held out, with the strength that was chosen; None where nothing was."""
    if not result.validation_count:
        return None
    place = result.strengths.tolist().index(result.strength)
    return float(result.validation_accuracy[place])
