"""What a step tells the other ranks, number by number: κ* costs about thirty floats a row."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch.nn.functional import normalize

from logitlab.functional.blockwise import Traffic
from logitlab.functional.least_squares.power_sums import LEVELS
from logitlab.heads import Head, ShardedHead, create_head

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

D, C = 16, 50


def exchanged(rank: int, head: Head, number: int, noise: float, evaluating: bool) -> list[tuple[Traffic, ...]]:
    """The exchanges of two steps: that of the second one is counted anew."""
    split = ShardedHead(head)
    if evaluating:
        split.eval()
    torch.manual_seed(5 + rank)
    target = (torch.arange(number) * 7 + 3 * rank) % C
    rows = normalize(head.weight.detach().float())[target * head.centers]
    # From a row upon its class, which the bounds decide, to one at some distance.
    noise_of_row = noise * torch.linspace(0, 1, number).unsqueeze(1)
    features = (rows + noise_of_row * normalize(torch.randn(number, D))).to(head.weight.dtype).requires_grad_()
    found = []
    for _ in range(2):
        split(features, target).backward()
        found.append(split.traffic)
    return found


def steps(
    name: str, ranks: int, number: int, noise: float = 0.1, evaluating: bool = False, **parameters: Any
) -> list[dict[str, tuple[str, int, int]]]:
    """Of each rank, by the name of the exchange: operation, numbers, bytes a number."""
    torch.manual_seed(0)
    head = create_head(name, D, C, **parameters)
    result = []
    for first, second in run_ranks(exchanged, ranks, head, number, noise, evaluating):
        assert len(first) == len(second)
        by_name: dict[str, tuple[str, int, int]] = {}
        for one in second:
            operation, elements, _ = by_name.get(one.what, (one.operation, 0, 0))
            assert operation == one.operation
            assert one.bytes % max(one.elements, 1) == 0
            by_name[one.what] = (operation, elements + one.elements, one.bytes // one.elements if one.elements else 4)
        result.append(by_name)
    return result


def owned(ranks: int, number: int, rank: int) -> int:
    """How many targets of all samples a rank has."""
    targets = torch.cat([(torch.arange(number) * 7 + 3 * other) % C for other in range(ranks)])
    sizes = [C // ranks + (other < C % ranks) for other in range(ranks)]
    start = sum(sizes[:rank])
    return int(((targets >= start) & (targets < start + sizes[rank])).sum())


@pytest.mark.parametrize(("ranks", "number"), [(2, 6), (3, 4)])
def test_a_step_of_a_fixed_temperature(ranks: int, number: int) -> None:
    every = ranks * number
    for found in steps("cosine", ranks, number, kappa=20.0, bias=False):
        assert found == {
            "the number of samples": (
                "all_reduce",
                5,
                found["the number of samples"][2],
            ),
            "targets": ("all_gather", number, 8),
            "features": ("all_gather", number * D, 4),
            "the sums over the rivals": ("all_to_all", every * 3, 4),
            "the loss": ("all_reduce", 1, 4),
            "gradients of the terms": ("all_gather", number * 3, 4),
            "gradients of the features": ("reduce_scatter", every * D, 4),
        }


@pytest.mark.parametrize(("ranks", "number"), [(2, 6), (3, 4)])
def test_a_step_of_least_squares_where_bounds_decide(ranks: int, number: int) -> None:
    every = ranks * number
    parameters = {"candidates": [0.5, 60.0]}
    for rank, found in enumerate(steps("cosine_ls", ranks, number, 0.01, **parameters)):
        assert found == {
            "the number of samples": ("all_reduce", 5, found["the number of samples"][2]),
            "targets": ("all_gather", number, 8),
            "features": ("all_gather", number * D, 4),
            "the power sums": ("all_to_all", every * (2 + 3 * LEVELS), 4),
            "the weights of the targets": ("all_to_all", owned(ranks, number, rank) * D, 4),
            "κ and the largest cosine": ("all_gather", number * 2, 4),
            "the reconstructions": ("reduce_scatter", every * (D + 1), 4),
            "whether a κ is undecided": ("all_reduce", 2, 4),
            "κ": ("all_gather", number, 4),
            "κ* and which samples count": ("all_gather", number * 2, 4),
            "the loss": ("all_reduce", 1, 4),
            "gradients of the terms": ("all_gather", number * 3, 4),
        }


def floats_a_row(found: dict[str, tuple[str, int, int]], ranks: int, number: int) -> dict[str, float]:
    """What an exchange carries for each row of all ranks: a gather hands over one rank's rows, the others all."""
    result: dict[str, float] = defaultdict(float)
    for name, (operation, elements, _) in found.items():
        if operation != "all_reduce":
            result[name] += elements / (number if operation == "all_gather" else ranks * number)
    return result


@pytest.mark.parametrize(("ranks", "number"), [(2, 24), (3, 16)])
def test_kappa_costs_thirty_floats_a_row_beside_the_directions_of_undecided_rows(ranks: int, number: int) -> None:
    every = ranks * number
    fixed = [floats_a_row(part, ranks, number) for part in steps("cosine", ranks, number, kappa=20.0, bias=False)]
    counted = steps("cosine_ls", ranks, number, 0.6)
    searched = [floats_a_row(part, ranks, number) for part in counted]
    for rank in range(ranks):
        found = counted[rank]
        undecided = found["which rows are undecided"][1]
        assert 0 < undecided < number
        slots, rest = divmod(found["κ to rule out"][1], undecided)
        assert rest == 0
        assert 1 <= slots < 20
        assert found["how many κ and rows are undecided"][1] == 2
        assert found["directions across the features"] == ("all_gather", undecided * D, 4)
        assert found["the projections"] == ("all_to_all", ranks * undecided * 3 * slots, 4)
        tried = found.get("which rows are tried", ("", 0, 0))[1]
        assert tried < undecided
        assert found["the reconstructions"] == ("reduce_scatter", every * (D + 1), 4)
        again_at = found.get("reconstructions that were tried", ("", 0, 0))[1]
        assert again_at == ranks * tried * (D + 1)
    total = sum(sum(part.values()) for part in searched) / ranks
    plain = sum(sum(part.values()) for part in fixed) / ranks
    # In place of the gradients of the features come the reconstructions; beside them the rows of the targets, and what
    # few rows ask for again: their directions, candidates and reconstructions.
    again = {
        "which rows are undecided",
        "directions across the features",
        "κ to rule out",
        "the projections",
        "which rows are tried",
        "a κ to try",
        "reconstructions that were tried",
    }
    beside = sum(part[name] for part in searched for name in again) / ranks
    beside += sum(part["the weights of the targets"] for part in searched) / ranks
    extra = total - plain - beside
    # 29 of the power sums in place of 3 of the rivals, κ_0 and the largest cosine, one with the reconstruction, κ, and
    # κ* with what counts for the running mean.
    assert extra == pytest.approx((2 + 3 * LEVELS) - 3 + 2 + 1 + 1 + 2)
    assert extra <= 35


@pytest.mark.parametrize(
    ("name", "parameters", "more"),
    [
        ("cosine", {"temperature": "trainable"}, {"gradients of κ": ("all_reduce", 1, 4)}),
        ("cosine", {"kappa": 9.0, "bias": True}, {"the bias of the targets": ("all_to_all", 12, 4)}),
        ("cosine", {"temperature": "rule_of_thumb"}, {"the mean of the weights": ("all_reduce", D, 4)}),
        ("cosine", {"temperature": "maximum_likelihood"}, {"the likelihoods": ("all_to_all", 12 * 21, 4)}),
        ("cosine_2ls", {}, {"gradients of the features": ("reduce_scatter", 12 * D, 4)}),
        ("softmax", {}, {"the sums over the rivals": ("all_to_all", 12 * 4, 4)}),
        ("cosine", {"kappa": 9.0, "dtype": torch.bfloat16}, {"features": ("all_gather", 6 * D, 2)}),
        ("cosine_ls", {"dtype": torch.bfloat16}, {"directions across the features": ("all_gather", 6 * D, 2)}),
        ("cosine", {"kappa": 9.0, "weight_penalty": 0.1}, {"the length of the weight": ("all_reduce", 1, 4)}),
    ],
)
def test_what_other_heads_exchange(name: str, parameters: dict[str, Any], more: dict[str, Any]) -> None:
    for found in steps(name, 2, 6, **parameters):
        for what, expected in more.items():
            assert found[what] == expected


def test_evaluation_asks_less() -> None:
    for found in steps("cosine_ls", 2, 6, evaluating=True):
        assert "the power sums" not in found
        assert "the weights of the targets" not in found


def alone(rank: int, head: Head) -> list[str]:
    split = ShardedHead(head, uneven_batches=False)
    split(torch.randn(3, D), torch.tensor([0, 1, 2]))
    return [one.what for one in split.traffic]


def test_batches_of_one_size_need_no_count() -> None:
    torch.manual_seed(0)
    for found in run_ranks(alone, 2, create_head("cosine", D, C)):
        assert found.count("the number of samples") == 1  # by which the loss divides
