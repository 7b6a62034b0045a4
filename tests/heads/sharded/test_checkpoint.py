"""Checkpoints of sharded heads load at any other world size and into dense heads, and a killed save harms nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import RankError as FailedRank
from ranks import RankProcesses, run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import InputError, ParameterError, RankError, RecordError
from logitlab.heads import (
    Classifier,
    Head,
    ShardedHead,
    create_head,
    keep_shards_local,
    load_sharded,
    param_groups,
    save_sharded,
)
from logitlab.heads.sharded import dense, storage
from logitlab.heads.sharded import folder as folder_of_checkpoint
from logitlab.margins import Annealing, MultiplicativeAngularMargin
from logitlab.temperature import LeastSquares

IMAGE, FEATURES, CLASSES, SAMPLES = 5, 6, 10, 7


def dense_head(kind: str = "margin", classes: int = CLASSES, features: int = FEATURES) -> Head:
    torch.manual_seed(1)
    margin = MultiplicativeAngularMargin(2, annealing=Annealing(start=5.0, gamma=1.0))
    # Above these the energy hardly changes, and the dense search may take the neighbour.
    temperature = LeastSquares(candidates=[1.0, 3.0, 9.0])
    options: dict[str, dict[str, Any]] = {
        "margin": {"classifier": "cosine", "temperature": temperature, "margin": margin},
        "adacos": {"classifier": "cosine", "temperature": "adacos_dynamic", "bias": True},
        "trainable": {"classifier": "cosine", "temperature": "trainable", "kappa": 8.0, "centers": 2},
        "linear": {"keep_probability": 1.0, "weight_penalty": 0.1},
    }
    return Head(features, classes, **options[kind], dtype=torch.float64)


KINDS = ("margin", "adacos", "trainable", "linear")
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.3, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.03),
}


def build(head: nn.Module, optimizer: str = "sgd", lr: float = 0.3) -> tuple[Classifier, torch.optim.Optimizer]:
    torch.manual_seed(2)
    backbone: nn.Module = nn.Sequential(nn.Linear(IMAGE, 8), nn.Tanh(), nn.Linear(8, FEATURES)).double()
    if dist.is_initialized():
        backbone = DistributedDataParallel(backbone)
    model = Classifier(backbone, head)
    return model, OPTIMIZERS[optimizer](param_groups(model, lr=lr, head_lr_mult=2.0, weight_decay=0.01))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
    """One step on this rank's part of the batch of all; 7 samples on 2 or 3 ranks are uneven."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(SAMPLES, IMAGE, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    if dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
        images, target = images.tensor_split(size)[rank], target.tensor_split(size)[rank]
    optimizer.zero_grad()
    loss = model(images, target)
    loss.backward()
    optimizer.step()
    return loss.detach()


def whole_state(model: Classifier) -> dict[str, Tensor]:
    """Weights of the dense model, on every rank."""
    head = model.head.to_dense() if isinstance(model.head, ShardedHead) else model.head
    backbone = model.backbone
    backbone = backbone.module if isinstance(backbone, DistributedDataParallel) else backbone
    state = {**backbone.state_dict(), **{f"head.{name}": value for name, value in head.state_dict().items()}}
    return {name: value.clone() for name, value in state.items()}


def trained(kind: str, optimizer: str, steps: int) -> tuple[Classifier, torch.optim.Optimizer]:
    """What one process with the dense head comes to."""
    model, optimiser = build(dense_head(kind), optimizer)
    for number in range(steps):
        step(model, optimiser, number)
    return model, optimiser


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n} {m}")


# On the ranks.


def train_and_save(rank: int, folder: str) -> dict[str, dict[str, Tensor]]:
    found = {}
    for kind in KINDS:
        for optimizer in OPTIMIZERS:
            model, optimiser = build(ShardedHead(dense_head(kind)), optimizer)
            losses = [step(model, optimiser, number) for number in range(2)]
            save_sharded(f"{folder}/{kind}-{optimizer}", model, optimiser, epoch=2, losses=losses)
            found[f"{kind}-{optimizer}"] = whole_state(model)
            step(model, optimiser, 2)
            found[f"{kind}-{optimizer} on"] = whole_state(model)
    return found


def load_and_train(rank: int, folder: str) -> dict[str, dict[str, Tensor]]:
    found = {}
    for kind in KINDS:
        for optimizer in OPTIMIZERS:
            # From elsewhere: everything but the shapes must come from the file.
            head = ShardedHead(dense_head(kind))
            with torch.no_grad():
                head.weight.normal_()
            model, optimiser = build(head, optimizer, lr=17.0)
            extra = load_sharded(f"{folder}/{kind}-{optimizer}", model, optimiser)
            assert (extra["epoch"], len(extra["losses"])) == (2, 2)
            found[f"{kind}-{optimizer}"] = whole_state(model)
            step(model, optimiser, 2)
            found[f"{kind}-{optimizer} on"] = whole_state(model)
    return found


@pytest.fixture(scope="module")
def saved_on_three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("three")
    of_ranks = run_ranks(train_and_save, 3, str(folder))
    for found in of_ranks[1:]:
        for name, state in found.items():
            assert_same(state, of_ranks[0][name], 0.0)
    return folder, of_ranks[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_three_ranks_train_as_one_process(kind: str, optimizer: str, saved_on_three: Any) -> None:
    _, found = saved_on_three
    assert_same(found[f"{kind}-{optimizer}"], whole_state(trained(kind, optimizer, 2)[0]))
    assert_same(found[f"{kind}-{optimizer} on"], whole_state(trained(kind, optimizer, 3)[0]))


def test_saved_on_three_loads_on_two(saved_on_three: Any) -> None:
    folder, saved = saved_on_three
    for found in run_ranks(load_and_train, 2, str(folder)):
        for name, state in found.items():
            # What is loaded is what was saved, bit by bit.
            assert_same(state, saved[name], 1e-9 if name.endswith(" on") else 0.0)


def test_saved_on_three_loads_on_one(saved_on_three: Any) -> None:
    folder, saved = saved_on_three
    for name, state in load_and_train(0, str(folder)).items():
        assert_same(state, saved[name], 1e-9 if name.endswith(" on") else 0.0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_on_three_loads_into_a_dense_head(kind: str, optimizer: str, saved_on_three: Any) -> None:
    folder, saved = saved_on_three
    model, optimiser = build(dense_head(kind), optimizer, lr=17.0)
    with torch.no_grad():
        model.head.weight.normal_()
    assert load_sharded(folder / f"{kind}-{optimizer}", model, optimiser)["epoch"] == 2
    assert_same(whole_state(model), saved[f"{kind}-{optimizer}"], 0.0)
    other, original = trained(kind, optimizer, 2)
    for group, expected in zip(optimiser.param_groups, original.param_groups):
        assert {key: value for key, value in group.items() if key != "params"} == {
            key: value for key, value in expected.items() if key != "params"
        }
    kept, expected_state = optimiser.state_dict()["state"], original.state_dict()["state"]
    assert kept.keys() == expected_state.keys()
    for index, entries in expected_state.items():
        assert_same(kept[index], entries)
    step(model, optimiser, 2)
    step(other, original, 2)
    assert_same(whole_state(model), whole_state(other))


def test_what_a_dense_model_saved_loads_on_ranks(tmp_path: Path) -> None:
    expected = {}
    for kind in KINDS:
        for optimizer in OPTIMIZERS:
            model, optimiser = trained(kind, optimizer, 2)
            save_sharded(tmp_path / f"{kind}-{optimizer}", model, optimiser, epoch=2, losses=[0.0, 1.0])
            expected[f"{kind}-{optimizer}"] = whole_state(model)
            step(model, optimiser, 2)
            expected[f"{kind}-{optimizer} on"] = whole_state(model)
    for found in run_ranks(load_and_train, 3, str(tmp_path)):
        for name, state in found.items():
            assert_same(state, expected[name], 1e-9 if name.endswith(" on") else 0.0)


def data_folder(folder: Path) -> Path:
    return folder / json.loads((folder / "checkpoint.json").read_text())["data"]


def test_torchs_own_reader_reads_it(saved_on_three: Any) -> None:
    folder, saved = saved_on_three
    wanted = {
        "model.head.weight": torch.zeros(CLASSES, FEATURES, dtype=torch.float64),
        "model.backbone.0.weight": torch.zeros(8, IMAGE, dtype=torch.float64),
        "optimizer.state.head.weight.exp_avg": torch.zeros(CLASSES, FEATURES, dtype=torch.float64),
        "optimizer.state.head.weight.step": torch.zeros(()),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no process group
        dcp.load(wanted, checkpoint_id=data_folder(folder / "margin-adamw"), no_dist=True)
    torch.testing.assert_close(wanted["model.head.weight"], saved["margin-adamw"]["head.weight"], rtol=0, atol=0)
    torch.testing.assert_close(wanted["model.backbone.0.weight"], saved["margin-adamw"]["0.weight"], rtol=0, atol=0)
    assert wanted["optimizer.state.head.weight.step"] == 2
    assert (wanted["optimizer.state.head.weight.exp_avg"] != 0).all()


def test_large_tensors_stand_in_several_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_ELEMENTS", 3 * FEATURES)
    model, optimiser = trained("margin", "adamw", 1)
    save_sharded(tmp_path, model, optimiser)
    chunks = storage.list_stored(data_folder(tmp_path))["model.head.weight"].chunks
    assert chunks == [(0, 3), (3, 3), (6, 3), (9, 1)]
    other, other_optimiser = build(dense_head("margin"), "adamw")
    with torch.no_grad():
        other.head.weight.zero_()
    load_sharded(tmp_path, other, other_optimiser)
    assert_same(whole_state(other), whole_state(model), 0.0)


def test_groups_may_be_cut_otherwise(tmp_path: Path) -> None:
    model, optimiser = trained("linear", "adamw", 2)
    save_sharded(tmp_path, model, optimiser)
    other, _ = build(dense_head("linear"))
    # In another order, one group a parameter, names as DDP or compile would have them.
    parameters = dict(reversed(list(other.named_parameters())))
    cut = torch.optim.AdamW([{"params": [(name, parameter)]} for name, parameter in parameters.items()], lr=5.0)
    load_sharded(tmp_path, other, cut)
    assert {group["lr"] for group in cut.param_groups} == {0.3, 0.6}
    for number in (2, 3):
        step(model, optimiser, number)
        step(other, cut, number)
    assert_same(whole_state(other), whole_state(model), 1e-12)


# The dense head and plain state dicts.


def dense_on_ranks(rank: int) -> list[tuple[dict[str, Tensor], Tensor, Tensor, str]]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    found = []
    for kind in KINDS:
        template = dense_head(kind)
        head = ShardedHead(template).train(kind != "adacos")
        before = torch.get_rng_state()
        dense._ELEMENTS = 2 * FEATURES if kind == "margin" else 2**24
        whole = head.to_dense()
        assert torch.equal(before, torch.get_rng_state())
        assert type(whole) is Head
        assert whole.training is head.training
        assert whole.temperature is not head.temperature or whole.temperature is None
        assert whole.weight.requires_grad
        found.append((whole.state_dict(), whole.eval()(features), whole.loss(features, target), repr(whole)))
    return found


def test_to_dense_gives_the_head_that_was_split() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    for found in run_ranks(dense_on_ranks, 3):
        for kind, (state, logits, loss, shown) in zip(KINDS, found):
            template = dense_head(kind)
            assert_same(state, template.state_dict(), 0.0)
            assert shown == repr(template)
            torch.testing.assert_close(logits, template.eval()(features), rtol=0, atol=0)
            torch.testing.assert_close(loss, template.loss(features, target), rtol=0, atol=0)


def test_to_dense_keeps_class_weights_and_the_class() -> None:
    head = create_head("softmax", 4, 3, class_weight=[1.0, 2.0, 3.0])
    whole = ShardedHead(head).to_dense()
    assert_same(whole.state_dict(), head.state_dict(), 0.0)
    assert repr(whole) == repr(head)
    # Another one, not the same memory.
    assert whole.weight.data_ptr() != head.weight.data_ptr()
    meta = ShardedHead(create_head("cosface", 4, 3, device="meta")).to_dense()
    assert meta(torch.randn(2, 4)).isfinite().all()


def test_another_number_of_classes() -> None:
    head = ShardedHead(dense_head("margin")).eval()
    other = head.for_classes(4)
    assert (other.num_classes, other.weight.shape, other.training) == (4, (4, FEATURES), False)
    model = Classifier(nn.Identity(), head)
    model.reset_classifier(5)
    assert (model.num_classes, model.get_classifier().weight.dtype) == (5, torch.float64)
    with pytest.raises(ParameterError, match="num_classes"):
        head.for_classes(0)


def load_state_dicts(rank: int) -> dict[str, Any]:
    template = dense_head("adacos")
    with torch.no_grad():
        template.bias.normal_(generator=torch.Generator().manual_seed(4))
    found: dict[str, Any] = {}
    head = ShardedHead(dense_head("adacos"))
    with torch.no_grad():
        head.weight.zero_()
    Classifier(nn.Identity(), head).load_state_dict(Classifier(nn.Identity(), template).state_dict())
    found["rows"] = head.weight.detach().clone(), head.bias.detach().clone(), tuple(head.classes)
    head.load_state_dict(template.state_dict(), assign=True)
    assert head.weight.untyped_storage().nbytes() == head.weight.nbytes
    torch.testing.assert_close(head.weight.detach(), found["rows"][0], rtol=0, atol=0)

    content = io.BytesIO()
    torch.save(head.state_dict(), content)
    shards: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shards, content.getvalue())
    for other, shard in enumerate(shards):
        state = torch.load(io.BytesIO(shard), weights_only=True)
        try:
            head.load_state_dict(state)
            found[f"shard {other}"] = "loaded"
        except RuntimeError as fault:
            found[f"shard {other}"] = str(fault)
    return found


def test_state_dicts_of_a_dense_head_and_of_other_ranks() -> None:
    template = dense_head("adacos")
    with torch.no_grad():
        template.bias.normal_(generator=torch.Generator().manual_seed(4))
    for rank, found in enumerate(run_ranks(load_state_dicts, 3)):
        weight, bias, (start, end) = found["rows"]
        assert (start, end) == [(0, 4), (4, 7), (7, 10)][rank]
        torch.testing.assert_close(weight, template.weight[start:end].detach(), rtol=0, atol=0)
        torch.testing.assert_close(bias, template.bias[start:end].detach(), rtol=0, atol=0)
        for other in range(3):
            message = found[f"shard {other}"]
            if other == rank:
                assert message == "loaded"
            else:
                # Also where ranks 1 and 2 have as many rows.
                assert "logitlab.save_sharded and load_sharded" in message
                assert f"rank {rank} of 3 has classes {start}:{end} of 10" in message
                assert "size mismatch" not in message
    head = ShardedHead(dense_head("margin"))
    with pytest.raises(RuntimeError, match="'weight' holds 4 rows of a sharded head; rank 0 of 1 has classes 0:10"):
        head.load_state_dict({**head.state_dict(), "weight": torch.zeros(4, FEATURES)})
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        head.load_state_dict({**head.state_dict(), "weight": torch.zeros(CLASSES, FEATURES + 1)})


# Faults.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, optimiser = trained("margin", "adamw", 1)
    save_sharded(tmp_path / "saved", model, optimiser, epoch=1)
    return tmp_path / "saved"


def fresh(kind: str = "margin", optimizer: str = "adamw", **shape: int) -> tuple[Classifier, torch.optim.Optimizer]:
    return build(dense_head(kind, **shape), optimizer)


def test_no_checkpoint(tmp_path: Path) -> None:
    model, _ = fresh()
    with pytest.raises(RecordError, match=r"There is no folder '.*nowhere'. A checkpoint of save_sharded is a folder"):
        load_sharded(tmp_path / "nowhere", model)
    with pytest.raises(RecordError, match=r"There is no '.*checkpoint.json'"):
        load_sharded(tmp_path, model)
    for content, message in (
        ("{", "is damaged"),
        ("[]", "is of something else"),
        ('{"format": "logitlab sharded checkpoint", "version": 9}', "has version 9, this LogitLab reads 1"),
        ('{"format": "logitlab sharded checkpoint", "version": 1, "data": "../x"}', "names no folder of data"),
    ):
        (tmp_path / "checkpoint.json").write_text(content)
        with pytest.raises(RecordError, match=message):
            load_sharded(tmp_path, model)


def test_a_model_that_does_not_fit(saved: Path) -> None:
    model, _ = fresh(classes=12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"'head.weight' has the shape \[10, 6\] in the checkpoint '.*' and \[12, 6\]"):
        load_sharded(saved, model)
    assert_same(dict(model.state_dict()), before, 0.0)
    with pytest.raises(
        InputError, match=r"\[10, 6\] in the .* and \[12, 6\] in this model \(another number of classes\)"
    ):
        load_sharded(saved, Classifier(model.backbone, ShardedHead(dense_head("margin", classes=12))))
    with pytest.raises(
        InputError, match=r"\[10, 6\] in the .* and \[10, 3\] in this model \(another number of features\)"
    ):
        load_sharded(saved, Classifier(model.backbone, dense_head("margin", features=3)))
    with pytest.raises(InputError, match="The checkpoint lacks 'head.bias'. The model here lacks 'head.margin"):
        load_sharded(saved, fresh("linear")[0])


def test_an_optimiser_that_does_not_fit(saved: Path, tmp_path: Path) -> None:
    model, optimiser = fresh(optimizer="sgd")
    with pytest.raises(InputError, match="was saved with AdamW. Got SGD"):
        load_sharded(saved, model, optimiser)
    with pytest.raises(InputError, match="The optimiser here lacks 'backbone.0.bias', .*'backbone.2.weight'"):
        load_sharded(saved, model, torch.optim.AdamW([model.head.weight], weight_decay=0.01))
    with pytest.raises(InputError, match="One group of this optimiser joins parameters of 3 groups"):
        load_sharded(saved, model, torch.optim.AdamW(model.parameters()))
    with pytest.raises(
        InputError, match=r"Expected an optimiser of the parameters of the model. Got one of shape \[3\]"
    ):
        load_sharded(saved, model, torch.optim.AdamW([nn.Parameter(torch.zeros(3))]))
    save_sharded(tmp_path / "bare", model)
    with pytest.raises(InputError, match="was saved without an optimiser. Load it without one"):
        load_sharded(tmp_path / "bare", model, optimiser)
    assert load_sharded(saved, model) == {"epoch": 1}


def test_what_cannot_be_saved(saved: Path) -> None:
    model, optimiser = fresh()
    with pytest.raises(InputError, match="Expected numbers, text, tensors, lists and mappings beside"):
        save_sharded(saved, model, optimiser, when=Path("somewhere"))
    split = Classifier(nn.Identity(), ShardedHead(dense_head("margin")))
    split.head.weight.grad = torch.ones_like(split.head.weight)
    adafactor = torch.optim.Adafactor(split.parameters())
    adafactor.step()
    with pytest.raises(
        InputError, match=r"keeps 'row_var' of shape \[10, 1\] for 'head.weight', whose part here is \[10"
    ):
        save_sharded(saved, split, adafactor)
    nn.utils.parametrizations.weight_norm(split.head)
    with pytest.raises(InputError, match="Expected 'head.weight' of a ShardedHead in the state dict"):
        save_sharded(saved, split)
    with pytest.raises(InputError, match="Got '0.weight', on the meta device"):
        save_sharded(saved, nn.Sequential(nn.Linear(2, 3, device="meta")))
    # None of them has harmed what was there.
    assert load_sharded(saved, *fresh()) == {"epoch": 1}
    assert sorted(path.name[:5] for path in saved.iterdir()) == ["check", "data-"]


class Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("harm",)


def test_no_code_from_the_folder_runs(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    data = data_folder(saved)
    (data / ".metadata").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(RecordError, match=r"is damaged: it names (posix|nt).mkdir, which is not read from a file"):
        load_sharded(saved, *fresh())
    torch.save(Harmful(), data / "state.pt")
    with pytest.raises(RecordError, match=r"'.*state.pt' is damaged"):
        load_sharded(saved, *fresh())
    assert not (saved / "harm").exists()


def test_damaged_files(saved: Path) -> None:
    data = data_folder(saved)
    [entries] = data.glob("*.distcp")
    whole = entries.read_bytes()
    entries.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="is damaged: .*Save it again, or take an older one"):
        load_sharded(saved, *fresh())
    entries.unlink()
    with pytest.raises(RecordError, match="Cannot read the checkpoint '.*': No such file"):
        load_sharded(saved, *fresh())
    listed = pickle.loads((data / ".metadata").read_bytes())
    listed.state_dict_metadata["model.head.weight"].chunks.clear()
    (data / ".metadata").write_bytes(pickle.dumps(listed))
    with pytest.raises(RecordError, match="is damaged: rows of 'model.head.weight' are missing"):
        load_sharded(saved, *fresh())
    shutil.rmtree(data)
    with pytest.raises(RecordError, match=r"Cannot read '.*state.pt': No such file"):
        load_sharded(saved, *fresh())


def faults_on_ranks(rank: int, folder: str) -> list[tuple[str, str]]:
    """Each rank's own faults; every rank must tell the same."""
    model, optimiser = build(ShardedHead(dense_head("margin")), "adamw")
    other = torch.optim.SGD(model.parameters(), lr=0.1) if rank == 1 else optimiser
    path = f"{folder}/saved"
    attempts: list[Callable[[], Any]] = [
        lambda: load_sharded(f"{folder}/nowhere", model),
        lambda: load_sharded(path, Classifier(model.backbone, ShardedHead(dense_head("margin", classes=11)))),
        lambda: load_sharded(path, model, other),
        lambda: save_sharded(path, model, epoch=Path("x") if rank == 1 else 1),
        # Rank 0 has momentum, rank 1 none yet.
        lambda: save_sharded(path, model, stepped(model, rank)),
        lambda: full_disk(path, model, rank),
    ]
    found = []
    for attempt in attempts:
        try:
            attempt()
            found.append(("none", ""))
        except (InputError, RecordError, RankError) as fault:
            found.append((type(fault).__name__, str(fault)))
    assert load_sharded(path, model, optimiser) == {"epoch": 1}
    return found


def stepped(model: nn.Module, rank: int) -> torch.optim.Optimizer:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    if rank == 0:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
    return optimiser


def full_disk(path: str, model: nn.Module, rank: int) -> None:
    writes = storage._Writer.write_data

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if rank == 1:
        storage._Writer.write_data = refuse
    try:
        save_sharded(path, model)
    finally:
        storage._Writer.write_data = writes


def test_a_fault_of_one_rank_is_told_by_all(saved: Path) -> None:
    first, second = run_ranks(faults_on_ranks, 2, str(saved.parent))
    assert first == second
    kinds = [kind for kind, _ in first]
    assert kinds == ["RecordError", "InputError", "InputError", "InputError", "InputError", "RecordError"]
    patterns = [
        "There is no folder",
        "another number of classes",
        "was saved with AdamW. Got SGD",
        "Expected numbers, text",
        "Expected the same tensors on every rank. Rank 1 differs from rank 0 in 'optimizer.state.backbone.0.bias.",
        "Cannot write the checkpoint '.*': No space left on device. What was saved before is still there.",
    ]
    for (_, message), pattern in zip(first, patterns):
        assert re.search(pattern, message), message
    assert sorted(path.name[:5] for path in saved.iterdir()) == ["check", "data-"]


def die_while_saving(rank: int, folder: str) -> None:
    model, optimiser = build(ShardedHead(dense_head("margin")), "adamw")
    if rank == 1:
        storage._Writer.write_data = lambda *_: os._exit(7)
    try:
        save_sharded(folder, model, optimiser, epoch=2)
    except RankError as fault:
        Path(f"{folder}.said").write_text(str(fault))
        raise


def test_a_rank_that_dies_leaves_the_old_checkpoint(saved: Path) -> None:
    expected = whole_state(trained("margin", "adamw", 1)[0])
    with RankProcesses(2) as processes, pytest.raises(FailedRank, match="Rank 1 of 2 ended with exit code 7"):
        processes.run(die_while_saving, str(saved))
    model, optimiser = fresh()
    assert load_sharded(saved, model, optimiser) == {"epoch": 1}
    assert_same(whole_state(model), expected, 0.0)
    said = Path(f"{saved}.said")
    if said.exists():  # unless the helper killed rank 0 first
        assert "another rank is gone" in said.read_text()


def test_leftovers_of_killed_saves_go_with_the_next(saved: Path) -> None:
    (saved / "data-0123456789abcdef").mkdir()
    (saved / "data-0123456789abcdef" / "__0_0.distcp").write_bytes(b"half")
    (saved / "notes").mkdir()
    before = data_folder(saved).name
    save_sharded(saved, *fresh(), epoch=2)
    names = {path.name for path in saved.iterdir()}
    assert names == {"checkpoint.json", "notes", data_folder(saved).name}
    assert before not in names
    assert load_sharded(saved, *fresh()) == {"epoch": 2}


def test_an_interruption_after_the_end_keeps_the_new_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_of_checkpoint, "remove_others", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_sharded(saved, *fresh(), epoch=2)
    assert load_sharded(saved, *fresh()) == {"epoch": 2}


def save_wrapped(rank: int, folder: str) -> dict[str, Tensor]:
    """All of the model in DDP."""
    torch.manual_seed(2)
    model = Classifier(nn.Linear(IMAGE, FEATURES).double(), ShardedHead(dense_head("margin")))
    outer = DistributedDataParallel(keep_shards_local(model))
    optimiser = torch.optim.AdamW(outer.parameters(), lr=0.1)
    step(outer, optimiser, 0)
    save_sharded(folder, outer, optimiser)
    return whole_state(model)


def test_names_are_those_without_ddp(tmp_path: Path) -> None:
    expected = run_ranks(save_wrapped, 2, str(tmp_path))[0]
    model = Classifier(nn.Linear(IMAGE, FEATURES).double(), dense_head("margin"))
    load_sharded(tmp_path, model, torch.optim.AdamW(model.parameters()))
    assert_same(whole_state(model), expected, 0.0)


def save_dense_on_ranks(rank: int, folder: str) -> float:
    """Any rank may call, none waits."""
    model, optimiser = trained("linear", "sgd", 1)
    save_sharded(folder, model, optimiser, rank=rank)
    dist.barrier()
    return float(load_sharded(folder, model, optimiser)["rank"])


def test_a_dense_model_is_written_by_the_first_rank(tmp_path: Path) -> None:
    assert run_ranks(save_dense_on_ranks, 2, str(tmp_path)) == [0.0, 0.0]
