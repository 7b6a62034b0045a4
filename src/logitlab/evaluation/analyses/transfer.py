"""Measures on images that the model was not trained for: a linear probe on another data set, corrupted images."""

from __future__ import annotations

from typing import Any

from logitlab.analysis import linear_probe, mean_corruption_error

from ..subjects import TRAINING_IMAGES, Subject
from .requests import Request, plain_entry


def probe(subject: Subject, request: Request) -> dict[str, Any]:
    """Accuracy of a linear classifier on the features of other data sets (W A.2, Table 1).

    The images are resized and get the channels of the model; the classifier is trained on at most ``TRAINING_IMAGES``
    of the training part, or on the limit of the analysis. A set with validation images of its own chooses λ on them.
    """
    limit = subject.around.limit
    sets = {}
    for name in request.probes:
        data, train = subject.other(name, "train", limit or TRAINING_IMAGES)
        _, test = subject.other(name, "test", limit)
        held: dict[str, Any] = {}
        if data.validation is not None:
            _, validation = subject.other(name, "validation", limit)
            held = {"x_validation": validation["features"], "y_validation": validation["labels"]}
        found = plain_entry(
            linear_probe(
                train["features"],
                train["labels"],
                test["features"],
                test["labels"],
                **held,
                device=subject.around.device,
                split=f"test of {data.name}",
            )
        )
        if train.rows < len(data.train):
            found["convention"] += f"; {train.rows} of {len(data.train)} training images"
        sets[data.name] = found
    first = next(iter(sets.values()))
    mean = sum(found["value"] for found in sets.values()) / len(sets)
    convention = first["convention"] if len(sets) == 1 else f"mean over {', '.join(sets)}; {first['convention']}"
    return {**first, "value": mean, "convention": convention, "data": ", ".join(sets), "sets": sets}


def corruption(subject: Subject, request: Request) -> dict[str, Any]:
    """Mean corruption error over the corruptions of ImageNet-C at five severities, without a baseline.

    AlexNet's errors, which the literature divides by, belong to ImageNet; on other images a mean of errors is what can
    be said. ``alexnet`` is W Table 2's number all the same, for models of ImageNet.
    """
    from ..corruption import corruption_errors

    subject.around.tell(f"{subject.label}: passes over corrupted images.")
    model = subject.load().to(subject.around.device)
    options = subject.options
    images = subject.part(subject.around.part)
    errors = corruption_errors(
        model,
        images,
        options.prepare,
        limit=subject.around.limit,
        device=options.device,
        batch_size=options.batch_size,
        precision=options.precision,
    )
    entry = plain_entry(mean_corruption_error(errors, baseline=None, split=subject.around.part))
    limit = subject.around.limit
    if limit is not None and limit < len(images):
        entry["convention"] += f"; {limit} of {len(images)} images"
    return {**entry, "alexnet": mean_corruption_error(errors).value, "errors": errors}
