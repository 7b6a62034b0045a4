"""Compilers, exporters and GPUs: one graph, equal results, and no look at a value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from ..case import Case, gradients, same, same_gradients
from ..catalogue import check
from ..report import CheckFailed


@check()
def compiled(case: Case) -> None:
    """``torch.compile(fullgraph=True)`` with the backend aot_eager equals eager: loss, logits, gradients and state."""
    _compiled(case, "aot_eager")


@check(optional=True)
def inductor(case: Case) -> None:
    """``torch.compile(fullgraph=True)`` with the backend inductor equals eager; runs with ``inductor=True``."""
    _compiled(case, "inductor")


@check()
def exported(case: Case) -> None:
    """``torch.export`` of the logits in evaluation mode equals eager, for other numbers of samples too."""
    head = case.head(training=False)
    features, _ = case.batch(4)
    program = torch.export.export(head, (features,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for number in (4, 7):
        features, _ = case.batch(number)
        same(program.module()(features), head(features), f"the exported logits of {number} samples")


@check()
def no_host_sync(case: Case) -> None:
    """A forward pass on a GPU never waits for a value (``item``, ``nonzero``, a branch on a tensor).

    Tried without a GPU, with tensors that have a shape and a device and no values.
    """
    device = torch.device("cuda", 0)
    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def without_values(tensor: Tensor) -> Tensor:
        # The annotations of FakeTensor say nothing of its constructor.
        made: Any = FakeTensor
        empty: Tensor = made(fake, torch.empty_like(tensor, device="meta"), device)
        return empty

    for training in (True, False):
        head = case.head(training=training, dtype=torch.float32)
        with fake:
            head._apply(without_values)
            features = torch.empty(4, case.in_features, device=device)
            target = torch.zeros(4, dtype=torch.int64, device=device)
            try:
                head(features)
                for reduction in ("mean", "none"):
                    head(features, target, reduction=reduction)
                if case.traits.soft_targets:
                    head(features, torch.empty(4, case.num_classes, device=device))
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                raise CheckFailed(f"the forward pass waits for a value: {error} (training={training})") from None


class _Both(nn.Module):
    """Loss and logits in one graph."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, target: Tensor) -> Any:
        """Give (loss, logits)."""
        return self.head(features, target, return_logits=True)


def _compiled(case: Case, backend: str) -> None:
    # In float64, where no two candidates are nearly equal by accident.
    features, target = case.batch(4)
    training = case.modes()[0]
    eager, head = case.head(training=training), case.head(training=training)
    torch._dynamo.reset()
    try:
        run = torch.compile(_Both(head), fullgraph=True, backend=backend)
        found = features.clone().requires_grad_()
        loss, logits = run(found, target)
        loss.backward()
    except torch._dynamo.exc.TorchDynamoException as error:
        raise CheckFailed(f"{backend} with fullgraph=True: {_first_line(error)}") from None
    finally:
        torch._dynamo.reset()
    expected_loss, expected = gradients(eager, features, target)
    again = case.head(training=training)(features, target, return_logits=True)[1]
    same(loss, expected_loss, f"the loss compiled by {backend}", rtol=1e-8, atol=1e-10)
    same(logits, again, f"the logits compiled by {backend}", rtol=1e-8, atol=1e-10)
    compiled_gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in head.named_parameters()
    }
    compiled_gradients["features"] = torch.zeros_like(found) if found.grad is None else found.grad
    expected = {name: value for name, value in expected.items() if name in compiled_gradients}
    same_gradients(compiled_gradients, expected, f"compiled by {backend}", rtol=1e-7)
    state = dict(eager.named_buffers())
    for name, value in head.named_buffers():
        same(value, state[name], f"the buffer {name} after a pass compiled by {backend}", rtol=1e-7, atol=1e-9)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:240]
