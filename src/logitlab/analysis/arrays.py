"""NumPy arrays and tensors as checked float64 chunks, so that a data set larger than memory's half fits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from logitlab.config.errors import InputError

#: A tensor, a NumPy array (memory-mapped too), or nested sequences.
ArrayLike: TypeAlias = Any

# Elements of one float64 chunk: 2 MiB stay in a core's cache (measured: four times as fast as 32 MiB), and
# Python's share of the time is still small.
_CHUNK_ELEMENTS = 2**18


class Rows:
    """A matrix that is read in float64 chunks of rows and never copied as a whole.

    Args:
        values: shape ``[N, D]``, or ``[N]`` (``dimensions=1``); real numbers.
        name: what the caller calls it; used in errors.
        dimensions: 1 or 2.
        allow_infinite: let ±inf pass (masked logits); NaN never passes.
        flatten: let more dimensions pass (feature maps ``[N, C, H, W]``), flattened to rows of D numbers.

    Attributes:
        shape: of the matrix, flattened if asked for.
        dtype: what the values are stored in.
        device: where chunks are computed.

    Raises:
        InputError: another number of dimensions, no rows, or no real numbers.
    """

    def __init__(
        self,
        values: ArrayLike,
        name: str,
        *,
        dimensions: int = 2,
        allow_infinite: bool = False,
        flatten: bool = False,
    ) -> None:
        self._values = values if hasattr(values, "shape") else _tensor(values, name)
        self._name = name
        self._allow_infinite = allow_infinite
        shape = tuple(int(size) for size in self._values.shape)
        expected = ("[N, D] or more dimensions" if flatten else "[N, D]") if dimensions == 2 else "[N]"
        if len(shape) < dimensions or (len(shape) > dimensions and not flatten) or 0 in shape:
            raise InputError(f"Expected '{name}' of shape {expected}, not empty. Got {list(shape)}.")
        self.shape = (*shape[: dimensions - 1], math.prod(shape[dimensions - 1 :]))
        first = _tensor(self._values[:1], name)
        if first.is_complex() or first.dtype == torch.bool:
            raise InputError(f"Expected '{name}' to hold real numbers. Got {first.dtype}.")
        self.dtype = first.dtype
        # Apple's GPUs have no float64.
        self.device = torch.device("cpu") if first.device.type == "mps" else first.device

    def __len__(self) -> int:
        """Return N."""
        return self.shape[0]

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Read the rows in order.

        Yields:
            where the chunk stands, and its values in float64. It may share the caller's memory: do not change it.

        Raises:
            InputError: NaN, or an infinite value where none may be.
        """
        width = self.shape[1] if len(self.shape) == 2 else 1
        step = max(1, _CHUNK_ELEMENTS // width)
        for start in range(0, len(self), step):
            where = slice(start, min(start + step, len(self)))
            chunk = self._float64(self._values[where])
            if len(self.shape) == 2:
                chunk = chunk.reshape(len(chunk), -1)
            self.check(chunk, start)
            yield where, chunk

    def passing_chunks(
        self, times: int = 1, *, width: int | None = None, check: bool = True
    ) -> Iterator[tuple[slice, Tensor]]:
        """Read the rows in order through one buffer, which is the caller's to change and is overwritten by the next.

        Memory that is allocated anew for each chunk can cost more than what is done with the chunk.

        Args:
            times: how many times the usual number of rows a chunk has; matrix products want large ones.
            width: reckon with rows of so many numbers instead of D, to read two matrices in step.
            check: look for NaN and infinity; without it the caller does, by :meth:`check`.

        Yields:
            where the chunk stands, and its values in float64.

        Raises:
            InputError: NaN, or an infinite value where none may be.
        """
        step = max(1, times * _CHUNK_ELEMENTS // (width or self.shape[1]))
        buffer = torch.empty(min(step, len(self)), self.shape[1], dtype=torch.float64, device=self.device)
        values = _mapped(self._values)
        for start in range(0, len(self), step):
            where = slice(start, min(start + step, len(self)))
            chunk, part = buffer[: where.stop - start], values[where]
            if isinstance(part, Tensor):
                chunk.copy_(part.reshape(chunk.shape))
            else:
                chunk.numpy()[...] = part.reshape(chunk.shape)
            if check:
                self.check(chunk, start)
            yield where, chunk

    def columns(self, times: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Read the columns in order, ``[N, part of D]``: for rows so wide that D x D numbers would not fit.

        A feature map that is not stored row by row is copied as a whole.

        Yields:
            where the chunk stands, and its values in float64; do not change them.

        Raises:
            InputError: NaN, or an infinite value where none may be.
        """
        matrix = self._values.reshape(self.shape)
        step = max(1, times * _CHUNK_ELEMENTS // len(self))
        for start in range(0, self.shape[1], step):
            where = slice(start, min(start + step, self.shape[1]))
            chunk = self._float64(matrix[:, where])
            self.check(chunk, 0)
            yield where, chunk

    def _float64(self, part: ArrayLike) -> Tensor:
        if isinstance(part, Tensor):
            return part.detach().to(self.device, torch.float64)
        # NumPy: one pass that copies (plain strides, permission to write) and converts at once.
        return torch.as_tensor(part.astype("float64")).to(self.device)

    def check(self, chunk: Tensor, start: int) -> None:
        """Refuse NaN, and infinity where none may be, in a chunk whose first row is ``start``."""
        # NaN and infinity survive a sum, which is quicker than looking at each number.
        if bool(chunk.sum().isfinite()):
            return
        bad = chunk.isnan() if self._allow_infinite else ~chunk.isfinite()
        if bool(bad.any()):
            row = start + int(bad.reshape(len(chunk), -1).any(dim=1).nonzero()[0])
            what = "without NaN" if self._allow_infinite else "with finite values"
            raise InputError(f"Expected '{self._name}' {what}. Got NaN or infinity in row {row}.")


def read_labels(labels: ArrayLike, name: str, count: int, num_classes: int | None = None) -> Tensor:
    """Read class indices.

    Args:
        labels: integers ``[N]``.
        name: what the caller calls them.
        count: N, the number of rows that they belong to.
        num_classes: C, when the indices must lie in [0, C).

    Returns:
        int64 ``[N]``, on the device where they were.

    Raises:
        InputError: another shape, no integers, or out of range.
    """
    values = _tensor(labels, name)
    if values.dtype.is_floating_point or values.is_complex() or values.dtype == torch.bool:
        raise InputError(f"Expected '{name}' to hold class indices (integers). Got {values.dtype}.")
    if values.shape != (count,):
        raise InputError(f"Expected '{name}' of shape [{count}], one label a row. Got {list(values.shape)}.")
    values = values.to(torch.int64)
    if num_classes is not None and not bool(((values >= 0) & (values < num_classes)).all()):
        lowest, highest = int(values.min()), int(values.max())
        raise InputError(
            f"Expected '{name}' in 0 to {num_classes - 1}, the {num_classes} columns. "
            f"Got values from {lowest} to {highest}."
        )
    return values


def read_flags(flags: ArrayLike, name: str, count: int) -> Tensor:
    """Read one yes or no a row: booleans, or the numbers 0 and 1; returns bool ``[N]``.

    Raises:
        InputError: another shape, or other values.
    """
    values = _tensor(flags, name)
    if values.shape != (count,):
        raise InputError(f"Expected '{name}' of shape [{count}]. Got {list(values.shape)}.")
    if not bool(((values == 0) | (values == 1)).all()):
        raise InputError(f"Expected '{name}' to hold true and false (or 1 and 0). Got other values.")
    return values.to(torch.bool)


def _mapped(values: ArrayLike) -> ArrayLike:
    """A tensor on the memory of a NumPy array where there can be one; it is read, never written."""
    if isinstance(values, Tensor):
        return values.detach()
    if not type(values).__module__.startswith("numpy"):
        return values
    with warnings.catch_warnings():
        # torch warns that memory which must not be written could be.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return torch.from_numpy(values)
        except (TypeError, ValueError):
            # Negative strides, another byte order, or numbers that torch lacks.
            return values


def _tensor(values: ArrayLike, name: str) -> Tensor:
    """Take a tensor as it is, out of the graph; copy anything else."""
    if isinstance(values, Tensor):
        return values.detach()
    try:
        if hasattr(values, "dtype"):
            # NumPy: a copy has the plain strides and the permission to write that torch asks for.
            return torch.as_tensor(values.copy())
        found = torch.tensor(values)
        # Python's floats are double; torch's default dtype would round them.
        return torch.tensor(values, dtype=torch.float64) if found.is_floating_point() else found
    except (AttributeError, TypeError, ValueError, RuntimeError) as fault:
        raise InputError(
            f"Expected '{name}' as a tensor, a NumPy array or a list of numbers. Got {type(values).__name__}: {fault}."
        ) from fault
