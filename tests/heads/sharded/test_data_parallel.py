"""Sharded heads beside a backbone in DDP: training, clipping, mixed precision, and the functions that know heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import InputError, ParameterError
from logitlab.heads import (
    Classifier,
    Head,
    ShardedHead,
    clip_gradients,
    create_head,
    keep_shards_local,
    param_groups,
    update_kappa,
)
from logitlab.temperature import LeastSquares

IMAGE, FEATURES, CLASSES, SAMPLES = 5, 6, 11, 7


def dense_head(temperature: str = "trainable", **options: Any) -> Head:
    torch.manual_seed(1)
    chosen = LeastSquares(candidates=[1.0, 3.0, 9.0]) if temperature == "least_squares" else temperature
    return Head(FEATURES, CLASSES, classifier="cosine", temperature=chosen, bias=True, dtype=torch.float64, **options)


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(IMAGE, 8), nn.BatchNorm1d(8).eval(), nn.Linear(8, FEATURES)).double()


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Of this rank, or of all where there are none; uneven over 2 and 3 ranks."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(SAMPLES, IMAGE, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    if not dist.is_initialized():
        return images, target
    rank, size = dist.get_rank(), dist.get_world_size()
    return images.tensor_split(size)[rank], target.tensor_split(size)[rank]


def dense_state(model: nn.Module) -> dict[str, Tensor]:
    model = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(model, Classifier)
    backbone = model.backbone.module if isinstance(model.backbone, DistributedDataParallel) else model.backbone
    head = model.head.to_dense() if isinstance(model.head, ShardedHead) else model.head
    return {name: value.clone() for part in (backbone, head) for name, value in part.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n} {m}")


def wrapped(how: str, temperature: str) -> nn.Module:
    if how == "one process":
        return Classifier(network(), dense_head(temperature))
    head = ShardedHead(dense_head(temperature))
    if how == "backbone":
        return Classifier(DistributedDataParallel(network()), head)
    return DistributedDataParallel(keep_shards_local(Classifier(network(), head)))


def train(how: str, temperature: str, kind: str) -> tuple[list[float], dict[str, Tensor]]:
    model = wrapped(how, temperature)
    groups = param_groups(model, lr=0.1, head_lr_mult=3.0, weight_decay=0.01)
    optimizer = torch.optim.SGD(groups, momentum=0.9) if kind == "sgd" else torch.optim.AdamW(groups)
    losses = []
    for number in range(3):
        optimizer.zero_grad()
        loss = model(*batch(number))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, dense_state(model)


CASES = [
    (how, temperature, kind)
    for how in ("backbone", "all")
    for temperature in ("trainable", "least_squares")
    for kind in ("sgd", "adamw")
]


def train_all(rank: int) -> list[tuple[list[float], dict[str, Tensor]]]:
    return [train(*case) for case in CASES]


@pytest.mark.parametrize("ranks", [2, 3])
def test_three_steps_equal_those_of_one_process(ranks: int) -> None:
    for found in run_ranks(train_all, ranks):
        for (_, temperature, kind), (losses, state) in zip(CASES, found):
            expected_losses, expected = train("one process", temperature, kind)
            assert losses == pytest.approx(expected_losses, rel=1e-9)
            assert_same(state, expected)


def head_alone(rank: int) -> Tensor:
    """Even splits, so that DDP would not notice that the weights are different ones."""
    head = Head(FEATURES, 12, classifier="cosine", temperature="trainable", bias=True, dtype=torch.float64)
    model = DistributedDataParallel(keep_shards_local(ShardedHead(head)))
    features, target = torch.eye(FEATURES, dtype=torch.float64), torch.arange(FEATURES)
    model(features[2 * rank : 2 * rank + 2], target[2 * rank : 2 * rank + 2]).backward()
    whole = model.module.to_dense()
    torch.testing.assert_close(whole.weight, head.weight)
    head(features, target).backward()
    rows = slice(*model.module.classes)
    torch.testing.assert_close(model.module.weight.grad, head.weight.grad[rows], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model.module.bias.grad, head.bias.grad[rows], rtol=1e-9, atol=1e-12)
    return next(model.module.temperature.parameters()).grad - next(head.temperature.parameters()).grad


def test_a_head_that_is_all_there_is_stays_split() -> None:
    for difference in run_ranks(head_alone, 3):
        assert difference.abs().max() < 1e-12


def wrap_too_early(rank: int) -> str:
    try:
        keep_shards_local(DistributedDataParallel(network()))
    except ParameterError as fault:
        return str(fault)
    return ""


def test_keep_shards_local_comes_first() -> None:
    for message in run_ranks(wrap_too_early, 2):
        assert message == "keep_shards_local comes first: DistributedDataParallel(keep_shards_local(model))."


# Clipping.

NORMS = (1e-3, 0.5, 1e9)


def clip(how: str, max_norm: float) -> tuple[float, dict[str, Tensor]]:
    model = wrapped(how, "trainable")
    model(*batch(0)).backward()
    norm = (
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        if how == "one process"
        else clip_gradients(model, max_norm)
    )
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    return norm.item(), dense_state(model)


def clip_all(rank: int) -> list[tuple[float, dict[str, Tensor]]]:
    return [clip(how, max_norm) for how in ("backbone", "all") for max_norm in NORMS]


@pytest.mark.parametrize("ranks", [2, 3])
def test_clipping_is_that_of_the_dense_model(ranks: int) -> None:
    of_ranks = run_ranks(clip_all, ranks)
    for found in of_ranks:
        for (norm, state), max_norm in zip(found, NORMS * 2):
            expected_norm, expected = clip("one process", max_norm)
            assert 0.5 < expected_norm < 1e9
            assert norm == pytest.approx(expected_norm, rel=1e-9)
            assert_same(state, expected)
    # The same to the last bit.
    assert [[norm for norm, _ in found] for found in of_ranks[1:]] == [[norm for norm, _ in of_ranks[0]]] * (ranks - 1)


def clip_broken(rank: int) -> tuple[float, float]:
    """The gradient of one rank's shard is not finite; and no gradients at all."""
    model = wrapped("backbone", "trainable")
    empty = clip_gradients(model, 1.0)
    model(*batch(0)).backward()
    if rank == 1:
        model.head.weight.grad[0, 0] = torch.inf
    return empty.item(), clip_gradients(model, 1.0).item()


def test_clipping_without_gradients_and_with_broken_ones() -> None:
    assert run_ranks(clip_broken, 2) == [(0.0, torch.inf)] * 2


def test_clipping_without_ranks_is_torchs() -> None:
    models = [Classifier(network(), head) for head in (dense_head(), ShardedHead(dense_head()))]
    for model in models:
        model(*batch(0)).backward()
    expected = nn.utils.clip_grad_norm_(models[0].parameters(), 0.1)
    for model in (models[1], Classifier(network(), dense_head())):
        model.zero_grad()
        model(*batch(0)).backward()
        torch.testing.assert_close(clip_gradients(model, 0.1), expected, rtol=1e-9, atol=0)
        assert_same(
            {name: parameter.grad for name, parameter in model.named_parameters()},
            {name: parameter.grad for name, parameter in models[0].named_parameters()},
        )
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ParameterError, match="max_norm"):
            clip_gradients(models[0], wrong)


# Mixed precision.


def scaled_steps(rank: int) -> list[tuple[float, list[bool]]]:
    """The scale after each step, and which weights moved; one rank's shard overflows in the second."""
    model = wrapped("backbone", "trainable")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = ShardedGradScaler("cpu", init_scale=8.0, process_group=model.head.ranks.group)
    told = []
    for number in range(3):
        optimizer.zero_grad()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        scaler.scale(model(*batch(number))).backward()
        if number == 1 and rank == 1:
            model.head.weight.grad[0, 0] = torch.inf
        scaler.unscale_(optimizer)
        clip_gradients(model, 100.0)
        scaler.step(optimizer)
        scaler.update()
        moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters())]
        told.append((scaler.get_scale(), moved))
    plain = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer.zero_grad()
    plain.scale(model(*batch(3))).backward()
    if rank == 1:
        model.head.weight.grad[0, 0] = torch.inf
    plain.step(optimizer)
    plain.update()
    told.append((plain.get_scale(), []))
    return told


def test_all_ranks_skip_the_step_in_which_one_overflows() -> None:
    of_ranks = run_ranks(scaled_steps, 2)
    for found in of_ranks:
        assert [scale for scale, _ in found[:3]] == [8.0, 4.0, 4.0]
        moved = [moved for _, moved in found]
        # The affine part of a batch norm moves too; the trainable κ among the last.
        assert all(moved[0])
        assert not any(moved[1])
        assert all(moved[2])
    # What the ordinary scaler would do: the ranks part.
    assert [found[3][0] for found in of_ranks] == [8.0, 4.0]


def autocast_step(how: str) -> tuple[float, Tensor, Tensor]:
    """Weights in float32, the backbone in bfloat16."""
    head = dense_head("least_squares").float()
    backbone = network().float()
    if how == "one process":
        model = Classifier(backbone, head)
    else:
        model = Classifier(DistributedDataParallel(backbone), ShardedHead(head))
    images, target = batch(0)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(images.float())
        assert features.dtype == torch.bfloat16
        loss = model.head(features, target)
    loss.backward()
    assert loss.dtype == torch.float32
    weight = model.head.weight.grad
    assert weight.dtype == torch.float32
    if how != "one process":
        model.head.weight.data = weight  # gathered as the weight would be
        weight = model.head.to_dense().weight.detach()
    return loss.item(), weight, next(model.backbone.parameters()).grad


def autocast_on_ranks(rank: int) -> tuple[float, Tensor, Tensor]:
    return autocast_step("backbone")


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_backbone_in_bfloat16(ranks: int) -> None:
    expected_loss, expected_weight, expected_first = autocast_step("one process")
    for loss, weight, first in run_ranks(autocast_on_ranks, ranks):
        # The features are the same bfloat16 numbers; all that follows is float32.
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        torch.testing.assert_close(weight, expected_weight, rtol=1e-4, atol=1e-6)
        # Each rank rounds the gradient of its own part to bfloat16.
        torch.testing.assert_close(first, expected_first, rtol=0.03, atol=0.01 * expected_first.abs().max().item())


# Functions that know heads.


def test_groups_know_sharded_heads() -> None:
    dense = Classifier(network(), dense_head())
    sharded = Classifier(network(), ShardedHead(dense_head()))
    names = [{id(parameter): name for name, parameter in model.named_parameters()} for model in (dense, sharded)]
    groups = [
        param_groups(model, lr=0.1, head_lr_mult=10.0, weight_decay=1e-4, decay_norms_and_biases=True)
        for model in (dense, sharded)
    ]
    for one, other in zip(*groups, strict=True):
        told = [
            {**group, "params": [own[id(parameter)] for parameter in group["params"]]}
            for group, own in zip((one, other), names)
        ]
        assert told[0] == told[1]
    assert [group["name"] for group in groups[1]] == ["backbone", "head", "head, no decay"]


def measure_kappa(rank: int) -> Tensor:
    model = Classifier(network(), ShardedHead(dense_head("least_squares")))
    update_kappa(model, [batch(0), batch(1)])
    assert model.head.training
    return model.head.temperature.mean.value


def measure_nothing(rank: int) -> str:
    model = Classifier(network(), ShardedHead(dense_head("least_squares")))
    try:
        update_kappa(model, [])
    except InputError as fault:
        return str(fault)
    return ""


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_mean_of_kappa_is_that_of_all_ranks(ranks: int) -> None:
    model = Classifier(network(), dense_head("least_squares"))
    update_kappa(model, [batch(0), batch(1)])
    for mean in run_ranks(measure_kappa, ranks):
        torch.testing.assert_close(mean, model.head.temperature.mean.value, rtol=1e-9, atol=0)
    assert (
        run_ranks(measure_nothing, ranks) == ["update_kappa needs at least one sample. The loader gave none."] * ranks
    )


def test_a_classifier_of_a_sharded_head() -> None:
    head = ShardedHead(create_head("cosface", FEATURES, CLASSES))
    model = Classifier(nn.Identity(), head)
    features = torch.randn(3, FEATURES)
    assert (model.num_features, model.num_classes, model.get_classifier()) == (FEATURES, CLASSES, head)
    torch.testing.assert_close(model.predict_proba(features), head.to_dense().predict_proba(features))
