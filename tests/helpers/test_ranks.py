"""The processes that other tests rely on answer, fail aloud and start anew."""

from __future__ import annotations

import os
import time

import pytest
import torch
from ranks import RankError, RankProcesses, run_ranks
from torch import Tensor

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


class Pair:
    """Something of a test's file, there and back."""

    def __init__(self, rank: int, total: Tensor) -> None:
        self.rank = rank
        self.total = total


def add(rank: int, pair: Pair) -> Pair:
    total = pair.total * (rank + 1)
    torch.distributed.all_reduce(total)
    return Pair(rank, total)


def process(rank: int) -> tuple[int, int, float]:
    return os.getpid(), torch.get_num_threads(), torch.rand(()).item()


def wrong(rank: int, culprit: int) -> None:
    if rank == culprit:
        raise ValueError("this rank alone")
    torch.distributed.barrier()


def leave(rank: int, culprit: int) -> None:
    if rank == culprit:
        os._exit(3)
    torch.distributed.barrier()


def wait_for_ever(rank: int, culprit: int) -> None:
    if rank == culprit:
        time.sleep(60)


@pytest.mark.parametrize("world_size", [2, 3])
def test_every_rank_answers_and_stays(world_size: int) -> None:
    pids = []
    for _ in range(2):
        found = run_ranks(add, world_size, Pair(-1, torch.arange(3.0)))
        assert [pair.rank for pair in found] == list(range(world_size))
        for pair in found:
            torch.testing.assert_close(pair.total, torch.arange(3.0) * sum(range(1, world_size + 1)))
        ranks = run_ranks(process, world_size)
        pids.append([pid for pid, _, _ in ranks])
        # One thread, and every call begins at the same seed.
        torch.manual_seed(0)
        assert {found[1:] for found in ranks} == {(1, torch.rand(()).item())}
    assert pids[0] == pids[1]
    assert len(set(pids[0])) == world_size


@pytest.mark.parametrize("culprit", [0, 2])
def test_the_first_failure_is_told_and_the_rest_killed(culprit: int) -> None:
    with RankProcesses(3) as processes:
        pids = [pid for pid, _, _ in processes.run(process)]
        with pytest.raises(RankError, match=f"Rank {culprit} of 3 failed:") as caught:
            processes.run(wrong, culprit)
        assert "in wrong" in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.rank == culprit
        assert processes.closed
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        with pytest.raises(RuntimeError, match="have ended"):
            processes.run(process)


def test_a_rank_that_dies_is_told_and_others_start() -> None:
    before = run_ranks(process, 2)
    with pytest.raises(RankError, match="Rank 1 of 2 ended with exit code 3"):
        run_ranks(leave, 2, 1)
    after = run_ranks(process, 2)
    assert {pid for pid, _, _ in before}.isdisjoint(pid for pid, _, _ in after)


def test_a_rank_that_hangs_shows_where() -> None:
    with (
        RankProcesses(2) as processes,
        pytest.raises(TimeoutError, match="(?s)1 of 2 ranks gave no answer in 0.2 s.*Rank 1:.*in wait_for_ever"),
    ):
        processes.run(wait_for_ever, 1, timeout=0.2)
