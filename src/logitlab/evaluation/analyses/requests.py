"""What an analysis of one model is asked for, and what its functions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import torch
from torch import Tensor

from logitlab.analysis import UndefinedError, confidence_scores
from logitlab.analysis.result import plain
from logitlab.heads.scores import own_rows

from ..pass_cache import Pass
from ..subjects import Subject

# Rows at a time where features of a memory map become tensors.
_ROWS = 8192


@dataclass(frozen=True)
class Request:
    """What a user asked for beside the names of measures.

    Attributes:
        ood: names of out-of-distribution sets.
        probes: names of data sets on whose features a linear classifier is trained.
        seed: of t-SNE and of samples of pairs.
    """

    ood: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    seed: int = 0


#: A result of `logitlab.analysis`, or plain values with at least ``value`` and ``convention``.
Found: TypeAlias = Any
Measure: TypeAlias = Callable[[Subject, Request], Found]


def plain_entry(found: Found) -> dict[str, Any]:
    """Return what a measure found as JSON holds it; ``value`` is there though it may be derived from other fields."""
    entry: dict[str, Any] = plain(found.to_json() if hasattr(found, "to_json") else found)
    if "value" not in entry and hasattr(found, "value"):
        entry["value"] = plain(found.value)
    return entry


def predictions(outputs: Pass) -> numpy.ndarray:
    """Predicted classes, int64 ``[N]``; of equal logits the first."""
    return numpy.concatenate(
        [outputs["logits"][start : start + _ROWS].argmax(axis=1) for start in range(0, outputs.rows, _ROWS)]
    )


def right(outputs: Pass) -> numpy.ndarray:
    """Whether each answer is right, bool ``[N]``."""
    found: numpy.ndarray = predictions(outputs) == numpy.asarray(outputs["labels"])
    return found


def rows_of_labels(subject: Subject, outputs: Pass) -> Tensor:
    """The row of the weight that speaks for each image's class, int64 ``[N]``."""
    labels = torch.from_numpy(numpy.array(outputs["labels"]))
    if subject.head.centers == 1:
        return labels
    return torch.cat(
        [
            own_rows(subject.head, tensor_of(outputs["features"][start : start + _ROWS]), labels[start : start + _ROWS])
            for start in range(0, outputs.rows, _ROWS)
        ]
    )


def tensor_of(values: numpy.ndarray) -> Tensor:
    """Copy rows of a memory map, which cannot be written, into a tensor."""
    return torch.from_numpy(numpy.array(values))


def one_weight_a_class(subject: Subject) -> None:
    """Refuse heads of several centres a class, where a measure knows one weight a class.

    Raises:
        UndefinedError: the head has several.
    """
    if subject.head.centers > 1:
        raise UndefinedError(f"The head has {subject.head.centers} weights a class; the measure is defined for one.")


def scores(subject: Subject, outputs: Pass) -> dict[str, Tensor]:
    """Every confidence score of `logitlab.analysis.confidence_scores`; Mahalanobis is fitted on training features."""
    if outputs.folder not in subject.kept_scores:
        found: Mapping[str, Tensor] = confidence_scores(
            outputs["features"],
            outputs["logits"],
            subject.weight,
            max_logit=tensor_of(outputs["max_logit"]),
            link=subject.link,
            mahalanobis=subject.fitted_mahalanobis(),
        )
        subject.kept_scores[outputs.folder] = dict(found)
    return subject.kept_scores[outputs.folder]


def on_training_images(subject: Subject, entry: dict[str, Any]) -> dict[str, Any]:
    """Say in the convention of how many training images those are that were looked at, where it is not all."""
    looked, there = subject.train.rows, len(subject.part("train"))
    if looked < there:
        entry["convention"] = f"{entry['convention']}; {looked} of {there} training images"
    return entry
