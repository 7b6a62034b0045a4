"""From cached outputs to the arrays that a trial leaves beside its record, for the report and for rejection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitlab.data.decoding import resize
from logitlab.functional import normalize
from logitlab.heads import Head
from logitlab.heads.scores import own_rows
from logitlab.records import MOST_LOGITS

from .collecting import ImageSource, Outputs
from .measuring import log_probabilities

if TYPE_CHECKING:
    import numpy

# Rows at a time where float64 probabilities or unit features are made: bounds the copies.
_ROWS = 8192
_EXAMPLES = 12
_LARGEST_THUMBNAIL = 64


def output_arrays(head: Head, test: Outputs, validation: Outputs, images: ImageSource) -> dict[str, numpy.ndarray]:
    """Build the arrays of ``logitlab.records.write_outputs``.

    Args:
        head: the trained head.
        test: its outputs on the test images.
        validation: its outputs on the validation images.
        images: the test images, of which examples are kept as thumbnails.

    Returns:
        NumPy arrays by name.
    """
    confidence = largest_probability(head, test.logits)
    predicted = test.logits.argmax(dim=1)
    index, kind = _examples(test, predicted, test.max_logit if head.link == "none" else confidence)
    arrays = {
        "labels": test.labels.int(),
        "predicted": predicted.int(),
        "confidence": confidence,
        "max_logit": test.max_logit.float(),
        "feature_norm": test.features.norm(dim=1),
        "own_cosine": _own_cosine(test, head),
        "kappa_star": test.kappa_star.float(),
        "validation_labels": validation.labels.int(),
        "validation_predicted": validation.logits.argmax(dim=1).int(),
        "validation_confidence": largest_probability(head, validation.logits),
        "validation_max_logit": validation.max_logit.float(),
        "example_index": index.int(),
        "example_pixels": _thumbnails(images, index),
        "example_kind": kind,
    }
    if test.logits.numel() <= MOST_LOGITS:
        # Large logits of a linear head stay finite: readers take a softmax of them.
        largest = torch.finfo(torch.float16).max
        arrays["logits"] = test.logits.clamp(-largest, largest).half()
    return {name: values.contiguous().numpy() for name, values in arrays.items()}


def largest_probability(head: Head, logits: Tensor) -> Tensor:
    """The largest probability of each row, float32 ``[N]``; NaN for a head without probabilities.

    Args:
        head: its link decides; see :func:`~logitlab.evaluation.log_probabilities`.
        logits: ``[N, C]``.
    """
    if head.link == "none":
        return torch.full((len(logits),), torch.nan)
    return torch.cat([log_probabilities(head, chunk).amax(dim=1).exp().float() for chunk in torch.split(logits, _ROWS)])


def _own_cosine(outputs: Outputs, head: Head) -> Tensor:
    """Cosine between each feature and the weight of its own class (the nearest centre); zero for a zero feature."""
    unit_weight = normalize(head.weight.detach().cpu())
    parts = [
        (normalize(features) * unit_weight[own_rows(head, features, labels)]).sum(dim=1)
        for features, labels in zip(torch.split(outputs.features, _ROWS), torch.split(outputs.labels, _ROWS))
    ]
    # Rounding may leave a cosine a little outside.
    return torch.cat(parts).clamp(-1, 1).float()


def _examples(outputs: Outputs, predicted: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the most confident mistakes (kind 0) and the least confident images (kind 1); ties by index."""
    wrong = torch.nonzero(predicted != outputs.labels).flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:_EXAMPLES]
    doubtful = confidence.argsort(stable=True)[:_EXAMPLES]
    kind = torch.tensor([0] * len(worst) + [1] * len(doubtful), dtype=torch.int8)
    return torch.cat([worst, doubtful]), kind


def _thumbnails(images: ImageSource, index: Tensor) -> Tensor:
    """Read images and make them at most 64 pixels wide and high: uint8 ``[K, channels, height, width]``."""
    parts = []
    for pixels, _ in images.batches(index, max(1, len(index))):
        # Images of a data set are square.
        parts.append(resize(pixels.cpu(), min(_LARGEST_THUMBNAIL, pixels.shape[-1])))
    return torch.cat(parts)
