"""A frozen backbone: its features are computed once, kept on disk, and stand in for the images of every trial."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from logitlab.config.errors import RecordError, TrialError
from logitlab.config.trial import TrialConfig, canonical_json
from logitlab.data import Images, Split, pixel_statistics, prepare_batch
from logitlab.models import Backbone, TimmBackbone

from .feature_file import FeatureWriter, read_features, remove_leftovers
from .provenance import describe_environment

_FORMAT = 2
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
    """Return mean and standard deviation of each channel, of the images themselves.

    Features, and images for a model that was trained on others, say which were or shall be used.
    """
    mean, std = getattr(images, "pixel_mean", None), getattr(images, "pixel_std", None)
    return pixel_statistics(images) if mean is None or std is None else (mean, std)


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
    they are. Trials that share data, split, backbone, its weights and precision share one file, whatever their
    heads and recipes, on one kind of device and with one version of torch. The first to need it computes it while
    the others wait; a file is either whole or absent, and the lock of a process that is killed is free at once.
    A file whose bytes are not those that were written is computed again, and a warning says so. Neither computing
    nor reading holds more than a batch in memory: the file, 4·D bytes an image, is mapped.

    Args:
        trial: says what the features depend on.
        split: the images.
        backbone: as the trial starts with it; moved to ``device`` and left in evaluation mode.
        root: the folder of the study.
        device: a torch device.

    Raises:
        TrialError: features are not finite.
        RecordError: the file cannot be read although it has just been written.
        OSError: the file system refuses.
    """
    essence = canonical_json(_essence(trial, backbone, device))
    path = root / "features" / f"{hashlib.sha256(essence.encode()).hexdigest()[:16]}.safetensors"
    counts = {part: len(getattr(split, part)) for part in _PARTS}
    read = partial(read_features, path, essence, counts, cast(Backbone, backbone).num_features)
    found = None
    with suppress(RecordError):
        found = read()
    if found is not None:
        return _stand_ins(split, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path) as alone:
        try:
            found = read()  # another process was faster
        except RecordError as fault:
            warnings.warn(f"{fault} They are computed again.", stacklevel=2)
        if found is None:
            if alone:
                remove_leftovers(path)
            # Convolutions are faster in this format, as in training.
            backbone.to(device).to(memory_format=torch.channels_last).eval()
            _compute(path, split, backbone, device, trial, essence)
            found = read()
            assert found is not None
    return _stand_ins(split, found)


def _essence(trial: TrialConfig, backbone: nn.Module, device: torch.device) -> dict[str, Any]:
    """Return what the features depend on, bit for bit.

    The weights stand for what they come from: a seed, a file, or a download that another version of timm, or its
    publisher, may have changed.
    """
    versions = describe_environment(device)["versions"]
    return {
        "format": _FORMAT,
        "revision": trial.revision,
        "data": trial.data.model_dump(mode="json", exclude={"name"}),
        "data_fingerprint": trial.data_fingerprint,
        "backbone": trial.backbone.essence(),
        "weights": _weights_digest(backbone),
        "precision": trial.training.precision,
        "device": device.type,
        "torch": versions["torch"],
        "timm": versions["timm"] if isinstance(backbone, TimmBackbone) else None,
    }


def _weights_digest(backbone: nn.Module) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all parameters and buffers."""
    found = hashlib.sha256()
    for name, value in backbone.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@torch.no_grad()
def _compute(
    path: Path, split: Split, backbone: nn.Module, device: torch.device, trial: TrialConfig, essence: str
) -> None:
    mean, std = pixel_statistics(split.train)
    prepare = partial(prepare_batch, mean=mean, std=std)
    with FeatureWriter(path, essence) as file:
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
def _alone(path: Path) -> Iterator[bool]:
    """Let one process at a time inside; where there are no such locks, each computes for itself.

    Yields:
        whether this process is known to be the only one.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not a POSIX system
        yield False
        return
    with path.with_name(f".{path.stem}.lock").open("w") as lock:
        locked = False
        # Some network file systems know no locks.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
            locked = True
        yield locked


def _as_they_are(features: Tensor, **_: Any) -> Tensor:
    """Leave features alone, whatever augmentation the data set would have."""
    return features
