"""Decoded images, kept once on each machine: arrays that all its processes map into memory.

A folder of pictures is decoded, a packed file unpacked and both are hashed each time that they are loaded; a machine
that starts many processes for one study does so once. The folder is this machine's own, and may be removed at any time.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor

from .dataset import DataSet, tensor_bytes
from .images import Images, MemoryImages
from .loading import load_data

#: The environment variable that names the folder.
CACHE_VARIABLE: Final = "LOGITLAB_CACHE"

_FORMAT: Final = 1
_PARTS: Final = ("train", "test", "validation")
_LEFTOVER: Final = ".tmp"

# Where the images of this process are kept at the moment; None for nowhere.
_kept_in: Path | None = None


def cache_folder() -> Path:
    """Return the folder of this machine: ``$LOGITLAB_CACHE``, or one of this user's for temporary files."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"logitlab-{user}"


def kept_in() -> Path | None:
    """Return where :func:`load_prepared` keeps images at the moment; None for nowhere."""
    return _kept_in


@contextmanager
def prepared_in(folder: Path) -> Iterator[None]:
    """Let :func:`load_prepared` keep its images in ``folder`` while inside."""
    global _kept_in
    before, _kept_in = _kept_in, folder
    try:
        yield
    finally:
        _kept_in = before


def load_prepared(name: str, *, image_size: int | None, root: str | Path | None, fingerprint: str) -> DataSet:
    """Load a data set; inside :func:`prepared_in`, from this machine's arrays where they are there, and leave them.

    One process decodes while the others wait. A file that is damaged, or of other images, is made again. Streamed sets
    and those that are enlarged batch by batch are loaded as ever: they are too large to be kept in one piece. Where the
    folder cannot be used, nothing is kept, and nothing is said.

    Args:
        name: as for :func:`~logitlab.data.load_data`.
        image_size: likewise.
        root: likewise.
        fingerprint: of the images that are wanted; those that are found otherwise are returned and not kept.

    Raises:
        DataError: as :func:`~logitlab.data.load_data`.
    """
    if _kept_in is None or not _is_safe(_kept_in):
        return load_data(name, image_size=image_size, root=root)
    form = {"format": _FORMAT, "name": name, "image_size": image_size, "fingerprint": fingerprint}
    essence = json.dumps(form, sort_keys=True)
    path = _kept_in / f"{hashlib.sha256(essence.encode()).hexdigest()[:16]}.safetensors"
    if (found := _read(path, essence)) is not None:
        return found
    try:
        # Whoever wants to share a folder makes it first.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _open_lock(path.with_suffix(".lock"))
    except OSError:
        return load_data(name, image_size=image_size, root=root)
    with os.fdopen(lock):
        # Some network file systems know no locks: then each process decodes for itself.
        alone = _locked(lock)
        if (found := _read(path, essence)) is not None:  # another process was faster
            return found
        data = load_data(name, image_size=image_size, root=root)
        if data.fingerprint == fingerprint:
            # A full disk keeps nothing; the library that writes says so in a kind of its own.
            with suppress(OSError, SafetensorError):
                if alone:
                    for leftover in path.parent.glob(f".{path.name}.*{_LEFTOVER}"):
                        leftover.unlink(missing_ok=True)
                _write(path, essence, data)
    return data


def _is_safe(folder: Path) -> bool:
    """Whether what lies in a folder can be trusted; one among the temporary files is made here.

    Everybody on the machine can guess its name and make it first: it counts only when it is this user's alone. A folder
    that the user named may be shared.
    """
    if os.environ.get(CACHE_VARIABLE) or folder.parent != Path(tempfile.gettempdir()) or not hasattr(os, "getuid"):
        return True
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _open_lock(path: Path) -> int:
    """Open a file that is locked, and neither follow a link nor take anything away from what is there.

    Raises:
        OSError: the file system refuses, or it is a link.
    """
    return os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _locked(descriptor: int) -> bool:
    """Wait until no other process holds the lock, which is free when its holder ends; False where there is none."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ModuleNotFoundError, OSError):
        return False
    return True


def _parts(data: DataSet) -> dict[str, MemoryImages] | None:
    """Return the parts of a set that lies in memory; None for any other."""
    found: dict[str, MemoryImages] = {}
    for part in _PARTS:
        images: Images | None = getattr(data, part)
        if images is None:
            continue
        if type(images) is not MemoryImages:
            return None
        found[part] = images
    return found


def _write(path: Path, essence: str, data: DataSet) -> None:
    """Write the images so that the file is whole or absent; nothing for a set that does not lie in memory.

    Raises:
        OSError: the file system refuses.
    """
    from safetensors.torch import save_file

    parts = _parts(data)
    if parts is None:
        return
    tensors: dict[str, Tensor] = {}
    for part, images in parts.items():
        tensors[f"{part}.pixels"], tensors[f"{part}.labels"] = images.pixels.contiguous(), images.labels.contiguous()
    about = {
        "name": data.name,
        "class_names": list(data.class_names),
        "fingerprint": data.fingerprint,
        "channels": data.channels,
        "image_size": data.image_size,
        "augmentation": data.augmentation,
    }
    metadata = {"essence": essence, "about": json.dumps(about), "sha256": _digest(tensors)}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_LEFTOVER}")
    try:
        # Not flushed to the disk: what a loss of power leaves half-written has another digest.
        save_file(tensors, temporary, metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, essence: str) -> DataSet | None:
    """Map the images of a file into memory; None where there is none that can be trusted."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("essence") != essence or metadata.get("sha256") != _digest(tensors):
            return None
        about: dict[str, Any] = json.loads(metadata["about"])
        parts = {
            part: MemoryImages(tensors[f"{part}.pixels"], tensors[f"{part}.labels"])
            for part in _PARTS
            if f"{part}.pixels" in tensors
        }
        values: dict[str, Any] = {**about, "class_names": tuple(about["class_names"]), **parts}
        return DataSet(**values)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _digest(tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor_bytes(tensor.to(torch.int64) if "labels" in name else tensor))
    return found.hexdigest()
