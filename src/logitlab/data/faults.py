"""Sentences about faulty images that several loaders share."""

from __future__ import annotations

from logitlab.config.errors import DataError

_ADVICE = "pass --image-size N (image_size=N) to resize them to N x N"


def one_line(fault: BaseException) -> str:
    r"""Write another library's message on one line, without its full stop.

    >>> one_line(ValueError("bad\n header."))
    'bad header'
    """
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
