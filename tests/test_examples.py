"""The example of a sharded training, small: alone, and on two gloo processes with the environment of torchrun."""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from preloaded import Python, run_python

import logitlab as ll

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "sharded_training.py"
SMALL = ("--data", "synthetic", "--classes", "301", "--features", "16", "--batch", "64", "--steps", "150")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def read(printed: str) -> tuple[list[float], float]:
    """The losses, and the accuracy in percent."""
    losses = [float(each) for each in re.findall(r"loss ([\d.]+)", printed)]
    (accuracy,) = re.findall(r"accuracy ([\d.]+) %", printed)
    return losses, float(accuracy)


def test_one_process_and_two_train_alike_and_hold_their_part(tmp_path: Path) -> None:
    alone = run_python(EXAMPLE, *SMALL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert alone.returncode == 0, alone.stderr
    losses, accuracy = read(alone.stdout)
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy > 25  # chance: 0.3
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                Python(
                    EXAMPLE,
                    *SMALL,
                    "--save",
                    tmp_path / "checkpoint",
                    env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                )
            )
            for rank in range(2)
        ]
        printed = [process.communicate(120) for process in both]
        assert [process.wait() for process in both] == [0, 0], printed
    first, second = (output.decode() for output, _ in printed)
    losses, accuracy = read(first)
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy > 25  # chance: 0.3
    whole = float(re.findall(r"optimiser ([\d.]+) MB", alone.stdout)[0])
    parts = [float(re.findall(r"optimiser ([\d.]+) MB", each)[0]) for each in (first, second)]
    assert sum(parts) == pytest.approx(whole, abs=0.11)  # printed to a tenth
    assert "classes 0 to 150" in first
    assert "classes 151 to 300" in second
    # A process without a group goes on from what two have saved.
    head = ll.create_head("cosine_ls", 16, 301)
    model = ll.Classifier(torch.nn.Sequential(torch.nn.Linear(32, 16, bias=False)), head)
    assert ll.load_sharded(tmp_path / "checkpoint", model) == {"steps": 150}
