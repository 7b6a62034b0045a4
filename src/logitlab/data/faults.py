"""Sentences about faulty images and files that several loaders share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from logitlab.config.errors import DataError

_ADVICE = "pass --image-size N (image_size=N) to resize them to N x N"
# Of many images that cannot be read so many are named, the first one with its reason.
_NAMED = 5


class UnreadableImageError(DataError):
    """An image file that cannot be read.

    Args:
        path: the file.
        reason: why, without a full stop.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"Cannot read the image '{path}': {reason}. Replace it.")
        self.path = path
        self._reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str | Path, str]]:
        """Keep the file when a worker process sends the error home."""
        return type(self), (self.path, self._reason)


def more_unreadable(faults: Sequence[DataError]) -> str:
    """Say how many further images cannot be read, and name the first of them.

    >>> more_unreadable([UnreadableImageError(f"{number}.png", "it is empty") for number in range(6)])
    "6 more cannot be read: '0.png', '1.png', '2.png', '3.png' and 2 others."
    """
    paths = [fault.path for fault in faults if isinstance(fault, UnreadableImageError)]
    named = [f"'{path}'" for path in paths[: _NAMED - 1]]
    left = len(faults) - len(named)
    others = f" and {left} other{'' if left == 1 else 's'}" if left else ""
    names = f": {', '.join(named)}{others}" if named else ""
    return f"{len(faults)} more cannot be read{names}."


def one_line(fault: BaseException) -> str:
    r"""Write another library's message on one line, without its full stop, number or file name.

    >>> one_line(ValueError("bad\n header.")), one_line(PermissionError(13, "Permission denied", "a.png"))
    ('bad header', 'Permission denied')
    """
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return " ".join(str(fault).split()).rstrip(".") or type(fault).__name__


def not_square(where: str, size: tuple[int, int]) -> DataError:
    """Return the error about an image that is not square; ``size`` is width and height."""
    return DataError(f"{where}: expected square images. Got {size[0]}x{size[1]}; {_ADVICE}.")


def sizes_differ(first: str, first_size: tuple[int, int], other: str, other_size: tuple[int, int]) -> DataError:
    """Return the error about two images of different sizes (width and height)."""
    return DataError(
        f"Images differ in size: {first} is {first_size[0]}x{first_size[1]}, {other} is "
        f"{other_size[0]}x{other_size[1]}; {_ADVICE}."
    )


def unreadable(path: str | Path, fault: OSError) -> DataError:
    """Return the error about a file or folder that the operating system does not let us read."""
    return DataError(f"Cannot read '{path}': {one_line(fault)}. Check the path and who may read it.")


def check_memory(where: str, channels: int, side: int, limit: int) -> None:
    """Refuse images each of which would take more than ``limit`` bytes after resizing.

    Args:
        where: what is resized; the error begins with it.
        channels: of an image.
        side: of an image after resizing, in pixels.
        limit: in bytes.

    Raises:
        DataError: saying how much memory an image would take, and which side fits.

    >>> check_memory("digits", 1, 100_000, 512 * 2**20)
    Traceback (most recent call last):
    ...
    logitlab.config.errors.DataError: digits: one image resized to 100000x100000 would take 9.3 GiB; expected at \
most 0.5 GiB. Take an image size of at most 23170.
    """
    needed = channels * side * side
    if needed > limit:
        raise DataError(
            f"{where}: one image resized to {side}x{side} would take {needed / 2**30:,.1f} GiB; expected at most "
            f"{limit / 2**30:,.1f} GiB. Take an image size of at most {math.isqrt(limit // channels)}."
        )
