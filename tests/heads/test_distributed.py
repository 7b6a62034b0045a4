"""Two gloo processes give the gradients of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from logitlab.heads import Classifier, create_head, list_heads

NAMES = [name for name in list_heads() if name != "doctest_example"]
RANKS = 2


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    extra: dict[str, Any] = {"squared_error": {"preset": "cifar100"}, "group_softmax": {"groups": 2}}.get(name, {})
    # Dropout draws on every rank its own.
    head = create_head(name, 6, 4, **extra, keep_probability=1.0, weight_penalty=0.1)
    return Classifier(nn.Linear(5, 6), head)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2 * RANKS, 5, generator=generator)
    return images, torch.randint(4, (2 * RANKS,), generator=generator)


def gradients(rank: int) -> dict[str, dict[str, Tensor]]:
    """Of each head and each of its parameters."""
    found = {}
    for name in NAMES:
        model = DistributedDataParallel(build(name))
        images, target = (part.chunk(RANKS)[rank] for part in batch())
        # Two forwards before one backward, as contrastive pairs and Siamese models have it.
        (model(images, target) + model(2 * images, target)).backward()
        found[name] = {key: parameter.grad for key, parameter in model.module.named_parameters()}
    return found


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_gradients_equal_those_of_one_process() -> None:
    together, _ = run_ranks(gradients, RANKS)
    for name in NAMES:
        model = build(name)
        images, target = batch()
        (model(images, target) + model(2 * images, target)).backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(together[name][key], parameter.grad, rtol=1e-4, atol=1e-6, msg=f"{name} {key}")
