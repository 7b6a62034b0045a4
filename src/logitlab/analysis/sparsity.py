"""Activation sparsity: the share of units that a nonlinearity has set to zero."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, _tensor
from .measurement import Measurement

# Elements read at a time: 4 MiB in float32.
_CHUNK_ELEMENTS = 2**20


class SparsityCounter:
    """Counts exact zeros batch by batch, so that feature maps need not be kept.

    >>> counter = SparsityCounter()
    >>> counter.update([[0.0, 2.0], [0.0, 0.0]])
    >>> counter.update([[1.0, 3.0]])
    >>> counter.result().value, counter.result().n
    (0.5, 3)
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._images, self._units, self._zeros = 0, 0, 0

    def update(self, activations: ArrayLike) -> None:
        """Count a batch.

        Args:
            activations: shape ``[N, ...]``, of any real type, integers and booleans too; N may differ among batches.

        Raises:
            InputError: NaN, complex or empty values, or units of another shape than those before.
        """
        values = activations if hasattr(activations, "shape") else _tensor(activations, "activations")
        shape = tuple(int(size) for size in values.shape)
        if not shape or 0 in shape:
            raise InputError(f"Expected 'activations' of shape [N, ...], not empty. Got {list(shape)}.")
        if self._shape is not None and shape[1:] != self._shape:
            raise InputError(
                f"Expected 'activations' of shape [{', '.join(['N', *map(str, self._shape)])}], as those before. "
                f"Got {list(shape)}."
            )
        units = 1
        for size in shape[1:]:
            units *= size
        step = max(1, _CHUNK_ELEMENTS // units)
        non_zero = sum(
            _count_non_zero(_tensor(values[start : start + step], "activations"), start)
            for start in range(0, shape[0], step)
        )
        # Only now: a refused batch leaves the counts as they were.
        self._shape = shape[1:]
        self._images += shape[0]
        self._units += shape[0] * units
        self._zeros += shape[0] * units - non_zero

    def result(self, *, split: str | None = None) -> Measurement:
        """Return the sparsity of all that was counted; see :func:`activation_sparsity`.

        Raises:
            InputError: nothing was counted.
        """
        if self._shape is None:
            raise InputError("Expected at least one batch before the result. Got none: call 'update' first.")
        warning = "No value is exactly zero: the activations seem not to come from a ReLU."
        return Measurement(
            "activation_sparsity",
            self._zeros / self._units,
            "share of exact zeros, mean over units and images",
            self._images,
            split,
            () if self._zeros else (warning,),
            {"non_zero": (self._units - self._zeros) / self._units},
        )


def activation_sparsity(activations: ArrayLike, *, split: str | None = None) -> Measurement:
    r"""Share of activations that are exactly zero.

    .. math:: \frac{1}{N U} \sum_{i=1}^{N} \sum_{u=1}^{U} [a_{iu} = 0]

    over images i and units u: all positions of all channels. W plots the complement, the share that is *not* zero; it
    stands in ``details``. W takes the output of each block, after the residual connection and the nonlinearity that
    follows. Before a ReLU, and after a GELU, no value is exactly zero: a warning says so. Minus zero is zero;
    infinities are not.

    Args:
        activations: shape ``[N, ...]``: features ``[N, D]``, maps ``[N, C, H, W]``, tokens ``[N, L, D]``; any real
            type, memory maps too. :class:`SparsityCounter` does the same batch by batch.
        split: the part of the data, kept in the result. W measures on the validation set.

    Returns:
        A fraction in [0, 1]. ``details``: ``non_zero``, one minus it.

    Raises:
        InputError: NaN, complex or empty values.

    References:
        W Figure 2.

    >>> found = activation_sparsity([[0.0, 1.5], [0.0, 0.0]])
    >>> found.value, found.details["non_zero"]
    (0.75, 0.25)
    """
    counter = SparsityCounter()
    counter.update(activations)
    return counter.result(split=split)


def _count_non_zero(values: Tensor, start: int) -> int:
    if values.is_complex():
        raise InputError(f"Expected 'activations' to hold real numbers. Got {values.dtype}.")
    if values.is_floating_point() and bool(values.isnan().any()):
        row = start + int(values.isnan().reshape(len(values), -1).any(dim=1).nonzero()[0])
        raise InputError(f"Expected 'activations' without NaN. Got NaN in row {row}.")
    return int(torch.count_nonzero(values))
