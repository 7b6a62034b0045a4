"""The tensors of a model and of its optimiser by name, and which rows of the whole each rank holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import InputError
from logitlab.functional.blockwise import Ranks

from .head import ShardedHead


class Piece(NamedTuple):
    """A tensor of this process as a part of the whole one.

    Attributes:
        tensor: the rows here.
        start: the first of them in the whole; None for a tensor that is the same on every rank.
        rows: of the whole; meaningless without ``start``.
    """

    tensor: Tensor
    start: int | None = None
    rows: int = 0

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        here = self.tensor.shape
        return here if self.start is None else torch.Size((self.rows, *here[1:]))

    def like(self, tensor: Tensor) -> Piece:
        """Another tensor with the same rows."""
        return self._replace(tensor=tensor)


class OptimizerState(NamedTuple):
    """What an optimiser keeps, by the names of the parameters.

    Attributes:
        kind: name of its class.
        groups: of each group its hyperparameters; ``params`` are names.
        pieces: tensors by ``PARAMETER.KEY``.
        values: of each parameter what is no tensor.
    """

    kind: str
    groups: list[dict[str, Any]]
    pieces: dict[str, Piece]
    values: dict[str, dict[str, Any]]


def ranks_of(model: nn.Module) -> Ranks:
    """The ranks that share the classes of a model; this process alone where none are shared.

    Raises:
        InputError: its heads belong to different groups.
    """
    heads = [module for module in model.modules() if isinstance(module, ShardedHead)]
    if not heads:
        return Ranks(None)
    ranks = heads[0].ranks
    if any(head.ranks.group is not ranks.group for head in heads):
        raise InputError("Expected sharded heads of one process group. Got heads of several. Save each by itself.")
    return ranks


def plain_name(model: nn.Module, name: str) -> str:
    """A name in a state dict without what DDP and ``torch.compile`` put into it.

    >>> compiled = nn.Sequential(nn.Linear(2, 3))
    >>> plain_name(compiled, "0.weight"), plain_name(nn.Module(), "_orig_mod.0.weight")
    ('0.weight', '0.weight')
    """
    parts = []
    module: Any = model
    for part in name.split("."):
        wrapped = part == "_orig_mod" or (part == "module" and isinstance(module, DistributedDataParallel))
        parts += [] if wrapped else [part]
        module = getattr(module, part, None)
    return ".".join(parts)


def model_state(model: nn.Module) -> tuple[dict[str, Piece], dict[str, Any]]:
    """What stands in the state dict of a model.

    Returns:
        Tensors, which share the memory of the model, and whatever else is there, both by plain names.

    Raises:
        InputError: a weight of a sharded head has another name, or a tensor is already split by torch.
    """
    rows = {}
    for path, head in model.named_modules(remove_duplicate=False):
        if isinstance(head, ShardedHead):
            prefix = f"{path}." if path else ""
            rows[f"{prefix}weight"] = (head.rows_here.start, head.num_classes * head.centers)
            if head.bias is not None:
                rows[f"{prefix}bias"] = (head.classes.start, head.num_classes)
    state = model.state_dict()
    lost = [name for name in rows if name not in state]
    if lost:
        raise InputError(
            f"Expected '{lost[0]}' of a ShardedHead in the state dict of the model. It is not there: is it "
            "parametrized? Remove the parametrization first."
        )
    pieces: dict[str, Piece] = {}
    others: dict[str, Any] = {}
    for name, value in state.items():
        plain = plain_name(model, name)
        if not isinstance(value, Tensor):
            others[plain] = value
            continue
        if hasattr(value, "placements") or value.layout != torch.strided or value.is_meta:
            kind = "on the meta device" if value.is_meta else f"a {type(value).__name__} of layout {value.layout}"
            raise InputError(
                f"Expected a backbone that is the same on every rank, of dense tensors. Got '{plain}', {kind}. What "
                "FSDP has split torch.distributed.checkpoint saves by itself."
            )
        pieces[plain] = Piece(value, *rows.get(name, ()))
    return pieces, others


def named_parameters(model: nn.Module) -> dict[int, str]:
    """Plain names of the parameters by identity; of one that stands in several places the first."""
    return {id(parameter): plain_name(model, name) for name, parameter in model.named_parameters()}


def optimizer_state(
    optimizer: torch.optim.Optimizer, names: dict[int, str], pieces: dict[str, Piece]
) -> OptimizerState:
    """What an optimiser keeps.

    Args:
        optimizer: of torch.
        names: of the parameters of the model.
        pieces: of the model.

    Raises:
        InputError: it has a parameter that is not the model's, or keeps of a split weight what is not split likewise.
    """
    groups = []
    kept: dict[str, Piece] = {}
    values: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        inside = []
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise InputError(
                    f"Expected an optimiser of the parameters of the model. Got one of shape {list(parameter.shape)} "
                    "that is not in it. Build the optimiser from the same model."
                )
            name = names[id(parameter)]
            inside.append(name)
            values[name] = {}
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    kept[f"{name}.{key}"] = state_piece(pieces[name], value, name, key)
                else:
                    values[name][key] = value
        rest = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        groups.append({**rest, "params": inside})
    return OptimizerState(type(optimizer).__name__, groups, kept, values)


def state_piece(owner: Piece, value: Tensor, name: str, key: str) -> Piece:
    """What an optimiser keeps of a parameter is split as the parameter is, or the same on every rank.

    Raises:
        InputError: it is neither.
    """
    if owner.start is None or value.ndim == 0:
        return Piece(value)
    if value.shape == owner.tensor.shape:
        return owner.like(value)
    raise InputError(
        f"The optimiser keeps '{key}' of shape {list(value.shape)} for '{name}', whose part here is "
        f"{list(owner.tensor.shape)}: it depends on the split. Use an optimiser that keeps tensors of the shape of the "
        "weight, such as SGD or AdamW."
    )
