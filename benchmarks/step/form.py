"""A form: one way to compute the step, by name, built on a problem when it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from logitlab.functional.least_squares import Chosen
from logitlab.heads import Head

from .problem import Problem


class NotThere(Exception):  # noqa: N818
    """This form cannot be measured here; the message says why."""


class Runnable(Protocol):
    """What the clock runs."""

    def __call__(self) -> object: ...


@dataclass
class Step:
    """Loss, and gradients of the features and the weight.

    Attributes:
        loss: computes the mean loss of the batch.
        features: the leaf.
        weight: the leaf, ``[C, D]``, or ``[D, C]`` where ``transposed``.
        head: of ours, which can say what it did.
    """

    loss: Callable[[], Tensor]
    features: Tensor
    weight: Tensor
    transposed: bool = False
    head: Head | None = None

    def __call__(self) -> Tensor:
        """Take a step from gradients that are None, as after ``zero_grad``; return the loss."""
        self.clear()
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def clear(self) -> None:
        self.features.grad = self.weight.grad = None

    def outcome(self) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and gradients ``[B, D]``, ``[C, D]``; nothing remains on the leaves."""
        loss = self().detach()
        features, weight = self.features.grad, self.weight.grad
        assert features is not None
        assert weight is not None
        self.clear()
        return loss, features, weight.T if self.transposed else weight


@dataclass
class Search:
    """κ* of every sample; no gradient.

    Attributes:
        find: is measured.
        choose: the same search, which also says what it did.
    """

    find: Callable[[], Tensor]
    choose: Callable[[], Chosen] | None = None

    def __call__(self) -> Tensor:
        return self.find()


@dataclass(frozen=True)
class Form:
    """One way to compute the step, or the search alone.

    Attributes:
        name: in tables, unique.
        build: prepares it on a problem; raises ``NotThere``.
        agrees_with: the formula that its loss and gradients must be: ``"fixed"``, ``"cosface"`` or ``"arcface"`` at
            the fixed κ, ``"least_squares"`` at the κ that it chose itself, ``"group I"``, ``"group II"``; ``"grid"``
            for a search that promises the best candidate; None where nothing is promised.
    """

    name: str
    build: Callable[[Problem], Runnable]
    agrees_with: str | None = "fixed"
