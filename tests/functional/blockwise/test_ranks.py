"""What the ranks tell each other arrives, is counted, and gradients go back the same way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch import Tensor

from logitlab.config.errors import LogitLabError, RankError
from logitlab.functional.blockwise import Ranks, Traffic
from logitlab.functional.blockwise import ranks as ranks_module
from logitlab.functional.blockwise.differentiable import (
    exchange_parts,
    gather_rows,
    scale_gradient,
    shared,
    sum_of_all,
    total_loss,
)

needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

DOUBLE = torch.float64


def mine(rank: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(rank), dtype=DOUBLE)


def everything(rank: int, owner: Tensor) -> dict[str, Any]:
    ranks = Ranks(torch.distributed.group.WORLD)
    size = ranks.size
    found: dict[str, Any] = {
        "who": (ranks.rank, ranks.size),
        "gather": ranks.gather(mine(rank, 3, 4).t().contiguous().t(), "a"),
        "exchange": ranks.exchange(mine(rank, 3 * size, 2), "b"),
        "collect": ranks.collect(mine(rank, 3 * size, rank + 1), [other + 1 for other in range(size)], "c"),
        "sum_home": ranks.sum_home(mine(rank, 3 * size, 2), "d"),
        "sum": ranks.sum(mine(rank, 5), "e"),
        "largest": ranks.largest(mine(rank, 5), "f"),
        "from_first": ranks.from_first(mine(rank, 2), "g"),
        "deal": ranks.deal(mine(rank, 3 * size, 2), owner, "h"),
        "any": [ranks.any(torch.tensor([False, rank == wanted]), "i") for wanted in range(size + 1)],
    }
    kept = ranks_module.values_at_hand
    ranks_module.values_at_hand = lambda tensor: False
    try:
        found["deal far away"] = ranks.deal(mine(rank, 3 * size, 2), owner, "j")
    finally:
        ranks_module.values_at_hand = kept
    found["traffic"] = list(ranks.traffic)
    twin = copy.deepcopy(ranks)
    assert twin.group is ranks.group
    assert (twin.rank, twin.size, twin.traffic) == (ranks.rank, ranks.size, [])
    ranks.begin()
    assert ranks.traffic == []
    return found


@needs_ranks
@pytest.mark.parametrize("size", [2, 3])
def test_exchanges(size: int) -> None:
    owners = [
        torch.arange(3 * size) % size,
        torch.full((3 * size,), -1),
        torch.full((3 * size,), size - 1),
        torch.tensor([1, -1, 0] * size),
    ]
    for owner in owners:
        parts = run_ranks(everything, size, owner)
        whole = [mine(rank, 3 * size, 2) for rank in range(size)]
        for rank, found in enumerate(parts):
            here = slice(3 * rank, 3 * rank + 3)
            assert found["who"] == (rank, size)
            assert torch.equal(found["gather"], torch.cat([mine(other, 3, 4) for other in range(size)]))
            assert torch.equal(found["exchange"], torch.stack([part[here] for part in whole]))
            columns = [mine(other, 3 * size, other + 1)[here] for other in range(size)]
            assert torch.equal(found["collect"], torch.cat(columns, dim=1))
            torch.testing.assert_close(found["sum_home"], torch.stack(whole).sum(dim=0)[here])
            fives = torch.stack([mine(other, 5) for other in range(size)])
            torch.testing.assert_close(found["sum"], fives.sum(dim=0))
            assert torch.equal(found["largest"], fives.amax(dim=0))
            assert torch.equal(found["from_first"], mine(0, 2))
            rows = [whole[who][index] if who >= 0 else torch.zeros(2) for index, who in enumerate(owner.tolist())]
            for name in ("deal", "deal far away"):
                assert torch.equal(found[name], torch.stack([row.to(DOUBLE) for row in rows])[here])
            assert found["any"] == [True] * size + [False]
            sent = int((owner == rank).sum()) * 2
            assert found["traffic"][:8] == [
                Traffic("a", "all_gather", 12, 96),
                Traffic("b", "all_to_all", 6 * size, 48 * size),
                Traffic("c", "all_to_all", 3 * size * (rank + 1), 24 * size * (rank + 1)),
                Traffic("d", "reduce_scatter", 6 * size, 48 * size),
                Traffic("e", "all_reduce", 5, 40),
                Traffic("f", "all_reduce", 5, 40),
                Traffic("g", "all_reduce", 2, 16),
                Traffic("h", "all_to_all", sent, 8 * sent),
            ]
            assert [one.what for one in found["traffic"][8:]] == ["i"] * (size + 1) + ["j"]
            assert found["traffic"][-1] == Traffic("j", "reduce_scatter", 6 * size, 48 * size)


def test_alone_nothing_is_told() -> None:
    ranks = Ranks()
    rows = mine(0, 3, 2)
    assert (ranks.rank, ranks.size) == (0, 1)
    assert torch.equal(ranks.gather(rows, ""), rows)
    assert torch.equal(ranks.exchange(rows, ""), rows.unsqueeze(0))
    assert torch.equal(ranks.collect(rows, [2], ""), rows)
    for method in (ranks.sum_home, ranks.sum, ranks.largest, ranks.from_first):
        assert torch.equal(method(rows, ""), rows)
    dealt = ranks.deal(rows, torch.tensor([0, -1, 0]), "")
    assert torch.equal(dealt, rows * torch.tensor([[1.0], [0.0], [1.0]]))
    assert ranks.any(torch.tensor([False, True]), "")
    assert not ranks.any(torch.tensor([False, False]), "")
    assert ranks.traffic == []


def differentiated(rank: int) -> dict[str, Tensor]:
    """Each rank's loss is a number of its own; the gradient is that of their sum."""
    ranks = Ranks(torch.distributed.group.WORLD)
    size = ranks.size
    found = {}
    rows = mine(rank, 2, 3).requires_grad_()
    (gather_rows(rows, ranks, "a").square() * mine(rank + 10, 2 * size, 3)).sum().backward()
    found["gather"] = rows.grad
    partial = mine(rank, 2 * size, 3).requires_grad_()
    (exchange_parts(partial, ranks, "b").square() * mine(rank + 10, size, 2, 3)).sum().backward()
    found["exchange"] = partial.grad
    value = mine(7, 3).requires_grad_()
    (shared(value, ranks, "c") * mine(rank, 3)).sum().backward()
    found["shared"] = value.grad
    part = mine(rank, 2).requires_grad_()
    loss = total_loss(part.square().sum(), ranks, "d")
    loss.backward()
    found["loss"], found["total"] = loss.detach(), part.grad
    other = mine(rank, 2).requires_grad_()
    used = sum_of_all(other.square().sum(), ranks, "e")
    (used * float(rank + 1)).backward()
    found["of all"], found["used"] = other.grad, used.detach()
    return found


@needs_ranks
@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_exchanges(size: int) -> None:
    parts = run_ranks(differentiated, size)
    weights = [mine(rank + 10, 2 * size, 3) for rank in range(size)]
    total = sum(float(mine(rank, 2).square().sum()) for rank in range(size))
    for rank, found in enumerate(parts):
        here = slice(2 * rank, 2 * rank + 2)
        expected = 2 * mine(rank, 2, 3) * torch.stack(weights).sum(dim=0)[here]
        torch.testing.assert_close(found["gather"], expected)
        theirs = torch.cat([mine(other + 10, size, 2, 3)[rank] for other in range(size)])
        torch.testing.assert_close(found["exchange"], 2 * mine(rank, 2 * size, 3) * theirs)
        torch.testing.assert_close(found["shared"], torch.stack([mine(other, 3) for other in range(size)]).sum(dim=0))
        assert float(found["loss"]) == pytest.approx(total)
        torch.testing.assert_close(found["total"], 2 * mine(rank, 2))
        torch.testing.assert_close(found["of all"], 2 * mine(rank, 2) * sum(range(1, size + 1)))
        assert float(found["used"]) == pytest.approx(total)


def test_a_gradient_that_is_scaled() -> None:
    value = torch.ones(3, requires_grad=True)
    found = scale_gradient(value, 4.0)
    assert torch.equal(found, value)
    found.sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [4.0] * 3
    assert scale_gradient(value, 1) is value


def test_a_fault_of_an_exchange_says_what_to_do() -> None:
    ranks = Ranks()
    with pytest.raises(RankError) as found, ranks._telling("the power sums", "all_to_all", torch.zeros(2)):
        raise RuntimeError("Connection closed by peer\nand much more")
    words = str(found.value)
    assert "Rank 0 of 1: another rank is gone, does not answer, or asks for something else" in words
    assert "at the all_to_all of the power sums" in words
    assert "(Connection closed by peer)" in words
    assert isinstance(found.value, LogitLabError)
    assert isinstance(found.value, RuntimeError)
    with pytest.raises(KeyError), ranks._telling("", "", torch.zeros(2)):
        raise KeyError("what is no fault of an exchange stays what it is")
