"""Temperature and margin of a sharded head: those of the template, where its weight is, as they are or fresh."""

from __future__ import annotations

import copy

from torch import Tensor

from logitlab.functional import at_least_float32
from logitlab.margins import Margin
from logitlab.temperature import Temperature

from ..head import Head


def temperature_of(template: Head, weight: Tensor) -> Temperature | None:
    """A temperature of its own: a fresh one where the template is on the meta device, otherwise a copy.

    Args:
        template: the head that is split.
        weight: of the classes here.
    """
    given = template.temperature
    if given is None:
        return None
    own = given.fresh() if template.weight.is_meta else copy.deepcopy(given)
    own.attach(template.num_classes)
    return own.to(weight.device, at_least_float32(weight))


def margin_of(template: Head, weight: Tensor) -> Margin | None:
    """A margin of its own; the arguments as of ``temperature_of``."""
    if template.margin is None:
        return None
    # A margin without a state is its own fresh one.
    own = copy.deepcopy(template.margin.fresh() if template.weight.is_meta else template.margin)
    if any(buffer.is_meta for buffer in own.buffers()):
        own.to_empty(device=weight.device)
        for part in own.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    own.attach(template.num_classes)
    return own.to(weight.device)
