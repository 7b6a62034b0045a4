"""Triton's kernels against torch's, case by case, as a program of its own: prints the faults of each case as JSON.

Triton decides where a function runs when it is decorated: at its own import for those of its language, at the import
of ours for ours. In a process that has imported it before, nothing that is set afterwards can be relied on. So this
runs in a new process: with TRITON_INTERPRET=1 on the CPU, or ``python kernel_cases.py cuda`` on a GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logitlab.functional.blockwise import plain_kernels, triton_kernels
from logitlab.functional.blockwise.block import Block

# Each end of a tile is crossed once, in rows (130: the sums along columns as well) and in columns (1100).
SHAPES = ((1, 1), (1, 5), (3, 7), (33, 129), (130, 67), (9, 257), (2, 1100))
TOLERANCE = 1e-5


class Comparison:
    """What differs, and how much was compared."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.compared = 0

    def equal(self, name: str, found: Tensor, expected: Tensor) -> None:
        self.compared += found.numel()
        if found.dtype != expected.dtype or found.shape != expected.shape:
            self.faults.append(f"{name}: {found.dtype} {tuple(found.shape)}, not {tuple(expected.shape)}")
        elif not torch.equal(found.nan_to_num(nan=12345.0), expected.nan_to_num(nan=12345.0)):
            self.faults.append(f"{name}: not equal")

    def close(
        self, name: str, found: Tensor, expected: Tensor, size: Tensor | None = None, tolerance: float = TOLERANCE
    ) -> None:
        """Relative to the expected, or to ``size``: a sum of terms of both signs is as exact as its terms."""
        self.compared += found.numel()
        if found.dtype != expected.dtype or found.shape != expected.shape:
            self.faults.append(f"{name}: {found.dtype} {tuple(found.shape)}, not {tuple(expected.shape)}")
            return
        found, expected = found.double(), expected.double()
        allowed = tolerance * (expected.abs() if size is None else size.double()) + 1e-30
        same = (found == expected) | (found.isnan() & expected.isnan()) | ((found - expected).abs() <= allowed)
        if not same.all():
            worst = ((found - expected).abs() / allowed)[~same].nan_to_num(nan=torch.inf).max().item() * tolerance
            self.faults.append(f"{name}: {int((~same).sum())} of {same.numel()} differ, by up to {worst:.2g}")


class Case:
    """One block and what the kernels are asked about it."""

    def __init__(self, num_samples: int, num_classes: int, device: str, *, bias: bool = False) -> None:
        # A seed of its own, on the CPU: the same numbers everywhere.
        random = torch.Generator().manual_seed(1000 * num_samples + num_classes + bias)
        n, b = num_samples, num_classes

        def numbers(*shape: int, low: float, high: float) -> Tensor:
            return (torch.rand(*shape, generator=random) * (high - low) + low).to(device)

        self.block = Block(
            numbers(n, b, low=-2, high=2),
            numbers(n, low=0.5, high=1.0),
            numbers(b, low=0.0, high=0.6),
            numbers(b, low=-1, high=1) if bias else None,
        )
        self.column = torch.randint(-b, 2 * b, (n,), generator=random).to(device)
        self.kappa = numbers(n, low=1, high=64)
        self.along = numbers(n, b, low=-1, high=1)
        self.scale, self.own = numbers(n, low=0, high=1), numbers(n, low=-20, high=0)
        self.kappas = numbers(4, n, low=1, high=148)
        self.kappas[1, ::2] = 0
        self.kappas[3] = 0
        self.out_dtype = torch.float32
        self.low = False
        self.lay_out: Callable[[Tensor], Tensor] = torch.zeros_like


def compare(case: Case) -> Comparison:
    """All five kernels on a case."""
    result, block, column, kappa = Comparison(), case.block, case.column, case.kappa
    finite = torch.finfo(torch.float32).max
    plain_block = block._replace(bias=None)
    found, expected = (kernels.largest(block, column, kappa) for kernels in (triton_kernels, plain_kernels))
    result.equal("largest value", found[0], expected[0])
    result.equal("largest column", found[1], expected[1])
    logit = expected[0].nan_to_num(0.0, finite, 0.0)
    score, nearest = plain_kernels.largest(plain_block, column)
    score = score.nan_to_num(0.0, finite, 0.0)

    sums = [kernels.power_sums(block, column, nearest, score) for kernels in (triton_kernels, plain_kernels)]
    # z e of both signs: the second moment and the zeroth bound what the terms of the first add up to.
    zeroth, _, second = sums[1].double()
    size = torch.stack([zeroth, (zeroth * second).sqrt(), second])
    result.close("power sums", *sums, size)

    laid, totals = [], []
    for kernels in (triton_kernels, plain_kernels):
        out = case.lay_out(block.product.to(case.out_dtype))
        low = case.lay_out(block.product.to(torch.bfloat16)) if case.low else None
        totals.append(kernels.weigh(block, column, kappa, logit, out, low))
        laid.append((out, low))
    result.close("weigh", *totals)
    result.close("weigh without out", triton_kernels.weigh(block, column, kappa, logit), totals[1])
    # The interpreter cuts off what a GPU rounds: bfloat16 has 8 bits, two of them 16.
    rough = TOLERANCE if case.out_dtype == torch.float32 else 2.0**-7
    result.close("weigh out", laid[0][0], laid[1][0], tolerance=rough)
    if case.low:
        both = [(out.double() + low.double()) for out, low in laid if low is not None]
        result.close("weigh out + low", *both, tolerance=2.0**-15)

    arguments = (case.along, column, case.kappas, score)
    sums = [kernels.project(block, *arguments) for kernels in (triton_kernels, plain_kernels)]
    # Scores and the direction are at most about one here: a sum is as exact as the sum of the exponentials.
    result.close("project", *sums, sums[1][:1].expand_as(sums[1]))
    result.equal("project unused", sums[0][:, case.kappas == 0], torch.zeros_like(sums[0][:, case.kappas == 0]))

    outs, alongs, shares = [], [], []
    arguments = (column, kappa, logit, case.scale, case.own)
    for kernels in (triton_kernels, plain_kernels):
        out = case.lay_out(block.product.to(case.out_dtype))
        along, share = kernels.gradient(block, *arguments, out)
        outs.append(out)
        alongs.append(along)
        shares.append(share)
    result.close("gradient out", *outs, tolerance=rough)
    result.close("gradient along", *alongs, _size_of_along(case, logit))
    result.close("gradient share", *shares)
    return result


def _size_of_along(case: Case, logit: Tensor) -> Tensor:
    """What the terms d·z add up to without their signs; with factors of one the kernel lays out d itself."""
    block = case.block
    scores = block.product * block.row_scale.unsqueeze(1) * block.column_scale
    scores_alone = Block(scores, torch.ones_like(block.row_scale), torch.ones_like(block.column_scale), block.bias)
    rises = torch.empty_like(scores)
    plain_kernels.gradient(scores_alone, case.column, case.kappa, logit, case.scale, case.own, rises)
    return (rises * scores).abs().nan_to_num(0.0).sum(dim=0)


def _strided(case: Case, product: Tensor) -> Case:
    case.block = case.block._replace(product=product)
    return case


def _sliced(matrix: Tensor) -> Tensor:
    """The same numbers as every second row and third column of a larger matrix, from an offset."""
    rows, columns = matrix.shape
    larger = matrix.new_full((2 * rows + 1, 3 * columns + 2), torch.nan)
    view = larger[1 : 2 * rows + 1 : 2, 2::3]
    return view.copy_(matrix)


def _transposed(matrix: Tensor) -> Tensor:
    return matrix.t().contiguous().t()


def cases(device: str) -> dict[str, Callable[[], Case]]:
    """Cases by name."""

    def of(num_samples: int, num_classes: int, *, bias: bool = False, **changes: Any) -> Case:
        case = Case(num_samples, num_classes, device, bias=bias)
        for name, value in changes.items():
            setattr(case, name, value)
        return case

    def with_block(case: Case, **changes: Tensor) -> Case:
        case.block = case.block._replace(**changes)
        return case

    def with_number(value: float, *, column: int = 3) -> Case:
        case = of(9, 20, bias=True)
        case.block.product[::2, column] = value
        case.column[:] = torch.arange(9, device=device) % 5 + 4
        return case

    def strange_direction() -> Case:
        case = of(6, 20, column=torch.arange(6, device=device))
        case.along.fill_diagonal_(torch.nan)
        return case

    def zero_columns() -> Case:
        case = of(10, 40)
        case.block.column_scale[::3] = 0
        return case

    def ties() -> Case:
        case = of(4, 1100)
        case.block.product[:, 5] = case.block.product[:, 1030] = case.block.product[:, 7] = 2.5
        case.block.column_scale[[5, 7, 1030]] = 0.6
        return case

    bfloat16 = torch.bfloat16
    return {
        **{f"{n}x{b}": (lambda n=n, b=b: of(n, b)) for n, b in SHAPES},
        **{f"{n}x{b} bias": (lambda n=n, b=b: of(n, b, bias=True)) for n, b in SHAPES[1:4]},
        "transposed": lambda: _strided(of(33, 130), _transposed(of(33, 130).block.product)),
        "transposed all": lambda: _strided(
            of(
                37,
                70,
                bias=True,
                lay_out=lambda m: _transposed(torch.zeros_like(m)),
                along=_transposed(of(37, 70).along),
            ),
            _transposed(of(37, 70).block.product),
        ),
        "sliced all": lambda: _strided(
            of(19, 45, lay_out=lambda m: _sliced(torch.zeros_like(m)), along=_sliced(of(19, 45).along)),
            _sliced(of(19, 45).block.product),
        ),
        "expanded": lambda: with_block(
            of(8, 30),
            row_scale=torch.full((1,), 0.9, device=device).expand(8),
            column_scale=torch.full((60,), 0.5, device=device)[::2],
        ),
        "bf16": lambda: of(9, 130, out_dtype=bfloat16),
        "bf16 bias": lambda: of(17, 65, bias=True, out_dtype=bfloat16),
        "bf16 low": lambda: of(9, 130, out_dtype=bfloat16, low=True),
        "bf16 low sliced": lambda: of(
            9, 33, bias=True, out_dtype=bfloat16, low=True, lay_out=lambda m: _sliced(torch.zeros_like(m))
        ),
        "zero columns": zero_columns,
        "ties": ties,
        "no target": lambda: of(7, 20, column=torch.full((7,), -1, device=device)),
        "target beyond": lambda: of(7, 20, column=torch.full((7,), 2**40 + 3, device=device)),
        "targets in place": lambda: of(7, 20, column=torch.arange(7, device=device) * 2),
        "target alone": lambda: of(7, 1, column=torch.zeros(7, dtype=torch.int64, device=device)),
        "no kappa asked": lambda: of(9, 33, kappas=torch.zeros(3, 9, device=device)),
        "one kappa asked": lambda: of(
            9,
            33,
            kappas=torch.zeros(2, 9, device=device).index_put_((torch.tensor(1), torch.tensor(4)), torch.tensor(7.0)),
        ),
        "kappa 148": lambda: of(5, 140, kappa=torch.full((5,), 148.0, device=device)),
        "kappa 1e4": lambda: of(5, 140, kappa=torch.full((5,), 1e4, device=device)),
        "kappa 1e4 bias": lambda: of(5, 140, bias=True, kappa=torch.full((5,), 1e4, device=device)),
        "kappa 1e6": lambda: of(5, 140, kappa=torch.full((5,), 1e6, device=device)),
        "NaN elsewhere": lambda: with_number(torch.nan),
        "NaN in the target": lambda: with_number(torch.nan, column=4),
        "NaN in the target's direction": strange_direction,
        "infinity elsewhere": lambda: with_number(torch.inf),
        "minus infinity elsewhere": lambda: with_number(-torch.inf),
    }


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    report = {}
    for name, make in cases(device).items():
        comparison = compare(make())
        report[name] = {"faults": comparison.faults, "compared": comparison.compared}
    print(json.dumps(report))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
