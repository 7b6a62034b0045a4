"""One pass: what it keeps, and what it leaves as it was."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError, TrialError
from logitlab.data.images import MemoryImages
from logitlab.evaluation import Features, Outputs, collect, collect_features
from logitlab.functional import cosine_similarity, least_squares_kappa
from logitlab.heads import Classifier, create_head


def prepare(pixels: Tensor) -> Tensor:
    return pixels.float() / 255 - 0.5


@pytest.fixture
def images() -> MemoryImages:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (23, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return MemoryImages(pixels, torch.arange(23) % 3)


def build(head: str = "cosine_ls", **parameters: object) -> Classifier:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    return Classifier(backbone, create_head(head, 8, 3, **parameters))


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "logit_norm", "sigmoid"])
def test_equals_the_model_in_eval_mode(images: MemoryImages, name: str) -> None:
    model = build(name).eval()
    outputs = collect(model, images, prepare, batch_size=5)
    batch = prepare(images.pixels)
    with torch.no_grad():
        features = model.backbone(batch)
        logits = model(batch)
    assert torch.equal(outputs.labels, images.labels)
    torch.testing.assert_close(outputs.features, features)
    torch.testing.assert_close(outputs.logits, logits)
    torch.testing.assert_close(outputs.kappa_star, least_squares_kappa(features, model.head.weight))
    # T's max logit is the largest cosine for a cosine head: its κ must not reach the score.
    expected = cosine_similarity(features, model.head.weight) if name == "cosine_ls" else logits
    torch.testing.assert_close(outputs.max_logit, expected.amax(dim=1).detach())


def test_training_mode_is_suspended_and_comes_back(images: MemoryImages) -> None:
    model = build().train()
    frozen = model.backbone[2]
    frozen.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = collect(model, images, prepare)
    again = collect(model, images, prepare, batch_size=4)
    # Dropout is off, and batch norm neither uses nor moves batch statistics: the batch size leaves no trace.
    torch.testing.assert_close(kept.features, again.features)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.backbone[3].training
    assert not frozen.training


def test_modes_come_back_after_a_fault(images: MemoryImages) -> None:
    model = build().train()

    def broken(pixels: Tensor) -> Tensor:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        collect(model, images, broken)
    assert model.training


def test_outputs_are_out_of_the_graph_and_may_be_trained_on(images: MemoryImages) -> None:
    outputs = collect(build(), images, prepare)
    assert not outputs.logits.requires_grad
    probe = nn.Linear(8, 3)
    # Tensors of inference mode would refuse this.
    nn.functional.cross_entropy(probe(outputs.features), outputs.labels).backward()  # type: ignore[no-untyped-call]
    assert probe.weight.grad is not None


def test_features_alone(images: MemoryImages) -> None:
    model = build()
    found, whole = collect_features(model, images, prepare, batch_size=7), collect(model, images, prepare)
    assert type(found) is Features
    assert isinstance(whole, Outputs)
    torch.testing.assert_close(found.features, whole.features)
    assert torch.equal(found.labels, whole.labels)


def test_bfloat16_runs_the_backbone_alone_in_half_precision(images: MemoryImages) -> None:
    model = build("softmax")
    seen: list[torch.dtype] = []
    model.backbone[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    outputs = collect(model, images, prepare, precision="bfloat16")
    exact = collect(model, images, prepare)
    assert seen == [torch.bfloat16, torch.float32]
    assert outputs.features.dtype == outputs.logits.dtype == torch.float32
    torch.testing.assert_close(outputs.logits, exact.logits, atol=0.05, rtol=0.05)
    torch.testing.assert_close(outputs.logits, model.eval().head(outputs.features).detach())


def test_no_images(images: MemoryImages) -> None:
    with pytest.raises(InputError, match="Got none"):
        collect(build(), images.select(torch.arange(0)), prepare)


def test_divergence_is_named(images: MemoryImages) -> None:
    model = build("softmax")
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(TrialError, match="logits are not finite"):
        collect(model, images, prepare)
    with torch.no_grad():
        model.backbone[1].weight.fill_(float("inf"))
    with pytest.raises(TrialError, match="features are not finite"):
        collect_features(model, images, prepare)


def test_any_source_of_batches_will_do() -> None:
    class Source:
        def __len__(self) -> int:
            return 3

        def batches(
            self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
        ) -> Iterator[tuple[Tensor, Tensor]]:
            assert indices.tolist() == [0, 1, 2]
            for index in indices:
                yield torch.full((1, 1, 4, 4), int(index), dtype=torch.uint8), index.reshape(1)

    assert collect(build(), Source(), prepare).labels.tolist() == [0, 1, 2]
