"""Margins that are added to the target's angle or taken from its cosine: ArcFace, CosFace, LDAM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional import additive_angular_margin, additive_cosine_margin

from .base import Margin


class _AdditiveMargin(Margin):
    """A margin that is a number, or one a class."""

    _range: Range
    margin_expected: str
    by_class: Tensor | None

    def __init__(self, margin: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        owner = type(self).__name__
        given: Any = margin.tolist() if isinstance(margin, Tensor) else margin
        several = isinstance(given, (list, tuple))
        values: list[Any] = list(given) if several else [given]
        if not values or any(value not in self._range for value in values):
            raise ParameterError(parameter_fault(owner, "margin", self.margin_expected, margin))
        numbers = tuple(float(value) for value in values)
        self.margin: float | tuple[float, ...] = numbers if several else numbers[0]
        self.register_buffer("by_class", torch.tensor(numbers) if several else None, persistent=False)

    def attach(self, num_classes: int) -> None:
        """See that there are as many margins as classes. See ``Margin.attach``."""
        if isinstance(self.margin, tuple) and len(self.margin) != num_classes:
            raise ParameterError(
                f"{type(self).__name__} got {len(self.margin)} margins for {num_classes} classes. Give one a class, or "
                "one number for all."
            )

    def reset_parameters(self) -> None:
        """Take the margins again; also what ``to_empty`` needs after building on the meta device."""
        if self.by_class is not None:
            self.by_class.copy_(torch.tensor(self.margin, device="cpu"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.by_class
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # A model of half precision keeps the digits of its margins, as those that are one number do.
        if before is not None and self.by_class is not None and self.by_class.dtype != before.dtype:
            self.by_class = before.to(self.by_class.device)
        return self

    def of(self, cosine: Tensor, target: Tensor) -> float | Tensor:
        """The margin of each sample: a number where all classes have one, else shape ``[...]``."""
        if self.by_class is None:
            assert isinstance(self.margin, float)
            return self.margin
        return self.by_class.to(cosine.dtype).gather(0, target.reshape(-1)).reshape(target.shape)

    def extra_repr(self) -> str:
        """Show the margin; of many the range."""
        if isinstance(self.margin, float):
            return f"margin={self.margin:g}"
        return f"margin={min(self.margin):g} to {max(self.margin):g} by class"


class AdditiveCosineMargin(_AdditiveMargin):
    """CosFace (AM-Softmax): φ = cos θ - m; with a margin a class, LDAM's. See ``functional.additive_cosine_margin``.

    Args:
        margin: m >= 0 in units of the cosine, below 2; a number, or one a class.

    Raises:
        ParameterError: the margin is out of range.

    References:
        T §3.4.1, ref. [37].

    >>> AdditiveCosineMargin(0.35)(torch.tensor([0.75]), torch.tensor([0]))
    tensor([0.4000])
    """

    _range = Range(0, 2, high_included=False)
    margin_expected = f"{_range}, or a list of them, one a class"

    def __init__(self, margin: float | Sequence[float] | Tensor = 0.35) -> None:
        super().__init__(margin)

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        """φ of the target's cosine. See ``Margin.forward``."""
        return additive_cosine_margin(cosine, self.of(cosine, target))


class AdditiveAngularMargin(_AdditiveMargin):
    """ArcFace: φ = cos(θ + m), with a falling tail past θ + m = π. See ``functional.additive_angular_margin``.

    Args:
        margin: m in [0, π) radians (0.5 is 28.6 degrees); a number, or one a class.
        detach_margin: train with the gradient of the cosine instead of that of φ, as insightface does.

    Raises:
        ParameterError: the margin is out of range.

    References:
        T §3.4.1, ref. [9].

    >>> AdditiveAngularMargin(0.5)(torch.tensor([1.0]), torch.tensor([0]))  # cos 0.5
    tensor([0.8776])
    """

    _range = Range(0, math.pi, high_included=False)
    margin_expected = f"{_range} radians, or a list of them, one a class"

    def __init__(self, margin: float | Sequence[float] | Tensor = 0.5, *, detach_margin: bool = False) -> None:
        super().__init__(margin)
        if not isinstance(detach_margin, bool):
            raise ParameterError(parameter_fault(type(self).__name__, "detach_margin", "true or false", detach_margin))
        self.detach_margin = detach_margin

    def forward(self, cosine: Tensor, target: Tensor) -> Tensor:
        """φ of the target's cosine. See ``Margin.forward``."""
        return additive_angular_margin(cosine, self.of(cosine, target), detach_margin=self.detach_margin)

    def extra_repr(self) -> str:
        """Show the margin, and whether its gradient is left out."""
        return super().extra_repr() + (", detach_margin=True" if self.detach_margin else "")
