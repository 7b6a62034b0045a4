"""λ annealing: a margin that grips step by step."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range

_RANGES = {
    "start": Range(0, 1e30),
    "gamma": Range(0),
    "power": Range(0),
    "minimum": Range(0),
}


class Annealing(nn.Module):
    r"""The weight λ of the plain cosine beside the one with a margin, falling with the steps of the optimiser.

    .. math:: \lambda_t = \max(\lambda_{\min}, \lambda_0 (1 + \gamma t)^{-p}), \qquad
        \varphi_\lambda = \frac{\lambda \cos\theta + \psi(\theta)}{1 + \lambda}

    t counts the steps of the optimiser that holds the head's weight, whatever the number of forward passes between
    them: gradient accumulation, a second look at a batch, or a step that a GradScaler skips do not advance it. It is a
    buffer, saved and loaded with the model. ``advance`` serves optimisers that are not torch's, and FSDP1, which
    replaces the weight. ``ZeroRedundancyOptimizer`` steps two optimisers at a time and counts twice.

    With m >= 3 L-Softmax and SphereFace converge from scratch only when λ starts large
    (``benchmarks/lsoftmax_mnist.py``): the heads ``lsoftmax`` and ``sphereface`` start at 1000.

    Args:
        start: λ_0 >= 0.
        gamma: γ >= 0, a step; 0 keeps λ at its start.
        power: p >= 0.
        minimum: λ_min >= 0.

    Attributes:
        steps: how many steps were taken; an int64 scalar.

    Raises:
        ParameterError: all faults at once.

    References:
        L, "Start with large λ (0.1) and gradually reduce to a very small value": with the defaults λ is 0.1 at the
        start, 0.01 after 900 steps and 0.001 from 9900 steps on. The form of the schedule is that of the published
        Caffe code of SphereFace (1000, 0.12, 1, 5).

    >>> annealing = Annealing(start=5.0, gamma=1.0, minimum=2.0)
    >>> [annealing.advance().weight.item() for _ in range(3)]
    [2.5, 2.0, 2.0]
    """

    steps: Tensor

    def __init__(self, start: float = 0.1, gamma: float = 0.01, power: float = 1.0, minimum: float = 0.001) -> None:
        super().__init__()
        given = {"start": start, "gamma": gamma, "power": power, "minimum": minimum}
        faults = [_RANGES[name].fault("Annealing", name, value) for name, value in given.items()]
        if not any(faults) and minimum > start:
            faults.append(f"Annealing cannot fall from start={start:g} to the larger minimum={minimum:g}. Lower it.")
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.start = start
        self.gamma = gamma
        self.power = power
        self.minimum = minimum
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def weight(self) -> Tensor:
        """λ of the step to come; a new tensor each time, which later steps do not change."""
        passed = self.steps.to(torch.float64 if self.steps.device.type != "mps" else torch.float32)
        return (self.start * (1 + self.gamma * passed) ** -self.power).clamp_min(self.minimum)

    def advance(self) -> Self:
        """Count one step of the optimiser."""
        self.steps += 1
        return self

    def reset_parameters(self) -> None:
        """Begin again; also what ``to_empty`` needs after building on the meta device."""
        self.steps.zero_()

    def fresh(self) -> Annealing:
        """Another one with the same schedule, at its start."""
        return Annealing(self.start, self.gamma, self.power, self.minimum)

    def extra_repr(self) -> str:
        """Show the schedule."""
        return f"start={self.start:g}, gamma={self.gamma:g}, power={self.power:g}, minimum={self.minimum:g}"


# Modules with an annealed margin, each with the weight that an optimiser must hold to move it.
_FOLLOWING: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_hook: Any = None


def follow_optimizer(head: nn.Module) -> None:
    """Let the annealing of a head's margin advance with every step of the optimiser that holds ``head.weight``.

    Args:
        head: a module with ``weight`` and ``margin``; forgotten when it is gone.
    """
    global _hook
    _FOLLOWING.add(head)
    if _hook is None:
        _hook = register_optimizer_step_post_hook(_advance)


def _advance(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    held: set[int] = set()
    advanced: set[int] = set()
    for head, annealing in _annealed():
        held = held or {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # A margin that two heads share moves once. Parametrizations put another tensor in the place of the weight.
        if id(annealing) in advanced or not any(id(parameter) in held for parameter in head.parameters()):
            continue
        advanced.add(id(annealing))
        overflow = getattr(optimizer, "found_inf", None)
        if isinstance(overflow, Tensor):
            # A fused optimiser skips a step of a GradScaler inside its kernel; asking whether it did would wait for it.
            annealing.steps += (overflow == 0).to(annealing.steps)
        else:
            annealing.advance()


def _annealed() -> Iterator[tuple[nn.Module, Annealing]]:
    for head in list(_FOLLOWING):
        annealing = getattr(getattr(head, "margin", None), "annealing", None)
        # A head that is measured, or frozen, has nothing to anneal.
        if isinstance(annealing, Annealing) and annealing.gamma > 0:
            yield head, annealing
