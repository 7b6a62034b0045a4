"""What a backbone is."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """A network below the head: it maps images ``[B, channels, H, W]`` to features ``[B, D]``.

    Attributes:
        num_features: D.
    """

    num_features: int
