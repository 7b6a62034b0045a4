"""A frozen backbone: its features are computed once, kept on disk, and stand in for the images of every trial."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitlab.config.errors import RecordError, TrialError
from logitlab.config.trial import TrialConfig, canonical_json
from logitlab.data import Images, Split, pixel_statistics, prepare_batch

from .feature_file import FeatureWriter, read_features

_FORMAT = 1
# A size of its own: the features shall not hang on the recipe of the trial that happens to compute them.
_BATCH = 64
_PARTS = ("train", "validation", "test")


class FeatureImages:
    """Images of which only the features are left; see `logitlab.data.Images`, "pixels" being float32 ``[B, D]``.

    Args:
        features: float32 ``[N, D]``; may be a file that is mapped into memory.
        labels: int64 ``[N]``.
        pixel_mean: ``[channels]`` that the images were normalised with.
        pixel_std: ``[channels]``, likewise.
    """

    def __init__(self, features: Tensor, labels: Tensor, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        self.features = features
        self.labels = labels
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> FeatureImages:
        """Copy the features at ``indices``, in that order."""
        return FeatureImages(self.features[indices], self.labels[indices], self.pixel_mean, self.pixel_std)

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`; only the rows of one batch are read at a time."""
        for chosen in torch.split(indices, batch_size) if len(indices) else ():
            yield self.features[chosen].to(device), self.labels[chosen].to(device)


def image_statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, of the images themselves or of those behind features."""
    if isinstance(images, FeatureImages):
        return images.pixel_mean, images.pixel_std
    return pixel_statistics(images)


def preparation(images: Images, mean: Tensor, std: Tensor) -> Callable[..., Tensor]:
    """Return what makes the model's input of a batch: normalisation of pixels, and of features nothing at all.

    Args:
        images: where the batches come from.
        mean: ``[channels]``, in units of [0, 1].
        std: ``[channels]``, in units of [0, 1].
    """
    return _as_they_are if isinstance(images, FeatureImages) else partial(prepare_batch, mean=mean, std=std)


def frozen_split(trial: TrialConfig, split: Split, backbone: nn.Module, root: Path, device: torch.device) -> Split:
    """Put features in the place of images: read from ``root/features``, or computed and left there.

    The backbone runs in evaluation mode over each image once, without augmentation; its batch statistics stay as
    they are. Trials that share data, split, backbone, initialisation and precision share one file, whatever
    their heads and recipes. The first to need it computes it while the others wait; a file is either whole or
    absent, and the lock of a process that is killed is free at once. Neither computing nor reading holds more
    than a batch in memory: the file, 4·D bytes an image, is mapped.

    Args:
        trial: says what the features depend on.
        split: the images.
        backbone: as the trial starts with it; moved to ``device`` and left in evaluation mode.
        root: the folder of the study.
        device: a torch device.

    Raises:
        TrialError: features are not finite.
        OSError: the file system refuses.
    """
    essence = canonical_json(_essence(trial))
    path = root / "features" / f"{hashlib.sha256(essence.encode()).hexdigest()[:16]}.safetensors"
    counts = {part: len(getattr(split, part)) for part in _PARTS}
    with suppress(RecordError):
        return _stand_ins(split, read_features(path, counts))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        try:
            found = read_features(path, counts)  # another process was faster
        except RecordError:
            # Convolutions are faster in this format, as in training.
            backbone.to(device).to(memory_format=torch.channels_last).eval()
            _compute(path, split, backbone, device, trial, essence)
            found = read_features(path, counts)
    return _stand_ins(split, found)


def _essence(trial: TrialConfig) -> dict[str, Any]:
    """Return what the features depend on; the seed of a pretrained backbone is not among it."""
    pretrained = trial.backbone.parameters.get("pretrained") is True
    start = "pretrained" if pretrained else {"seed": trial.seed, "zero_init_last": trial.training.zero_init_last}
    return {
        "format": _FORMAT,
        "revision": trial.revision,
        "data": trial.data.model_dump(mode="json", exclude={"name"}),
        "data_fingerprint": trial.data_fingerprint,
        "backbone": trial.backbone.essence(),
        "start": start,
        "precision": trial.training.precision,
    }


@torch.no_grad()
def _compute(
    path: Path, split: Split, backbone: nn.Module, device: torch.device, trial: TrialConfig, essence: str
) -> None:
    mean, std = pixel_statistics(split.train)
    prepare = partial(prepare_batch, mean=mean, std=std)
    with FeatureWriter(path, {"essence": essence}) as file:
        file.add("pixel_mean", len(mean), [mean])
        file.add("pixel_std", len(std), [std])
        for part in _PARTS:
            images: Images = getattr(split, part)
            file.add(part, len(images), _run(backbone, images, prepare, device, trial))


def _run(
    backbone: nn.Module,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    device: torch.device,
    trial: TrialConfig,
) -> Iterator[Tensor]:
    """Yield the features of one batch after another, float32 on the CPU."""
    for pixels, _ in images.batches(torch.arange(len(images)), _BATCH, device):
        with torch.autocast(device.type, torch.bfloat16, enabled=trial.training.precision == "bfloat16"):
            features = backbone(prepare(pixels))
        features = features.float().cpu()
        if not bool(features.isfinite().all()):
            raise TrialError(
                f"The frozen backbone '{trial.backbone.name}' gives features that are not finite. "
                "Take other weights, or precision 'float32'."
            )
        yield features


def _stand_ins(split: Split, found: dict[str, Tensor]) -> Split:
    mean, std = found["pixel_mean"], found["pixel_std"]
    parts = {part: FeatureImages(found[part], getattr(split, part).labels, mean, std) for part in _PARTS}
    return Split(**parts)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time inside; where there are no such locks, each computes for itself."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not a POSIX system
        yield
        return
    with path.with_name(f".{path.stem}.lock").open("w") as lock:
        # Some network file systems know no locks.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _as_they_are(features: Tensor, **_: Any) -> Tensor:
    """Leave features alone, whatever augmentation the data set would have."""
    return features
