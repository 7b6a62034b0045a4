"""Scores of pairs of images, chosen ones or all there are, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name
from logitlab.functional import normalize

from .arrays import ArrayLike, Rows, read_labels
from .measurement import UndefinedError
from .result import Result
from .verification import FALSE_ACCEPT_RATES, TAR_CONVENTION, read_rates, roc, tar_line

PairMetric = Literal["cosine", "squared_euclidean"]

# Scores of all pairs are rounded to this share of the largest magnitude that they can have: 1e-6. A power of two, so
# that 0, 1 and 1/2 lie in the middle of what is rounded together, and float64's rounding moves none of them across.
_RESOLUTION = 2.0**-20

# Pairs are scored in blocks of at most so many rows by as many, with at most so many numbers of features each (32 MiB).
_BLOCK_ROWS = 2048
_BLOCK_ELEMENTS = 2**22


def pair_scores(
    x: ArrayLike, first: ArrayLike, second: ArrayLike, *, metric: PairMetric = "cosine", normalized: bool = True
) -> Tensor:
    """Score pairs of rows, block by block.

    Args:
        x: features, shape ``[N, D]``; a memory map is read in blocks.
        first: row of each pair's one member, shape ``[P]``.
        second: row of the other, shape ``[P]``.
        metric: ``"cosine"``, or ``"squared_euclidean"``: *minus* the squared distance, so that larger is likelier
            the same.
        normalized: scale each row to unit length before distances are taken, as insightface does; minus the squared
            distance is then 2 cos - 2. The cosine always is normalised.

    Returns:
        float64 ``[P]``, on the CPU. A zero row has cosine 0 to every row and stays zero when normalised.

    Raises:
        InputError: NaN or infinity, another metric, lengths that differ, or rows that do not exist.

    >>> pair_scores([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]], [0, 0], [1, 2])
    tensor([0., 1.], dtype=torch.float64)
    >>> pair_scores([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]], [0, 0], [1, 2], metric="squared_euclidean", normalized=False)
    tensor([-13.,  -4.], dtype=torch.float64)
    """
    _check_metric(metric)
    values = _sliceable(x)
    rows = Rows(values, "x")
    count = _length(first, "first")
    ones = read_labels(first, "first", count).cpu()
    others = read_labels(second, "second", count).cpu()
    for name, index in (("first", ones), ("second", others)):
        if int(index.min()) < 0 or int(index.max()) >= len(rows):
            raise InputError(
                f"Expected '{name}' to hold rows of 'x', 0 to {len(rows) - 1}. "
                f"Got values from {int(index.min())} to {int(index.max())}."
            )
    # Read in order once: a fault is told by its row, before anything is computed.
    for _ in rows.chunks():
        pass
    scores = torch.empty(count, dtype=torch.float64)
    step = max(1, _BLOCK_ELEMENTS // rows.shape[1])
    for start in range(0, count, step):
        where = slice(start, start + step)
        one, other = (_take(values, index[where]) for index in (ones, others))
        if metric == "cosine" or normalized:
            one, other = normalize(one), normalize(other)
        found = (one * other).sum(dim=1) if metric == "cosine" else -(one - other).square().sum(dim=1)
        scores[where] = found.cpu()
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class AllPairsVerification(Result):
    """How well scores tell all pairs of the same class from all pairs of different ones.

    Attributes:
        value: area under the ROC curve.
        uncertainty: the AUC of unrounded scores lies within this of ``value``.
        tar_at_far: false-accept rate → true-accept rate.
        resolution: scores were rounded to multiples of it.
        pairs_same: number of pairs of one class.
        pairs_different: number of the others.
    """

    name: ClassVar[str] = "all_pairs_verification"

    value: float
    uncertainty: float
    tar_at_far: Mapping[float, float]
    resolution: float
    pairs_same: int
    pairs_different: int

    @property
    def headline(self) -> str:
        """AUC and TAR@FAR."""
        return f"AUC {self.value:.4g}{tar_line(self.tar_at_far)}"


def all_pairs_verification(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: PairMetric = "cosine",
    normalized: bool = True,
    false_accept_rates: Sequence[float] = FALSE_ACCEPT_RATES,
    split: str | None = None,
) -> AllPairsVerification:
    """Verification on every pair of different rows, N(N - 1)/2 of them, in memory that does not grow with N².

    Scores are rounded to multiples of 2⁻²⁰ (1e-6) of the largest magnitude that they can have (1 for cosines, 4 for
    squared distances of unit vectors, four times the longest row's squared length for others) and counted. AUC and
    TAR@FAR are those of the rounded scores, exactly; pairs that round alike count as tied, and ``uncertainty`` says
    how much of the AUC hangs on them. Blocks of 2048 rows (fewer where D is large) are compared with each other, so the
    work is N²D and the features are read about half as often as there are blocks. There are no folds, since a row
    stands in many pairs.

    Args:
        x: features, shape ``[N, D]``; a memory map is read in blocks.
        y: class indices, shape ``[N]``.
        metric: ``"cosine"``, or ``"squared_euclidean"`` (by ‖a‖² + ‖b‖² - 2 a·b).
        normalized: as in :func:`pair_scores`.
        false_accept_rates: rates in (0, 1] to give the true-accept rate at.
        split: the part of the data, kept in the result.

    Returns:
        An :class:`AllPairsVerification`; all its rates are fractions in [0, 1].

    Raises:
        InputError: NaN or infinity, lengths that differ, or options outside their range.
        UndefinedError: no two rows of one class, or no two of different ones.

    References:
        L Table 5 and T Table 6 measure on chosen pairs; all pairs is the protocol of identification benchmarks such
        as IJB. AUC and ROC curve by scikit-learn, pairs of equal rounded score in one weighted entry.

    >>> found = all_pairs_verification([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [0, 0, 1])
    >>> found.value, found.pairs_same, found.pairs_different
    (1.0, 1, 2)
    """
    import numpy as np

    _check_metric(metric)
    rates = read_rates(false_accept_rates)
    values = _sliceable(x)
    rows = Rows(values, "x")
    labels = read_labels(y, "y", len(rows)).to(rows.device)
    # One array from the start: small ones that lie among freed chunks would keep their memory from being used again.
    lengths = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    for part, chunk in rows.chunks():
        lengths[part] = chunk.square().sum(dim=1)
    sizes = torch.unique(labels, return_counts=True)[1].tolist()
    pairs = len(rows) * (len(rows) - 1) // 2
    pairs_same = sum(size * (size - 1) // 2 for size in sizes)
    if pairs_same in (0, pairs):
        raise UndefinedError(f"Expected pairs of the same class and of different ones. Got {pairs} of one kind.")
    unit = metric == "cosine" or normalized
    largest = 1.0 if metric == "cosine" else 4.0 * (1.0 if normalized else float(lengths.max()))
    if not 0 < largest < float("inf"):
        raise UndefinedError("Expected rows whose squared lengths are finite and not all zero: nothing to compare.")
    resolution = largest * _RESOLUTION

    # Counted by rounded score: -K to K for cosines, -K to 0 for minus distances; pairs of different classes first.
    lowest = -round(1 / _RESOLUTION)
    width = (1 if metric == "squared_euclidean" else 2) * round(1 / _RESOLUTION) + 1
    counts = torch.zeros(2 * width, dtype=torch.int64, device=rows.device)
    for where, (one, other) in _blocks(values, len(rows), rows.shape[1], unit):
        score = one @ other.T
        if metric == "squared_euclidean":
            score = (2 * score - one.square().sum(dim=1, keepdim=True) - other.square().sum(dim=1)).clamp(max=0)
        bins = (score / resolution).round().long().clamp(lowest, lowest + width - 1) - lowest
        bins += width * (labels[where[0]].unsqueeze(1) == labels[where[1]])
        if where[0] == where[1]:
            # A pair once, and no row with itself.
            bins = bins[torch.ones_like(bins, dtype=torch.bool).triu(diagonal=1)]
        bins = bins.flatten()
        # Integers: exact in any order. bincount would make a whole histogram for every block.
        counts.scatter_add_(0, bins, torch.ones_like(bins))

    different, same = (part.cpu().numpy() for part in (counts[:width], counts[width:]))
    levels = np.arange(lowest, lowest + width) * resolution
    auc, tar_at_far, warnings = roc(
        np.concatenate([levels[different > 0], levels[same > 0]]),
        np.repeat([False, True], [(different > 0).sum(), (same > 0).sum()]),
        rates,
        np.concatenate([different[different > 0], same[same > 0]]),
    )
    tied = float(((different / (pairs - pairs_same)) * (same / pairs_same)).sum())
    zeros = int((lengths == 0).sum())
    if zeros and unit:
        warnings += (f"{zeros} of {len(rows)} feature rows are zero; their cosine to every row counts as 0.",)
    return AllPairsVerification(
        value=auc,
        uncertainty=tied / 2,
        tar_at_far=tar_at_far,
        resolution=resolution,
        pairs_same=pairs_same,
        pairs_different=pairs - pairs_same,
        convention=(
            f"AUC over all pairs of rows, {'cosine' if metric == 'cosine' else 'minus squared distance'}"
            f"{' of unit rows' if unit and metric != 'cosine' else ''} rounded to {resolution:.3g}; {TAR_CONVENTION}"
        ),
        n=len(rows),
        split=split,
        warnings=warnings,
    )


def _blocks(
    values: Any, count: int, width: int, unit: bool
) -> Iterator[tuple[tuple[slice, slice], tuple[Tensor, Tensor]]]:
    """Pairs of blocks of rows, each pair of blocks once, a block with itself too."""
    step = max(1, min(_BLOCK_ROWS, _BLOCK_ELEMENTS // width))
    parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    for index, part in enumerate(parts):
        one = _take(values, part)
        one = normalize(one) if unit else one
        for other_part in parts[index:]:
            other = one
            if other_part != part:
                other = _take(values, other_part)
                other = normalize(other) if unit else other
            yield (part, other_part), (one, other)


def _take(values: Any, where: slice | Tensor) -> Tensor:
    """Read some rows in float64."""
    if isinstance(where, Tensor):
        taken = values[where.to(values.device) if isinstance(values, Tensor) else where.numpy()]
    else:
        taken = values[where]
    return torch.cat([chunk for _, chunk in Rows(taken, "x").chunks()])


def _sliceable(x: ArrayLike) -> Any:
    """Return what can be indexed by slices and arrays: nested lists become a tensor."""
    if hasattr(x, "shape"):
        return x
    return torch.cat([chunk for _, chunk in Rows(x, "x").chunks()])


def _length(values: ArrayLike, name: str) -> int:
    try:
        count = len(values)
    except TypeError as fault:
        raise InputError(f"Expected '{name}' of shape [P]. Got {type(values).__name__} without a length.") from fault
    if not count:
        raise InputError(f"Expected '{name}' of shape [P], at least one pair. Got none.")
    return count


def _check_metric(metric: str) -> None:
    if metric not in get_args(PairMetric):
        raise InputError(unknown_name("metric", str(metric), get_args(PairMetric)))
