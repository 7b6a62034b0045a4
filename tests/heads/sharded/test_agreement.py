"""What one rank does otherwise than the others is said by all, or refused, and never passed over in silence."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import logitlab as ll
from logitlab.heads.sharded import ShardedHead

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

D, C = 8, 23


def batch(rank: int, number: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(number, D, generator=generator), torch.randint(C, (number,), generator=generator)


def caught(action: Any) -> str:
    try:
        action()
    except ll.InputError as error:
        return str(error)
    return ""


def disagree(rank: int) -> list[Any]:
    torch.manual_seed(0)
    head = ShardedHead(ll.create_head("cosine", D, C, kappa=9.0))
    features, target = batch(rank)
    found: list[Any] = []
    # A label that is out of range on rank 1; features that need a gradient on rank 0 only.
    found.append(
        caught(lambda: head(features, torch.where(target == target[0], C + rank * 9, target) if rank else target))
    )
    found.append(caught(lambda: head(features.clone().requires_grad_(rank == 0), target)))
    # The ranks still understand each other.
    head(features.requires_grad_(), target).backward()
    found.append(float(head(features, target).detach()))
    return found


def test_what_one_rank_refuses_no_rank_does() -> None:
    first, second = run_ranks(disagree, 2)
    assert "Another rank has refused its batch" in first[0]
    assert f"Expected class indices in [0, {C})" in second[0]
    assert "This rank's do;" in first[1]
    assert "This rank's do not;" in second[1]
    assert first[2] == second[2]


def overwritten(rank: int) -> list[list[str]]:
    found = []
    for keep in (False, True):
        torch.manual_seed(rank)
        head = ShardedHead(ll.create_head("cosine", D, 24, kappa=9.0, device="meta"))
        model: nn.Module = ll.Classifier(nn.Linear(D, D), head)
        model = DistributedDataParallel(ll.keep_shards_local(model) if keep else model)
        features, target = batch(rank)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                model(features, target).backward()
        found.append([str(each.message) for each in told if "same rows" in str(each.message)])
    return found


def test_shards_that_ddp_has_made_equal_are_noticed_once() -> None:
    for forgotten, kept in run_ranks(overwritten, 2):
        assert len(forgotten) == 1
        assert "keep_shards_local" in forgotten[0]
        assert kept == []


def kappa_gradients(rank: int, dense: ll.Head, features: Tensor, target: Tensor, kappa: Tensor) -> list[Tensor]:
    head = ShardedHead(dense)
    here = slice(3 * rank, 3 * rank + 3)
    scalar = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    head(features[here], target[here], kappa=scalar).backward()
    each = kappa[here].clone().requires_grad_()
    head(features[here], target[here], kappa=each).backward()
    assert scalar.grad is not None
    assert each.grad is not None
    # Of what a backbone makes, DDP takes the mean over the ranks.
    return [scalar.grad, each.grad / dist.get_world_size()]


def test_a_given_kappa_has_the_gradient_of_the_dense_head() -> None:
    torch.manual_seed(0)
    dense = ll.create_head("arcface", D, C, kappa=9.0, dtype=torch.float64)
    features, target = torch.randn(6, D, dtype=torch.float64), torch.arange(6)
    kappa = 5 + 10 * torch.rand(6, dtype=torch.float64)
    scalar = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    each = kappa.clone().requires_grad_()
    for given in (scalar, each):
        dense(features, target, kappa=given).backward()
    found = run_ranks(kappa_gradients, 2, dense, features, target, kappa)
    for rank, (of_scalar, of_each) in enumerate(found):
        torch.testing.assert_close(of_scalar, scalar.grad, rtol=1e-10, atol=1e-12)
        assert each.grad is not None
        torch.testing.assert_close(of_each, each.grad[3 * rank : 3 * rank + 3], rtol=1e-10, atol=1e-12)


def in_a_group(rank: int) -> str:
    group = dist.new_group([0])
    template = ll.create_head("cosine", D, C, kappa=9.0)
    try:
        return str(ShardedHead(template, group=group).classes)
    except ll.ParameterError as error:
        return str(error)


def test_a_process_that_is_no_member_is_refused() -> None:
    member, other = run_ranks(in_a_group, 2)
    assert member == f"ClassRange(start=0, end={C})"
    assert other.startswith("This process is no member of the group")


def test_the_compiler_leaves_it_alone() -> None:
    torch.manual_seed(0)
    head = ShardedHead(ll.create_head("cosine_ls", D, C, bias=True))
    features, target = batch(0)
    expected = head(features, target)
    torch.testing.assert_close(torch.compile(head, backend="eager")(features, target), expected)


def test_labels_out_of_range_are_loud_where_they_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.functional.targets.values_at_hand", lambda tensor: False)
    head = ShardedHead(ll.create_head("cosine", D, C, kappa=9.0))
    features, target = batch(0)
    for wrong in (C + 976, -5):
        target[2] = wrong
        assert head(features, target).isnan()
    target[2] = -100
    assert head(features, target).isfinite()


def test_a_temperature_and_a_margin_can_be_set() -> None:
    dense = ll.create_head("arcface", D, C, kappa=9.0)
    head = ShardedHead(dense)
    for each in (dense, head):
        each.set_temperature(ll.LeastSquares())
        each.set_margin(ll.AdditiveCosineMargin(0.2))
    features, target = batch(0)
    torch.testing.assert_close(head(features, target), dense(features, target))
    assert head.temperature.search_report.certified.shape == (6,)

    class Mine(ll.LeastSquares):
        def kappa_star(self, *arguments: Any) -> Tensor:
            return super().kappa_star(*arguments)

    with pytest.raises(ll.ParameterError, match="Mine chooses κ from the cosines of all classes"):
        head.set_temperature(Mine())
    with pytest.raises(ll.InputError, match="Expected a positive 'kappa'. Got 0"):
        head(features, target, kappa=torch.tensor(0.0))
    dense.weight.requires_grad_(False)
    assert not ShardedHead(dense).weight.requires_grad
