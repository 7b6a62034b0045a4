"""A head of cosines, spelt out."""

from __future__ import annotations

from typing import Any

from .head import Head


class CosineHead(Head):
    """``Head`` with ``classifier="cosine"``; every other argument is the same.

    >>> import torch
    >>> from logitlab.temperature import LeastSquares
    >>> CosineHead(8, 3, temperature=LeastSquares())(torch.ones(2, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, in_features: int, num_classes: int, **parameters: Any) -> None:
        super().__init__(in_features, num_classes, classifier="cosine", **parameters)
