"""A head that is saved, copied, sent and moved is the same head."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from torch import Tensor

from ..case import Case, gradients, same
from ..catalogue import check
from ..report import CheckFailed


@check()
def state_dict(case: Case) -> None:
    """The state dict holds everything that was learned.

    Saved, and loaded strictly into a head of other weights, it gives the same logits and losses.
    """
    head = _trained(case)
    saved = io.BytesIO()
    torch.save(head.state_dict(), saved)
    saved.seek(0)
    other = case.head(seed=1)
    other.load_state_dict(torch.load(saved, weights_only=True), strict=True)
    _alike(case, other, head, "after loading the state dict")
    known = {id(value) for value in head.parameters()} | {id(value) for value in head.buffers()}
    for name, value in vars(head).items():
        if isinstance(value, Tensor) and value.requires_grad and id(value) not in known:
            raise CheckFailed(f"'{name}' requires a gradient, and is no parameter: it will not be saved")


@check()
def deepcopy(case: Case) -> None:
    """A deep copy gives the same logits and losses and shares no memory."""
    head = _trained(case)
    _twin(case, copy.deepcopy(head), head, "a deep copy")


@check()
def pickled(case: Case) -> None:
    """A head that went through pickle gives the same logits and losses."""
    head = _trained(case)
    try:
        sent = pickle.dumps(head)
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from None
    _twin(case, pickle.loads(sent), head, "after pickle")


@check()
def moved(case: Case) -> None:
    """``to(dtype)`` there and back and the meta device keep the head; a GPU, if there is one, gives the same loss."""
    head = _trained(case).float()
    features, target = case.batch(4, dtype=torch.float32)
    expected = head.eval()(features, target)
    same(head.double().float()(features, target), expected, "the loss after float64 and back", rtol=1e-6, atol=1e-7)
    on_meta = copy.deepcopy(head).to("meta")
    logits = on_meta(features.to("meta"))
    if logits.shape != (4, case.num_classes) or logits.device.type != "meta":
        raise CheckFailed(f"on the meta device the logits are {list(logits.shape)} on {logits.device}")
    if on_meta(features.to("meta"), target.to("meta")).shape != ():
        raise CheckFailed("on the meta device the loss is no scalar")
    if torch.cuda.is_available():
        on_gpu = copy.deepcopy(head).to("cuda")
        loss, found = gradients(on_gpu, features.cuda(), target.cuda())
        same(loss, expected, "the loss on the GPU", rtol=1e-4, atol=1e-4)
        _, of_cpu = gradients(head, features, target)
        for name, gradient in of_cpu.items():
            scale = gradient.abs().max().item()
            same(found[name], gradient, f"the gradient for {name} on the GPU", rtol=1e-3, atol=1e-3 * scale + 1e-6)
        same(on_gpu.to("cpu")(features, target), expected, "the loss after the GPU and back", rtol=1e-6, atol=1e-7)


@check()
def evaluation_rests(case: Case) -> None:
    """Passes in evaluation mode leave every buffer as it is, with and without a target."""
    head = _trained(case).eval()
    before = {name: value.clone() for name, value in head.named_buffers()}
    features, target = case.batch(6)
    head(features)
    gradients(head, features, target)
    for name, value in head.named_buffers():
        same(value, before[name], f"the buffer {name} after passes in evaluation mode", rtol=0, atol=0)


@check()
def meta_device(case: Case) -> None:
    """Built on the meta device a head can be brought to memory.

    After ``to_empty``, and ``reset_parameters`` of each module that has one, nothing is left of the empty memory, and
    the head takes the state dict of another.
    """
    with torch.device("meta"):
        built = case.factory(case.in_features, case.num_classes)
    built.to_empty(device="cpu")
    with torch.no_grad():
        for value in (*built.parameters(), *built.buffers()):
            value.fill_(torch.nan if value.is_floating_point() else 99)
    for module in built.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    built.double()
    for name, value in (*built.named_parameters(), *built.named_buffers()):
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckFailed(f"reset_parameters leaves '{name}' as it was in empty memory")
    head = _trained(case)
    built.load_state_dict(head.state_dict())
    _alike(case, built, head, "built on the meta device")


def _trained(case: Case) -> Any:
    """A head whose state has moved."""
    head = case.head()
    features, target = case.batch(6, seed=2)
    gradients(head, features, target)
    return head


def _twin(case: Case, twin: Any, head: Any, what: str) -> None:
    mine = {value.data_ptr() for value in (*head.parameters(), *head.buffers()) if value.numel()}
    for name, value in (*twin.named_parameters(), *twin.named_buffers()):
        if value.numel() and value.data_ptr() in mine:
            raise CheckFailed(f"{what}: '{name}' lies in the memory of the original")
    _alike(case, twin, head, what)


def _alike(case: Case, found: Any, expected: Any, what: str) -> None:
    features, target = case.batch(6)
    for training in reversed(case.modes()):
        found.train(training)
        expected.train(training)
        same(found(features), expected(features), f"{what}: logits", rtol=1e-9, atol=1e-12)
        losses = found(features, target, reduction="none"), expected(features, target, reduction="none")
        same(*losses, f"{what}: losses", rtol=1e-9, atol=1e-12)
