"""The classification sets of torchvision, by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset
from torchvision import datasets

from logitlab.config.errors import DataError

from .dataset import DataSet, Part, check_labels, data_set_from_parts, tensor_bytes
from .decoding import decode_all, refuse_bombs, to_pixels
from .faults import check_memory, not_square, one_line, sizes_differ
from .images import MEMORY_LIMIT
from .splitting import split_off_test
from .streaming import StreamedImages

# Of a set that is streamed so many images, evenly spaced, go into the fingerprint.
_HASHED_IMAGES = 64


@dataclass(frozen=True)
class _Arguments:
    """How torchvision wants to be asked for each part; None where a set has no such part."""

    train: dict[str, Any]
    test: dict[str, Any] | None
    validation: dict[str, Any] | None = None
    augmentation: Literal["crop", "crop_flip"] = "crop_flip"


def _split(
    train: str,
    test: str,
    validation: str | None = None,
    augmentation: Literal["crop", "crop_flip"] = "crop_flip",
    **more: str,
) -> _Arguments:
    return _Arguments(
        {"split": train, **more},
        {"split": test, **more},
        None if validation is None else {"split": validation, **more},
        augmentation,
    )


_WHOLE = _Arguments({}, None)
_TRAIN_FLAG = _Arguments({"train": True}, {"train": False})
_GLYPHS = _Arguments({"train": True}, {"train": False}, augmentation="crop")

# Single-label sets whose test part has the training part's classes; MNIST and Fashion-MNIST: see idx.py.
# Written signs are not mirrored.
_SETS: dict[str, _Arguments] = {
    "CIFAR10": _TRAIN_FLAG,
    "CIFAR100": _TRAIN_FLAG,
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "Country211": _split("train", "test", "valid"),
    "DTD": _split("train", "test", "val"),
    "EMNIST": _Arguments(
        {"split": "balanced", "train": True}, {"split": "balanced", "train": False}, augmentation="crop"
    ),
    "EuroSAT": _WHOLE,
    "FER2013": _split("train", "test"),
    "FGVCAircraft": _split("train", "test", "val"),
    "Flowers102": _split("train", "test", "val"),
    "Food101": _split("train", "test"),
    "GTSRB": _split("train", "test", augmentation="crop"),
    "ImageNet": _split("train", "val"),
    "Imagenette": _split("train", "val"),
    "KMNIST": _GLYPHS,
    "OxfordIIITPet": _split("trainval", "test"),
    "PCAM": _split("train", "test", "val"),
    "Places365": _split("train-standard", "val"),
    "QMNIST": _Arguments({"what": "train"}, {"what": "test"}, augmentation="crop"),
    "RenderedSST2": _split("train", "test", "val", augmentation="crop"),
    "SEMEION": _Arguments({}, None, augmentation="crop"),
    "STL10": _split("train", "test"),
    "SUN397": _WHOLE,
    "SVHN": _split("train", "test", augmentation="crop"),
    "StanfordCars": _split("train", "test"),
    "USPS": _GLYPHS,
}
_BY_LOWER_NAME = {name.lower(): name for name in _SETS}


@dataclass(frozen=True)
class TorchvisionImages:
    """A source of `logitlab.data.streaming.StreamedImages`: images of a torchvision set.

    Attributes:
        name: what errors call the set.
        dataset: the torchvision set; its items are (Pillow image, label).
        channels: 1 (grey) or 3 (RGB).
        side: of the square images, in pixels.
        resized: whether other sizes are resized to ``side``; otherwise they are refused.
    """

    name: str
    dataset: Any
    channels: int
    side: int
    resized: bool

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        """Decode one image to uint8 ``[channels, side, side]``."""
        image = _image(self.name, self.dataset, index)
        side = (self.side, self.side)
        if not self.resized and image.size != side:
            raise sizes_differ(f"{self.name}'s image 0", side, f"image {index}", image.size)
        return to_pixels(image, self.channels, self.side if self.resized else None)


def list_torchvision_sets() -> list[str]:
    """Return the names that `load_torchvision` knows, in lower case."""
    return sorted(_BY_LOWER_NAME)


def load_torchvision(
    name: str, root: Path, image_size: int | None = None, *, memory_limit: int = MEMORY_LIMIT
) -> DataSet:
    """Load a classification set of torchvision; nothing is downloaded.

    A set without a test part has a fifth of each class split off, by a fixed seed. A set whose decoded images
    take at most ``memory_limit`` bytes lies in memory, another is streamed; the fingerprint of the latter
    covers its name, its labels and 64 images of each part.

    Args:
        name: the class's name in ``torchvision.datasets``, in any case.
        root: the folder that holds data sets; torchvision looks in ``root/NAME`` (lower case) if that is
            there, otherwise in ``root``.
        image_size: side to which images are resized; None keeps their size.
        memory_limit: largest set, in decoded bytes, that is held in memory.

    Raises:
        DataError: the set is not there (the message says how to get it), or its images differ in size.
    """
    name = _BY_LOWER_NAME[name.lower()]
    arguments = _SETS[name]
    wanted = {"train": arguments.train, "test": arguments.test, "validation": arguments.validation}
    found = {part: _open(name, root, given) for part, given in wanted.items() if given is not None}
    labels = {part: _labels(dataset) for part, dataset in found.items()}
    class_names = _class_names(found["train"])
    if arguments.test is None:
        whole, whole_labels = found["train"], labels["train"]
        chosen = dict(zip(("train", "test"), split_off_test(whole_labels, class_names)))
        found = {part: Subset(whole, indices.tolist()) for part, indices in chosen.items()}
        labels = {part: whole_labels[indices] for part, indices in chosen.items()}
    with refuse_bombs():
        first = _image(name, found["train"], 0)
    if image_size is None and first.width != first.height:
        raise not_square(f"{name}'s image 0", first.size)
    side = image_size or first.width
    channels = 1 if first.mode in ("1", "L") else 3
    sources = {
        part: TorchvisionImages(name, dataset, channels, side, image_size is not None)
        for part, dataset in found.items()
    }
    if sum(map(len, sources.values())) * channels * side * side <= memory_limit:
        parts = {part: Part(decode_all(source, channels, side), labels[part]) for part, source in sources.items()}
        return data_set_from_parts(
            name.lower(),
            parts["train"],
            parts["test"],
            validation=parts.get("validation"),
            class_names=class_names,
            augmentation=arguments.augmentation,
        )
    check_memory(name, channels, side, max(memory_limit, MEMORY_LIMIT))
    streams = {part: StreamedImages(source, labels[part]) for part, source in sources.items()}
    return DataSet(
        name=name.lower(),
        train=streams["train"],
        test=streams["test"],
        class_names=check_labels(name, labels, class_names),
        fingerprint=_fingerprint(name, sources, labels),
        channels=channels,
        image_size=side,
        augmentation=arguments.augmentation,
        validation=streams.get("validation"),
    )


def _open(name: str, root: Path, arguments: dict[str, Any]) -> Any:
    kind = getattr(datasets, name)
    # SEMEION downloads unless told otherwise; a few others have no such argument.
    download = {"download": False} if name == "SEMEION" else {}
    own = root / name.lower()
    for folder in [own, root] if own.is_dir() else [root]:
        try:
            return kind(str(folder), **arguments, **download)
        except Exception as fault:  # each set has its own way to say that its files are missing
            reason = one_line(fault)
    given = "".join(f", {key}={value!r}" for key, value in arguments.items())
    raise DataError(
        f"Cannot load {name} from '{root}' or '{own}': {reason}. Name the folder that holds data sets by --data-root "
        f"or LOGITLAB_DATA, or get the set as torchvision's page on it says, for most: python -c "
        f"\"from torchvision.datasets import {name}; {name}('{own}'{given}, download=True)\""
    )


def _image(name: str, dataset: Any, index: int) -> Image.Image:
    try:
        image: Image.Image = dataset[index][0]
    except Exception as fault:  # a decoder that is fed damaged bytes raises nearly anything
        raise DataError(f"{name}: cannot read image {index}: {one_line(fault)}. Fetch the set again.") from fault
    return image


def _labels(dataset: Any) -> Tensor:
    """Return the labels without decoding images where the set holds them apart, int64 ``[N]``."""
    for attribute in ("targets", "labels", "_labels", "y"):
        found = getattr(dataset, attribute, None)
        if found is not None and len(found) == len(dataset):
            labels = torch.as_tensor(found)
            if labels.dim() == 1:
                return labels.to(torch.int64)
    samples = getattr(dataset, "_samples", None)
    if samples is not None and len(samples) == len(dataset):
        return torch.tensor([int(label) for _, label in samples])
    return torch.tensor([int(dataset[index][1]) for index in range(len(dataset))])


def _class_names(dataset: Any) -> list[str] | None:
    """Return the names that the set gives; ImageNet gives synonyms, of which the first is taken."""
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    return None if names is None else [name if isinstance(name, str) else str(name[0]) for name in names]


def _fingerprint(name: str, sources: dict[str, TorchvisionImages], labels: dict[str, Tensor]) -> str:
    fingerprint = hashlib.sha256(name.encode())
    for part, source in sources.items():
        fingerprint.update(f"{part} {len(source)}\n".encode())
        fingerprint.update(tensor_bytes(labels[part]))
        count = min(_HASHED_IMAGES, len(source))
        for index in torch.linspace(0, len(source) - 1, count, dtype=torch.float64).long().tolist():
            fingerprint.update(tensor_bytes(source[index]))
    return fingerprint.hexdigest()
