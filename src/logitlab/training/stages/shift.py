"""The stage ``shift``: accuracy on other test images of the trained classes (W Table 2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from logitlab.analysis import accuracy
from logitlab.data import DataSet, load_test_data
from logitlab.evaluation import collect
from logitlab.evaluation.passes import chosen_images
from logitlab.models.checkpoint import read_description
from logitlab.records.stages import CONVENTION
from logitlab.records.study import StageSource

from .classes import places_of
from .context import StageContext
from .options import ShiftOptions
from .validated import planned_sets, validated

_TOP = 5


def shift(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Measure the model on the test part of each data set: as it is, without training anything.

    Images are resized, get the channels of the model and its normalisation. Of a set with some of the model's classes
    alone, such as ImageNet-A and -R with 200 of ImageNet's, the best answer among these classes counts. Of a folder
    without ``train/`` all images are taken.

    Returns:
        set → ``accuracy`` (top-1), ``top5`` where it has more than five classes, ``classes``, ``images`` and the
        convention; and ``mean``: the mean accuracy over the sets.
    """
    options = validated(ShiftOptions, source)
    description = read_description(context.folder)
    sets = planned_sets(context, source, options.data, description.image_size, _shared)
    model, how = context.load_model(), context.subject().options
    found: dict[str, Any] = {}
    for data in sets:
        places = torch.tensor(places_of(data, description.class_names))
        images = data.test.select(chosen_images(len(data.test), options.limit))
        outputs = collect(
            model,
            images,
            how.prepare,
            device=context.device,
            batch_size=how.batch_size,
            precision=how.precision,
        )
        logits, labels = outputs.logits.numpy(), places[outputs.labels].numpy()
        split = f"test of {data.name}"
        best = accuracy(logits, labels, classes=places.numpy(), split=split)
        found[data.name] = {"accuracy": best.value, "classes": data.num_classes, "images": best.n}
        if data.num_classes > _TOP:
            found[data.name]["top5"] = accuracy(logits, labels, _TOP, classes=places.numpy(), split=split).value
        found[data.name][CONVENTION] = best.convention
    return {**found, "mean": {"accuracy": sum(each["accuracy"] for each in found.values()) / len(found)}}


@lru_cache(maxsize=4)
def _shared(name: str, side: int, root: str | None) -> DataSet:
    """Load a test set and keep it: many models look at the same images."""
    return load_test_data(name, image_size=side, root=root)
