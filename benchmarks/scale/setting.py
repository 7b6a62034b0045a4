"""What is computed: a machine, taken on trust, and a batch against classes that are split over ranks."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30

#: Constants of the library that decide what a step does; tests/test_scale.py compares them with the library's.
LEVELS, SLOTS, ROUNDS, SHARE_TRIED = 9, 4, 2, 8
WORKSPACE, LITTLE_WORKSPACE, CHEAP_FEATURES = 2**31, 2**28, 1024
BLOCK, FEWEST = 2**23, 1024


@dataclass(frozen=True)
class Machine:
    """Assumptions about a GPU and its network, by default about an H200. None of them is a measurement of ours.

    Attributes:
        products: operations a second in products of bfloat16.
        vector: float32 instructions a second outside of products.
        memory: bytes a second.
        cache: bytes a second where a block stays in the second-level cache.
        cache_size: bytes of that cache.
        node: ranks in a node.
        nvlink: bytes a second in each direction between two ranks of a node.
        network: bytes a second in each direction of a rank's own card to other nodes.
        rails: whether a ring between nodes uses the cards of all ranks of a node at once, as NCCL's rings do.
        latency: seconds of an exchange for each doubling of the ranks, or for each hop.
        hops: whether an exchange waits for R - 1 hops instead of log2 R.
        capacity: bytes of memory.
    """

    products: float = 790e12
    vector: float = 33e12
    memory: float = 4.3e12
    cache: float = 5.5e12
    cache_size: float = 50e6
    node: int = 8
    nvlink: float = 450e9
    network: float = 50e9
    rails: bool = False
    latency: float = 10e-6
    hops: bool = False
    capacity: float = 139 * GIB

    def bandwidth(self, ranks: int, operation: str) -> float:
        """Bytes a second that a rank sends."""
        if ranks <= self.node:
            return self.nvlink
        if self.rails and operation != "all_to_all":
            # A byte crosses to another node once for all ranks of that node, on any of the cards.
            return min(self.nvlink, self.node * self.network)
        return self.network


@dataclass(frozen=True)
class Setting:
    """A step.

    Attributes:
        ranks: R.
        rows: n, samples of each rank.
        classes: C, of all ranks.
        features: D.
        least_squares: whether κ* is searched for; otherwise κ is known.
        operand: bytes of a number that goes into a product: 2 (bfloat16) or 4.
        weight: bytes of a number of the weight and of its gradient.
        state: numbers of the optimiser for each of the weight: 1 (SGD with momentum) or 2 (AdamW).
        state_width: bytes of each.
        undecided: share of the samples that are multiplied with b; 1 on a GPU, where no value is looked at.
        share: of the classes that take part in a step, beside the targets.
        keep: whether the scores are kept; None for what the library does.
    """

    ranks: int
    rows: int
    classes: int
    features: int = 512
    least_squares: bool = False
    operand: int = 2
    weight: int = 2
    state: int = 1
    state_width: int = 4
    undecided: float = 1.0
    share: float = 1.0
    keep: bool | None = None

    @property
    def all_rows(self) -> int:
        """N, samples of all ranks."""
        return self.ranks * self.rows

    @property
    def own(self) -> float:
        """c, classes of each rank."""
        return self.classes / self.ranks

    @property
    def active(self) -> float:
        """Classes of each rank that take part: at least as many as there are samples, if there are so many."""
        return self.own if self.share == 1 else min(self.own, max(self.share * self.own, self.all_rows))

    @property
    def tried(self) -> float:
        """Share of the samples that are rebuilt once more in each round, where no value is looked at."""
        return max(-(-self.rows // SHARE_TRIED), min(self.rows, 8)) / self.rows

    @property
    def kept(self) -> bool:
        """Whether the scores are kept between the turns."""
        if self.keep is not None:
            return self.keep
        # A product of few features in bfloat16 is computed again sooner than its result is read from memory.
        cheap = self.operand < 4 and self.features <= CHEAP_FEATURES
        return 4 * self.all_rows * self.active <= (LITTLE_WORKSPACE if cheap else WORKSPACE)

    @property
    def block(self) -> float:
        """Classes in a block on a GPU."""
        return min(self.active, max(FEWEST, BLOCK // self.all_rows // 256 * 256))
