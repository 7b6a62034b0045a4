"""Tensors by name in a folder of torch.distributed.checkpoint, written by several processes and read by any number.

The format is torch's own: a large tensor stands there in pieces of rows, and ``torch.distributed.checkpoint.load``, or
``python -m torch.distributed.checkpoint.format_utils dcp_to_torch``, reads the folder as well. Reading it here runs no
code from it: torch unpickles the list of the pieces without a look at what it names.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from logitlab.config.errors import RecordError
from logitlab.functional.blockwise import Ranks

from .agreement import together
from .pieces import Piece

#: Numbers in one entry of a file. A process that reads a few rows holds a whole entry for them.
_ELEMENTS = 2**24

_METADATA = ".metadata"


class Stored(NamedTuple):
    """What a folder says of a tensor.

    Attributes:
        shape: of the whole.
        dtype: as it was saved.
        chunks: first row and number of rows of each entry, by rows.
    """

    shape: torch.Size
    dtype: torch.dtype
    chunks: list[tuple[int, int]]


def write_pieces(folder: Path, pieces: Mapping[str, Piece], ranks: Ranks) -> None:
    """Write tensors into a new folder; every rank its own rows, and the first what is the same on all.

    Args:
        folder: that all ranks see.
        pieces: the same names on every rank.
        ranks: that write.

    Raises:
        RecordError: the file system refuses, or the pieces are none of one whole.
    """
    planner = _WritingPlanner(pieces)
    planner.set_up_planner({}, is_coordinator=ranks.rank == 0)
    writer = _Writer(folder)
    writer.set_up_storage_writer(ranks.rank == 0)

    def plan() -> SavePlan:
        try:
            return writer.prepare_local_plan(planner.create_local_plan())
        except OSError as fault:
            raise _refused(folder, fault) from fault

    plans = together(ranks, "planning a checkpoint", plan)
    try:
        # The same on every rank.
        plans, metadata = planner.create_global_plan(plans)
    except ValueError as fault:
        raise RecordError(f"Cannot write '{folder}': the parts of the ranks are not those of one model. {fault}") from (
            fault
        )
    mine = planner.finish_plan(writer.prepare_global_plan(plans)[ranks.rank])

    def write() -> Any:
        try:
            return writer.write_data(mine, planner).wait()
        except (OSError, RuntimeError) as fault:  # torch's archive writer turns a full disk into a RuntimeError
            raise _refused(folder, fault) from fault

    results = together(ranks, "writing a checkpoint", write)

    def finish() -> None:
        if ranks.rank == 0:
            try:
                writer.finish(metadata, results)
            except OSError as fault:
                raise _refused(folder, fault) from fault

    together(ranks, "writing the list of a checkpoint", finish)


def list_stored(folder: Path) -> dict[str, Stored]:
    """What tensors stand in a folder.

    Raises:
        RecordError: it is damaged.
    """
    stored = {}
    for name, entry in _Reader(folder).read_metadata().state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            raise _damaged(folder, f"'{name}' is no tensor")
        chunks = sorted((tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in entry.chunks)
        shape = entry.size
        # Whole rows, one entry after the other.
        expected = 0
        for offsets, sizes in chunks:
            first, number = (offsets[0], sizes[0]) if shape else (0, 1)
            if first != expected or any(offsets[1:]) or sizes[1:] != tuple(shape[1:]):
                raise _damaged(folder, f"rows of '{name}' are missing")
            expected += number
        if expected != (shape[0] if shape else 1):
            raise _damaged(folder, f"rows of '{name}' are missing")
        rows = [(offsets[0], sizes[0]) for offsets, sizes in chunks] if shape else []
        stored[name] = Stored(shape, entry.properties.dtype, rows)
    return stored


def read_pieces(folder: Path, pieces: Mapping[str, Piece], stored: Mapping[str, Stored]) -> None:
    """Read tensors in place; this process alone, what it needs.

    Args:
        folder: that ``write_pieces`` filled.
        pieces: written over; in the shapes that are stored.
        stored: what ``list_stored`` says.

    Raises:
        RecordError: a file is missing or damaged; some tensors may have been read already.
    """
    reader = _Reader(folder)
    reader.set_up_storage_reader(reader.read_metadata(), is_coordinator=True)
    planner = _ReadingPlanner(pieces, stored)
    try:
        reader.read_data(reader.prepare_local_plan(planner.create_local_plan()), planner).wait()
    except OSError as fault:
        raise RecordError(f"Cannot read the checkpoint '{folder}': {fault.strerror or fault}.") from fault
    except Exception as fault:  # whatever a damaged file brings about
        raise _damaged(folder, " ".join(str(fault).split()).rstrip(".")) from fault


class _Writer(FileSystemWriter):
    """Without the path of the folder in its list."""

    def storage_meta(self) -> StorageMeta | None:
        return None


class _WritingPlanner(DefaultSavePlanner):
    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._pieces = pieces

    def create_local_plan(self) -> SavePlan:
        items = [
            item
            for name, piece in self._pieces.items()
            if piece.start is not None or self.is_coordinator
            for item in _write_items(name, piece)
        ]
        return SavePlan(items)

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        piece = self._pieces[write_item.index.fqn]
        data = write_item.tensor_data
        assert data is not None
        if not data.size:
            return piece.tensor.detach()
        first = data.chunk.offsets[0] - (piece.start or 0)
        return piece.tensor.detach()[first : first + data.chunk.sizes[0]]


def _write_items(name: str, piece: Piece) -> list[WriteItem]:
    properties = TensorProperties(dtype=piece.tensor.dtype)
    shape, here = piece.shape, piece.tensor.shape
    if not here:
        chunk = ChunkStorageMetadata(here, here)
        return [
            WriteItem(MetadataIndex(name, here), WriteItemType.TENSOR, None, TensorWriteData(chunk, properties, shape))
        ]
    items = []
    at_once = max(1, _ELEMENTS // max(here[1:].numel(), 1))
    for first in range(0, max(here[0], 1), at_once):
        offsets = torch.Size(((piece.start or 0) + first, *(0 for _ in here[1:])))
        chunk = ChunkStorageMetadata(offsets, torch.Size((min(at_once, here[0] - first), *here[1:])))
        data = TensorWriteData(chunk, properties, shape)
        items.append(WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, None, data))
    return items


class _ReadingPlanner(LoadPlanner):
    def __init__(self, pieces: Mapping[str, Piece], stored: Mapping[str, Stored]) -> None:
        self._pieces = pieces
        self._stored = stored

    def set_up_planner(self, state_dict: Any, metadata: Metadata | None = None, is_coordinator: bool = False) -> None:
        """Nothing to do."""

    def create_local_plan(self) -> LoadPlan:
        return LoadPlan(
            [item for name, piece in self._pieces.items() for item in _read_items(name, piece, self._stored[name])]
        )

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        return central_plan

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        raise AssertionError("a checkpoint has tensors only")

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        tensor = self._pieces[read_item.dest_index.fqn].tensor.detach()
        if not read_item.lengths:
            return tensor
        return tensor.narrow(0, read_item.dest_offsets[0], read_item.lengths[0])

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """It was read in place."""


def _read_items(name: str, piece: Piece, stored: Stored) -> list[ReadItem]:
    here = piece.tensor.shape
    index = MetadataIndex(name, torch.Size([0] * len(here)))
    if not here:
        return [ReadItem(LoadItemType.TENSOR, index, here, index, here, here)]
    if not here.numel():
        return []
    start = piece.start or 0
    items = []
    zeros = [0] * (len(here) - 1)
    for first, number in stored.chunks:
        low, high = max(first, start), min(first + number, start + here[0])
        if low < high:
            items.append(
                ReadItem(
                    LoadItemType.TENSOR,
                    index,
                    torch.Size((low - start, *zeros)),
                    MetadataIndex(name, torch.Size((first, *zeros))),
                    torch.Size((low - first, *zeros)),
                    torch.Size((high - low, *here[1:])),
                )
            )
    return items


class _Reader(FileSystemReader):
    """Reads the list of the pieces without running code from it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        folder = Path(self.path)
        try:
            with (folder / _METADATA).open("rb") as file:
                metadata = _Unpickler(file).load()
        except OSError as fault:
            raise RecordError(f"Cannot read '{folder / _METADATA}': {fault.strerror or fault}.") from fault
        except Exception as fault:  # whatever a damaged file brings about
            raise _damaged(folder, " ".join(str(fault).split()).rstrip(".")) from fault
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise _damaged(folder, "its list of tensors is none")
        for entry in metadata.storage_data.values():
            if Path(entry.relative_path).name != entry.relative_path:
                raise _damaged(folder, f"it names the file '{entry.relative_path}'")
        return metadata


class _Unpickler(pickle.Unpickler):
    """Knows the few classes that the list of torch.distributed.checkpoint is made of."""

    _KNOWN = frozenset(
        {
            ("torch", "Size"),
            ("torch.serialization", "_get_layout"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            *(
                ("torch.distributed.checkpoint.metadata", name)
                for name in (
                    "ChunkStorageMetadata",
                    "Metadata",
                    "MetadataIndex",
                    "TensorProperties",
                    "TensorStorageMetadata",
                    "_MEM_FORMAT_ENCODING",
                )
            ),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        known = (module, name) in self._KNOWN
        if not known and not (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not read from a file")
        return super().find_class(module, name)


def _refused(folder: Path, fault: Exception) -> RecordError:
    said = (fault.strerror if isinstance(fault, OSError) else None) or " ".join(str(fault).split()).rstrip(".")
    return RecordError(f"Cannot write the checkpoint '{folder}': {said}. What was saved before is still there.")


def _damaged(folder: Path, said: str) -> RecordError:
    return RecordError(f"The checkpoint '{folder}' is damaged: {said}. Save it again, or take an older one.")
