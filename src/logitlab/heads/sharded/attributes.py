"""What every part of a sharded head may ask it for."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from logitlab.functional.blockwise import Ranks
from logitlab.losses import Loss
from logitlab.margins import Margin
from logitlab.temperature import Temperature

from ..head import Head
from .classes import ClassRange


class Sharded(nn.Module):
    """The attributes of ``ShardedHead``, which sets them; it is of no use alone."""

    in_features: int
    num_classes: int
    classifier: Literal["linear", "cosine", "unit_weight"]
    centers: int
    keep_probability: float
    weight_penalty: float
    loss_scale: float
    ignore_index: int
    inference_kappa: Literal["mean", "per_sample"]
    sample_share: float
    data_parallel: bool
    uneven_batches: bool | None
    weight: nn.Parameter
    bias: nn.Parameter | None
    class_weight: Tensor | None
    temperature: Temperature | None
    margin: Margin | None
    loss_function: Loss
    ranks: Ranks
    classes: ClassRange
    _arguments: dict[str, Any]
    _template: type[Head]
