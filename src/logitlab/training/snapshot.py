"""Where a run stands after an epoch, kept on the disk so that a killed run goes on from there.

A snapshot holds all that an epoch takes from the last: weights and buffers, optimiser, schedule, average, history, the
best epoch and its weights, and the state of every random generator. Three things need no place in it:

- the position of the sampler, of augmentation, dropout and Mixup: their streams are functions of seed, epoch and step
  (``training/seeds.py``, ``data/sampling.py``), so the number of the epoch is the position;
- a gradient scaler: bfloat16 has the range of float32, so there is none;
- the images and their mean: they are the trial's identity.
"""

from __future__ import annotations

import copy
import io
import random
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Final, cast

import torch

from logitlab.records.files import write_atomic

from .loop import Trainer

FORMAT_VERSION: Final = 1


@dataclass
class Standing:
    """How far a run has come.

    Attributes:
        epochs: epochs that are done.
        history: a mapping an epoch.
        best: the best epoch on validation, from 0; early stopping looks at it.
        best_weights: of that epoch; None without early stopping, and before the first epoch.
    """

    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    best_weights: dict[str, Any] | None = None


class Snapshot:
    """The snapshot of one trial.

    Attributes:
        seconds: what the attempts before this one spent on the epochs that are kept.
        resumed_epochs: how many epochs came from the file; 0 for a run that began anew.

    Args:
        path: the file.
        identity: of the trial; a snapshot of another one is not taken.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.seconds = 0.0
        self.resumed_epochs = 0
        self._path = path
        self._identity = identity
        self._clock = time.perf_counter()

    def save(self, trainer: Trainer, standing: Standing) -> None:
        """Keep what the run needs to go on. A disk that refuses costs the snapshot, not the run; a warning says so."""
        device = _device(trainer)
        state = {
            **self._origin(device),
            "seconds": self.seconds + time.perf_counter() - self._clock,
            "trainer": _state(trainer),
            "standing": vars(standing),
            "random": _random_state(device),
        }
        try:
            write_atomic(self._path, lambda file: _write(state, file))
        except OSError as fault:
            warnings.warn(
                f"Cannot keep a snapshot in '{self._path.parent.name}': {fault.strerror or fault}. Training goes on; "
                "if it is killed, it begins anew.",
                stacklevel=2,
            )

    def restore(self, trainer: Trainer) -> Standing | None:
        """Put a run back where its snapshot was taken: weights, optimiser, average, random generators.

        Args:
            trainer: as it was built for the first epoch; without a snapshot that fits, it stays so.

        Returns:
            how far the run has come; None when it begins anew. A snapshot that is there and cannot be used is told
            in a warning.
        """
        try:
            state = self._read(_device(trainer))
            if state is None:
                return None
            before, random_before = copy.deepcopy(_state(trainer)), _random_state(_device(trainer))
            try:
                _load(trainer, state["trainer"])
                _set_random_state(_device(trainer), state["random"])
                standing = Standing(**state["standing"])
            except Exception:
                _load(trainer, before)
                _set_random_state(_device(trainer), random_before)
                raise
        except Exception as fault:  # whatever a damaged file brings about
            reason = f"it lacks {fault}" if isinstance(fault, KeyError) else " ".join(str(fault).split())
            warnings.warn(
                f"The snapshot of an earlier attempt cannot be used: {reason.rstrip('.')}. Training begins anew.",
                stacklevel=2,
            )
            return None
        self.seconds = float(state["seconds"])
        self.resumed_epochs = standing.epochs
        return standing

    def discard(self) -> None:
        """Remove the file, if there is one."""
        self._path.unlink(missing_ok=True)

    def _origin(self, device: torch.device) -> dict[str, Any]:
        """What must be the same in the process that goes on, or its result would be neither's."""
        return {
            "format version": FORMAT_VERSION,
            "trial": self._identity,
            "version of torch": str(torch.__version__),
            "device": device.type,
        }

    def _read(self, device: torch.device) -> dict[str, Any] | None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        # torch's reader takes a flipped bit for a weight; the checksums of the archive tell.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"it is damaged at '{damaged}'")
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except UnpicklingError as fault:
            raise ValueError("it holds objects that are not read from a file") from fault
        for name, expected in self._origin(device).items():
            if state[name] != expected:
                raise ValueError(f"its {name} is {state[name]}, not {expected}")
        return cast("dict[str, Any]", state)


@contextmanager
def own_generators() -> Iterator[None]:
    """Give the generators of Python and NumPy back as they were; torch's are ``own_random_state``'s business."""
    python = random.getstate()
    numpy = _numpy_state()
    try:
        yield
    finally:
        random.setstate(python)
        _set_numpy_state(numpy)


def seed_generators(seed: int) -> None:
    """Seed the generators of Python and NumPy, for a user's head or backbone that draws from them."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class _Witness:
    """A file that remembers what it refused: torch's archive writer turns a full disk into words about positions."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as fault:
            self.fault = self.fault or fault
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    witness = _Witness(file)
    try:
        torch.save(state, cast("BinaryIO", witness))
    except RuntimeError as fault:
        if witness.fault is None:
            raise
        raise witness.fault from fault


def _device(trainer: Trainer) -> torch.device:
    return trainer.model.head.weight.device


def _state(trainer: Trainer) -> dict[str, Any]:
    return {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.schedule.state_dict(),
        "average": None if trainer.average is None else trainer.average.state_dict(),
    }


def _load(trainer: Trainer, state: dict[str, Any]) -> None:
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.schedule.load_state_dict(state["schedule"])
    if trainer.average is not None:
        trainer.average.load_state_dict(state["average"])


def _random_state(device: torch.device) -> dict[str, Any]:
    accelerator = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
        "device": accelerator,
    }


def _set_random_state(device: torch.device, state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    _set_numpy_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])


def _numpy_state() -> tuple[Any, ...] | None:
    """NumPy's global generator in plain numbers; None while nobody has imported NumPy."""
    if "numpy" not in sys.modules:
        return None
    kind, keys, *rest = sys.modules["numpy"].random.get_state()
    return (kind, keys.tolist(), *rest)


def _set_numpy_state(state: tuple[Any, ...] | None) -> None:
    if state is not None:
        import numpy

        numpy.random.set_state(state)
