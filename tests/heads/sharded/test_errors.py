"""What cannot be split, or asked, is refused in words; and what else a module must be able to do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch import Tensor, nn

import logitlab as ll
from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import KAPPA_CANDIDATES
from logitlab.heads import Head, ShardedHead, create_head
from logitlab.heads.sharded.initialization import BLOCK, draw_rows
from logitlab.temperature import LeastSquares

needs_ranks = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

D, C = 8, 10


class Own(LeastSquares):
    """A rule of the user's own."""

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        return 2 * super().kappa_star(cosine, unit_features, unit_weight)


class OwnHead(Head):
    """A forward pass of the user's own."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return super().forward(*arguments, **options)


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ParameterError) as found:
        ShardedHead(*arguments, **options)
    return str(found.value)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("label_smoothing", {}, "needs the logits of every class"),
        ("logit_penalty", {}, "needs the logits of every class"),
        ("sigmoid", {}, "needs the logits of every class"),
        ("squared_error", {"preset": "cifar10"}, "needs the logits of every class"),
        ("logit_adjustment", {"class_counts": list(range(1, C + 1))}, "needs the logits of every class"),
        ("logit_norm", {}, "Normalized logits need the length of all logits, which no rank has."),
        ("group_softmax", {}, "GroupSoftmaxHead has a forward pass of its own"),
        ("cosine", {"temperature": Own()}, "Own chooses κ from the cosines of all classes, which no rank has."),
    ],
)
def test_heads_that_cannot_be_split(name: str, parameters: dict[str, Any], words: str) -> None:
    assert words in refused(create_head(name, D, C, **parameters))


def test_heads_of_the_users_own() -> None:
    assert "OwnHead has a forward pass of its own" in refused(OwnHead(D, C))
    assert "Expected a Head to split" in refused(nn.Linear(D, C))
    assert "Got Linear" in refused(nn.Linear(D, C))


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), "half", None])
def test_a_share_out_of_range(share: Any) -> None:
    words = refused(create_head("cosine", D, C), sample_share=share)
    assert "sample_share" in words
    assert repr(share) in words


def test_all_faults_at_once() -> None:
    head = create_head("logit_norm", D, 1, alpha=0.1)
    with pytest.raises(ParameterError) as found:
        ShardedHead(head, sample_share=2)
    words = str(found.value)
    for part in ("needs the logits of every class", "Normalized logits", "1 classes cannot be split", "sample_share"):
        assert part in words
    words = refused(create_head("subcenter_arcface", D, C), sample_share=0.5)
    assert "Classes of several centers cannot be sampled" in words


def too_few(rank: int) -> str:
    try:
        ShardedHead(create_head("cosine", D, 2))
    except ParameterError as fault:
        return str(fault)
    return ""


@needs_ranks
def test_fewer_classes_than_ranks() -> None:
    assert set(run_ranks(too_few, 3)) == {"2 classes cannot be split over 3 ranks. Each needs one at least."}


def test_inputs_that_do_not_fit() -> None:
    split = ShardedHead(create_head("cosine_ls", D, C))
    x, y = torch.randn(3, D), torch.tensor([0, 1, 2])
    with pytest.raises(InputError, match="takes class indices only. Got probabilities"):
        split(x, torch.full((3, C), 1 / C))
    with pytest.raises(InputError, match=r"Expected class indices in \[0, 10\) or ignore_index -100. Got 10"):
        split(x, torch.tensor([0, 10, 1]))
    with pytest.raises(InputError, match="shape"):
        split(x, y[:2])
    with pytest.raises(InputError, match="shape"):
        split(x[:, :2], y)
    with pytest.raises(InputError, match="floating"):
        split(x.long(), y)
    with pytest.raises(InputError, match="integer dtype"):
        split(x, y > 0)
    with pytest.raises(InputError, match=r"'kappa' as a number or of shape \[3\]. Got \[2\]"):
        split(x, y, kappa=torch.ones(2))
    for kappa in (0, -1.0, float("inf"), True):
        with pytest.raises(InputError, match="positive, finite number"):
            split(x, y, kappa=kappa)
    with pytest.raises(InputError, match="'mean', 'sum' or 'none'|reduction"):
        split(x, y, reduction="median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'kappa' for a head without a temperature"):
        ShardedHead(create_head("softmax", D, C))(x, y, kappa=2.0)


def test_second_derivatives_of_one_process_are_those_of_the_dense_head() -> None:
    head = create_head("arcface", D, C, dtype=torch.float64)
    x, y = torch.randn(3, D, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2])
    found = []
    for one in (ShardedHead(head), head):
        (first,) = torch.autograd.grad(one(x, y), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def twice(rank: int) -> str:
    split = ShardedHead(create_head("arcface", D, C))
    x = torch.randn(3, D, requires_grad=True)
    try:
        torch.autograd.grad(split(x, torch.tensor([0, 1, 2])), x, create_graph=True)
    except InputError as fault:
        return str(fault)
    return ""


@needs_ranks
def test_second_derivatives_of_several_ranks_are_refused() -> None:
    for words in run_ranks(twice, 2):
        assert "first derivative only" in words


def test_a_pickle_is_refused_and_a_copy_is_not() -> None:
    split = ShardedHead(create_head("arcface", D, C))
    with pytest.raises(TypeError, match="cannot be pickled: it belongs to the ranks of a process group"):
        pickle.dumps(split)
    twin = copy.deepcopy(split)
    x, y = torch.randn(3, D), torch.tensor([0, 1, 2])
    assert torch.equal(twin(x, y), split(x, y))
    with torch.no_grad():
        twin.weight.zero_()
    assert split.weight.any()
    assert "classes=0:10, rank=0 of 1" in repr(split)
    assert "sample_share=0.5" in repr(ShardedHead(create_head("cosine", D, C), sample_share=0.5))
    assert "centers=3" in repr(ShardedHead(create_head("subcenter_arcface", D, C, centers=3)))


def test_the_annealing_of_a_copy_follows_its_own_optimiser() -> None:
    split = ShardedHead(create_head("sphereface", D, C))
    twin = copy.deepcopy(split)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    twin(torch.randn(3, D), torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    assert split.margin is not None
    assert twin.margin is not None
    assert (int(split.margin.annealing.steps), int(twin.margin.annealing.steps)) == (0, 1)


def test_margins_by_class_stay_where_they_are() -> None:
    """A template on the meta device, and a dense head of the split one, share no margin with it."""
    counts = list(range(1, C + 1))
    template = create_head("ldam", D, C, device="meta", class_counts=counts)
    split, expected = ShardedHead(template), create_head("ldam", D, C, class_counts=counts).margin.by_class
    split.to_dense()
    assert template.margin.by_class.is_meta
    assert torch.equal(split.margin.by_class, expected)


def copied(rank: int) -> bool:
    split = ShardedHead(create_head("cosine_ls", D, C))
    twin = copy.deepcopy(split)
    x, y = torch.randn(3, D), torch.tensor([0, 1, 2])
    return bool(twin(x, y) == split(x, y)) and len(twin.traffic) > 0


@needs_ranks
def test_a_copy_speaks_to_the_same_ranks() -> None:
    assert run_ranks(copied, 2) == [True, True]


# --- the weight at the start --------------------------------------------------------------------------------------


def drawn(rank: int, name: str, num_classes: int, parameters: dict[str, Any]) -> tuple[Any, ...]:
    torch.manual_seed(11 + rank)  # what a rank draws by itself must not matter
    split = ShardedHead(create_head(name, D, num_classes, device="meta", **parameters))
    before = split.weight.detach().clone()
    split.reset_parameters()
    assert not torch.equal(split.weight, before)
    x, y = torch.ones(2, D, dtype=split.weight.dtype), torch.tensor([0, num_classes - 1])
    return before, split.weight.detach(), float(split(x, y).detach()), split.kappa


@needs_ranks
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cosine_ls", {}),
        ("ldam", {"class_counts": [5 + i % 3 for i in range(2 * BLOCK + 37)]}),
        ("softmax", {"class_weight": [0.5 + i % 3 for i in range(2 * BLOCK + 37)]}),
        ("subcenter_arcface", {"centers": 2}),
        ("cosine", {"temperature": "trainable", "dtype": torch.bfloat16}),
        ("sphereface", {}),
    ],
)
def test_the_weight_is_the_same_for_any_number_of_ranks(name: str, parameters: dict[str, Any]) -> None:
    num_classes = 2 * BLOCK + 37
    torch.manual_seed(11)
    alone = ShardedHead(create_head(name, D, num_classes, device="meta", **parameters))
    first = alone.weight.detach().clone()
    alone.reset_parameters()
    assert not alone.weight.is_meta
    loss = float(alone(torch.ones(2, D, dtype=alone.weight.dtype), torch.tensor([0, num_classes - 1])).detach())
    for ranks in (2, 3):
        found = run_ranks(drawn, ranks, name, num_classes, parameters)
        assert torch.equal(torch.cat([part[0] for part in found]), first)
        assert torch.equal(torch.cat([part[1] for part in found]), alone.weight.detach())
        for part in found:
            assert part[2] == pytest.approx(loss, rel=1e-5)
            assert alone.kappa is None or float(part[3]) == pytest.approx(float(alone.kappa), rel=1e-6)


def test_the_weight_is_drawn_as_a_dense_head_draws_it() -> None:
    rows = torch.empty(BLOCK + 100, D)
    draw_rows(rows, 0, 5)
    bound = D**-0.5
    dense = nn.Linear(D, BLOCK + 100).weight.detach()
    assert rows.abs().max() <= bound
    for found in (rows, dense):
        assert found.abs().max() >= 0.99 * bound
        assert abs(float(found.mean())) <= 6 * bound / (3 * found.numel()) ** 0.5
        assert float(found.var()) == pytest.approx(bound**2 / 3, rel=0.02)
    assert not torch.equal(rows[:100], rows[BLOCK:])
    other = torch.empty(100, D)
    draw_rows(other, 0, 6)
    assert not torch.equal(other, rows[:100])


def test_the_candidates_are_those_of_the_template() -> None:
    split = ShardedHead(create_head("cosine_ls", D, C, device="meta"))
    assert isinstance(split.temperature, ll.LeastSquares)
    assert split.temperature.candidates == pytest.approx(KAPPA_CANDIDATES)
