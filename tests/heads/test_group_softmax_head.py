"""The group softmax head: its loss by its parts, whole logits, refusals."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from ranks import run_ranks
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import discriminative_grouping, fixed_grouping, group_logits, group_softmax_cross_entropy
from logitlab.heads import Classifier, GroupSoftmaxHead, Head
from logitlab.temperature import Fixed

D, C, G = 6, 4, 3


def make(**parameters: Any) -> GroupSoftmaxHead:
    head = GroupSoftmaxHead(D, C, **{"groups": G, "dtype": torch.float64, **parameters})
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return head


def batch(*leading: int) -> tuple[Tensor, Tensor]:
    leading = leading or (7,)
    return torch.randn(*leading, D, dtype=torch.float64), torch.randint(C, leading)


def bare(head: GroupSoftmaxHead, features: Tensor, target: Tensor) -> Tensor:
    """Loss a sample from the plain parts, by the head's weight and bias."""
    grouping = (
        discriminative_grouping(features, head.weight, target, head.groups)
        if head.grouping == "discriminative"
        else fixed_grouping(features, head.groups)
    )
    logits = group_logits(features, head.weight, grouping, head.groups, head.bias)
    return group_softmax_cross_entropy(logits, target, head.kind)


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("grouping", ["discriminative", "fixed"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_that_of_the_parts(kind: Any, grouping: Any, bias: bool, soft: bool) -> None:
    head = make(kind=kind, grouping=grouping, bias=bias)
    features, target = batch()
    target = torch.rand(7, C, dtype=torch.float64).softmax(-1) if soft else target
    expected = bare(head, features, target)
    torch.testing.assert_close(head(features, target, reduction="none"), expected)
    torch.testing.assert_close(head(features, target), expected.mean())
    torch.testing.assert_close(head(features, target, reduction="sum"), expected.sum())
    torch.testing.assert_close(head.eval()(features, target), expected.mean())


@pytest.mark.parametrize("training", [False, True])
def test_prediction_uses_the_whole_logits(training: bool) -> None:
    head = make().train(training)
    features, target = batch(2, 3)
    whole = F.linear(features, head.weight, head.bias)
    assert torch.equal(head(features), whole)
    loss, logits = head(features, target, return_logits=True)
    assert torch.equal(logits, whole)
    torch.testing.assert_close(loss, head(features, target))
    torch.testing.assert_close(head.predict_proba(features), whole.softmax(-1))
    assert torch.equal(head.predict(features), whole.argmax(-1))
    assert head.link == "softmax"


@pytest.mark.parametrize("kind", ["I", "II"])
def test_one_group_is_the_softmax_head(kind: Any) -> None:
    common: dict[str, Any] = {"dtype": torch.float64, "alpha": 0.1, "beta": 0.3, "weight_penalty": 0.2}
    common |= {"loss_scale": 2.0, "class_weight": [1.0, 2.0, 0.5, 4.0], "ignore_index": 3}
    ours, softmax = GroupSoftmaxHead(D, C, groups=1, kind=kind, **common), Head(D, C, **common)
    softmax.load_state_dict(ours.state_dict())
    features, target = batch(20)
    for labels in (target, torch.rand(20, C, dtype=torch.float64).softmax(-1)):
        for reduction in ("mean", "sum", "none"):
            torch.testing.assert_close(
                ours(features, labels, reduction=reduction), softmax(features, labels, reduction=reduction)
            )


def test_smoothing_penalties_weights_and_scale_by_their_formulas() -> None:
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    head = make(alpha=0.2, beta=0.3, weight_penalty=0.1, loss_scale=2.0, class_weight=weight)
    features, target = batch()
    target[2] = -100
    safe = target.clamp_min(0)
    grouping = discriminative_grouping(features, head.weight, safe, G)
    logits = group_logits(features, head.weight, grouping, G, head.bias)
    smoothed = 0.8 * F.one_hot(safe, C) + 0.2 / C
    own = -(weight * smoothed * logits.log_softmax(-1).sum(1)).sum(1) / 0.8
    penalty = 0.3 * head(features).square().sum(1) * weight[safe]
    values = 2 * (own + penalty) + 0.05 * head.weight.square().sum() * weight[safe]
    counts = (target != -100).double()
    torch.testing.assert_close(head(features, target, reduction="none"), values * counts)
    expected = (values * counts).sum() / (weight[safe] * counts).sum()
    torch.testing.assert_close(head(features, target), expected)


def test_a_one_hot_row_is_its_index() -> None:
    head = make(alpha=0.1, class_weight=[1.0, 2.0, 0.5, 4.0])
    features, target = batch()
    one_hot = F.one_hot(target, C).double()
    torch.testing.assert_close(
        head(features, one_hot, reduction="none"), head(features, target, reduction="none"), rtol=1e-10, atol=1e-12
    )


def test_no_gradient_through_the_grouping() -> None:
    head = make(groups=2)
    features, target = batch()
    features.requires_grad_()
    head(features, target, reduction="sum").backward()
    grouping = discriminative_grouping(features, head.weight, target, 2)
    again = features.detach().clone().requires_grad_()
    logits = group_logits(again, head.weight.detach(), grouping, 2, None if head.bias is None else head.bias.detach())
    expected = torch.autograd.grad(group_softmax_cross_entropy(logits, target).sum(), again)[0]
    assert features.grad is not None
    torch.testing.assert_close(features.grad, expected)


def test_random_groups_in_training_and_blocks_in_evaluation() -> None:
    head = make(grouping="random", groups=2)
    features, target = batch()
    assert not torch.equal(head(features, target), head(features, target))
    torch.manual_seed(3)
    first = head(features, target)
    torch.manual_seed(3)
    assert torch.equal(head(features, target), first)
    head.eval()
    torch.testing.assert_close(head(features, target, reduction="none"), bare(head, features, target))


def test_dropped_features_are_those_of_the_returned_logits() -> None:
    head = make(keep_probability=0.5, bias=False)
    features = torch.ones(1000, D, dtype=torch.float64)
    target = torch.randint(C, (1000,))
    torch.manual_seed(5)
    dropped = F.dropout(features, 0.5)
    torch.manual_seed(5)
    loss, logits = head(features, target, reduction="none", return_logits=True)
    torch.testing.assert_close(loss, bare(head, dropped, target))
    torch.testing.assert_close(logits, F.linear(dropped, head.weight))
    assert torch.equal(head.eval()(features), F.linear(features, head.weight))


def test_ignored_samples_and_empty_batches() -> None:
    head = make()
    features, target = batch(4)
    target[1] = -100
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(head(features, target), head(features[kept], target[kept]))
    for empty in (torch.empty(0, dtype=torch.long), torch.empty(0, C)):
        head.zero_grad()
        loss = head(features[:0], empty)
        loss.backward()
        assert loss.item() == 0.0
        assert head.weight.grad is not None
        assert not head.weight.grad.any()
    assert head(features, torch.full((4,), -100)).item() == 0.0
    assert head(features[0], target[0]).shape == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("value", [0.0, 1e4, 6e4])
def test_half_precision_is_widened_and_extremes_stay_finite(dtype: torch.dtype, value: float) -> None:
    head = GroupSoftmaxHead(D, C, groups=G, dtype=dtype)
    features = torch.full((5, D), value, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(features, torch.tensor([0, 1, 2, 3, 0]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert head.weight.dtype == dtype
    assert head.weight.grad is not None
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_one_class() -> None:
    head = GroupSoftmaxHead(D, 1, groups=G)
    loss = head(torch.randn(3, D), torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0


def test_another_number_of_classes() -> None:
    head = make(groups=2, kind="I", grouping="fixed", alpha=0.1, beta=0.2, keep_probability=0.9).eval()
    other = head.for_classes(9)
    assert type(other) is GroupSoftmaxHead
    assert (other.groups, other.kind, other.grouping) == (2, "I", "fixed")
    assert (other.alpha, other.beta, other.keep_probability, other.num_classes) == (0.1, 0.2, 0.9, 9)
    assert other.weight.dtype == torch.float64
    assert not other.training
    model = Classifier(torch.nn.Identity(), make())
    model.reset_classifier(2)
    assert model(torch.zeros(3, D), torch.tensor([0, 1, 1])).isfinite()


def test_copies_and_saves() -> None:
    head = make(kind="I")
    features, target = batch()
    buffer = io.BytesIO()
    torch.save(head, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(head), torch.load(buffer, weights_only=False)):
        torch.testing.assert_close(other(features, target), head(features, target))
    fresh = make(kind="I")
    fresh.load_state_dict(head.state_dict())
    torch.testing.assert_close(fresh(features, target), head(features, target))
    assert "groups=3, kind='I', grouping='discriminative'" in repr(head)


@pytest.mark.parametrize("grouping", ["discriminative", "random", "fixed"])
def test_compiles_into_one_graph(grouping: Any) -> None:
    head = make(grouping=grouping, dtype=torch.float32, beta=0.1)
    other = copy.deepcopy(head)
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    loss = torch.compile(other, fullgraph=True, backend="aot_eager")(features, target)
    loss.backward()
    if grouping == "random":
        assert loss.isfinite()
        return
    expected = head(features, target)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for compiled, eager in zip(other.parameters(), head.parameters()):
        torch.testing.assert_close(compiled.grad, eager.grad)


def test_per_sample_gradients_by_vmap() -> None:
    head = make()
    features, target = batch(3)

    def loss(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = torch.func.functional_call(head, {"weight": weight}, (x, y))
        return value

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(head.weight.detach(), features, target)
    for gradient, x, y in zip(gradients, features, target):
        expected = torch.autograd.grad(head(x, y), head.weight)[0]
        torch.testing.assert_close(gradient, expected)


def test_training_separates_two_classes_of_few_features() -> None:
    head = GroupSoftmaxHead(8, 2, groups=4)
    features, target = torch.randn(200, 8), torch.arange(200) % 2
    features += 1.5 * target.unsqueeze(1) * torch.arange(8) / 4
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        head(features, target).backward()
        optimizer.step()
    assert (head.predict(features) == target).float().mean() > 0.95


def test_faults_are_said_all_at_once() -> None:
    with pytest.raises(ParameterError) as error:
        GroupSoftmaxHead(10, 0, groups=4, kind="i", grouping="sorted", alpha=2)  # type: ignore[arg-type]
    assert len(error.value.faults) == 5
    assert "Use 2 or 5, the nearest divisors." in error.value.faults[0]
    with pytest.raises(ParameterError, match="'groups' parameter of GroupSoftmaxHead must be an int"):
        GroupSoftmaxHead(10, 3, groups=2.0)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="'kind' parameter of GroupSoftmaxHead must be 'I' or 'II'. Got 1"):
        GroupSoftmaxHead(10, 3, groups=2, kind=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parameters",
    [
        {"classifier": "cosine", "kappa": 20},
        {"temperature": Fixed(kappa=3.0)},
        {"tau": 0.1, "normalize_logits": True},
        {"loss": "sigmoid"},
        {"loss": "squared_error"},
    ],
)
def test_what_is_no_linear_softmax_is_refused_in_words(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="plain linear logits with softmax") as error:
        GroupSoftmaxHead(D, C, groups=G, **parameters)
    assert len(error.value.faults) == 1
    assert all(name in str(error.value) for name in parameters)
    # The same names at rest ask for nothing.
    GroupSoftmaxHead(D, C, groups=G, classifier="linear", loss="softmax", temperature=None, normalize_logits=False)


def test_bad_input_is_refused() -> None:
    head = make()
    features, target = batch()
    with pytest.raises(InputError, match="without a temperature"):
        head(features, target, kappa=3.0)
    with pytest.raises(InputError, match="class indices in"):
        head(features, target + C)
    with pytest.raises(InputError, match="Expected class indices of shape"):
        head(features, target[:2])
    with pytest.raises(InputError, match="floating features of shape"):
        head(features[:, :2], target)
    with pytest.raises(InputError, match="reduction"):
        head(features, target, reduction="median")


def set_fused(head: GroupSoftmaxHead, fused: bool | str) -> GroupSoftmaxHead:
    head.fused = fused  # type: ignore[assignment]
    return head


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("grouping", ["discriminative", "fixed"])
@pytest.mark.parametrize("leading", [(7,), (2, 3), (), (0,)])
def test_fused_and_plain_agree(kind: Any, grouping: Any, leading: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"kind": kind, "grouping": grouping, "beta": 0.3, "weight_penalty": 0.2}
    options |= {"loss_scale": 2.0, "class_weight": [1.0, 2.0, 0.5, 4.0], "ignore_index": 3}
    fused, plain = make(**options), make(**options)
    plain.load_state_dict(fused.state_dict())
    set_fused(fused, True), set_fused(plain, False)
    features, target = torch.randn(*leading, D, dtype=torch.float64), torch.randint(C, leading)
    assert fused.path(features, target) == ("fused", "fused=True")
    assert plain.path(features, target) == ("plain", "fused=False")
    for reduction in ("mean", "sum", "none"):
        results = []
        for head in (fused, plain):
            head.zero_grad()
            x = features.clone().requires_grad_()
            loss, logits = head(x, target, reduction=reduction, return_logits=True)
            (loss * torch.arange(1.0, loss.numel() + 1).view(loss.shape)).sum().backward()
            assert x.grad is not None
            results.append((loss, logits, x.grad, *(parameter.grad.clone() for parameter in head.parameters())))
        for ours, expected in zip(*results):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_the_way_of_the_loss_is_chosen_and_said() -> None:
    head = GroupSoftmaxHead(512, 3000, groups=8, device="meta")
    features, target = torch.empty(128, 512), torch.empty(128, dtype=torch.long)
    weight = torch.empty(1, dtype=torch.float32).expand(3000, 512)
    head.weight, head.bias = torch.nn.Parameter(weight), None
    assert head.path(features, target) == ("fused", "the group logits are more than one block of classes")
    assert head.path(features[:16], target[:16])[0] == "plain"
    assert head.path(features, torch.empty(128, 3000))[0] == "plain"
    assert "soft targets" in set_fused(head, True).path(features, torch.empty(128, 3000))[1]
    assert head.path(features[:16], target[:16])[0] == "fused"
    assert set_fused(head, False).path(features, target)[0] == "plain"
    assert "smoothing" in set_fused(make(alpha=0.1), True).path(features, target)[1]
    assert "torch.func" in set_fused(make(), True).path(features.to("meta"), target)[1]
    seen: list[str] = []
    other = set_fused(make(), True)

    def watch(x: Tensor) -> Tensor:
        seen.append(other.path(x, target[0])[0])
        return x

    torch.func.vmap(watch)(torch.zeros(2, D))
    assert seen == ["plain"]


def test_the_fused_way_runs_the_operator() -> None:
    features, target = batch()
    for fused, name in ((True, "group_softmax_terms"), (False, "_GroupLogits")):
        loss = set_fused(make(groups=2), fused)(features, target)
        node = loss.grad_fn  # in torch 2.11 no longer than the loss
        names = []
        while node is not None:
            names.append(node.name())
            node = next((parent for parent, _ in node.next_functions if parent is not None), None)
        assert any(name in found for found in names), names


@pytest.mark.parametrize("grouping", ["discriminative", "random", "fixed"])
def test_fused_compiles_into_one_graph(grouping: Any) -> None:
    torch.compiler.reset()
    head = set_fused(make(grouping=grouping, dtype=torch.float32), True)
    features, target = torch.randn(5, D), torch.tensor([0, 1, -100, 3, 2])
    other = copy.deepcopy(head)
    names: list[str] = []

    def watch(graph: torch.fx.GraphModule, _: Any) -> Any:
        names.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.compile(other, fullgraph=True, backend=watch)(features, target)
    assert sum("group_softmax_terms" in name for name in names) == 1
    assert sum("logitlab.discriminative_grouping" in name for name in names) == (grouping == "discriminative")
    loss = torch.compile(other, fullgraph=True, backend="aot_eager")(features, target)
    loss.backward()
    if grouping == "random":
        assert loss.isfinite()
        return
    expected = head(features, target)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for compiled, eager in zip(other.parameters(), head.parameters()):
        torch.testing.assert_close(compiled.grad, eager.grad)


def test_fused_under_checkpointing_and_autocast() -> None:
    head = set_fused(make(dtype=torch.float32, keep_probability=0.5), True)
    features, target = torch.randn(9, D, requires_grad=True), torch.randint(C, (9,))
    torch.manual_seed(1)
    expected = head(features, target)
    gradients = torch.autograd.grad(expected, (features, *head.parameters()))
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch.utils.checkpoint.checkpoint(head, features, target, use_reentrant=False)
        found = torch.autograd.grad(loss, (features, *head.parameters()))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(found, gradients):
        torch.testing.assert_close(ours, theirs)


def _gradients(rank: int) -> list[Tensor | None]:
    model, features, target = _distributed_case()
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    x, y = features.chunk(2)[rank], target.chunk(2)[rank]
    (parallel(x, y) + parallel(2 * x, y)).backward()
    return [parameter.grad for parameter in model.parameters()]


def _distributed_case() -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Classifier(torch.nn.Linear(5, D), set_fused(GroupSoftmaxHead(D, C, groups=2), True))
    return model, torch.randn(8, 5), torch.randint(C, (8,))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_fused_gradients_of_two_processes_are_those_of_one() -> None:
    together, _ = run_ranks(_gradients, 2)
    model, features, target = _distributed_case()
    (model(features, target) + model(2 * features, target)).backward()
    for ours, parameter in zip(together, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)
