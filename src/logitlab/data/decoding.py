"""From an image file to uint8 pixels; whatever goes wrong becomes one sentence that names the file."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from logitlab.config.errors import DataError

from .faults import UnreadableImageError, more_unreadable, one_line
from .images import Source

_GREY = frozenset({"1", "L", "LA"})
# Images a call of resize: bounds the float copy that torchvision makes where it has no uint8 kernel.
_RESIZED = 1024
_CHUNK = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Header:
    """What the head of an image file says, without decoding it.

    Attributes:
        size: width and height, in pixels.
        grey: whether the image has one channel (beside a transparency).
    """

    size: tuple[int, int]
    grey: bool


@dataclass(frozen=True)
class ImageFiles:
    """A source of `StreamedImages`: files of one folder.

    Attributes:
        paths: the files.
        channels: 1 (grey) or 3 (RGB).
        image_size: side to which every image is resized, in pixels; None keeps the size.
    """

    paths: tuple[str, ...]
    channels: int
    image_size: int | None = None

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Decode one file to uint8 ``[channels, height, width]``."""
        return read_image(self.paths[index], self.channels, self.image_size)


def read_header(path: str | Path) -> Header:
    """Read size and mode of an image file.

    Raises:
        DataError: the file is no image, no regular file, too large to be an image in good faith, or has more than
            8 bits a channel.
    """
    with _naming(path), Image.open(path) as image:
        # Pillow clips 16-bit and float images to 255 on conversion, which would leave them nearly white.
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits a channel")
        return Header(image.size, image.mode in _GREY)


def read_image(path: str | Path, channels: int, image_size: int | None = None) -> Tensor:
    """Decode an image file to uint8 ``[channels, height, width]``.

    The orientation that a camera noted (EXIF) is applied; transparency is dropped.

    Args:
        path: the file.
        channels: 1 (grey) or 3 (RGB).
        image_size: side to which the image is resized; None keeps its size.

    Raises:
        DataError: the file is truncated or corrupt.
    """
    with _naming(path), Image.open(path) as image:
        return to_pixels(ImageOps.exif_transpose(image), channels, image_size)


def to_pixels(image: Image.Image, channels: int, image_size: int | None = None) -> Tensor:
    """Convert a Pillow image to uint8 ``[channels, height, width]``, resized to a square of ``image_size``.

    >>> to_pixels(Image.new("RGBA", (6, 4)), channels=3, image_size=8).shape
    torch.Size([3, 8, 8])
    """
    from torchvision.transforms.v2 import functional as F

    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way to RGB
    pixels: Tensor = F.pil_to_tensor(image.convert("L" if channels == 1 else "RGB"))
    return pixels if image_size is None else resize(pixels[None], image_size)[0]


def resize(pixels: Tensor, image_size: int) -> Tensor:
    """Resize uint8 ``[N, C, H, W]`` to squares of ``image_size`` (bilinear, antialiased).

    The sides are scaled independently: nothing of an image is cut off, the aspect ratio is not kept.
    """
    if pixels.shape[-2:] == (image_size, image_size):
        return pixels
    from torchvision.transforms.v2 import functional as F

    size = [image_size, image_size]
    return torch.cat([F.resize(chunk, size, antialias=True) for chunk in torch.split(pixels, _RESIZED)])


def decode_all(source: Source, channels: int, side: int) -> Tensor:
    """Decode every image of ``source`` into one tensor, uint8 ``[N, channels, side, side]``, in threads.

    Raises:
        DataError: at least one image cannot be decoded; the message names the first few and counts them all.
    """
    pixels = torch.empty(len(source), channels, side, side, dtype=torch.uint8)

    def fill(index: int) -> None:
        pixels[index] = source[index]

    map_in_threads(fill, range(len(source)))
    return pixels


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``function`` to all items, in threads: reading files and decoding release the interpreter lock.

    Raises:
        DataError: the first that ``function`` raised, with the number of the others and the names of some.
    """

    def attempt(start: int) -> list[Result | DataError]:
        results: list[Result | DataError] = []
        for item in items[start : start + _CHUNK]:
            try:
                results.append(function(item))
            except DataError as error:
                results.append(error)
        return results

    # In chunks, since a million futures would take more memory than their results.
    with refuse_bombs(), ThreadPoolExecutor() as pool:
        results = [result for chunk in pool.map(attempt, range(0, len(items), _CHUNK)) for result in chunk]
    faults = [result for result in results if isinstance(result, DataError)]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(f"{faults[0]} {more_unreadable(faults[1:])}")
    return [result for result in results if not isinstance(result, DataError)]


@contextmanager
def refuse_bombs() -> Iterator[None]:
    """Turn Pillow's warning about a suspiciously large image into an error. Not for use inside threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Turn every failure to read ``path`` into a DataError that names it."""
    try:
        _check_regular(path)
        yield
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(path, "it is empty, corrupt or no image") from None
    # A decoder that is fed damaged bytes raises nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as fault:
        raise UnreadableImageError(path, one_line(fault)) from fault


def _check_regular(path: str | Path) -> None:
    """Refuse pipes, sockets and devices: whoever opens a pipe waits until somebody writes into it, maybe for ever."""
    # A buffer of bytes serves as well.
    if isinstance(path, (str, Path)) and not stat.S_ISREG(Path(path).stat().st_mode):
        raise UnreadableImageError(path, "it is no regular file")
