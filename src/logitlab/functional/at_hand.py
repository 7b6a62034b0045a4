"""When a shorter way through the same formula may be taken: values that may be read, derivatives written by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def values_at_hand(tensor: Tensor) -> bool:
    """Whether the values may be read now: eager, on the CPU, outside torch.func and tracing.

    Elsewhere reading them would stop the GPU's queue or break the compiled graph.

    >>> values_at_hand(torch.zeros(2)), values_at_hand(torch.zeros(2, device="meta"))
    (True, False)
    """
    return (
        not torch.compiler.is_compiling()
        and tensor.device.type == "cpu"
        and type(tensor) in (Tensor, Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def by_hand(*tensors: Tensor) -> bool:
    """Whether a ``torch.autograd.Function`` that knows reverse mode alone may stand in for a plain formula.

    Not in forward mode, and not where each operation is watched (a tracer, a counter of operations, fake tensors): who
    watches wants to see the formula. On a GPU the formula stays too.

    >>> by_hand(torch.zeros(2), torch.zeros(2))
    True
    """
    if (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    ):
        return False
    return all(map(values_at_hand, tensors))


def is_batched(tensor: Tensor) -> bool:
    """Whether a mapping stands behind a tensor (vmap, ``is_grads_batched``): it fits into no tensor that is not mapped.

    >>> is_batched(torch.zeros(2))
    False
    """
    functorch = torch._C._functorch
    return functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


def _constant_in_a_graph(function: Callable[[], bool]) -> Callable[[], bool]:
    """``torch.compiler.assume_constant_result`` by the mark that it sets: it would import the compiler at once."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def operators_may_have(*tensors: Tensor | None) -> bool:
    """Whether operators of our own may have these: not exported, in forward mode, of torch.func or of a subclass.

    Args:
        tensors: all that the operator would be given.

    >>> operators_may_have(torch.zeros(1), None), operators_may_have(torch.zeros(1, device="meta"))
    (True, False)
    """
    if _exporting() or forward_ad._current_level >= 0:
        return False
    if torch.compiler.is_compiling():  # where a tensor cannot be asked what wraps it
        return not _inside_transform()
    return all(
        type(tensor) in (Tensor, Parameter) and tensor.device.type != "meta" and not is_batched(tensor)
        for tensor in tensors
        if tensor is not None
    )


@_constant_in_a_graph  # a graph is exported, or it is not
def _exporting() -> bool:
    """``torch.compiler.is_exporting()``, as it is: the compiler of torch 2.11 itself takes it for True."""
    return torch.compiler.is_exporting()


@_constant_in_a_graph  # the compiler guards the stack of transforms itself
def _inside_transform() -> bool:
    """Whether a transform of torch.func is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def gradient_of(
    formula: Callable[..., Tensor | tuple[Tensor, ...]],
    arguments: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """Gradient of a plain formula, itself differentiable: what a hand-written backward pass falls back to.

    Args:
        formula: from the arguments to one output or several.
        arguments: as they were saved in the forward pass.
        upstream: gradient of each output, None where it has none.

    Returns:
        Gradient of each argument, None where it needs none; part of a graph where gradients are recorded
        (``create_graph``).

    >>> argument = torch.tensor([3.0], requires_grad=True)
    >>> (gradient,) = gradient_of(torch.square, (argument,), (torch.ones(1),))
    >>> gradient.item(), torch.autograd.grad(gradient.sum(), argument)[0].item()
    (6.0, 2.0)
    """
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        # Not the arguments themselves: their hooks run where the outer backward pass reaches them, and only there.
        arguments = tuple(argument.view_as(argument) for argument in arguments)
        outputs = formula(*arguments)
    reached = [
        (output, gradient)
        for output, gradient in zip((outputs,) if isinstance(outputs, Tensor) else outputs, upstream, strict=True)
        if gradient is not None
    ]
    wanted = [argument for argument in arguments if argument.requires_grad]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in reached],
            wanted,
            [gradient for _, gradient in reached],
            create_graph=recording,
            allow_unused=True,
        )
    )
    return tuple(next(found) if argument.requires_grad else None for argument in arguments)
