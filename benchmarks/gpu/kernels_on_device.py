"""The Triton kernels on the device beside the plain ones in float64, over odd shapes, strides, targets and values.

Sums stand beside the nearest rival's own term, which is one: what is off is measured in it or in the sums themselves.
Scores may be off by 1e-5; exponentials by 3e-5, as a κ of 160 makes that much of the rounding of a score in float32, in
the plain kernels too. Matrices in bfloat16 are rounded by 2^-9. The exit code is 1 where one is off by more.

    python -m benchmarks.gpu.kernels_on_device

On a CPU: TRITON_INTERPRET=1 python -m benchmarks.gpu.kernels_on_device --device cpu --quick
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from logitlab.functional.blockwise import plain_kernels
from logitlab.functional.blockwise.block import Block
from logitlab.functional.blockwise.kernels import Kernels

from .checks import Checks, apart, farthest
from .machine import describe, device_of, parser, say

#: (N, b).
SHAPES = ((1, 1), (1, 2), (3, 5), (7, 129), (33, 127), (64, 128), (100, 1003), (129, 4097), (512, 16384), (5, 70001))
QUICK = ((3, 70),)
LAYOUTS = ("rows", "part of wider rows", "columns")
KAPPAS = (1.0, 16.0, 64.0, 148.4)

LIMIT, EXPONENTIAL = 1e-5, 3e-5
#: In bfloat16; the interpreter cuts digits off where the device rounds.
ROUNDED = 2.0**-7 if os.environ.get("TRITON_INTERPRET") == "1" else 2.0**-8


@dataclass
class Case:
    """One block with all that the kernels ask for, in float32."""

    name: str
    block: Block
    along: Tensor
    column: Tensor
    nearest: Tensor
    kappa: Tensor
    reference: Tensor
    scale: Tensor
    own: Tensor

    def exact(self) -> Case:
        """The same numbers in float64."""
        others = (part.double() for part in (self.kappa, self.reference, self.scale, self.own))
        return Case(self.name, in_float64(self.block), self.along.double(), self.column, self.nearest, *others)


def in_float64(block: Block) -> Block:
    bias = None if block.bias is None else block.bias.double()
    return Block(block.product.double(), block.row_scale.double(), block.column_scale.double(), bias)


def cases(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Iterator[Case]:
    """Every shape in every layout, with and without a bias, at one of the κ in turn."""
    generator = torch.Generator(device).manual_seed(0)
    turn = 0

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    for num_samples, num_classes in shapes:
        rows, weight = normal(num_samples, 24), normal(num_classes, 24)
        weight[num_classes // 2 :: 97] = 0  # a class without a direction
        weight[-1] = weight[0]  # two that are equal
        lengths = weight.norm(dim=1)
        column_scale = torch.where(lengths > 0, 1 / lengths, 0.0)
        for layout in LAYOUTS:
            for biased in (False, True):
                turn += 1
                kappa = torch.full((num_samples,), KAPPAS[turn % len(KAPPAS)], device=device) * (
                    0.9 + 0.2 * torch.rand(num_samples, generator=generator, device=device)
                )
                bias = 0.5 * normal(num_classes) if biased else None
                block = Block(_laid_out(rows @ weight.T, layout), 1 / rows.norm(dim=1), column_scale, bias)
                # Some targets are in other blocks, before and behind this one.
                column = torch.randint(-2, num_classes + 3, (num_samples,), generator=generator, device=device)
                value, nearest = plain_kernels.largest(in_float64(block), column, kappa.double())
                reference = torch.where(value.isfinite(), value, 0.0).float()
                scale, own = kappa * torch.rand(num_samples, generator=generator, device=device), normal(num_samples)
                along = _laid_out(normal(num_samples, num_classes), layout)
                name = f"({num_samples}, {num_classes}) {layout}{', bias' if biased else ''}"
                yield Case(name, block, along, column, nearest, kappa, reference, scale, own)


def _laid_out(matrix: Tensor, layout: str) -> Tensor:
    """The same numbers with other strides."""
    if layout == "columns":
        return matrix.T.contiguous().T
    if layout == "part of wider rows":
        wide = matrix.new_full((matrix.shape[0], matrix.shape[1] + 5), torch.nan)
        wide[:, 3 : 3 + matrix.shape[1]] = matrix
        return wide[:, 3 : 3 + matrix.shape[1]]
    return matrix.contiguous()


def compare(kernels: Kernels, case: Case) -> Iterator[tuple[str, float, float]]:
    """What, how far from the plain kernels in float64, and how far is allowed."""
    exact, plain = case.exact(), plain_kernels
    block, column, kappa, reference = case.block, case.column, case.kappa, case.reference
    bounds = (exact.column, exact.kappa, exact.reference)

    value, index = kernels.largest(block, column, kappa)
    expected, _ = plain.largest(exact.block, column, exact.kappa)
    scale = kappa.max() if block.bias is not None else 1.0
    yield "largest", farthest(value / scale, expected / scale), LIMIT
    # Two that are equal in float32 may not be so in float64: then their values tell.
    scores = exact.block.product * exact.block.row_scale.unsqueeze(1) * exact.block.column_scale
    if exact.block.bias is not None:
        scores = scores * exact.kappa.unsqueeze(1) + exact.block.bias
    found = scores.gather(1, index.clamp(0, scores.shape[1] - 1).unsqueeze(1)).squeeze(1)
    found = torch.where(expected.isfinite(), found, expected)
    yield "largest, its column", farthest(found / scale, expected / scale), LIMIT
    own = (index == column) & expected.isfinite()
    yield "largest, never the target", float(own.sum()), 0

    if block.bias is None:  # the search knows no bias
        yield (
            "power_sums",
            farthest(
                kernels.power_sums(block, column, case.nearest, reference),
                plain.power_sums(exact.block, column, case.nearest, exact.reference),
            ),
            EXPONENTIAL,
        )
        kappas = torch.stack([kappa, 0.5 * kappa, torch.zeros_like(kappa), torch.where(column > 0, kappa, 0.0)])
        yield (
            "project",
            farthest(
                kernels.project(block, case.along, column, kappas, reference),
                plain.project(exact.block, exact.along, column, kappas.double(), exact.reference),
            ),
            EXPONENTIAL,
        )

    right = torch.empty_like(exact.block.product)
    total = plain.weigh(exact.block, *bounds, out=right)
    yield "weigh, the sum alone", farthest(kernels.weigh(block, column, kappa, reference), total), EXPONENTIAL
    out = torch.full_like(block.product, torch.nan)
    yield "weigh", farthest(kernels.weigh(block, column, kappa, reference, out), total), EXPONENTIAL
    yield "weigh, laid out", apart(out, right), EXPONENTIAL
    high, low = (torch.full_like(block.product, torch.nan, dtype=torch.bfloat16) for _ in range(2))
    kernels.weigh(block, column, kappa, reference, high)
    yield "weigh, in bfloat16", apart(high, right), ROUNDED
    kernels.weigh(block, column, kappa, reference, high, low)
    yield "weigh, in two bfloat16", apart(high.double() + low.double(), right), EXPONENTIAL

    along, share = plain.gradient(exact.block, *bounds, exact.scale, exact.own, right)
    for dtype, limit in ((torch.float32, EXPONENTIAL), (torch.bfloat16, ROUNDED)):
        out = torch.full_like(block.product, torch.nan, dtype=dtype)
        found_along, found_share = kernels.gradient(block, column, kappa, reference, case.scale, case.own, out)
        where = "gradient" if dtype == torch.float32 else "gradient, in bfloat16"
        yield where, apart(out, right), limit
        yield f"{where}, along the weight", apart(found_along, along), EXPONENTIAL
        yield f"{where}, of the bias", apart(found_share, share), EXPONENTIAL


def loud(kernels: Kernels, device: torch.device, name: str, checks: Checks) -> None:
    """A score that is no number must show in the sums of its row, and in no other."""
    case = next(iter(cases(((4, 300),), device)))
    case.block.product[1, 200] = torch.nan
    case.column.fill_(7)
    total = kernels.weigh(case.block, case.column, case.kappa, case.reference).isfinite().tolist()
    checks.holds(f"{name}: a broken score shows in its row alone", total == [True, False, True, True], str(total))
    # Where it is the target's, it is left out.
    case.column.fill_(200)
    total = kernels.weigh(case.block, case.column, case.kappa, case.reference).isfinite().tolist()
    checks.holds(f"{name}: a broken score of the target is left out", all(total), str(total))


def same_twice(kernels: Kernels, device: torch.device, name: str, checks: Checks) -> None:
    """No atomics: the same numbers give the same bits."""
    *_, case = cases(((33, 257),), device)
    given = (case.block, case.column, case.kappa, case.reference)
    same = bool((kernels.weigh(*given) == kernels.weigh(*given)).all())
    checks.holds(f"{name}: the same bits twice", same)


def main() -> int:
    options = parser(__doc__).parse_args()
    device = device_of(options)
    say(describe(device))
    checks = Checks()
    tested: dict[str, Kernels] = {"plain": plain_kernels}
    if device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
        from logitlab.functional.blockwise import triton_kernels

        tested = {"Triton": triton_kernels, **({} if options.quick else tested)}
    else:
        say("Triton kernels: not run: no GPU, and TRITON_INTERPRET is not 1")
    for name, kernels in tested.items():
        worst: dict[str, tuple[float, float, str]] = defaultdict(lambda: (-1.0, 0.0, ""))

        def all_cases(kernels: Kernels = kernels, worst: dict[str, tuple[float, float, str]] = worst) -> None:
            for case in cases(QUICK if options.quick else SHAPES, device):
                for what, far, limit in compare(kernels, case):
                    # A NaN is the worst of all, and stays.
                    if not far <= worst[what][0] and worst[what][0] == worst[what][0]:
                        worst[what] = (far, limit, case.name)

        checks.attempt(name, all_cases)
        for what, (far, limit, where) in worst.items():
            checks.within(f"{name}: {what}, at worst {where}", far, limit)
        checks.attempt(f"{name}: broken scores", partial(loud, kernels, device, name, checks))
        checks.attempt(f"{name}: twice", partial(same_twice, kernels, device, name, checks))
    return checks.verdict()


if __name__ == "__main__":
    sys.exit(main())
