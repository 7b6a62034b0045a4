"""The fused heads on the device: equal to the plain ones in float64, never waiting for the host, and in a CUDA graph.

For each head: losses, and gradients of features, weight, bias and κ, relative; κ* by the excess of its energy over the
least of the candidates, with the reference at the same κ*. Then a step under torch's own watch for synchronisation, and
a whole training step (loss, gradients, SGD) captured and replayed beside the eager one. The exit code is 1 where one
fails.

    python -m benchmarks.gpu.heads_on_device
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitlab.heads import CosineHead, Head, create_head
from logitlab.temperature import LeastSquares

from ..step.form import Step
from ..step.problem import Shape
from .checks import Checks, apart
from .clock import captured
from .forms import kappa_of
from .inputs import Inputs
from .machine import describe, device_of, parser, say, wait
from .reference import regret

SHAPES = (Shape(64, 1000, 512), Shape(37, 1003, 129), Shape(512, 8142, 512), Shape(1, 2, 16), Shape(96, 93_431, 512))
QUICK = (Shape(9, 130, 24), Shape(1, 2, 16))

Make = Callable[[int, int], Head]


class Tolerance(NamedTuple):
    """What loss and gradients, the energy of κ*, and a step from a graph may be off by."""

    difference: float
    regret: float
    graph: float


#: Gradients in bfloat16 are rounded by 2^-9.
TOLERANCES = {torch.float32: Tolerance(5e-5, 2e-6, 1e-5), torch.bfloat16: Tolerance(1e-2, 1e-5, 1e-2)}


def makers(classes: int) -> dict[str, Callable[..., Head]]:
    """Every kind of head that has a fused step, by what is particular about it."""
    weights = [1 + (index % 3) for index in range(classes)]
    return {
        "fixed κ": partial(CosineHead, kappa=16.0),
        "large κ": partial(CosineHead, kappa=148.0),
        "trainable κ": partial(CosineHead, temperature="trainable", kappa=16.0),
        "least squares": partial(CosineHead, temperature="least_squares"),
        "least squares, twice κ*": partial(CosineHead, temperature=LeastSquares(multiplier=2.0)),
        "least squares, bias": partial(CosineHead, temperature="least_squares", bias=True),
        "least squares, surrogate": partial(CosineHead, temperature=LeastSquares(search="surrogate")),
        "bias": partial(CosineHead, kappa=16.0, bias=True),
        "CosFace": partial(create_head, "cosface", margin=0.35, kappa=16.0),
        "ArcFace": partial(create_head, "arcface", margin=0.5, kappa=16.0),
        "ArcFace, least squares": partial(create_head, "arcface", margin=0.5, temperature="least_squares"),
        "class weights": partial(CosineHead, kappa=16.0, class_weight=weights),
        "linear": partial(Head, bias=True),
        "unit weight": partial(Head, classifier="unit_weight"),
    }


class Outcome(NamedTuple):
    """The loss of each sample, and gradients."""

    loss: Tensor
    features: Tensor
    parameters: dict[str, Tensor]


def outcome(head: Head, features: Tensor, target: Tensor, factor: Tensor, **options: Any) -> Outcome:
    """Losses, and gradients of their sum with a factor a sample: no sample's gradient may be lost in another's."""
    features = features.detach().requires_grad_()
    loss = head(features, target, reduction="none", **options)
    named = {name: each for name, each in head.named_parameters() if each.requires_grad}
    found = torch.autograd.grad((loss * factor).sum(), [features, *named.values()], allow_unused=True)
    return Outcome(loss.detach(), found[0], {name: each for name, each in zip(named, found[1:]) if each is not None})


def agree(name: str, make: Callable[..., Head], inputs: Inputs, checks: Checks) -> None:
    """A fused head with the plain one in float64."""
    batch, classes, size = inputs.shape
    torch.manual_seed(1)
    head = make(size, classes, fused=True, device=inputs.device, dtype=inputs.dtype)
    head.weight = torch.nn.Parameter(inputs.weight.detach().clone())
    if head.bias is not None:
        torch.nn.init.normal_(head.bias, std=0.1)
    where = f"{inputs.shape}, {str(inputs.dtype).removeprefix('torch.')}, {name}"
    path = head.path(inputs.features, inputs.target)
    if not path.fused:
        checks.holds(f"{where}: goes the fused way", False, path.reason)
        return
    plain = copy.deepcopy(head).double()
    plain.fused = False
    factor = 0.5 + torch.rand(batch, device=inputs.device)
    # A linear classifier has no use for long features.
    features = inputs.features.detach() / (1 if head.classifier == "cosine" else 20)
    limit, options, parts = TOLERANCES[inputs.dtype], {}, []
    if isinstance(head.temperature, LeastSquares):
        watched = features.clone().requires_grad_()
        step = Step(lambda: head(watched, inputs.target), watched, head.weight, head=head)
        kappa = kappa_of(step)
        options["kappa"] = kappa.double() * head.temperature.multiplier
        if head.temperature.search == "grid":
            excess = regret(features, inputs.weight, kappa)
            if not excess <= limit.regret:
                checks.within(f"{where}: energy of κ* above the least", excess, limit.regret)
            parts.append(f"regret {excess:.0e}")
    found = outcome(head, features, inputs.target, factor)
    expected = outcome(plain, features.double(), inputs.target, factor.double(), **options)
    far = {"losses": apart(found.loss, expected.loss), "features": apart(found.features, expected.features)}
    far |= {key: apart(found.parameters[key], value) for key, value in expected.parameters.items()}
    parts += [f"{key} {value:.0e}" for key, value in far.items()]
    good = all(value <= limit.difference for value in far.values())
    checks.holds(where, good, f"{', '.join(parts)} (at most {limit.difference:.0e})")


def refuses_to_wait(name: str, make: Callable[..., Head], inputs: Inputs, checks: Checks) -> None:
    """Loss and gradients with synchronisation forbidden."""
    _, classes, size = inputs.shape
    head = make(size, classes, fused=True, device=inputs.device, dtype=inputs.dtype)
    features = inputs.features.detach().requires_grad_()
    head(features, inputs.target).backward()  # compiles
    wait(inputs.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        head(features, inputs.target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    checks.holds(f"{inputs.shape}, {inputs.dtype}, {name}: never waits for the host", True)


def in_a_graph(name: str, make: Callable[..., Head], inputs: Inputs, checks: Checks) -> None:
    """Three training steps replayed from a graph, each on another batch, with three eager ones."""
    batch, classes, size = inputs.shape
    torch.manual_seed(2)
    head = make(size, classes, fused=True, device=inputs.device, dtype=inputs.dtype)
    twin = copy.deepcopy(head)
    features, target = inputs.features.detach().clone().requires_grad_(), inputs.target.clone()
    batches = [
        (torch.randn_like(features).detach(), torch.randint(classes, (batch,), device=inputs.device)) for _ in range(3)
    ]
    eager, losses = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9), []
    for rows, classes_of_rows in batches:
        leaf = rows.clone().requires_grad_()
        eager.zero_grad(set_to_none=True)
        loss = twin(leaf, classes_of_rows)
        loss.backward()
        eager.step()
        assert leaf.grad is not None
        losses.append((loss.detach(), leaf.grad))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    begin = copy.deepcopy(head.state_dict())
    result: list[Tensor] = []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        features.grad = None
        loss = head(features, target)
        loss.backward()
        optimizer.step()
        assert features.grad is not None
        result[:] = [loss.detach(), features.grad]

    if inputs.device.type == "cuda":
        replay = captured(step)
    else:
        step()
        replay = step
    with torch.no_grad():  # what the warm-up has learned is forgotten, in place: the graph knows the addresses
        for key, value in head.state_dict().items():
            value.copy_(begin[key])
        for state in optimizer.state.values():
            state["momentum_buffer"].zero_()
    far = 0.0
    for (rows, classes_of_rows), expected in zip(batches, losses):
        with torch.no_grad():
            features.copy_(rows)
        target.copy_(classes_of_rows)
        replay()
        far = max(far, *(apart(one, other) for one, other in zip(result, expected)))
    learned = twin.state_dict()
    far = max(far, *(apart(value, learned[key]) for key, value in head.state_dict().items()))
    limit = TOLERANCES[inputs.dtype].graph
    remark = "captured" if inputs.device.type == "cuda" else "not captured: no GPU"
    checks.within(f"{inputs.shape}, {inputs.dtype}, {name}: three steps of training, {remark}", far, limit)


def main() -> int:
    options = parser(__doc__).parse_args()
    device = device_of(options)
    say(describe(device))
    checks = Checks()
    shapes = QUICK if options.quick else SHAPES
    for shape in shapes:
        large = shape.classes > 50_000
        for dtype in (torch.float32, torch.bfloat16):
            inputs = Inputs(shape, device, dtype)
            for name, make in makers(shape.classes).items():
                # At many classes what is particular about a head has been seen already.
                if large and name not in ("fixed κ", "least squares", "ArcFace"):
                    continue
                checks.attempt(f"{shape}, {dtype}, {name}", partial(agree, name, make, inputs, checks))
                if device.type == "cuda" and shape == shapes[0]:
                    checks.attempt(f"{name}: waits", partial(refuses_to_wait, name, make, inputs, checks))
                if shape == shapes[0]:
                    checks.attempt(f"{name}: in a graph", partial(in_a_graph, name, make, inputs, checks))
    if device.type != "cuda":
        say("Waiting for the host, and CUDA graphs: not run: no GPU")
    return checks.verdict()


if __name__ == "__main__":
    sys.exit(main())
