"""The step's formula in float64, a block of classes at a time: what loss, gradients and κ* are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import KAPPA_CANDIDATES

BLOCK = 2**16


class Difference(NamedTuple):
    """Relative differences from the formula: of the loss, and in length of both gradients."""

    loss: float
    features: float
    weight: float


def blocks(weight: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Where a block begins, its unit rows and its lengths ``[b, 1]``, in float64."""
    for start in range(0, len(weight), BLOCK):
        rows = weight[start : start + BLOCK].detach().double()
        lengths = rows.norm(dim=1, keepdim=True)
        yield start, rows / lengths, lengths


@torch.no_grad()
def difference(
    features: Tensor, weight: Tensor, target: Tensor, kappa: float | Tensor, found: tuple[Tensor, Tensor, Tensor]
) -> Difference:
    r"""How far loss and gradients are from :math:`-\frac1B \sum_i \log \text{softmax}(\kappa_i \cos)_{y_i}`.

    Args:
        features: ``[B, D]``.
        weight: ``[C, D]``.
        target: ``[B]``.
        kappa: one for all, or ``[B]``.
        found: mean loss, gradients of features and of weight.
    """
    batch = len(features)
    loss, to_features, to_weight = found
    lengths = features.detach().double().norm(dim=1, keepdim=True)
    unit = features.detach().double() / lengths
    scale = torch.as_tensor(kappa, device=features.device, dtype=torch.float64).expand(batch).unsqueeze(1)
    total = torch.full_like(unit[:, 0], -torch.inf)
    own = F.normalize(weight.detach()[target].double())
    for _, rows, _ in blocks(weight):
        total = torch.logaddexp(total, (scale * (unit @ rows.T)).logsumexp(dim=1))
    expected = (total - scale.squeeze(1) * (unit * own).sum(dim=1)).mean()
    along = torch.zeros_like(unit)
    apart = size = 0.0
    for start, rows, of_rows in blocks(weight):
        of_scores = (scale * (unit @ rows.T) - total.unsqueeze(1)).exp()
        here = ((target >= start) & (target < start + len(rows))).nonzero().squeeze(1)
        of_scores[here, target[here] - start] -= 1
        of_scores *= scale / batch
        along += of_scores @ rows
        gradient = of_scores.T @ unit
        gradient = (gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows) / of_rows
        apart += float((to_weight[start : start + len(rows)].double() - gradient).square().sum())
        size += float(gradient.square().sum())
    right = (along - (along * unit).sum(dim=1, keepdim=True) * unit) / lengths
    return Difference(
        float((loss.double() - expected).abs() / expected.abs()),
        float((to_features.double() - right).norm() / right.norm()),
        (apart / size) ** 0.5,
    )


@torch.no_grad()
def regret(features: Tensor, weight: Tensor, kappa: Tensor, rows: int = 64) -> float:
    """By how much ½‖x̃ - Σ softmax(κ cos) w̃‖² of κ* exceeds the least of the candidates, at worst of some rows."""
    unit = F.normalize(features[:rows].detach().double())
    candidates = torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64, device=features.device)
    tried = torch.cat([candidates.unsqueeze(1).expand(-1, len(unit)), kappa[:rows].double().unsqueeze(0)])
    totals = torch.full_like(tried, -torch.inf)
    for _, rows_of_block, _ in blocks(weight):
        cosine = unit @ rows_of_block.T
        for index, each in enumerate(tried):
            totals[index] = torch.logaddexp(totals[index], (each.unsqueeze(1) * cosine).logsumexp(dim=1))
    rebuilt = unit.new_zeros(len(tried), *unit.shape)
    for _, rows_of_block, _ in blocks(weight):
        cosine = unit @ rows_of_block.T
        for index, each in enumerate(tried):
            rebuilt[index] += (each.unsqueeze(1) * cosine - totals[index].unsqueeze(1)).exp() @ rows_of_block
    energies = 0.5 * (unit - rebuilt).square().sum(dim=2)
    return float((energies[-1] - energies[:-1].amin(dim=0)).max())
