"""The least time of a step on a machine that is taken on trust: products, kernels, memory, network, one after another.

Nothing here was measured, and nothing overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from . import protocol
from .protocol import Exchange
from .setting import ROUNDS, Machine, Setting


class Kernel(NamedTuple):
    """What one kernel does with each score.

    Attributes:
        instructions: in float32, an exponential for four.
        traffic: bytes read and written, beside those of the products.
    """

    instructions: int
    traffic: int


#: Counted from the formulas: two factors, a difference and a mask for each score, an exponential, and its sums.
LARGEST, POWERS, WEIGH, PROJECT, GRADIENT = Kernel(5, 4), Kernel(45, 4), Kernel(12, 6), Kernel(38, 8), Kernel(14, 6)


class Products(NamedTuple):
    """Products of all samples with all classes of a rank, in multiples of 2 N c D operations.

    Attributes:
        scores: of features and weight, each time they are computed.
        combine: that give a row for each sample: reconstructions and gradients of the features.
        direction: of b and weight.
        gradient: of the weight.
    """

    scores: float
    combine: float
    direction: float
    gradient: float


def products(setting: Setting) -> Products:
    """How many of each."""
    if not setting.least_squares:
        return Products(1 if setting.kept else 2, 1, 0, 1)
    # What is tried is rebuilt with all digits of its coefficients: by two products of bfloat16.
    tried = ROUNDS * setting.tried * (2 if setting.operand < 4 else 1)
    turns = 3 + setting.undecided + ROUNDS * setting.tried
    return Products(1 if setting.kept else turns, 1 + tried, setting.undecided, 1)


class Times(NamedTuple):
    """Seconds of a step.

    Attributes:
        products: of matrices.
        kernels: over the scores.
        sums: adding what the blocks gave for each sample.
        weight: reading the weight, writing its gradient, and the step of the optimiser.
        network: bytes over bandwidth.
        latency: of the exchanges.
    """

    products: float
    kernels: float
    sums: float
    weight: float
    network: float
    latency: float

    @property
    def compute(self) -> float:
        return self.products + self.kernels + self.sums + self.weight

    @property
    def communication(self) -> float:
        return self.network + self.latency

    @property
    def total(self) -> float:
        return self.compute + self.communication


def times(setting: Setting, machine: Machine) -> Times:
    """The parts of a step."""
    scores, counts = setting.all_rows * setting.active, products(setting)
    operations = 2 * scores * setting.features * sum(counts)
    # float32 products that keep their digits take three of bfloat16 at least.
    rate = machine.products if setting.operand < 4 else machine.products / 3
    found = protocol.exchanges(setting)
    return Times(
        operations / rate,
        scores * _kernels(setting, machine),
        _sums(setting, machine, counts),
        _weight(setting, machine, counts),
        network(found, setting, machine),
        latency(found, setting, machine),
    )


def _kernels(setting: Setting, machine: Machine) -> float:
    """Seconds for each score."""
    cached = not setting.kept and 4 * setting.all_rows * setting.block <= machine.cache_size
    bandwidth = machine.cache if cached else machine.memory

    def least(kernel: Kernel) -> float:
        return max(kernel.instructions / machine.vector, kernel.traffic / bandwidth)

    if not setting.least_squares:
        return least(LARGEST) + least(WEIGH) + least(GRADIENT)
    searched = least(LARGEST) + least(POWERS) + setting.undecided * least(PROJECT)
    return searched + (1 + ROUNDS * setting.tried) * least(WEIGH) + least(GRADIENT)


def _sums(setting: Setting, machine: Machine, counts: Products) -> float:
    """Each block adds to a matrix of all samples: with products of bfloat16 written once more and read again."""
    matrix = 4 * setting.all_rows * setting.features
    bandwidth = machine.cache if matrix <= machine.cache_size else machine.memory
    blocks = math.ceil(setting.active / setting.block)
    return counts.combine * blocks * matrix * (4 if setting.operand < 4 else 2) / bandwidth


def _weight(setting: Setting, machine: Machine, counts: Products) -> float:
    numbers = setting.own * setting.features
    # Lengths and each product read it; the gradient is written; the optimiser reads both and its state, writes two.
    reads = 1 + counts.scores + counts.combine + counts.direction
    step = setting.active / setting.own * (reads + 1) * setting.weight
    update = 3 * setting.weight + 2 * setting.state * setting.state_width
    return numbers * (step + update) / machine.memory


def network(found: list[Exchange], setting: Setting, machine: Machine) -> float:
    """Seconds for the bytes alone."""
    ranks = setting.ranks
    return sum(each.sent(ranks, setting.rows) / machine.bandwidth(ranks, each.operation) for each in found)


def latency(found: list[Exchange], setting: Setting, machine: Machine) -> float:
    """Seconds for the exchanges as such."""
    steps = setting.ranks - 1 if machine.hops else math.ceil(math.log2(setting.ranks))
    return machine.latency * steps * len(found)


def classes_a_rank(setting: Setting, machine: Machine) -> float:
    r"""The classes of a rank below which the bytes alone take longer than the products alone, between many nodes.

    .. math:: \frac{C}{R} = \frac{F}{2pD}\ \sum_e \frac{\beta_e}{B_e}

    for p products at F operations a second and β_e bytes a sample for exchange e, at B_e bytes a second; with a share
    of the classes over that share. The number of samples is in neither.
    """
    far = 2**20
    spent = sum(each.bytes_a_row() / machine.bandwidth(far, each.operation) for each in protocol.exchanges(setting))
    count = sum(products(setting))
    return machine.products * spent / (2 * count * setting.features)


def saturation(setting: Setting, machine: Machine, most: int = 2**20) -> int | None:
    """The fewest ranks at which communication takes as long as everything else; None above ``most``."""

    def saturated(ranks: int) -> bool:
        found = times(replace(setting, ranks=ranks), machine)
        return found.communication >= found.compute

    return first(saturated, 2, most)


def first(holds: Callable[[int], bool], low: int, most: int) -> int | None:
    """The least number from which on it holds; found by doubling, then by halving."""
    high = low
    while not holds(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1 and not holds(low):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low if holds(low) else high
