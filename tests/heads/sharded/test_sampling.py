"""Class sampling: the targets are always drawn, and the loss is that of a dense head over the classes drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import run_ranks
from split_heads import Batch, far, step
from torch import Tensor
from torch.nn.functional import normalize

from logitlab.functional import projection_energy
from logitlab.functional.blockwise import Ranks
from logitlab.heads import Head, ShardedHead, create_head
from logitlab.heads.sharded import loss as loss_module
from logitlab.heads.sharded.classes import ClassRange, draw_classes, owner_of, place_targets

needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

DOUBLE = torch.float64
D, C = 12, 61

HEADS: dict[str, dict[str, Any]] = {
    "arcface": {},
    "cosine_ls": {},
    "cosine_2ls": {"bias": True},
    "softmax": {},
    "sphereface": {},
    "cosine": {"temperature": "trainable"},
}


class Member(Ranks):
    """A rank of a group that is never spoken to."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("num_classes", [5, 6, 61])
def test_every_class_has_one_owner(size: int, num_classes: int) -> None:
    ranges = [ClassRange.of(rank, size, num_classes) for rank in range(size)]
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]]
    assert (ranges[0].start, ranges[-1].end) == (0, num_classes)
    lengths = [part.number for part in ranges]
    assert max(lengths) - min(lengths) <= 1
    classes = torch.arange(-1, num_classes)
    owner = owner_of(classes, size, num_classes)
    expected = [-1] + [rank for rank, length in enumerate(lengths) for _ in range(length)]
    assert owner.tolist() == expected
    for rank, part in enumerate(ranges):
        found = place_targets(classes, Member(rank, size), num_classes)
        mine = torch.tensor([part.start <= one < part.end for one in classes.tolist()])
        assert torch.equal(found.column[mine], classes[mine] - part.start)
        assert (found.column[~mine] == -1).all()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_targets_are_drawn_before_any_other(share: float, size: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        target = torch.randint(-1, C, (6,))
        for rank in range(size):
            ranks = Member(rank, size)
            placement = place_targets(target, ranks, C)
            here = ClassRange.of(rank, size, C)
            drawn, among = draw_classes(placement, here.number, share, ranks)
            numbers = [
                min(part.number, max(round(share * part.number), 6))
                for part in (ClassRange.of(other, size, C) for other in range(size))
            ]
            assert len(drawn) == numbers[rank]
            assert among.num_classes == sum(numbers)
            assert (drawn.diff() > 0).all()
            assert int(drawn[0]) >= 0
            assert int(drawn[-1]) < here.number
            mine = (target >= here.start) & (target < here.end)
            assert torch.equal(drawn[among.column[mine]] + here.start, target[mine])
            assert (among.column[~mine] == -1).all()
            assert torch.equal(among.owner, placement.owner)


def test_every_other_class_is_as_likely() -> None:
    ranks = Member(0, 1)
    placement = place_targets(torch.tensor([0, 3]), ranks, 22)
    times = torch.zeros(22)
    for _ in range(2000):
        drawn, _ = draw_classes(placement, 22, 0.5, ranks)
        times[drawn] += 1
    assert (times[[0, 3]] == 2000).all()
    others = times[[c for c in range(22) if c not in (0, 3)]]
    # Binomial, 2000 draws at 9/20: five standard deviations.
    assert (others - 2000 * 9 / 20).abs().max() <= 5 * (2000 * 0.45 * 0.55) ** 0.5


def sampled(rank: int, head: Head, batch: Batch, share: float) -> tuple[Any, Tensor | None]:
    drawn: list[Tensor] = []

    def listen(*arguments: Any) -> Any:
        found = draw_classes(*arguments)
        drawn.append(found[0])
        return found

    loss_module.draw_classes = listen  # type: ignore[assignment]
    try:
        torch.manual_seed(rank + 5)
        split = ShardedHead(head, sample_share=share)
        found = step(split, *batch.of(rank))
        if found.chosen is not None:
            found = found._replace(chosen=found.chosen[: batch.sizes[rank]])
    finally:
        loss_module.draw_classes = draw_classes
    return found, drawn[0] + split.classes.start if drawn else None


def case(name: str, sizes: tuple[int, ...], **parameters: Any) -> tuple[Head, Batch]:
    torch.manual_seed(3)
    head = create_head(name, D, C, dtype=DOUBLE, **HEADS[name], **parameters)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    target = torch.randint(C, (sum(sizes),))
    features = 2 * normalize(head.weight.detach()[target] + 0.1 * torch.randn(len(target), D))
    target[2] = head.ignore_index
    return head, Batch(features, target, sizes)


@needs_ranks
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("sizes", [(3, 2), (2, 0, 4)])
def test_the_loss_is_that_of_the_classes_drawn(name: str, sizes: tuple[int, ...]) -> None:
    head, batch = case(name, sizes, weight_penalty=0.0)
    found = run_ranks(sampled, len(sizes), head, batch, 0.4)
    drawn = torch.cat([part for _, part in found])
    # Rows that fill up a batch count as samples here.
    assert len(drawn) == sum(
        min(r.number, max(round(0.4 * r.number), max(sizes) * len(sizes)))
        for r in (ClassRange.of(rank, len(sizes), C) for rank in range(len(sizes)))
    )
    few = create_head(name, D, len(drawn), dtype=DOUBLE, **HEADS[name], weight_penalty=0.0)
    with torch.no_grad():
        few.weight.copy_(head.weight[drawn])
        if few.bias is not None:
            few.bias.copy_(head.bias[drawn])
    if few.temperature is not None and not few.temperature.adaptive:
        few.temperature.load_state_dict(head.temperature.state_dict())
    counts = batch.target >= 0
    target = torch.where(counts, torch.searchsorted(drawn, batch.target), batch.target)
    assert torch.equal(drawn[target[counts]], batch.target[counts])
    options: dict[str, Any] = {}
    steps = [part for part, _ in found]
    if steps[0].chosen is not None:
        kappa = torch.cat([part.chosen for part in steps])
        options["kappa"] = few.temperature.multiplier * kappa
        x, w = normalize(batch.features), normalize(few.weight.detach())
        lowest = torch.stack([projection_energy(x, w, one) for one in few.temperature.candidates]).amin(dim=0)
        assert float((projection_energy(x, w, kappa) - lowest).max()) <= 2e-6
    few.fused = False
    expected = step(few, batch.features, target, **options)
    whole = torch.zeros_like(head.weight).index_copy(0, drawn, expected.weight)
    for part in steps:
        assert far(part.loss, expected.loss) <= 1e-9
    assert far(torch.cat([part.features for part in steps]), expected.features) <= 1e-9
    gradient = torch.cat([part.weight for part in steps])
    assert far(gradient, whole) <= 1e-9
    left_out = torch.ones(C, dtype=torch.bool).index_fill(0, drawn, False)
    assert left_out.any()
    assert not gradient[left_out].any()
    if expected.bias is not None:
        bias = torch.cat([part.bias for part in steps])
        assert far(bias, torch.zeros(C, dtype=DOUBLE).index_copy(0, drawn, expected.bias)) <= 1e-9
    for part in steps:
        for gradient_name, other in part.others.items():
            assert far(other, expected.others[gradient_name]) <= 1e-9


@needs_ranks
def test_all_classes_where_the_samples_are_many() -> None:
    head, batch = case("sphereface", (40, 40))
    dense = step(head, batch.features, batch.target)
    for found, drawn in run_ranks(sampled, 2, head, batch, 0.01):
        assert drawn is not None
        assert len(drawn) == ClassRange.of(0, 2, C).number - int(drawn[0] > 0)
        assert far(found.loss, dense.loss) <= 1e-9


@needs_ranks
def test_the_share_of_one_is_exact_and_evaluation_takes_all() -> None:
    for name in HEADS:
        for training in (True, False):
            head, batch = case(name, (3, 2))
            head.train(training)
            share = 1.0 if training else 0.1
            kept = head.kappa
            dense = step(head, batch.features, batch.target)
            if kept is not None and head.temperature.adaptive:
                head.temperature.load_state_dict(case(name, (3, 2))[0].temperature.state_dict())
            for found, drawn in run_ranks(sampled, 2, head, batch, share):
                assert drawn is None
                assert far(found.loss, dense.loss) <= 1e-9


@pytest.mark.parametrize("name", HEADS)
def test_one_sample_of_one_process_keeps_a_rival(name: str) -> None:
    head, _ = case(name, (2, 2))
    split = ShardedHead(head, sample_share=1e-6)
    for seed in range(5):
        torch.manual_seed(seed)
        found = step(split, torch.randn(1, D, dtype=DOUBLE), torch.tensor([7]))
        assert found.loss > 0
        assert found.features is not None
        assert found.features.isfinite().all()
        assert found.weight.isfinite().all()
        split.zero_grad()
