"""A dense head on all samples, and the same head split over gloo ranks: one step of each."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from ranks import run_ranks
from torch import Tensor

from logitlab.functional import normalize
from logitlab.functional.blockwise import forward as forward_module
from logitlab.functional.blockwise import likelihood as likelihood_module
from logitlab.functional.blockwise import scores as scores_module
from logitlab.heads import Head, ShardedHead
from logitlab.temperature import LeastSquares


class Batch(NamedTuple):
    """Samples of all ranks.

    Attributes:
        features: ``[N, ..., D]``.
        target: ``[N, ...]``.
        sizes: how many of the N each rank has.
    """

    features: Tensor
    target: Tensor
    sizes: tuple[int, ...]

    def of(self, rank: int) -> tuple[Tensor, Tensor]:
        """The samples of a rank."""
        return self.features.split(self.sizes)[rank], self.target.split(self.sizes)[rank]


class Step(NamedTuple):
    """What a step gives.

    Attributes:
        loss: scalar, or ``[n]``.
        features: gradient of the features, without the factor of the ranks.
        weight: gradient of the weight of the classes here.
        bias: likewise, or None.
        others: gradients of the other parameters, by name.
        kappa: of the temperature after the step, or None.
        chosen: κ* of the samples, if a search has found it.
        certified: likewise.
    """

    loss: Tensor
    features: Tensor | None
    weight: Tensor
    bias: Tensor | None
    others: dict[str, Tensor | None]
    kappa: Tensor | None
    chosen: Tensor | None = None
    certified: Tensor | None = None


def step(head: Any, features: Tensor, target: Tensor, by: Tensor | None = None, **options: Any) -> Step:
    """Forward and backward pass.

    Args:
        head: dense or split.
        features: of its samples.
        target: of its samples.
        by: gradient of the losses of the samples, for ``reduction="none"``.
        **options: of ``forward``.
    """
    features = features.detach().clone().requires_grad_()
    taken: list[Any] = []
    if isinstance(head.temperature, LeastSquares):
        take = type(head.temperature).take

        def listen(chosen: Any, *rest: Any) -> Tensor:
            taken.append(chosen)
            return take(head.temperature, chosen, *rest)

        head.temperature.take = listen
    loss = head(features, target, **options)
    loss.backward(by)
    if isinstance(head.temperature, LeastSquares):
        del head.temperature.take
    factor = head.ranks.size if getattr(head, "data_parallel", False) else 1
    others = {name: part.grad for name, part in head.named_parameters() if name not in ("weight", "bias")}
    return Step(
        loss.detach(),
        features.grad / factor,
        head.weight.grad,
        None if head.bias is None else head.bias.grad,
        others,
        head.kappa,
        taken[0].kappa.reshape(-1) if taken else None,
        taken[0].certified.reshape(-1) if taken else None,
    )


_BLOCK, _KEEP = scores_module.block_size, scores_module.keep_scores


def use_blocks(size: int | None = None, keep: bool | None = None) -> None:
    """Let this process have blocks of so many classes, and keep the scores or not; None as it was."""
    scores_module.block_size = _BLOCK if size is None else lambda samples, classes: min(classes, size)
    for module in (forward_module, likelihood_module):
        module.keep_scores = _KEEP if keep is None else lambda *operands: keep


def _split_step(rank: int, head: Head, batch: Batch, options: dict[str, Any], extra: dict[str, Any]) -> Step:
    features, target = batch.of(rank)
    use_blocks(*extra.pop("blocks", ()))
    options = {
        name: value.split(batch.sizes)[rank] if isinstance(value, Tensor) and value.ndim else value
        for name, value in options.items()
    }
    found = step(ShardedHead(head, **extra), features, target, **options)
    # Those that fill up are nobody's.
    number = target.numel()
    return found._replace(chosen=None if found.chosen is None else found.chosen[:number])


def split_steps(head: Head, batch: Batch, extra: dict[str, Any] | None = None, **options: Any) -> list[Step]:
    """The step of every rank.

    Args:
        head: dense.
        batch: of all ranks.
        extra: arguments of ``ShardedHead``.
        **options: of ``forward``; tensors are split like the batch.
    """
    return run_ranks(_split_step, len(batch.sizes), head, batch, options, extra or {})


def far(found: Tensor, expected: Tensor) -> float:
    """How far apart: relative to the largest number expected, or absolute where that is below one."""
    assert found.shape == expected.shape
    assert found.isfinite().all()
    if not expected.numel():
        return 0.0
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))


def assert_equals_dense(
    head: Head,
    batch: Batch,
    tolerance: float,
    extra: dict[str, Any] | None = None,
    exact: tuple[Head, Batch] | None = None,
    rounded: float | None = None,
    **options: Any,
) -> list[Step]:
    """Loss and gradients of all ranks are those of the dense head on all samples at once.

    κ* is compared by its energy; the loss then is that of the dense head at these κ*.

    Args:
        head: dense, left as it was.
        batch: of all ranks.
        tolerance: relative, see ``far``.
        extra: arguments of ``ShardedHead``, and ``blocks`` for ``use_blocks``.
        exact: head and batch in float64 to compare with, if these are not.
        rounded: what is allowed for gradients, whose dtype may be narrow; None for ``tolerance``.
        **options: of ``forward``.
    """
    found = split_steps(head, batch, extra, **options)
    head, batch = exact or (head, batch)
    dense = copy.deepcopy(head)
    dense.fused = False
    given = dict(options)
    mean = None
    if found[0].chosen is not None:
        kappa = torch.cat([part.chosen for part in found])
        mean = assert_no_regret(dense, batch.features, kappa, extra)
        given["kappa"] = head.temperature.multiplier * kappa.view(batch.target.shape)
    expected = step(dense, batch.features, batch.target, **given)
    whole = copy.deepcopy(head).requires_grad_(False)
    options.pop("by", None)
    whole(batch.features, batch.target, **options)  # which moves the running mean
    losses = [part.loss for part in found]
    if options.get("reduction") == "none":
        assert far(torch.cat(losses), expected.loss) <= tolerance
    else:
        for loss in losses:
            assert far(loss, expected.loss) <= tolerance, (loss, expected.loss)
    tolerance = tolerance if rounded is None else rounded
    assert far(torch.cat([part.features for part in found]), expected.features) <= tolerance
    assert far(torch.cat([part.weight for part in found]), expected.weight) <= tolerance
    if expected.bias is not None:
        assert far(torch.cat([part.bias for part in found]), expected.bias) <= tolerance
    for part in found:
        assert part.others.keys() == expected.others.keys()
        for name, gradient in part.others.items():
            if gradient is None:
                assert expected.others[name] is None
            else:
                assert far(gradient, expected.others[name]) <= tolerance, name
        if expected.kappa is not None:
            assert far(part.kappa, whole.kappa if mean is None else mean) <= tolerance
    return found


def assert_no_regret(dense: Head, features: Tensor, kappa: Tensor, extra: Any, allowed: float = 2e-6) -> Tensor:
    """κ* is a candidate of the least energy; gives the running mean that it leaves behind."""
    temperature = dense.temperature
    x, w = normalize(features.double().reshape(-1, features.shape[-1])), normalize(dense.weight.detach().double())
    if temperature.search == "grid":
        energies = torch.stack(
            [energy_of(x, w, torch.tensor(float(candidate))) for candidate in temperature.candidates]
        )
        assert float((energy_of(x, w, kappa.double()) - energies.amin(dim=0)).max()) <= allowed
        candidates = torch.tensor(temperature.candidates, dtype=torch.float64)
        near = (kappa.double().unsqueeze(1) / candidates - 1).abs().amin(dim=1)
        assert float(near.max()) <= 1e-6
    directed = x.any(dim=1)
    before = temperature.mean.value.double()
    if not (dense.training and directed.any()):
        return temperature.multiplier * before
    mean = before + temperature.mean.momentum * (kappa.double()[directed].mean() - before)
    return temperature.multiplier * mean


def energy_of(unit_features: Tensor, unit_weight: Tensor, kappa: Tensor) -> Tensor:
    """T (10) written out once more, so that the choice is not judged by the library's own formula; ``[N]``."""
    power = torch.exp(kappa.reshape(-1, 1) * (unit_features @ unit_weight.T))
    rebuilt = (power @ unit_weight) / power.sum(dim=1, keepdim=True)
    return ((unit_features - rebuilt) ** 2).sum(dim=1) / 2
