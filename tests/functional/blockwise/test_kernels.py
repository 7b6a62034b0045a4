"""The kernels over a block of classes in torch, against sums by hand; ``test_triton_kernels.py`` has Triton's."""

from __future__ import annotations

import math
import sys
import types
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from logitlab.config.errors import InputError
from logitlab.functional.blockwise import kernels as selection
from logitlab.functional.blockwise import plain_kernels
from logitlab.functional.blockwise.block import Block
from logitlab.functional.blockwise.kernels import kernels_for
from logitlab.functional.least_squares.power_sums import LEVELS

SHAPES = [(1, 1), (1, 6), (5, 1), (7, 11), (4, 130)]


class Asked:
    """A block with what is asked about it, and its scores and logits as lists of numbers."""

    def __init__(
        self, num_samples: int, num_classes: int, *, bias: bool = False, dtype: torch.dtype = torch.float64
    ) -> None:
        random = torch.Generator().manual_seed(num_samples * 1000 + num_classes + bias)

        def numbers(*shape: int, low: float, high: float) -> Tensor:
            return (torch.rand(*shape, generator=random, dtype=torch.float64) * (high - low) + low).to(dtype)

        self.block = Block(
            numbers(num_samples, num_classes, low=-2, high=2),
            numbers(num_samples, low=0.5, high=1),
            numbers(num_classes, low=0.1, high=0.6),
            numbers(num_classes, low=-1, high=1) if bias else None,
        )
        self.column = torch.randint(-num_classes, 2 * num_classes, (num_samples,), generator=random)
        self.nearest = torch.randint(-1, num_classes + 1, (num_samples,), generator=random)
        self.kappa = numbers(num_samples, low=1, high=40)
        self.kappas = numbers(3, num_samples, low=1, high=40)
        self.kappas[1, ::2] = 0
        self.reference = numbers(num_samples, low=0.5, high=1)
        self.along = numbers(num_samples, num_classes, low=-1, high=1)
        self.scale, self.own = numbers(num_samples, low=0, high=1), numbers(num_samples, low=-20, high=0)

    def score(self, sample: int, c: int) -> float:
        block = self.block
        return float(block.product[sample, c]) * float(block.row_scale[sample]) * float(block.column_scale[c])

    def logit(self, sample: int, c: int) -> float:
        assert self.block.bias is not None
        return float(self.kappa[sample]) * self.score(sample, c) + float(self.block.bias[c])

    def power(self, sample: int, c: int) -> float:
        if self.block.bias is not None:
            return math.exp(self.logit(sample, c) - float(self.reference[sample]))
        return math.exp(float(self.kappa[sample]) * (self.score(sample, c) - float(self.reference[sample])))

    def rivals(self, sample: int) -> list[int]:
        return [c for c in range(self.block.product.shape[1]) if c != int(self.column[sample])]

    @property
    def samples(self) -> range:
        return range(len(self.block.product))


@pytest.fixture(params=[(*shape, bias) for shape in SHAPES for bias in (False, True)], ids=str)
def asked(request: pytest.FixtureRequest) -> Asked:
    return Asked(*request.param[:2], bias=request.param[2])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_largest_is_the_best_of_the_others(asked: Asked) -> None:
    value, column = plain_kernels.largest(asked.block, asked.column, asked.kappa)
    of = asked.score if asked.block.bias is None else asked.logit
    for sample in asked.samples:
        best, where = max(((of(sample, c), -c) for c in asked.rivals(sample)), default=(-math.inf, 0))
        assert float(value[sample]) == pytest.approx(best, rel=1e-12)
        assert int(column[sample]) == -where
    assert column.dtype == torch.int64


def test_power_sums_by_hand(asked: Asked) -> None:
    sums = plain_kernels.power_sums(asked.block, asked.column, asked.nearest, asked.reference)
    expected = torch.zeros(3, LEVELS, len(asked.samples), dtype=torch.float64)
    for sample in asked.samples:
        for c in asked.rivals(sample):
            if c != int(asked.nearest[sample]):
                z = asked.score(sample, c)
                for level in range(LEVELS):
                    power = math.exp(2**level * (z - float(asked.reference[sample])))
                    expected[:, level, sample] += power * torch.tensor([1, z, z * z], dtype=torch.float64)
    close(sums, expected)


def test_weigh_by_hand(asked: Asked) -> None:
    num_samples, num_classes = asked.block.product.shape
    expected, total = torch.zeros(num_samples, num_classes, dtype=torch.float64), torch.zeros(num_samples)
    total = total.double()
    for sample in asked.samples:
        for c in asked.rivals(sample):
            total[sample] += asked.power(sample, c)
            expected[sample, c] = asked.power(sample, c) * float(asked.block.column_scale[c])
    arguments = (asked.column, asked.kappa, asked.reference)
    close(plain_kernels.weigh(asked.block, *arguments), total)
    out = torch.full_like(expected, torch.nan)
    close(plain_kernels.weigh(asked.block, *arguments, out), total)
    close(out, expected)
    # In the product's own memory.
    product = asked.block.product.clone()
    close(plain_kernels.weigh(asked.block._replace(product=product), *arguments, product), total)
    close(product, expected)


def test_project_by_hand(asked: Asked) -> None:
    sums = plain_kernels.project(asked.block, asked.along, asked.column, asked.kappas, asked.reference)
    expected = torch.zeros(3, 3, len(asked.samples), dtype=torch.float64)
    for slot in range(3):
        for sample in asked.samples:
            kappa = float(asked.kappas[slot, sample])
            for c in asked.rivals(sample) if kappa else ():
                z = asked.score(sample, c)
                power = math.exp(kappa * (z - float(asked.reference[sample])))
                u = float(asked.along[sample, c]) * float(asked.block.column_scale[c])
                expected[:, slot, sample] += power * torch.tensor([1, z, u], dtype=torch.float64)
    close(sums, expected)
    assert torch.equal(sums[:, asked.kappas == 0], torch.zeros_like(sums[:, asked.kappas == 0]))


def test_gradient_by_hand(asked: Asked) -> None:
    num_samples, num_classes = asked.block.product.shape
    expected = torch.zeros(num_samples, num_classes, dtype=torch.float64)
    along, share = torch.zeros(num_classes, dtype=torch.float64), torch.zeros(num_classes, dtype=torch.float64)
    for sample in asked.samples:
        for c in range(num_classes):
            if c == int(asked.column[sample]):
                rises = float(asked.own[sample])
            else:
                rises = float(asked.scale[sample]) * asked.power(sample, c)
                share[c] += rises / float(asked.kappa[sample])
            along[c] += rises * asked.score(sample, c)
            expected[sample, c] = rises * float(asked.block.row_scale[sample]) * float(asked.block.column_scale[c])
    out = torch.full_like(expected, torch.nan)
    arguments = (asked.column, asked.kappa, asked.reference, asked.scale, asked.own)
    found = plain_kernels.gradient(asked.block, *arguments, out)
    close(out, expected)
    close(found[0], along)
    close(found[1], torch.zeros(0, dtype=torch.float64) if asked.block.bias is None else share)
    product = asked.block.product.clone()
    plain_kernels.gradient(asked.block._replace(product=product), *arguments, product)
    close(product, expected)


@pytest.mark.parametrize("classifier_bias", [False, True])
def test_together_they_are_the_gradient_of_cross_entropy(classifier_bias: bool) -> None:
    # Autograd knows nothing of blocks: two of them, one with each target.
    asked = Asked(6, 9, bias=classifier_bias)
    block, kappa = asked.block, asked.kappa
    target = torch.tensor([0, 3, 4, 5, 8, 8])
    product = block.product.clone().requires_grad_()
    column_scale = block.column_scale.clone().requires_grad_()
    bias = None if block.bias is None else block.bias.clone().requires_grad_()
    scores = product * block.row_scale.unsqueeze(1) * column_scale
    logits = scores * kappa.unsqueeze(1) + (0 if bias is None else bias)
    torch.nn.functional.cross_entropy(logits, target, reduction="sum").backward()

    halves = [(slice(0, 4), target), (slice(4, 9), target - 4)]
    parts = [
        Block(
            block.product[:, s], block.row_scale, block.column_scale[s], None if block.bias is None else block.bias[s]
        )
        for s, _ in halves
    ]
    reference = torch.stack([plain_kernels.largest(p, c, kappa)[0] for p, (_, c) in zip(parts, halves)]).amax(0)
    rivals = sum(plain_kernels.weigh(p, c, kappa, reference) for p, (_, c) in zip(parts, halves))
    assert isinstance(rivals, Tensor)
    own_logit = logits.detach().gather(1, target.unsqueeze(1)).squeeze(1)
    total = rivals + torch.exp(own_logit - reference * (1 if classifier_bias else kappa))
    scale, own = kappa / total, kappa * (-rivals / total)
    for part, (s, column) in zip(parts, halves):
        out = torch.empty(6, part.product.shape[1], dtype=torch.float64)
        along, share = plain_kernels.gradient(part, column, kappa, reference, scale, own, out)
        close(out, product.grad[:, s])
        close(along / block.column_scale[s], column_scale.grad[s])
        if bias is not None:
            missing = torch.zeros(9, dtype=torch.float64).index_add(0, target, own / kappa)[s]
            close(share + missing, bias.grad[s])


def test_strides_change_nothing() -> None:
    asked = Asked(7, 70)
    row_scale = torch.tensor([0.75], dtype=torch.float64).expand(7)
    expected = _all_of(asked, asked.block._replace(row_scale=row_scale.contiguous()), asked.along)

    def transposed(matrix: Tensor) -> Tensor:
        return matrix.t().contiguous().t()

    def sliced(matrix: Tensor) -> Tensor:
        return torch.full((15, 212), torch.nan, dtype=torch.float64)[1::2, 2::3].copy_(matrix)

    for of_product, of_along in ((transposed, sliced), (sliced, transposed)):
        block = asked.block._replace(product=of_product(asked.block.product), row_scale=row_scale)
        for found, known in zip(_all_of(asked, block, of_along(asked.along)), expected):
            close(found, known)


def _all_of(asked: Asked, block: Block, along: Tensor) -> list[Tensor]:
    out, other = torch.empty(70, 7, dtype=torch.float64).t(), torch.empty(7, 140, dtype=torch.float64)[:, ::2]
    column, kappa, reference = asked.column, asked.kappa, asked.reference
    return [
        *plain_kernels.largest(block, column, kappa),
        plain_kernels.power_sums(block, column, asked.nearest, reference),
        plain_kernels.weigh(block, column, kappa, reference, out),
        out,
        plain_kernels.project(block, along, column, asked.kappas, reference),
        *plain_kernels.gradient(block, column, kappa, reference, asked.scale, asked.own, other),
        other,
    ]


def test_the_first_of_equal_ones_is_the_nearest() -> None:
    product = torch.zeros(4, 200)
    product[:, [70, 130, 199]] = 1.0
    block = Block(product, torch.ones(4), torch.ones(200))
    value, column = plain_kernels.largest(block, torch.tensor([-1, 70, 130, 5]))
    assert value.tolist() == [1, 1, 1, 1]
    assert column.tolist() == [70, 130, 70, 70]


def test_no_other_class() -> None:
    block = Block(torch.ones(3, 1), torch.ones(3), torch.ones(1))
    column = torch.tensor([0, 1, -1])
    value, index = plain_kernels.largest(block, column)
    assert value.tolist() == [-math.inf, 1, 1]
    assert index.tolist() == [0, 0, 0]
    assert plain_kernels.weigh(block, column, torch.ones(3), torch.ones(3)).tolist() == [0, 1, 1]


def test_differences_come_before_a_large_factor() -> None:
    # Two classes of exactly the largest score, one a rounding error below it.
    top = torch.tensor(0.7)
    below = torch.nextafter(top, torch.tensor(0.0))
    block = Block(torch.stack([top, below, top, torch.tensor(-1.0)]).unsqueeze(0), torch.ones(1), torch.ones(4))
    nowhere, kappa = torch.tensor([-1]), torch.tensor([1e6])
    total = plain_kernels.weigh(block, nowhere, kappa, top.reshape(1))
    expected = 2 + math.exp(1e6 * (float(below) - float(top)))
    assert float(total) == pytest.approx(expected, rel=1e-6)


def test_two_bfloat16_hold_sixteen_bits() -> None:
    asked = Asked(7, 70, dtype=torch.float32)
    arguments = (asked.block, asked.column, asked.kappa, asked.reference)
    exact = torch.empty(7, 70)
    total = plain_kernels.weigh(*arguments, exact)
    out, low = torch.empty(7, 70, dtype=torch.bfloat16), torch.empty(7, 70, dtype=torch.bfloat16)
    assert torch.equal(plain_kernels.weigh(*arguments, out, low), total)
    assert torch.equal(out, exact.bfloat16())
    error = (out.double() + low.double() - exact.double()).abs()
    assert (error <= exact.double() * 2.0**-17 + 1e-38).all()
    assert (error > 0).any()  # more than they can hold was there
    gradient = (asked.column, asked.kappa, asked.reference, asked.scale, asked.own)
    plain_kernels.gradient(asked.block, *gradient, exact)
    plain_kernels.gradient(asked.block, *gradient, out)
    assert torch.equal(out, exact.bfloat16())


def test_a_zero_row_of_the_weight_has_score_and_weight_zero() -> None:
    asked = Asked(5, 8)
    asked.block.column_scale[2] = 0
    asked.column[:] = 0
    out = torch.empty(5, 8, dtype=torch.float64)
    plain_kernels.weigh(asked.block, asked.column, asked.kappa, asked.reference, out)
    assert torch.equal(out[:, 2], torch.zeros(5, dtype=torch.float64))
    assert (out[:, 1] > 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("of_target", [False, True])
def test_a_score_that_is_not_finite_is_loud_unless_it_is_left_out(bad: float, of_target: bool) -> None:
    asked = Asked(3, 70)
    asked.column[:] = 5
    asked.nearest[:] = 6
    asked.block.product[1, 5 if of_target else 66] = bad
    column, reference = asked.column, asked.reference
    results = [
        plain_kernels.largest(asked.block, column)[0],
        plain_kernels.power_sums(asked.block, column, asked.nearest, reference)[0, 0],
        plain_kernels.power_sums(asked.block, column, asked.nearest, reference)[2, 0],
        plain_kernels.weigh(asked.block, column, asked.kappa, reference),
        plain_kernels.project(asked.block, asked.along, column, asked.kappas[:1], reference)[1, 0],
    ]
    for number, result in enumerate(results):
        assert result[[0, 2]].isfinite().all()
        # A class that is infinitely far away has no weight, and is not the largest.
        silent = of_target or (bad == -math.inf and number in (0, 1, 3))
        assert bool(result[1].isfinite()) == silent
    if math.isnan(bad) and not of_target:
        assert int(plain_kernels.largest(asked.block, column)[1][1]) == 66


def test_a_bias_asks_for_kappa() -> None:
    asked = Asked(2, 3, bias=True)
    with pytest.raises(InputError, match="Expected kappa of each sample, because the block has a bias. Got None."):
        plain_kernels.largest(asked.block, asked.column)


@pytest.mark.parametrize("bias", [False, True])
def test_no_value_is_looked_at(bias: bool) -> None:
    # A tensor without values raises where one is asked for: what passes here waits for no device.
    with FakeTensorMode():
        block = Block(torch.empty(4, 70), torch.empty(4), torch.empty(70), torch.empty(70) if bias else None)
        column, row = torch.empty(4, dtype=torch.int64), torch.empty(4)
        out, low = torch.empty(4, 70, dtype=torch.bfloat16), torch.empty(4, 70, dtype=torch.bfloat16)
        plain_kernels.largest(block, column, row)
        plain_kernels.power_sums(block, column, column, row)
        plain_kernels.weigh(block, column, row, row, out, low)
        plain_kernels.project(block, torch.empty(4, 70), column, torch.empty(3, 4), row)
        plain_kernels.gradient(block, column, row, row, row, row, out)
        with pytest.raises(Exception, match="_local_scalar_dense"):
            row.sum().item()


def test_on_a_cpu_the_plain_kernels_work() -> None:
    assert kernels_for(torch.zeros(1)) is plain_kernels
    assert kernels_for(torch.zeros(1, dtype=torch.float64)) is plain_kernels


def test_on_a_gpu_triton_works_in_float32_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = types.SimpleNamespace(is_cuda=True, dtype=torch.float32)
    double: Any = types.SimpleNamespace(is_cuda=True, dtype=torch.float64)
    assert kernels_for(double) is plain_kernels
    package = "logitlab.functional.blockwise"
    if find_spec("triton") is not None:
        from logitlab.functional.blockwise import triton_kernels

        selection._triton_kernels.cache_clear()
        assert kernels_for(on_gpu) is triton_kernels
        monkeypatch.delattr(f"{package}.triton_kernels")
    for module in ("triton_kernels", "triton_programs"):
        monkeypatch.delitem(sys.modules, f"{package}.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    selection._triton_kernels.cache_clear()
    assert kernels_for(on_gpu) is plain_kernels
    selection._triton_kernels.cache_clear()
