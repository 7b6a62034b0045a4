"""One pass of a model over images; what it leaves on the CPU serves every measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError, TrialError
from logitlab.functional import least_squares_kappa
from logitlab.heads import Classifier

Precision = Literal["float32", "bfloat16"]


class ImageSource(Protocol):
    """What a pass needs of images; every ``logitlab.data.Images`` has it."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = ...
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pixels (uint8) and labels (int64) on ``device``."""
        ...


@dataclass(frozen=True)
class Features:
    """What the backbone says of N images; on the CPU.

    Attributes:
        features: float32 ``[N, D]``.
        labels: int64 ``[N]``.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Outputs(Features):
    """What backbone and head say of N images; on the CPU.

    Attributes:
        logits: float32 ``[N, C]``, as in inference.
        max_logit: confidence ``[N]``: the largest cosine of a cosine head, else the largest logit (T §3.2.1).
        kappa_star: κ* by least squares ``[N]``, on heads of every kind (T (11)).
    """

    logits: Tensor
    max_logit: Tensor
    kappa_star: Tensor


@dataclass(frozen=True)
class Confidence:
    """How sure a model is of N images; on the CPU.

    Attributes:
        max_logit: float32 ``[N]``: the largest cosine of a cosine head, else the largest logit (T §3.2.1).
        feature_norm: float32 ``[N]``: the length of the feature (T §3.2.1, after its ref. [31]).
    """

    max_logit: Tensor
    feature_norm: Tensor


def collect(
    model: Classifier,
    images: ImageSource,
    prepare: Callable[[Tensor], Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    precision: Precision = "float32",
) -> Outputs:
    """Run backbone and head over images in eval mode; each module's own mode is restored afterwards.

    Args:
        model: on ``device``.
        images: any part of a data set.
        prepare: from pixels, uint8 ``[B, channels, height, width]``, to what the backbone takes (no
            augmentation).
        device: where the model lives.
        batch_size: images a step.
        precision: ``"bfloat16"`` runs the backbone under autocast; heads stay in float32.

    Raises:
        InputError: there are no images.
        TrialError: features or logits are not finite.
    """
    head = model.head

    def columns(features: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        logits = head(features)
        _check_finite("logits", logits)
        kappa_star = least_squares_kappa(features, head.weight)
        return features, labels, logits, head.max_logit(features), kappa_star

    return Outputs(*_run(model, images, prepare, columns, device, batch_size, precision))


def collect_features(
    model: Classifier,
    images: ImageSource,
    prepare: Callable[[Tensor], Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    precision: Precision = "float32",
) -> Features:
    """Run the backbone alone, as :func:`collect` does: what class separation on a training set needs."""

    def columns(features: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return features, labels

    return Features(*_run(model, images, prepare, columns, device, batch_size, precision))


def collect_confidence(
    model: Classifier,
    images: ImageSource,
    prepare: Callable[[Tensor], Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    precision: Precision = "float32",
) -> Confidence:
    """Run backbone and head as :func:`collect` does and keep two numbers an image; labels mean nothing here."""

    def columns(features: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return model.head.max_logit(features).float(), features.norm(dim=1)

    return Confidence(*_run(model, images, prepare, columns, device, batch_size, precision))


@torch.no_grad()
def _run(
    model: Classifier,
    images: ImageSource,
    prepare: Callable[[Tensor], Tensor],
    columns: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    device: torch.device | str,
    batch_size: int,
    precision: Precision,
) -> list[Tensor]:
    count = len(images)
    if count == 0:
        raise InputError("Expected images to evaluate on. Got none.")
    kept: list[Tensor] = []
    start = 0
    with _evaluating(model):
        for pixels, labels in images.batches(torch.arange(count), batch_size, device):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
                features = model.features(prepare(pixels))
            features = features.float()
            _check_finite("features", features)
            parts = columns(features, labels)
            if not kept:
                # Allocated once: joining a list of batches at the end would hold everything twice.
                kept = [torch.empty(count, *part.shape[1:], dtype=part.dtype) for part in parts]
            stop = start + len(labels)
            for whole, part in zip(kept, parts):
                whole[start:stop] = part
            start = stop
    return kept


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode and back, module by module: a frozen part may have been in eval mode all along."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_finite(what: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise TrialError(
            f"The model's {what} are not finite: training has diverged. Lower the learning rate, "
            "clip the gradient, or train in float32."
        )
