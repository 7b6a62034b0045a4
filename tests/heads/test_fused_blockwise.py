"""A head on a GPU takes the fused step of ``functional.blockwise``; here it takes it on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from split_heads import energy_of
from torch import Tensor

from logitlab.functional import normalize
from logitlab.functional.blockwise import blockwise_rival_terms
from logitlab.heads import CosineHead, Head, create_head, fusing
from logitlab.temperature import LeastSquares

HEADS: list[tuple[str, dict[str, Any]]] = [
    ("cosine", {}),
    ("cosine_ls", {}),
    ("cosine_2ls", {}),
    ("cosface", {}),
    ("arcface", {}),
    ("sphereface", {}),
    ("lsoftmax", {}),
    ("softmax", {}),
    ("cosine", {"temperature": "trainable"}),
    ("cosine_ls", {"bias": True, "weight_penalty": 1e-3, "loss_scale": 2.0}),
    ("cosine_ls", {"loss": "focal"}),
    ("arcface", {"temperature": LeastSquares(search="surrogate")}),
]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return blockwise_rival_terms(*arguments)

    monkeypatch.setattr(fusing, "rival_terms", counted)
    yield calls
    assert calls


def results(head: Head, features: Tensor, target: Tensor) -> list[Tensor]:
    features = features.clone().requires_grad_()
    loss = head(features, target)
    gradients = torch.autograd.grad(loss, [features, *head.parameters()])
    buffers = [buffer.double() for buffer in head.buffers() if buffer.is_floating_point()]
    return [loss.detach(), *gradients, *buffers]


@pytest.mark.parametrize(("name", "parameters"), HEADS)
def test_it_equals_the_plain_way(name: str, parameters: dict[str, Any]) -> None:
    torch.manual_seed(0)
    fused = create_head(name, 16, 300, dtype=torch.float64, fused=True, **parameters)
    torch.manual_seed(0)
    plain = create_head(name, 16, 300, dtype=torch.float64, fused=False, **parameters)
    plain.load_state_dict(fused.state_dict())
    target = torch.randint(300, (3, 5))
    features = normalize(plain.weight.detach())[target] + 0.5 * torch.randn(3, 5, 16, dtype=torch.float64)
    target[0, 0], features[1, 1] = -100, 0.0
    assert fused.path(features, target).fused
    for one, other in zip(results(fused, features, target), results(plain, features, target), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_bfloat16_decides_in_float32(as_on_a_gpu: list[int]) -> None:
    torch.manual_seed(0)
    head = CosineHead(24, 400, temperature="least_squares", fused=True, dtype=torch.bfloat16)
    target = torch.randint(400, (64,))
    features = (normalize(head.weight.detach())[target] + 0.5 * normalize(torch.randn(64, 24))).bfloat16()
    terms, chosen = fusing.rival_terms(
        features, head.weight, target, None, None, "cosine", head.temperature.fused_search
    )
    rows, unit = normalize(features.double()), normalize(head.weight.detach().double())
    energies = torch.stack([energy_of(rows, unit, torch.tensor(value)) for value in LeastSquares().candidates])
    assert chosen is not None
    regret = energy_of(rows, unit, chosen.kappa.double()) - energies.amin(dim=0)
    assert float(regret.max()) < 2e-6
    assert terms.rivals.dtype == torch.float32
    head(features, target).backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.bfloat16
