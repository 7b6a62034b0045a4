"""A rank that dies or hangs in the midst of a step: the others end with an error within the timeout."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from preloaded import forget_the_server, leave, server

from logitlab.config.errors import RankError
from logitlab.functional.blockwise import Ranks
from logitlab.heads import ShardedHead, create_head

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

#: Seconds after which the group gives up.
PATIENCE = 2.0


def lose(signal_number: int, at: str) -> None:
    """Let this process die or hang as it comes to an exchange."""
    telling = Ranks._telling

    @contextmanager
    def watching(self: Ranks, what: str, *rest: Any) -> Iterator[None]:
        if what == at:
            os.kill(os.getpid(), signal_number)
        with telling(self, what, *rest):
            yield

    Ranks._telling = watching  # type: ignore[method-assign]


def work(
    rank: int, size: int, meet: str, parent: Connection, name: str, how: str, at: str, environment: dict[str, str]
) -> None:
    forget_the_server(environment)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{meet}", rank=rank, world_size=size, timeout=timedelta(seconds=PATIENCE)
    )
    torch.manual_seed(0)
    split = ShardedHead(create_head(name, 6, 20))
    features, target = torch.randn(4, 6, requires_grad=True), torch.tensor([0, 7, 13, 19])
    split(features, target).backward()  # all is well
    parent.send("ready")
    if rank == size - 1:
        lose(signal.Signals[how], at)
    start = time.monotonic()
    answer: tuple[str, str] = ("none", "")
    try:
        split(features, target).backward()
    except BaseException as error:
        kind = "RankError" if isinstance(error, RankError) else type(error).__name__
        answer = (kind, str(error))
    parent.send((*answer, time.monotonic() - start))
    # Not before the others have found out by themselves.
    with contextlib.suppress(EOFError):
        parent.recv()
    leave(0)


def survivors(size: int, folder: Path, name: str, how: str, at: str) -> list[tuple[str, str, float]]:
    """What the others end with: the kind of error, its message, the seconds."""
    context = server()
    pipes = [context.Pipe() for _ in range(size)]
    processes = [
        context.Process(target=work, args=(rank, size, str(folder / "meet"), theirs, name, how, at, dict(os.environ)))
        for rank, (_, theirs) in enumerate(pipes)
    ]
    try:
        for process, (_, theirs) in zip(processes, pipes):
            process.start()
            theirs.close()
        for ours, _ in pipes:
            assert ours.poll(60)
            assert ours.recv() == "ready"
        found = []
        for ours, _ in pipes[:-1]:
            assert ours.poll(60), "a rank hangs"
            found.append(ours.recv())
        for ours, _ in pipes[:-1]:
            ours.send("go")
        for process in processes[:-1]:
            process.join(30)
            assert process.exitcode == 0
        if how == "SIGKILL":
            processes[-1].join(30)
            assert processes[-1].exitcode == -signal.SIGKILL
        else:
            assert processes[-1].is_alive()
        return found
    finally:
        for process in processes:
            process.kill()
            process.join(30)
            assert not process.is_alive()


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("cosine_ls", "features"),
        ("cosine_ls", "the power sums"),
        ("cosine_ls", "the reconstructions"),
        ("cosine_ls", "gradients of the terms"),
        ("sphereface", "the sums over the rivals"),
        ("sphereface", "gradients of the features"),
        ("subcenter_arcface", "gradients of features"),
    ],
)
def test_a_rank_that_is_killed(name: str, at: str, tmp_path: Path) -> None:
    for kind, message, seconds in survivors(3, tmp_path, name, "SIGKILL", at):
        assert kind == "RankError"
        assert "another rank is gone, does not answer, or asks for something else, at the" in message
        assert "end all ranks and start again from the last checkpoint" in message
        assert message.startswith("Rank ")
        assert "of 3: " in message
        # A busy machine may take a little longer than the group's patience.
        assert seconds <= 2 * PATIENCE + 3


@pytest.mark.parametrize(("name", "at"), [("cosine_ls", "the power sums"), ("sphereface", "gradients of the features")])
def test_a_rank_that_hangs(name: str, at: str, tmp_path: Path) -> None:
    for kind, message, seconds in survivors(2, tmp_path, name, "SIGSTOP", at):
        assert kind == "RankError"
        assert f"of {at}" in message
        assert "all_to_all" in message or "reduce_scatter" in message
        assert 0.5 * PATIENCE <= seconds <= 2 * PATIENCE + 3
