"""What the ranks tell each other in a step: every exchange by the name under which the library counts it."""

from __future__ import annotations

from typing import NamedTuple

from .setting import LEVELS, ROUNDS, SLOTS, Setting

#: What a rank sends through the network, over what it hands to the operation. Rings, and direct messages of all to all.
SENT = {
    "all_gather": lambda ranks: ranks - 1,
    "all_to_all": lambda ranks: (ranks - 1) / ranks,
    "reduce_scatter": lambda ranks: (ranks - 1) / ranks,
    "all_reduce": lambda ranks: 2 * (ranks - 1) / ranks,
}


class Exchange(NamedTuple):
    """One of them.

    Attributes:
        what: its name.
        operation: a key of ``SENT``.
        numbers: for each sample of all ranks that takes part.
        width: bytes of a number.
        part: share of the samples that take part.
        search: whether there is such an exchange only because κ* is searched for.
        once: numbers beside those of the samples.
    """

    what: str
    operation: str
    numbers: float
    width: int
    part: float = 1.0
    search: bool = False
    once: float = 0

    def handed(self, ranks: int, rows: int) -> float:
        """Numbers that a rank hands to the operation: its own samples' for all_gather, otherwise those of all."""
        samples = rows if self.operation == "all_gather" else ranks * rows
        return samples * self.part * self.numbers + self.once

    def sent(self, ranks: int, rows: int) -> float:
        """Bytes that a rank sends, and as many it receives."""
        return float(SENT[self.operation](ranks) * self.handed(ranks, rows) * self.width)

    def bytes_a_row(self) -> float:
        """Bytes sent for each sample of all ranks, but for the factor (R - 1)/R."""
        return self.part * self.numbers * self.width * (2 if self.operation == "all_reduce" else 1)


class Looked(NamedTuple):
    """What the values of a batch decide where they may be read, on a CPU; a GPU is never asked.

    Attributes:
        owned: samples of all ranks whose targets this rank has.
        slots: candidates that are projected for each sample; 0 where none is undecided.
        asking: samples of each rank whose candidates are projected.
        tried: by round, samples of each rank that are rebuilt once more.
    """

    owned: int
    slots: int
    asking: int
    tried: tuple[int, ...]


def exchanges(setting: Setting, looked: Looked | None = None) -> list[Exchange]:
    """Those of a step of ``ShardedHead``, in their order: a cosine head with a margin, without a bias.

    Args:
        setting: the step.
        looked: what was read on the way; None for a GPU.
    """
    found = [] if looked is None else [Exchange("the number of samples", "all_reduce", 0, 8, once=4)]
    found.append(Exchange("targets", "all_gather", 1, 8))
    found.append(Exchange("features", "all_gather", setting.features, setting.operand))
    if setting.operand < 4:
        found.append(Exchange("lengths of features", "all_gather", 1, 4))
    found += (
        _search(setting, looked) if setting.least_squares else [_float("the sums over the rivals", "all_to_all", 3)]
    )
    found.append(Exchange("the number of samples", "all_reduce", 0, 4, once=1))
    found.append(Exchange("the loss", "all_reduce", 0, 4, once=1))
    found.append(_float("gradients of the terms", "all_gather", 3))
    if not setting.least_squares:
        found.append(_float("gradients of the features", "reduce_scatter", setting.features))
    return found


def _float(what: str, operation: str, numbers: float) -> Exchange:
    return Exchange(what, operation, numbers, 4)


def _search(setting: Setting, looked: Looked | None) -> list[Exchange]:
    features, part = setting.features, setting.undecided
    dealt = Exchange("the weights of the targets", "reduce_scatter", features, setting.weight)
    if looked is not None:
        dealt = dealt._replace(operation="all_to_all", numbers=0, once=looked.owned * features)
    found = [_float("the power sums", "all_to_all", 2 + 3 * LEVELS), dealt]
    found.append(_float("κ and the largest cosine", "all_gather", 2))
    # It stands in the place of the gradients of the features.
    rebuilt = _float("the reconstructions", "reduce_scatter", features + 1)
    found.append(rebuilt)
    flag = Exchange("whether a κ is undecided", "all_reduce", 0, 4, once=1)
    slots = SLOTS if looked is None else looked.slots
    if looked is not None:
        found.append(flag)
        if slots:
            found.append(Exchange("how many κ and rows are undecided", "all_reduce", 0, 8, once=2))
            part = looked.asking / setting.rows
            if looked.asking < setting.rows:
                found.append(Exchange("which rows are undecided", "all_gather", 1, 8, part))
    if slots:
        found.append(Exchange("directions across the features", "all_gather", features, setting.operand, part))
        found.append(Exchange("κ to rule out", "all_gather", slots, 4, part))
        found.append(Exchange("the projections", "all_to_all", 3 * slots, 4, part))
    for share in ROUNDS * (setting.tried,) if looked is None else (count / setting.rows for count in looked.tried):
        if looked is not None:
            found += [flag, Exchange("how many rows are undecided", "all_reduce", 0, 8, once=1)]
        found.append(Exchange("which rows are tried", "all_gather", 1, 8, share))
        found.append(Exchange("a κ to try", "all_gather", 1, 4, share))
        found.append(Exchange("reconstructions that were tried", "reduce_scatter", features + 1, 4, share))
    if looked is not None:
        found.append(flag)
    found.append(_float("κ", "all_gather", 1))
    found.append(_float("κ* and which samples count", "all_gather", 2))
    return [each if each is rebuilt else each._replace(search=True) for each in found]


def partial_fc(setting: Setting) -> list[Exchange]:
    """Those of insightface's PartialFC_V2, read off its source: all in float32, whatever the operands."""
    features = setting.features
    return [
        Exchange("features", "all_gather", features, 4),
        Exchange("targets", "all_gather", 1, 8),
        Exchange("the largest logit", "all_reduce", 1, 4),
        Exchange("the sum of the exponentials", "all_reduce", 1, 4),
        Exchange("the target's probability", "all_reduce", 1, 4),
        # R operations called reduce, one to each rank.
        Exchange("gradients of the features", "reduce_scatter", features, 4),
    ]


def sent(found: list[Exchange], setting: Setting) -> float:
    """Bytes that a rank sends in a step."""
    return sum(each.sent(setting.ranks, setting.rows) for each in found)


def replicated(setting: Setting) -> float:
    """Bytes that a rank sends where each has the whole weight and its gradient is averaged (DDP), in the ring."""
    return float(SENT["all_reduce"](setting.ranks) * setting.classes * setting.features * setting.weight)
