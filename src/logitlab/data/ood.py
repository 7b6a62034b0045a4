"""Images of another world: what a classifier should not be sure of (out of distribution, OOD)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.names import nearest_name, printable

from .channels import match_channels
from .decoding import ImageFiles, decode_all, map_in_threads, read_header, resize
from .enlarged import EnlargedImages
from .faults import check_memory, unreadable
from .folder import fingerprint_files
from .idx import read_idx
from .images import MEMORY_LIMIT, Images, MemoryImages
from .letters import NOTMNIST_IMAGES, find_notmnist
from .loading import list_data_sets, load_data
from .streaming import StreamedImages
from .subsets import base_name, unknown_option

#: Images of a built-in set; fewer where so many would not fit in memory.
GENERATED_IMAGES: Final = 1000

_SMALLEST_PATCH, _LARGEST_PATCH = 32, 96
_SEED: Final = 0
_DTD_SUBSET = Path("dtd10", "dtd10_32.npz")
_WITHOUT_CLASSES = ("noise", "patches")
_CHOICES = (
    "Give noise, patches, notmnist, dtd, a data set such as mnist, a folder of images (with class folders or without), "
    "or npz:FILE"
)


@dataclass(frozen=True, eq=False)
class OodSet:
    """Out-of-distribution images in the form that a model takes.

    Attributes:
        name: what it is called in tables.
        images: uint8 of the model's channels and size; their labels mean nothing.
        fingerprint: SHA-256, in hexadecimal, of what the images are made from.
    """

    name: str
    images: Images
    fingerprint: str


def list_ood_sets() -> list[str]:
    """Return the names that `load_ood` knows beside folders and ``npz:FILE``.

    >>> {"noise", "patches", "mnist"} <= set(list_ood_sets())
    True
    """
    return sorted({*_OWN, *list_data_sets()})


def load_ood(name: str, *, channels: int, image_size: int, root: str | Path | None = None) -> OodSet:
    """Load out-of-distribution images; nothing is downloaded.

    Args:
        name: one of

            - ``"noise"``: 1,000 images of uniform noise, always the same;
            - ``"patches"``: 1,000 random patches, 32 to 96 pixels wide, of scikit-learn's two sample
              photographs, always the same;
            - ``"notmnist"``: ``root/notmnist_test/t10k-images-idx3-ubyte.gz`` (letters A to J);
            - ``"dtd"``: ``root/dtd10/dtd10_32.npz`` if it is there, otherwise torchvision's (textures);
            - whatever `logitlab.data.load_data` takes: the test part of it; with ``:classes=0-4`` behind its name
              the test images of these classes;
            - a folder of images without class folders: all of them.

            Names win over folders; write ``./noise`` for the folder.
        channels: what the model takes: 1 (colour becomes grey by luma) or 3 (grey is repeated).
        image_size: side to which the images are resized, in pixels.
        root: the folder that holds data sets; None takes $LOGITLAB_DATA, or ``data`` if that is not set.

    Raises:
        DataError: the set is unknown, missing, unreadable or inconsistent; one line that begins with its name.

    >>> found = load_ood("noise", channels=1, image_size=8)
    >>> len(found.images), next(found.images.batches(torch.arange(2), 2))[0].shape
    (1000, torch.Size([2, 1, 8, 8]))
    """
    base = Path(os.environ.get("LOGITLAB_DATA") or "data" if root is None else root)
    try:
        own = _OWN.get(name.lower())
        if own is not None:
            return own(channels, image_size, base)
        folder = Path(name) if name else None
        base_of = base_name(name)
        is_listed = base_of.lower() in list_data_sets()
        if folder is not None and folder.is_dir() and not is_listed and _is_flat(folder):
            return _load_flat(folder, channels, image_size)
        if not is_listed and _is_unknown(base_of):
            raise _unknown(name)
        data = load_data(name, image_size=image_size, root=root)
    except DataError as fault:
        raise DataError(f"OOD set '{name}': {fault}") from fault
    except OSError as fault:
        raise DataError(f"OOD set '{name}': {unreadable(fault.filename or name, fault)}") from fault
    return OodSet(data.name, MatchedImages(data.test, channels), data.fingerprint)


class MatchedImages:
    """Images that get the channels of a model batch by batch; see `logitlab.data.images.Images`."""

    def __init__(self, images: Images, channels: int) -> None:
        self.labels = images.labels
        self._images = images
        self._channels = channels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> MatchedImages:
        """Return the images at ``indices``, in that order."""
        return MatchedImages(self._images.select(indices), self._channels)

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        for pixels, labels in self._images.batches(indices, batch_size, device):
            yield match_channels(pixels, self._channels), labels


def _noise(channels: int, image_size: int, root: Path) -> OodSet:
    """Every pixel and channel uniform in 0 to 255, independent of all others."""
    count = _generated("noise", channels, image_size)
    generator = torch.Generator().manual_seed(_SEED)
    shape = (count, channels, image_size, image_size)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return OodSet("noise", _unlabelled(pixels), _recipe("noise", count, channels, image_size))


def _patches(channels: int, image_size: int, root: Path) -> OodSet:
    """Square patches at random places of the two photographs, in turn."""
    from sklearn.datasets import load_sample_images

    photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    count = _generated("patches", channels, image_size)
    generator = torch.Generator().manual_seed(_SEED)

    def draw(stop: int) -> int:
        return int(torch.randint(stop, (), generator=generator))

    pixels = torch.empty(count, channels, image_size, image_size, dtype=torch.uint8)
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        side = _SMALLEST_PATCH + draw(_LARGEST_PATCH - _SMALLEST_PATCH + 1)
        top, left = draw(photograph.shape[1] - side + 1), draw(photograph.shape[2] - side + 1)
        patch = photograph[None, :, top : top + side, left : left + side]
        # Not by `resize`: torchvision takes seconds to import, and the default set of digits comes by here.
        size = (image_size, image_size)
        scaled = F.interpolate(match_channels(patch, channels).float(), size, mode="bilinear", antialias=True)
        pixels[index] = scaled[0].round().clamp(0, 255).to(torch.uint8)
    contents = [hashlib.sha256(photograph.contiguous().numpy().data).hexdigest() for photograph in photographs]
    return OodSet("patches", _unlabelled(pixels), _recipe("patches", count, channels, image_size, *contents))


def _notmnist(channels: int, image_size: int, root: Path) -> OodSet:
    """The letters of notMNIST's test part, in MNIST's format."""
    pixels = read_idx(find_notmnist(root, NOTMNIST_IMAGES), dimensions=3).unsqueeze(1)
    check_memory("notmnist", channels, image_size, MEMORY_LIMIT)
    fingerprint = hashlib.sha256(pixels.numpy().data).hexdigest()
    images: Images
    if pixels.shape[-1] < image_size and len(pixels) * image_size**2 > MEMORY_LIMIT:
        images = EnlargedImages(_unlabelled(pixels), image_size)
    else:
        images = _unlabelled(resize(pixels, image_size))
    return OodSet("notmnist", MatchedImages(images, channels), fingerprint)


def _dtd(channels: int, image_size: int, root: Path) -> OodSet:
    """Textures: the subset of ten classes, or torchvision's whole set."""
    subset = root / _DTD_SUBSET
    name = f"npz:{subset}" if subset.is_file() else "dtd"
    data = load_data(name, image_size=image_size, root=root)
    return OodSet("dtd", MatchedImages(data.test, channels), data.fingerprint)


_OWN: Final[dict[str, Callable[[int, int, Path], OodSet]]] = {
    "dtd": _dtd,
    "noise": _noise,
    "notmnist": _notmnist,
    "patches": _patches,
}


def _generated(name: str, channels: int, image_size: int) -> int:
    """Return how many images of a built-in set are made."""
    check_memory(name, channels, image_size, MEMORY_LIMIT)
    return min(GENERATED_IMAGES, MEMORY_LIMIT // (channels * image_size**2))


def _recipe(name: str, *parts: int | str) -> str:
    """Fingerprint how images are made and not their pixels, which may differ by one between processors."""
    text = " ".join(map(str, ("1", name, _SEED, _SMALLEST_PATCH, _LARGEST_PATCH, *parts)))
    return hashlib.sha256(text.encode()).hexdigest()


def _unlabelled(pixels: Tensor) -> MemoryImages:
    return MemoryImages(pixels, torch.zeros(len(pixels), dtype=torch.int64))


def _is_flat(folder: Path) -> bool:
    """Say whether a folder has no class folders: at most one sub-folder, which is no ``train/``."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    return len(names) < 2 and "train" not in names


def _load_flat(folder: Path, channels: int, image_size: int) -> OodSet:
    """Load all images below a folder, however deep."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    check_memory(f"'{folder}'", channels, image_size, MEMORY_LIMIT)
    paths = sorted(
        str(Path(place, file))
        for place, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")
    )
    if not paths:
        raise DataError(f"The folder '{folder}' has no images (expected {', '.join(IMG_EXTENSIONS)}).")
    map_in_threads(read_header, paths)
    source = ImageFiles(tuple(paths), channels, image_size)
    in_memory = len(paths) * channels * image_size**2 <= MEMORY_LIMIT
    fingerprint = fingerprint_files(folder, {"ood": paths}, whole=in_memory)
    images: Images
    if in_memory:
        images = _unlabelled(decode_all(source, channels, image_size))
    else:
        images = StreamedImages(source, torch.zeros(len(paths), dtype=torch.int64))
    return OodSet(printable(folder.resolve().name), images, fingerprint)


def _is_unknown(name: str) -> bool:
    """Say whether a name is neither ``npz:FILE`` nor written as a path, and no file or folder has it."""
    return not name.lower().startswith("npz:") and Path(name).name == name and not Path(name).exists()


def _unknown(name: str) -> DataError:
    if base_name(name).lower() in _WITHOUT_CLASSES:
        return DataError(f"the images of '{base_name(name)}' have no classes. Take the whole set.")
    if fault := unknown_option(base_name(name)):
        return fault
    suggestion = nearest_name(base_name(name), list_ood_sets())
    question = f" Did you mean '{suggestion}'?" if suggestion else ""
    return DataError(f"it is not known.{question} {_CHOICES}.")
