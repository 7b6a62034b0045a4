"""A batch against one block of classes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Block(NamedTuple):
    r"""The scores of N samples and b classes, as the product leaves them.

    .. math:: z_{ic} = r_i\, s_c\, P_{ic}

    The factors stay apart so that neither the rows nor the weight is ever copied in order to scale it. Every reader
    multiplies by r first and by s then: the same numbers everywhere, to the last bit.

    Attributes:
        product: P, rows times rows of the weight, float32 or float64, ``[N, b]``, any strides.
        row_scale: r, for instance 1/‖x‖ of raw rows; ones for unit rows; ``[N]``.
        column_scale: s, 1/‖w_c‖, zero for a zero row; ones for a linear classifier; ``[b]``.
        bias: of the logits, ``[b]``, or None.
    """

    product: Tensor
    row_scale: Tensor
    column_scale: Tensor
    bias: Tensor | None = None
