"""Group softmax against the paper: ingredient logits formed at tiny sizes, brute force, and the fast version."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import (
    GroupKind,
    discriminative_grouping,
    discriminativity,
    fast_discriminative_grouping,
    fast_group_logits,
    fixed_grouping,
    group_logits,
    group_softmax_cross_entropy,
    random_grouping,
)
from logitlab.functional import group_softmax_fast as fast

B, C, D, G = 5, 4, 6, 3
KINDS: list[GroupKind] = ["I", "II"]


def case(
    batch: int = B, classes: int = C, features: int = D, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.randn(batch, features, dtype=dtype) * scale
    weight, bias = torch.randn(classes, features, dtype=dtype), torch.randn(classes, dtype=dtype)
    return x, weight, bias, torch.randint(classes, (batch,))


def ingredient_group_logits(x: Tensor, weight: Tensor, grouping: Tensor, groups: int) -> Tensor:
    """By the letter of the paper: all ``[B, D, C]`` ingredient logits, added group by group."""
    ingredients = x.unsqueeze(-1) * weight.t()
    result = x.new_zeros(len(x), groups, len(weight))
    for sample, feature in itertools.product(range(len(x)), range(x.shape[1])):
        result[sample, grouping[sample, feature]] += ingredients[sample, feature]
    return result


def equal_partitions(features: int, groups: int) -> Iterator[list[int]]:
    """Every way to put features into equal groups, up to the names of the groups."""
    size = features // groups
    for assignment in itertools.product(range(groups), repeat=features):
        firsts = [assignment.index(group) for group in range(groups) if group in assignment]
        if firsts == sorted(firsts) and all(assignment.count(group) == size for group in range(groups)):
            yield list(assignment)


def test_value_by_hand() -> None:
    # λ = 2, -1, -5, 1: features 1 and 2 are group 0, features 0 and 3 group 1.
    weight = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 2.0, 5.0, 0.0]], dtype=torch.float64)
    x, target = torch.ones(1, 4, dtype=torch.float64), torch.tensor([0])
    grouping = discriminative_grouping(x, weight, target, 2)
    assert grouping.tolist() == [[1, 0, 0, 1]]
    logits = group_logits(x, weight, grouping, 2)
    assert logits.tolist() == [[[1, 7], [4, 1]]]
    two = math.log1p(math.exp(6)) + math.log1p(math.exp(-3))
    one = (math.log1p(math.exp(12)) + math.log1p(math.exp(-6))) / 2
    assert group_softmax_cross_entropy(logits, target, "II").item() == pytest.approx(two, rel=1e-14)
    assert group_softmax_cross_entropy(logits, target, "I").item() == pytest.approx(one, rel=1e-14)


def test_discriminativity_is_that_of_the_ingredient_logits() -> None:
    x, weight, _, target = case()
    ingredients = x.unsqueeze(-1) * weight.t()
    expected = torch.stack(
        [
            values[:, own] - values[:, [c for c in range(C) if c != own]].mean(dim=1)
            for values, own in zip(ingredients, target.tolist())
        ]
    )
    torch.testing.assert_close(discriminativity(x, weight, target), expected)
    soft = torch.rand(B, C, dtype=torch.float64).softmax(-1)
    every = torch.stack([discriminativity(x, weight, torch.full((B,), c)) for c in range(C)], dim=1)
    torch.testing.assert_close(discriminativity(x, weight, soft), (soft.unsqueeze(-1) * every).sum(1))
    one_hot = F.one_hot(target, C).double()
    torch.testing.assert_close(discriminativity(x, weight, one_hot), expected)


def test_a_uniform_target_discriminates_nothing_so_that_smoothing_keeps_the_grouping() -> None:
    x, weight, _, target = case()
    uniform = torch.full((B, C), 1 / C, dtype=torch.float64)
    torch.testing.assert_close(discriminativity(x, weight, uniform), torch.zeros_like(x))
    smoothed = 0.7 * F.one_hot(target, C) + 0.3 * uniform
    for grouping in (discriminative_grouping, fast_discriminative_grouping):
        assert torch.equal(grouping(x, weight, smoothed, G), grouping(x, weight, target, G))


@pytest.mark.parametrize("version", [group_logits, fast_group_logits])
def test_group_logits_are_sums_of_ingredient_logits_and_add_up(version: object) -> None:
    assert callable(version)
    x, weight, bias, target = case()
    for grouping in (discriminative_grouping(x, weight, target, G), random_grouping(x, G), fixed_grouping(x, G)):
        expected = ingredient_group_logits(x, weight, grouping, G)
        torch.testing.assert_close(version(x, weight, grouping, G), expected)
        torch.testing.assert_close(version(x, weight, grouping, G, bias), expected + bias / G)
        torch.testing.assert_close(version(x, weight, grouping, G, bias).sum(1), F.linear(x, weight, bias))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_softmax_is_below_type_one_is_below_type_two(with_bias: bool, scale: float) -> None:
    for _ in range(50):
        classes, groups = int(torch.randint(1, 9, ())), int(torch.randint(1, 5, ()))
        x, weight, bias, target = case(8, classes, 12 * groups, scale=scale)
        bias = 10 * bias if with_bias else torch.zeros_like(bias)
        soft = torch.rand(8, classes, dtype=torch.float64).softmax(-1)
        for grouping in (discriminative_grouping(x, weight, target, groups), random_grouping(x, groups)):
            logits = group_logits(x, weight, grouping, groups, bias)
            for labels in (target, soft):
                whole = F.cross_entropy(F.linear(x, weight, bias), labels, reduction="none")
                one, two = (group_softmax_cross_entropy(logits, labels, kind) for kind in KINDS)
                slack = 1e-12 * (1 + two)
                assert (whole <= one + slack).all()
                assert (one <= two + slack).all()


def test_equal_partitions_are_ninety() -> None:
    assert len(list(equal_partitions(6, 3))) == 90 / math.factorial(3) == 15


@pytest.mark.parametrize("factor", [1.0, 3.0], ids=["type II", "type I"])
@pytest.mark.parametrize("version", [discriminative_grouping, fast_discriminative_grouping])
def test_the_grouping_maximises_the_relaxed_loss_over_all_equal_partitions(factor: float, version: object) -> None:
    # All 90 partitions into named groups; (A.20) does not know the names, which leaves 15. A bias adds a constant.
    assert callable(version)
    partitions = torch.tensor(list(equal_partitions(6, 3)))
    for constant in (0.0, 0.7):
        x, weight, _, target = case(40, 5, 6, scale=0.5)
        score = discriminativity(x, weight, target)

        def relaxed(grouping: Tensor, score: Tensor = score, constant: float = constant) -> Tensor:
            sums = torch.zeros(len(score), 3, dtype=torch.float64).scatter_add(
                1, grouping.expand(len(score), -1), score
            )
            return F.softplus(-factor * (sums + constant), threshold=100).sum(1)

        best = torch.stack([relaxed(partition.unsqueeze(0)) for partition in partitions]).amax(0)
        torch.testing.assert_close(relaxed(version(x, weight, target, 3)), best, rtol=1e-12, atol=0)


def test_the_rank_of_the_updates_is_groups_times_that_of_softmax() -> None:
    classes, features, groups = 4, 24, 3
    _, weight, _, _ = case(1, classes, features)
    x = torch.randn(200, features, dtype=torch.float64, requires_grad=True)
    target = torch.randint(classes, (200,))
    updates = torch.autograd.grad(F.cross_entropy(x @ weight.t(), target, reduction="sum"), x)[0]
    assert torch.linalg.matrix_rank(updates, rtol=1e-9) == classes - 1  # (B.1)
    for kind, version in itertools.product(KINDS, (group_logits, fast_group_logits)):
        logits = version(x, weight, fixed_grouping(x, groups), groups)
        updates = torch.autograd.grad(group_softmax_cross_entropy(logits, target, kind).sum(), x)[0]
        assert torch.linalg.matrix_rank(updates, rtol=1e-9) == (classes - 1) * groups  # (B.2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [group_logits, fast_group_logits])
def test_gradients_with_the_grouping_frozen(kind: GroupKind, version: object) -> None:
    assert callable(version)
    x, weight, bias, target = case(3)
    grouping = discriminative_grouping(x, weight, target, G)
    soft = torch.rand(3, C, dtype=torch.float64).softmax(-1)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, weight, bias))
    for labels in (target, soft):

        def loss(x: Tensor, weight: Tensor, bias: Tensor, labels: Tensor = labels) -> Tensor:
            return group_softmax_cross_entropy(version(x, weight, grouping, G, bias), labels, kind)

        assert torch.autograd.gradcheck(loss, inputs)
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "groups", "dtype", "tolerance"),
    [
        ((7, 5, 12), 4, torch.float64, 1e-12),
        ((7, 300, 12), 12, torch.float64, 1e-12),  # several blocks of classes; a feature a group
        ((1, 1, 4), 2, torch.float64, 1e-12),
        ((64, 200, 256), 8, torch.float32, 2e-6),
        ((40, 10, 600), 300, torch.float32, 2e-6),  # more groups than a byte holds
    ],
)
def test_fast_is_plain(
    kind: GroupKind, shape: tuple[int, int, int], groups: int, dtype: torch.dtype, tolerance: float
) -> None:
    x, weight, bias, target = case(*shape, dtype=dtype, scale=3 / math.sqrt(shape[2]))
    grouping = discriminative_grouping(x, weight, target, groups)
    assert (fast_discriminative_grouping(x, weight, target, groups) == grouping).all()
    inputs = tuple(tensor.requires_grad_() for tensor in (x, weight, bias))
    upstream = torch.rand(len(x), dtype=dtype)
    results = []
    for version in (group_logits, fast_group_logits):
        loss = group_softmax_cross_entropy(version(x, weight, grouping, groups, bias), target, kind)
        results.append((loss, *torch.autograd.grad(loss, inputs, upstream)))
    for plain, quick in zip(*results):
        assert (plain - quick).norm() <= tolerance * (plain.norm() + tolerance)


def test_the_fast_version_runs_its_own_code_on_the_cpu() -> None:
    x, weight, _, target = case()
    x.requires_grad_()
    logits = fast_group_logits(x, weight, discriminative_grouping(x, weight, target, G), G)
    assert "_GroupLogits" in str(logits.grad_fn.next_functions if logits.grad_fn else None)


def test_unequal_groups_are_summed_too() -> None:
    x, weight, _, _ = case()
    grouping = torch.randint(G, x.shape)
    torch.testing.assert_close(fast_group_logits(x, weight, grouping, G), group_logits(x, weight, grouping, G))


@pytest.mark.parametrize("ties", ["zeros", "both zeros", "few values", "all equal", "infinite"])
def test_equal_scores_go_by_their_index(ties: str) -> None:
    x, weight, _, target = case(32, 3, 48, torch.float32)
    if ties == "zeros":
        x = x.relu()
    elif ties == "both zeros":
        x = torch.where(torch.rand_like(x) < 0.5, torch.zeros_like(x), -torch.zeros_like(x))
    elif ties == "few values":
        x, weight = x.round(), weight.round()
    elif ties == "all equal":
        x, weight = torch.ones_like(x), torch.ones_like(weight)
    else:
        x = torch.where(torch.rand_like(x) < 0.3, torch.full_like(x, 3e38), x) * 2
    expected = discriminative_grouping(x, weight, target, 8)
    assert (fast_discriminative_grouping(x, weight, target, 8) == expected).all()
    assert (F.one_hot(expected, 8).sum(1) == 6).all()
    if ties == "all equal":
        assert torch.equal(expected, fixed_grouping(x, 8))


def test_blocks_of_rows_are_sorted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "SORTED_AT_ONCE", 40)
    x, weight, _, target = case(7, 3, 16, torch.float32)
    expected = discriminative_grouping(x, weight, target, 4)
    grouping = fast_discriminative_grouping(x, weight, target, 4)
    assert grouping.dtype == torch.uint8  # its own code, not the plain version's
    assert (grouping == expected).all()


def test_a_nan_still_gives_equal_groups() -> None:
    x, weight, _, target = case(2, 3, 8, torch.float32)
    x[0, 3] = math.nan
    assert (F.one_hot(fast_discriminative_grouping(x, weight, target, 4).long(), 4).sum(1) == 2).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_group_is_softmax_exactly(kind: GroupKind) -> None:
    x, weight, bias, target = case()
    grouping = fast_discriminative_grouping(x, weight, target, 1)
    whole = F.linear(x, weight, bias)
    for version in (group_logits, fast_group_logits):
        logits = version(x, weight, grouping, 1, bias)
        assert torch.equal(logits.squeeze(1), whole)
        torch.testing.assert_close(
            group_softmax_cross_entropy(logits, target, kind), F.cross_entropy(whole, target, reduction="none")
        )


def test_a_feature_a_group() -> None:
    x, weight, _, target = case()
    grouping = discriminative_grouping(x, weight, target, D)
    score = discriminativity(x, weight, target)
    assert torch.equal(grouping, score.argsort(dim=1).argsort(dim=1))
    ordered = (x.unsqueeze(-1) * weight.t()).gather(1, score.argsort(dim=1).unsqueeze(-1).expand(B, D, C))
    torch.testing.assert_close(fast_group_logits(x, weight, grouping, D), ordered)


def test_one_class_costs_nothing() -> None:
    x, weight, bias, _ = case(classes=1)
    x.requires_grad_()
    target = torch.zeros(B, dtype=torch.long)
    grouping = discriminative_grouping(x, weight, target, G)
    loss = group_softmax_cross_entropy(fast_group_logits(x, weight, grouping, G, bias), target)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert not loss.any()
    assert x.grad is not None
    assert not x.grad.any()


def test_baselines_part_equally_and_random_differs_between_samples_and_calls() -> None:
    x = torch.zeros(3, 2, 12)
    drawn = random_grouping(x, 4)
    assert drawn.shape == x.shape
    assert (F.one_hot(drawn, 4).sum(-2) == 3).all()
    assert len(torch.unique(drawn.view(-1, 12), dim=0)) > 1
    assert not torch.equal(drawn, random_grouping(x, 4))
    assert fixed_grouping(x, 4)[1, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    # Each of 6 partitions of four features into two named groups is as likely.
    counts = torch.unique(random_grouping(torch.zeros(6000, 4), 2), dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 150


def test_leading_dimensions() -> None:
    x, weight, bias, target = case(6)
    grouping = fast_discriminative_grouping(x, weight, target, G)
    folded = x.view(2, 3, D)
    assert torch.equal(fast_discriminative_grouping(folded, weight, target.view(2, 3), G).view(6, D), grouping)
    logits = fast_group_logits(folded, weight, grouping.view(2, 3, D), G, bias)
    torch.testing.assert_close(logits.view(6, G, C), group_logits(x, weight, grouping, G, bias))
    single = fast_discriminative_grouping(x[0], weight, target[0], G)
    assert fast_group_logits(x[0], weight, single, G).shape == (G, C)


@pytest.mark.parametrize(("groups", "nearest"), [(5, "4 or 6"), (7, "6 or 12"), (13, "12"), (24, "12")])
def test_groups_that_do_not_divide_are_refused_with_the_nearest_divisors(groups: int, nearest: str) -> None:
    x, weight, _, target = case(features=12)
    for part in (discriminative_grouping, fast_discriminative_grouping):
        with pytest.raises(ParameterError, match=f"Use {nearest}, the nearest divisor") as error:
            part(x, weight, target, groups)
        assert len(error.value.faults) == 1
    with pytest.raises(ParameterError, match="Use "):
        random_grouping(x, groups)


def test_no_group_and_no_such_kind() -> None:
    with pytest.raises(ParameterError, match="at least one group"):
        fixed_grouping(torch.zeros(1, 4), 0)
    with pytest.raises(InputError, match="kind 'I' or 'II'"):
        group_softmax_cross_entropy(torch.zeros(1, 2, 3), torch.tensor([0]), "III")  # type: ignore[arg-type]


def test_compiled_and_transformed_are_eager() -> None:
    x, weight, bias, target = case(4)

    def loss(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        grouping = fast_discriminative_grouping(x, weight, target, G)
        return group_softmax_cross_entropy(fast_group_logits(x, weight, grouping, G, bias), target)

    expected = loss(x, weight, bias, target)
    torch.testing.assert_close(torch.func.vmap(loss, in_dims=(0, None, None, 0))(x, weight, bias, target), expected)
    leaf = bias.clone().requires_grad_()
    by_autograd = torch.autograd.grad(loss(x, weight, leaf, target).sum(), leaf)[0]
    by_function = torch.func.grad(lambda bias: loss(x, weight, bias, target).sum())(bias)
    torch.testing.assert_close(by_function, by_autograd)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight, bias, target), expected)
