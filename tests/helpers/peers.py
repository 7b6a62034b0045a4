"""A head beside the same loss of pytorch-metric-learning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def close(found: Tensor, expected: Tensor) -> bool:
    """Equal to 1e-9 of the largest entry."""
    return bool((found - expected).abs().max() <= 1e-9 * expected.abs().max())


def assert_equal(head: Any, peer: Any, weight: Tensor, features: Tensor, target: Tensor) -> None:
    """Loss, logits and gradients of both are equal once both have this weight, in float64.

    Args:
        head: ours.
        peer: theirs, whose weight stands in columns.
        weight: one row a class or centre.
        features: ``[N, D]``.
        target: class indices ``[N]``.
    """
    with torch.no_grad():
        head.weight.copy_(weight)
        peer.W.copy_(weight.T)
    ours_x, theirs_x = features.clone().requires_grad_(), features.clone().requires_grad_()
    loss, logits = head(ours_x, target, return_logits=True)
    expected = peer(theirs_x, target)
    loss.backward()
    expected.backward()
    assert abs(loss.item() - expected.item()) <= 1e-9 * max(abs(expected.item()), 1e-3)
    assert close(ours_x.grad, theirs_x.grad) or float(theirs_x.grad.abs().max()) < 1e-12
    assert close(head.weight.grad, peer.W.grad.T) or float(peer.W.grad.abs().max()) < 1e-12
    assert close(logits, peer.get_logits(features))
