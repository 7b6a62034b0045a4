"""Errors of a model on corrupted images, for the mean corruption error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from logitlab.analysis import accuracy
from logitlab.config.errors import InputError
from logitlab.data.corruptions import SEVERITIES, CorruptedImages, available_corruptions, check_corruption
from logitlab.data.images import Images
from logitlab.heads import Classifier

from .collecting import Precision, collect


def corruption_errors(
    model: Classifier,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    limit: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    precision: Precision = "float32",
) -> dict[str, list[float]]:
    """Corrupt images while they are read, once for each corruption and severity, and count the wrong answers.

    Args:
        model: on ``device``.
        images: the test images, at the size that the model takes: what is corrupted is what it would see.
        prepare: from pixels, uint8 ``[B, channels, height, width]``, to what the backbone takes.
        corruptions: names of `logitlab.data.corruptions.CORRUPTIONS`; None takes all that can be generated here.
        severities: from 1 to 5.
        limit: at most so many images, evenly spaced over the set (folders are in the order of classes); None takes
            all. An image gets the same corruption with any limit.
        seed: of the corruptions, at least 0; the same for all models that are compared.
        device: where the model lives; corruptions are computed on the CPU.
        batch_size: images a step; the corruptions do not depend on it.
        precision: see `collect`.

    Returns:
        corruption → top-1 error rates, one for each of ``severities``: what
        `logitlab.analysis.mean_corruption_error` takes.

    Raises:
        InputError: no images, no corruption or severity, one that is unknown or named twice, or a limit below 1.
        DataError: ``"frost"`` without its photographs.
        TrialError: features or logits are not finite.
    """
    names = available_corruptions() if corruptions is None else tuple(corruptions)
    _check(names, severities, limit, seed)
    count = len(images)
    chosen = torch.arange(count) if limit is None or limit >= count else torch.arange(limit) * count // limit
    errors: dict[str, list[float]] = {}
    for name in names:
        errors[name] = []
        for severity in severities:
            corrupted = CorruptedImages(images, name, severity, seed=seed)
            part = corrupted if len(chosen) == count else corrupted.select(chosen)
            outputs = collect(model, part, prepare, device=device, batch_size=batch_size, precision=precision)
            errors[name].append(1 - accuracy(outputs.logits, outputs.labels).value)
    return errors


def _check(names: Sequence[str], severities: Sequence[int], limit: int | None, seed: int) -> None:
    """Find every fault before the first pass, since there may be 75 of them."""
    for what, values in (("corruptions", names), ("severities", severities)):
        if not values or len(set(values)) < len(values):
            raise InputError(f"Expected at least one of '{what}', each once. Got {list(values)}.")
    if limit is not None and limit < 1:
        raise InputError(f"Expected a limit of at least 1 image. Got {limit}.")
    for name in names:
        for severity in severities:
            check_corruption(name, severity, seed)
