"""One pass over the validation images after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from logitlab.functional import least_squares_kappa
from logitlab.heads import Classifier


@dataclass(frozen=True)
class ValidationStatistics:
    """Means over the validation images.

    Attributes:
        loss: the head's own loss, penalties included; comparable within a head and not between heads.
        accuracy: share of images whose class has the largest logit.
        kappa_star: κ* by least squares (T (11)), measured on any head, linear ones included.
    """

    loss: float
    accuracy: float
    kappa_star: float


@torch.no_grad()
def validate(
    model: Classifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    autocast: bool = False,
    combine: Callable[[Tensor], Tensor] | None = None,
) -> ValidationStatistics:
    """Measure a model in evaluation mode.

    Args:
        model: left in evaluation mode.
        batches: images, float ``[B, channels, H, W]``, and labels, int64 ``[B]``, on the model's device; at
            least one image in all.
        autocast: run the backbone in bfloat16, as in training.
        combine: adds up what several processes counted, each on batches of its own (or on none); None for one.
    """
    model.eval()
    sums: list[Tensor] = []
    count = 0
    for images, labels in batches:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            features = model.features(images)
        loss, logits = model.head(features, labels, reduction="sum", return_logits=True)
        kappa = least_squares_kappa(features, model.head.weight)
        right = (logits.argmax(1) == labels).sum()
        # Summed in double on the device: one transfer at the end, and no digit of the count is lost.
        sums.append(torch.stack([loss.double(), right.double(), kappa.double().sum()]))
        count += len(labels)
    total = torch.stack(sums).sum(0) if sums else model.head.weight.new_zeros(3, dtype=torch.float64)
    if combine is not None:
        total = combine(torch.cat([total, total.new_full((1,), count)]))
        total, count = total[:3], int(total[3])
    loss_sum, right_sum, kappa_sum = (total / count).tolist()
    return ValidationStatistics(loss_sum, right_sum, kappa_sum)
