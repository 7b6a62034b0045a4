"""A sharded head beside a backbone in DistributedDataParallel: what is split stays with its rank, a norm is of all."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional.blockwise import Ranks

from .head import ShardedHead

M = TypeVar("M", bound=nn.Module)

_MAX_NORM = Range(0, low_included=False)


def keep_shards_local(model: M) -> M:
    """Let ``DistributedDataParallel(model)`` leave the split weights alone; otherwise it would average classes.

    Needed only where a sharded head stands inside the module that is wrapped. ``Classifier(DistributedDataParallel(
    backbone), head)``, with the head outside, needs nothing.

    Args:
        model: holds ``ShardedHead`` modules, with ``data_parallel=True``; wrap it afterwards.

    Returns:
        The same model.

    Raises:
        ParameterError: it is wrapped already.
    """
    if isinstance(model, DistributedDataParallel):
        raise ParameterError("keep_shards_local comes first: DistributedDataParallel(keep_shards_local(model)).")
    names = set(getattr(model, "_ddp_params_and_buffers_to_ignore", ()))
    for path, head in model.named_modules(remove_duplicate=False):
        if isinstance(head, ShardedHead):
            for name, _ in _split_parameters(head):
                # DDP forgets to leave out the dot where the head is all there is.
                names |= {f"{path}.{name}", f"{path}.{name}".removeprefix(".")}
    ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, sorted(names))
    return model


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    r"""Scale the gradients so that their length over all ranks is at most ``max_norm``; all ranks must call it.

    .. math:: g \leftarrow g \min\left(1, \frac{m}{\lVert g \rVert + 10^{-6}}\right), \qquad
        \lVert g \rVert^2 = \lVert g_{backbone} \rVert^2 + \sum_r \lVert g_{W_r} \rVert^2

    As ``torch.nn.utils.clip_grad_norm_`` of the dense model in one process; that function, asked on every rank, would
    scale each by another factor. With a ``GradScaler``, call ``unscale_`` before.

    Args:
        model: holds ``ShardedHead`` modules and a backbone whose gradients are the same on every rank.
        max_norm: m, positive.

    Returns:
        The length before, the same on every rank; a scalar. Not finite where a gradient of any rank is not.

    Raises:
        ParameterError: ``max_norm`` is not positive.
        RankError: another rank is gone.
    """
    fault = _MAX_NORM.fault("clip_gradients", "max_norm", max_norm)
    if fault:
        raise ParameterError(fault)
    heads = [module for module in model.modules() if isinstance(module, ShardedHead)]
    groups: dict[int, tuple[Ranks, list[nn.Parameter]]] = {}
    split: set[int] = set()
    for head in heads:
        _, held = groups.setdefault(id(head.ranks.group), (head.ranks, []))
        for _, parameter in _split_parameters(head):
            # Two heads may share a weight.
            held += [] if id(parameter) in split else [parameter]
            split.add(id(parameter))
    alike = [parameter for parameter in model.parameters() if id(parameter) not in split]
    total = _square(alike)
    for ranks, held in groups.values():
        part = _square(held)
        part, total = part.to(held[0].device), total.to(held[0].device)
        # Each rank brings its share of what is alike, so that all get the same sum to the last bit.
        total = ranks.sum(part + total / ranks.size, "the length of the gradients")
    norm = total.sqrt()
    torch.nn.utils.clip_grads_with_norm_(list(model.parameters()), max_norm, norm)
    return norm


def _square(parameters: list[nn.Parameter]) -> Tensor:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.to(torch.promote_types(norm.dtype, torch.float32)).square()


def _split_parameters(head: ShardedHead) -> list[tuple[str, nn.Parameter]]:
    return [("weight", head.weight)] + ([] if head.bias is None else [("bias", head.bias)])
