"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from logitlab.heads import Classifier


class WeightAverage:
    """Average of a model's parameters over the steps of training; buffers are copied.

    After step n (from 0) the average moves to d·average + (1 - d)·weights with
    d = min(decay, (1 + n)/(10 + n)), the ramp of Szegedy et al.'s implementation that W A.1 follows: without it a decay
    of 0.9999 would keep the initial weights for the whole of a short run. Buffers (statistics of batch
    normalisation, the running mean of κ) are averages of their own and follow the model as they are.

    Args:
        model: the model that trains.
        decay: largest momentum d, in [0, 1); W uses 0.9999.
    """

    def __init__(self, model: Classifier, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            # The first update copies (count 1 here is the second); a tensor count stays on its device.
            momentum = (1.0 + count) / (10.0 + count)
            momentum = momentum.clamp(max=decay) if isinstance(momentum, Tensor) else min(momentum, decay)
            return averaged + (1.0 - momentum) * (current - averaged)

        self._average = AveragedModel(model, avg_fn=average)

    @property
    def model(self) -> Classifier:
        """The model with averaged weights; a module of its own, not the one that trains."""
        return cast(Classifier, self._average.module)

    def update(self, model: Classifier) -> None:
        """Take one step's weights into the average and copy the buffers."""
        self._average.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, the buffers and the number of updates."""
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RuntimeError: it belongs to another model.
        """
        self._average.load_state_dict(state)
