"""Checkpoints of models whose classes are split: written by any number of ranks, read by any other, or by a dense head.

A folder holds

- ``checkpoint.json``: which of the folders beside it counts; it is replaced in one step, after all else is on the disk;
- ``data-…/``: all tensors, in the format of torch.distributed.checkpoint (``storage.py``), named ``model.NAME`` and
  ``optimizer.state.NAME.KEY``, and ``state.pt``: what is no tensor.
"""

from __future__ import annotations

import io
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from logitlab.config.errors import InputError, RecordError

from .agreement import together
from .folder import Refusal, is_pointed, pointed_data, put_in_place, write_file
from .pieces import OptimizerState, Piece, model_state, named_parameters, optimizer_state, ranks_of, state_piece

if TYPE_CHECKING:
    from .storage import Stored

_STATE = "state.pt"
_MODEL = "model."
_OPTIMIZER = "optimizer.state."


def save_sharded(
    folder: Path | str, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **extra: Any
) -> None:
    """Save a model with sharded heads so that any other number of ranks, or a dense head, can go on from there.

    Every rank that holds classes must call it, with the same arguments; each writes its own rows, and the first rank
    all that is the same on every rank: backbone, temperature, margin, what the optimiser counts. A model without a
    sharded head is written by the process that calls; where ``torch.distributed`` runs, by rank 0, and others return
    at once.

    The folder must be one that all ranks see. A checkpoint that stands there is replaced in one step at the end:
    whatever happens before, it stays as it was. Only one save may be under way in a folder.

    Args:
        folder: made when missing.
        model: holds ``ShardedHead`` or ``Head`` modules and a backbone that is the same on every rank, in
            ``DistributedDataParallel`` or not: its prefix is left out of the names.
        optimizer: of torch, with parameters of the model; it keeps tensors of their shape, and scalars.
        **extra: what else to keep, such as ``epoch=3`` or ``scheduler=scheduler.state_dict()``: numbers, text, tensors,
            lists and mappings. Those of the first rank are kept. Random generators are not kept.

    Raises:
        InputError: the model, the optimiser or what else is to be kept cannot be saved; the same on every rank.
        RecordError: the file system refuses; the same on every rank.
        RankError: another rank is gone.
    """
    from .storage import write_pieces

    folder = Path(folder)
    ranks = ranks_of(model)
    if ranks.group is None and dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
        return
    pieces: dict[str, Piece] = {}
    content = b""

    def prepare() -> tuple[str, list[tuple[str, torch.Size]]]:
        nonlocal content
        of_model, others = model_state(model)
        pieces.update({_MODEL + name: piece for name, piece in of_model.items()})
        kept = None if optimizer is None else optimizer_state(optimizer, named_parameters(model), of_model)
        if kept is not None:
            pieces.update({_OPTIMIZER + name: piece for name, piece in kept.pieces.items()})
        content = _state_bytes(others, kept, extra)
        return f"data-{secrets.token_hex(8)}", [(name, piece.shape) for name, piece in pieces.items()]

    plans = together(ranks, "preparing a checkpoint", prepare)
    name, expected = plans[0]
    for rank, (_, found) in enumerate(plans):
        if found != expected:
            differing = sorted({entry for entry, _ in set(found) ^ set(expected)}) or ["their order"]
            raise InputError(
                f"Expected the same tensors on every rank. Rank {rank} differs from rank 0 in {_some(differing)}. "
                "Save all ranks after the same step."
            )
    data = folder / name

    def make_folder() -> None:
        if ranks.rank == 0:
            with Refusal(folder):
                data.mkdir(parents=True)
                write_file(data / _STATE, content)

    try:
        together(ranks, "making the folder of a checkpoint", make_folder)
        write_pieces(data, pieces, ranks)
        together(ranks, "ending a checkpoint", lambda: put_in_place(folder, data) if ranks.rank == 0 else None)
    except BaseException:
        if ranks.rank == 0 and not is_pointed(folder, data):
            shutil.rmtree(data, ignore_errors=True)
        raise


def load_sharded(
    folder: Path | str, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Load what ``save_sharded`` saved, on any number of ranks, with sharded heads or dense ones.

    Every rank that holds classes must call it. No code from the folder runs. What does not fit is found, on all ranks,
    before anything is changed; only a file that is damaged inside is found while the tensors are being read in place.

    Args:
        folder: of a checkpoint.
        model: of the same layers; built in any way, for its weights are written over, in the dtype they have here.
        optimizer: of the same class and over the same parameters as the one that was saved, or None to leave what is
            there of it. Its groups may be cut otherwise as long as none joins two that were saved.

    Returns:
        What else was kept; its tensors are on the CPU.

    Raises:
        RecordError: there is no checkpoint, or it is damaged; the same on every rank.
        InputError: model or optimiser do not fit; the same on every rank.
        RankError: another rank is gone.
    """
    from .storage import list_stored, read_pieces

    folder = Path(folder)
    ranks = ranks_of(model)
    # The first rank says which data counts: another may replace it at any moment.
    data = folder / together(ranks, "finding a checkpoint", lambda: pointed_data(folder) if ranks.rank == 0 else "")[0]
    plans: list[_Loading] = []

    def plan() -> None:
        plans.append(_plan(folder, _read_state(data), list_stored(data), model, optimizer))

    together(ranks, "looking into a checkpoint", plan)
    loading = plans[0]

    def read() -> None:
        read_pieces(data, loading.pieces, loading.stored)
        # The tensors were read in place; what is more than a tensor, and hooks, need the way of torch.
        model.load_state_dict(loading.model_state)
        if optimizer is not None and loading.optimizer_state is not None:
            optimizer.load_state_dict(loading.optimizer_state)

    together(ranks, "reading a checkpoint", read)
    return loading.extra


class _Loading(NamedTuple):
    pieces: dict[str, Piece]
    stored: dict[str, Stored]
    model_state: dict[str, Any]
    optimizer_state: dict[str, Any] | None
    extra: dict[str, Any]


def _plan(
    folder: Path,
    state: dict[str, Any],
    stored: dict[str, Stored],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> _Loading:
    from .pieces import plain_name

    of_model, others = model_state(model)
    saved = {name.removeprefix(_MODEL): entry for name, entry in stored.items() if name.startswith(_MODEL)}
    _compare_names(folder, set(saved) | set(state["model"]), set(of_model) | set(others))
    pieces = {}
    for name, piece in of_model.items():
        if saved[name].shape != piece.shape:
            raise InputError(
                f"'{name}' has the shape {list(saved[name].shape)} in the checkpoint '{folder}' and "
                f"{list(piece.shape)} in this model{_of_head(saved[name].shape, piece)}. Build the model with the "
                "numbers it was saved with."
            )
        pieces[_MODEL + name] = piece
    whole = {name: piece.tensor for name, piece in of_model.items()} | state["model"]
    original = model.state_dict()
    model_entries = {name: whole[plain_name(model, name)] for name in original}
    optimizer_entries = None
    if optimizer is not None:
        kept, optimizer_entries = _plan_optimizer(folder, state["optimizer"], stored, model, of_model, optimizer)
        pieces.update(kept)
    return _Loading(pieces, stored, model_entries, optimizer_entries, state["extra"])


def _plan_optimizer(
    folder: Path,
    saved: dict[str, Any] | None,
    stored: dict[str, Stored],
    model: nn.Module,
    of_model: dict[str, Piece],
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Piece], dict[str, Any]]:
    """Empty tensors for what the optimiser kept, and the state dict that they stand in."""
    if saved is None:
        raise InputError(f"The checkpoint '{folder}' was saved without an optimiser. Load it without one.")
    if saved["kind"] != type(optimizer).__name__:
        raise InputError(
            f"The checkpoint '{folder}' was saved with {saved['kind']}. Got {type(optimizer).__name__}. Use the same "
            "optimiser, or load without one."
        )
    names = named_parameters(model)
    here = optimizer_state(optimizer, names, of_model)
    group_of = {name: index for index, group in enumerate(saved["groups"]) for name in group["params"]}
    held = {name for group in here.groups for name in group["params"]}
    _compare_names(folder, set(group_of), held, "the optimiser")
    parameters = {names[id(parameter)]: parameter for group in optimizer.param_groups for parameter in group["params"]}
    pieces: dict[str, Piece] = {}
    state: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for group in here.groups:
        origins = {group_of[name] for name in group["params"]}
        if len(origins) > 1:
            raise InputError(
                f"One group of this optimiser joins parameters of {len(origins)} groups of the checkpoint '{folder}', "
                f"such as {_some(sorted(group['params']))}. Build it with the groups it was saved with."
            )
        rest = saved["groups"][origins.pop()] if origins else group
        first = len(state)
        for name in group["params"]:
            entries = dict(saved["values"][name])
            for key in saved["tensors"][name]:
                entry = f"{_OPTIMIZER}{name}.{key}"
                if entry not in stored:
                    raise RecordError(f"The checkpoint '{folder}' is damaged: '{entry}' is missing.")
                pieces[entry] = _room_for(stored[entry], of_model[name], parameters[name], name, key)
                entries[key] = pieces[entry].tensor
            state[len(state)] = entries
        groups.append({**rest, "params": list(range(first, len(state)))})
    return pieces, {"state": {index: entries for index, entries in state.items() if entries}, "param_groups": groups}


def _room_for(stored: Stored, owner: Piece, parameter: Tensor, name: str, key: str) -> Piece:
    if not stored.shape:
        return Piece(torch.empty((), dtype=stored.dtype))
    if owner.start is None:
        return Piece(torch.empty(stored.shape, dtype=stored.dtype, device=parameter.device))
    if stored.shape != owner.shape:
        raise InputError(
            f"What the optimiser kept as '{key}' of '{name}' has the shape {list(stored.shape)}, the weight "
            f"{list(owner.shape)}: it cannot be split. Load without the optimiser."
        )
    return state_piece(owner, torch.empty_like(owner.tensor, dtype=stored.dtype), name, key)


def _state_bytes(others: dict[str, Any], kept: OptimizerState | None, extra: dict[str, Any]) -> bytes:
    optimizer = None
    if kept is not None:
        tensors: dict[str, list[str]] = {name: [] for name in kept.values}
        for entry in kept.pieces:
            name, _, key = entry.rpartition(".")
            tensors[name].append(key)
        optimizer = {"kind": kept.kind, "groups": kept.groups, "values": kept.values, "tensors": tensors}
    buffer = io.BytesIO()
    try:
        torch.save({"model": others, "optimizer": optimizer, "extra": extra}, buffer)
        torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu", weights_only=True)
    except Exception as fault:  # whatever pickle says to an object of the user's
        said = " ".join(str(fault).split())[:300]
        raise InputError(
            "Expected numbers, text, tensors, lists and mappings beside the tensors of the model: in the extra "
            f"arguments of save_sharded, the groups of the optimiser and the extra state of modules. ({said})"
        ) from fault
    return buffer.getvalue()


def _read_state(data: Path) -> dict[str, Any]:
    path = data / _STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror or fault}.") from fault
    except Exception as fault:  # whatever a damaged file brings about
        said = " ".join(str(fault).split())[:300].rstrip(".")
        raise RecordError(f"'{path}' is damaged: {said}. Save it again, or take an older one.") from fault
    if not isinstance(state, dict) or set(state) != {"model", "optimizer", "extra"}:
        raise RecordError(f"'{path}' is damaged: it holds something else. Save it again, or take an older one.")
    return state


def _compare_names(folder: Path, saved: set[str], here: set[str], what: str = "the model") -> None:
    missing, unexpected = sorted(here - saved), sorted(saved - here)
    if missing or unexpected:
        parts = [f"The checkpoint lacks {_some(missing)}."] if missing else []
        parts += [f"{what.capitalize()} here lacks {_some(unexpected)}."] if unexpected else []
        raise InputError(
            f"The checkpoint '{folder}' does not fit {what}. {' '.join(parts)} Build {what} as it was saved."
        )


def _of_head(saved: torch.Size, piece: Piece) -> str:
    """Say what differs where a weight of a head does not fit."""
    if len(saved) != len(piece.shape) or not saved:
        return ""
    if saved[0] != piece.shape[0]:
        return " (another number of classes)" if piece.start is not None else " (other rows)"
    return " (another number of features)"


def _some(names: list[str], most: int = 4) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
