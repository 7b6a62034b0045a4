"""MNIST and Fashion-MNIST as published: files in the IDX format."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from logitlab.config.errors import DataError

from .dataset import DataSet, Part, data_set_from_parts
from .faults import one_line, unreadable

_UNSIGNED_BYTE = 0x08


def load_idx(name: str, root: Path, image_size: int | None = None) -> DataSet:
    """Load ``"mnist"`` or ``"fashion-mnist"``: 60,000 training and 10,000 test images, 28x28 grey.

    Args:
        name: ``"mnist"`` or ``"fashion-mnist"``.
        root: the folder that holds data sets. The four files, gzipped or not, are looked for in ``root/NAME``
            and where torchvision stores them, in ``root/MNIST/raw`` or ``root/FashionMNIST/raw``.
        image_size: side to which the images are resized; None keeps 28.

    Raises:
        DataError: a file is missing, truncated or of another format.
    """
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    folders = [root / name, root / kind.__name__ / "raw"]
    parts = {}
    for part, prefix in {"train": "train", "test": "t10k"}.items():
        pixels = read_idx(_find(name, kind.__name__, f"{prefix}-images-idx3-ubyte", root, folders), dimensions=3)
        labels = read_idx(_find(name, kind.__name__, f"{prefix}-labels-idx1-ubyte", root, folders), dimensions=1)
        if len(pixels) != len(labels):
            raise DataError(f"{name}: found {len(pixels)} {part} images and {len(labels)} labels; fetch it again.")
        parts[part] = Part(pixels.unsqueeze(1), labels.long())
    class_names = tuple(kind.classes) if name == "fashion-mnist" else tuple(map(str, range(10)))
    return data_set_from_parts(
        name,
        parts["train"],
        parts["test"],
        class_names=class_names,
        image_size=image_size,
        augmentation="none",
    )


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of unsigned bytes.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions; each size as four
    bytes, the highest first; then the values.

    Args:
        path: the file; one that ends in ``.gz`` is unpacked.
        dimensions: how many are expected.

    Returns:
        uint8, of as many dimensions.

    Raises:
        DataError: the file is truncated or of another format.
    """
    try:
        content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except (OSError, EOFError, zlib.error) as fault:
        if isinstance(fault, OSError) and fault.strerror:
            raise unreadable(path, fault) from fault
        raise DataError(f"Cannot read '{path}': {one_line(fault)}. Fetch it again.") from fault
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(
            f"Cannot read '{path}': expected IDX of unsigned bytes with {dimensions} dimensions, "
            f"got the first bytes {bytes(content[:4]).hex(' ')}. Fetch it again."
        )
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != math.prod(sizes):
        raise DataError(
            f"Cannot read '{path}': expected {math.prod(sizes)} bytes of data for the sizes {sizes}, "
            f"got {len(content) - start}. Fetch it again."
        )
    if not math.prod(sizes):
        raise DataError(f"'{path}' holds no data. Fetch it again.")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(sizes)


def _find(name: str, kind: str, stem: str, root: Path, folders: list[Path]) -> Path:
    for folder in folders:
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    places = " or ".join(f"'{folder}'" for folder in folders)
    raise DataError(
        f"Cannot find '{stem}.gz' of {name} in {places}. Name the folder that holds data sets by --data-root or "
        f'LOGITLAB_DATA, or fetch it once: python -c "from torchvision.datasets import {kind}; '
        f"{kind}('{root}', download=True)\""
    )
