"""The ways to compute the step: our heads by both of their paths, eager PyTorch, torch's and others' fused losses."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional.least_squares import Chosen
from logitlab.heads import CosineHead
from logitlab.temperature import LeastSquares

from ..step.form import NotThere, Step
from ..step.peers import linear_cross_entropy as torch_linear_cross_entropy
from ..step.problem import KAPPA
from .inputs import Inputs

EAGER = "eager, fixed κ"
FIXED = "ours, fixed κ, fused"
LEAST_SQUARES = "ours, least squares, fused"
SURROGATE = "ours, least squares by the surrogate, fused"

#: Products of 2BCD operations that a step cannot do without: scores, gradient of the features, gradient of the weight;
#: and the bound of the exact search.
PRODUCTS = {FIXED: 3, LEAST_SQUARES: 4, SURROGATE: 3}


@dataclass(frozen=True)
class Form:
    """One way to compute the step.

    Attributes:
        name: in tables.
        build: prepares it; raises ``NotThere``.
        kind: ``"fixed"``: loss and gradients are those of the fixed κ. ``"exact"``, ``"surrogate"``: those of the κ*
            that the step itself chose, which the first promises to be the best candidate.
        group: by which forms are asked for.
    """

    name: str
    build: Callable[[Inputs], Step]
    kind: Literal["fixed", "exact", "surrogate"]
    group: str


def ours(inputs: Inputs, fused: bool, **parameters: Any) -> Step:
    """A step of a head on the shared weight."""
    _, classes, size = inputs.shape
    head = CosineHead(size, classes, fused=fused, device=inputs.device, dtype=inputs.dtype, **parameters)
    head.weight = inputs.weight
    return Step(lambda: cast(Tensor, head(inputs.features, inputs.target)), inputs.features, inputs.weight, head=head)


def kappa_of(step: Step) -> Tensor:
    """κ of each sample in one step of a least-squares head: what its temperature was handed by the search."""
    assert step.head is not None
    temperature = cast(LeastSquares, step.head.temperature)
    seen: list[Tensor] = []

    def take(chosen: Chosen, *others: Any, **options: Any) -> Tensor:
        seen.append(chosen.kappa.detach().clone())
        return LeastSquares.take(temperature, chosen, *others, **options)

    temperature.take = take  # type: ignore[method-assign, assignment]
    try:
        step()
    finally:
        del temperature.take
        step.clear()
    if not seen:
        raise RuntimeError("The step took no κ from its search.")
    return seen[-1]


def eager_loss(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """What a user writes who knows κ; the cross-entropy is of float32 logits, as autocast has it."""
    return F.cross_entropy((KAPPA * F.linear(F.normalize(features), F.normalize(weight))).float(), target)


def eager(inputs: Inputs) -> Step:
    return Step(lambda: eager_loss(inputs.features, inputs.weight, inputs.target), inputs.features, inputs.weight)


def half_logits(inputs: Inputs) -> Step:
    """The same with the logits left as the product gives them."""
    if inputs.dtype == torch.float32:
        raise NotThere("the same as eager in float32")

    def loss() -> Tensor:
        cosine = F.linear(F.normalize(inputs.features), F.normalize(inputs.weight))
        return F.cross_entropy(KAPPA * cosine, inputs.target)

    return Step(loss, inputs.features, inputs.weight)


def compiled(inputs: Inputs) -> Step:
    """The eager step by torch.compile, for this one shape."""
    torch._dynamo.reset()
    loss = torch.compile(eager_loss, dynamic=False)
    return Step(
        lambda: cast(Tensor, loss(inputs.features, inputs.weight, inputs.target)), inputs.features, inputs.weight
    )


def torch_whole(inputs: Inputs) -> Step:
    return torch_linear_cross_entropy(cast(Any, inputs))


def torch_chunked(inputs: Inputs) -> Step:
    return torch_linear_cross_entropy(cast(Any, inputs), chunking_method="auto")


def peer(module: str, package: str, inputs: Inputs) -> Any:
    """A package that may be missing, and has no kernels for a CPU."""
    try:
        found = importlib.import_module(module)
    except ImportError as fault:
        missing = (fault.name or "").partition(".")[0] == module.partition(".")[0]
        raise NotThere(
            f"{package} is not installed" if missing else f"{package} cannot be imported: {fault}"
        ) from fault
    if inputs.device.type != "cuda":
        raise NotThere(f"{package} needs a GPU")
    return found


def fed(inputs: Inputs, loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    """A loss of a linear layer, given κx̃ and W̃; the unit rows, and the gradients through them, by autograd."""
    return Step(
        lambda: loss(KAPPA * F.normalize(inputs.features), F.normalize(inputs.weight)), inputs.features, inputs.weight
    )


def liger(inputs: Inputs, **options: Any) -> Step:
    """Liger-Kernel's: chunks of the batch, gradients made in the forward pass."""
    module = peer("liger_kernel.transformers", "Liger-Kernel", inputs)
    loss = module.LigerFusedLinearCrossEntropyLoss(**options)
    return fed(inputs, lambda features, weight: cast(Tensor, loss(weight, features, inputs.target)))


def cut_cross_entropy(inputs: Inputs, **options: Any) -> Step:
    """Apple's: tiles of samples and classes, computed anew for the gradients."""
    module = peer("cut_cross_entropy", "cut-cross-entropy", inputs)
    if inputs.dtype == torch.float32:
        raise NotThere("cut-cross-entropy takes bfloat16 and float16 only")
    loss = module.linear_cross_entropy
    return fed(inputs, lambda features, weight: cast(Tensor, loss(features, weight, inputs.target, **options)))


#: In the order in which they are prepared: what matters most first, what may take long or fail last.
FORMS = (
    Form(EAGER, eager, "fixed", "eager"),
    Form(FIXED, lambda inputs: ours(inputs, True, kappa=KAPPA), "fixed", "ours"),
    Form(LEAST_SQUARES, lambda inputs: ours(inputs, True, temperature=LeastSquares()), "exact", "ours"),
    Form(
        SURROGATE, lambda inputs: ours(inputs, True, temperature=LeastSquares(search="surrogate")), "surrogate", "ours"
    ),
    Form("eager, logits in half precision", half_logits, "fixed", "eager"),
    Form("torch linear_cross_entropy, whole", torch_whole, "fixed", "torch"),
    Form("torch linear_cross_entropy, chunked", torch_chunked, "fixed", "torch"),
    Form("ours, fixed κ, plain", lambda inputs: ours(inputs, False, kappa=KAPPA), "fixed", "plain"),
    Form(
        "ours, least squares, plain", lambda inputs: ours(inputs, False, temperature=LeastSquares()), "exact", "plain"
    ),
    Form("Liger-Kernel", liger, "fixed", "peers"),
    Form("Liger-Kernel, sums in float32", lambda inputs: liger(inputs, accum_dtype=torch.float32), "fixed", "peers"),
    Form("cut-cross-entropy", cut_cross_entropy, "fixed", "peers"),
    Form(
        "cut-cross-entropy, nothing skipped",
        lambda inputs: cut_cross_entropy(inputs, filter_eps=None),
        "fixed",
        "peers",
    ),
    Form("eager, torch.compile", compiled, "fixed", "compile"),
)

GROUPS = tuple(dict.fromkeys(form.group for form in FORMS))
