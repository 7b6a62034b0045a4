"""A trial function without training: what it does stands in the head's parameters."""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from logitlab.config.errors import DataError, RecordError
from logitlab.records import Store


@dataclass(frozen=True)
class FakeProgress:
    identity: str
    epoch: int
    epochs: int
    loss: float
    accuracy: float


def run_fake(trial, root, *, device="cpu", data_root=None, report=None, ood=(), stages=()):
    store = Store(root)
    folder = store.trial_folder(trial.identity)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pid").write_text(str(os.getpid()))
    with (folder / "runs").open("a") as file:
        file.write("run\n")
    for epoch in range(1, trial.training.epochs + 1):
        if report is not None:
            report(FakeProgress(trial.identity, epoch, trial.training.epochs, 0.5, 0.9))
        _misbehave(trial.head.parameters.get("behaviour", "well"), folder)
    result = {"test": {"accuracy": 0.9 + trial.seed / 100, "kappa": None}}
    provenance = {
        "seconds": 0.1,
        "pid": os.getpid(),
        "threads": _threads() if trial.head.parameters.get("behaviour") == "threads" else None,
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "device": device,
        "data_root": data_root,
        "main_file": getattr(__import__("__main__"), "__file__", None),
    }
    store.write_record(trial.identity, trial.model_dump(mode="json"), result, provenance)


def _threads():
    import torch  # takes seconds: only where the test asks

    return torch.get_num_threads()


def _misbehave(behaviour, folder):
    if behaviour == "raise":
        raise RuntimeError("the head\nbroke")
    if behaviour == "memory":
        raise MemoryError("CUDA out of memory.")
    if behaviour == "record":
        raise RecordError("nan")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "die_once" and (folder / "runs").read_text() == "run\n":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "leave":
        os._exit(7)
    if behaviour == "data":
        raise DataError("cat/1.jpg is truncated")
    if behaviour == "sleep":
        time.sleep(120)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "stubborn").touch()
        time.sleep(120)
    if behaviour == "interrupt_parent":
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(1)
    if behaviour == "interrupt_parent_twice":
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(120)
    if behaviour == "terminate_parent":
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(120)
    if behaviour == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if behaviour == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)
    if behaviour == "slow":
        time.sleep(0.3)
    if behaviour == "full":
        raise RuntimeError('IoError(Os { code: 28, message: "No space left on device" })')
    if behaviour == "wait":  # until the test has seen enough
        while not Path(folder.parent, "go").exists():
            time.sleep(0.02)


class NotPicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def cannot_store(trial, root, *, device="cpu", data_root=None, report=None, ood=(), stages=()):
    """Fails, and the failure cannot be noted either: a file stands where the trials' folder belongs."""
    shutil.rmtree(root / "trials")
    (root / "trials").touch()
    raise NotPicklableError("a", "b")
