"""Do two images show the same class? Accuracy over folds, and true accepts at a given rate of false ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name
from logitlab.statistics import mean_and_error

from .arrays import ArrayLike, Rows, read_flags, read_labels
from .counts import is_count
from .measurement import UndefinedError
from .result import Result

if TYPE_CHECKING:
    import numpy as np

    _Array: TypeAlias = np.ndarray[Any, Any]

ThresholdGrid = Literal["midpoints", "insightface"]

#: False-accept rates at which true accepts are told unless others are asked for.
FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3)

#: What the results say of their rates.
TAR_CONVENTION = "TAR: the largest whose FAR does not exceed the target, equal scores share a threshold"


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification(Result):
    """How well scores tell pairs of the same class from pairs of different ones.

    Attributes:
        value: mean accuracy over the folds.
        deviation: standard deviation of the folds' accuracies, divided by F (NumPy's ``ddof=0``): what the face
            literature prints behind ±.
        error: standard error of the mean over the folds.
        accuracies: of each fold, at the threshold chosen on the others; shape ``[F]``.
        thresholds: of each fold; scores *above* it are accepted; shape ``[F]``.
        auc: area under the ROC curve of all pairs.
        tar_at_far: false-accept rate → share of the pairs of one class accepted at no higher rate, over all pairs.
        base_rate: share of pairs of the same class.
    """

    name: ClassVar[str] = "verification"

    value: float
    deviation: float
    error: float
    accuracies: Tensor
    thresholds: Tensor
    auc: float
    tar_at_far: Mapping[float, float]
    base_rate: float

    @property
    def headline(self) -> str:
        """Accuracy with its standard error, AUC and TAR@FAR."""
        return f"{self.value:.4g} ± {self.error:.2g}, AUC {self.auc:.4g}{tar_line(self.tar_at_far)}"


def verification(
    score: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike | None = None,
    *,
    folds: int = 10,
    grid: ThresholdGrid = "midpoints",
    false_accept_rates: Sequence[float] = FALSE_ACCEPT_RATES,
    split: str | None = None,
) -> Verification:
    r"""Accuracy of "same class?" over folds, each at the threshold that is best on the others.

    A pair is accepted when its score lies above the threshold. Each of F folds (10 in the protocol of LFW) is
    classified with the threshold of highest accuracy on the other F - 1; of equally good thresholds the strictest,
    the highest, is taken. The value is the mean over folds, its error (LFW's report)

    .. math:: e = \frac1{\sqrt F} \sqrt{\frac1{F - 1} \sum_f (a_f - \bar a)^2}

    AUC and TAR@FAR rest on all pairs: the true-accept rate at a false-accept rate f is the largest share of accepted
    pairs of one class at any threshold that accepts at most a share f of the others.

    Args:
        score: of each pair, shape ``[N]``, larger is likelier the same: see :func:`pair_scores`.
        same: whether it is of one class, shape ``[N]``.
        fold: number of each pair's fold, shape ``[N]``; None: ``folds`` runs of pairs as they stand, of equal length
            (scikit-learn's ``KFold`` unshuffled).
        folds: F, where ``fold`` is None.
        grid: ``"midpoints"``: thresholds are the midpoints of neighbouring scores that occur on the other folds, and
            one beyond either end. ``"insightface"``: scores are minus squared distances of unit vectors, distances
            are compared with 0, 0.01, … 3.99 by a strict <; its flip-sum is the caller's affair: add the features of
            the mirrored image before they are normalised.
        false_accept_rates: rates in (0, 1] to give the true-accept rate at.
        split: the part of the data, kept in the result.

    Returns:
        A :class:`Verification`; all its rates are fractions in [0, 1].

    Raises:
        InputError: NaN, lengths that differ, options outside their range, fewer than two folds, or scores that no
            grid fits.
        UndefinedError: all pairs are of one kind.

    References:
        T Table 6, L Table 5, by the protocol of Huang et al., "Labeled Faces in the Wild", 2007, and insightface's
        ``eval/verification.py``, the code of T's reference [9]. Insightface's TAR@FAR is another: a threshold
        interpolated on nine folds. AUC and ROC curve by scikit-learn.

    >>> score = [0.9, 0.2, 0.8, 0.1, 0.7, 0.3]
    >>> print(verification(score, [1, 0, 1, 0, 1, 0], folds=3, false_accept_rates=[0.5]).headline)
    1 ± 0, AUC 1, TAR 1 at FAR 0.5
    """
    import numpy as np

    if grid not in get_args(ThresholdGrid):
        raise InputError(unknown_name("grid", str(grid), get_args(ThresholdGrid)))
    rates = read_rates(false_accept_rates)
    rows = Rows(score, "score", dimensions=1)
    scores = np.concatenate([chunk.cpu().numpy() for _, chunk in rows.chunks()])
    flags = read_flags(same, "same", len(rows)).cpu().numpy()
    if flags.all() or not flags.any():
        raise UndefinedError(f"Expected pairs of the same class and of different ones. Got {len(flags)} of one kind.")
    if grid == "insightface" and not (scores.min() >= -4.000001 and scores.max() <= 1e-6):
        raise InputError(
            "Expected minus squared distances of unit vectors, from -4 to 0, for grid='insightface'. "
            f"Got scores from {scores.min():.6g} to {scores.max():.6g}."
        )
    parts = _folds(fold, folds, len(rows))
    found = [_fold_accuracy(scores, flags, held_out, grid) for held_out in parts]
    accuracies = [accuracy for accuracy, _ in found]
    mean, error = mean_and_error(accuracies)
    auc, tar_at_far, warnings = roc(scores, flags, rates)
    lopsided = sum(int(flags[held_out].all() or not flags[held_out].any()) for held_out in parts)
    if lopsided:
        warnings += (
            f"{lopsided} of {len(parts)} folds hold pairs of one kind only: mix the pairs, or say 'fold' yourself.",
        )
    return Verification(
        value=mean,
        deviation=float(np.std(accuracies)),
        error=error if error is not None else 0.0,
        accuracies=torch.tensor(accuracies, dtype=torch.float64),
        thresholds=torch.tensor([threshold for _, threshold in found], dtype=torch.float64),
        auc=auc,
        tar_at_far=tar_at_far,
        base_rate=float(flags.mean()),
        convention=(
            f"mean accuracy over {len(parts)} folds, threshold of highest accuracy on the others, "
            f"{'squared distances 0:0.01:4, strict <' if grid == 'insightface' else 'midpoints of scores'}, "
            f"ties to the strictest; {TAR_CONVENTION}"
        ),
        n=len(rows),
        split=split,
        warnings=warnings,
    )


def _fold_accuracy(scores: _Array, flags: _Array, held_out: _Array, grid: ThresholdGrid) -> tuple[float, float]:
    """Accuracy on one fold at the threshold that is best on the others, and that threshold."""
    import numpy as np

    kept = np.ones(len(scores), dtype=bool)
    kept[held_out] = False
    # Strictest first. + 0.0 makes 0 of -0.
    thresholds = -np.arange(0, 4, 0.01) + 0.0 if grid == "insightface" else _midpoints(scores[kept])
    positives, negatives = np.sort(scores[kept & flags]), np.sort(scores[kept & ~flags])
    accepted = len(positives) - np.searchsorted(positives, thresholds, side="right")
    refused = np.searchsorted(negatives, thresholds, side="right")
    # argmax takes the first of equal ones.
    threshold = float(thresholds[np.argmax(accepted + refused)])
    return float(((scores[held_out] > threshold) == flags[held_out]).mean()), threshold


def _midpoints(scores: _Array) -> _Array:
    """Thresholds between any two scores that differ, and one beyond either end, from the highest."""
    import numpy as np

    distinct = np.unique(scores)[::-1]
    high, low = distinct[:-1], distinct[1:]
    middle = high / 2 + low / 2
    # Between neighbouring float64 numbers there is none; the lower one separates them, since > is strict.
    middle = np.where((middle >= low) & (middle < high), middle, low)
    # The highest score itself accepts nothing.
    return np.concatenate([distinct[:1], middle, [np.nextafter(distinct[-1], -np.inf)]])


def _folds(fold: ArrayLike | None, folds: int, count: int) -> list[_Array]:
    """Return the pairs of each fold."""
    import numpy as np
    from sklearn.model_selection import KFold

    if fold is None:
        if not is_count(folds, 2, count):
            raise InputError(f"Expected an integer 'folds' from 2 to {count}, the number of pairs. Got {folds!r}.")
        return [held_out for _, held_out in KFold(folds).split(np.zeros(count))]
    numbers = read_labels(fold, "fold", count).cpu().numpy()
    found = np.unique(numbers)
    if len(found) < 2:
        raise InputError("Expected at least two folds in 'fold': a threshold is chosen on the others. Got one.")
    return [np.flatnonzero(numbers == number) for number in found]


def roc(
    scores: _Array, flags: _Array, rates: tuple[float, ...], weights: _Array | None = None
) -> tuple[float, dict[float, float], tuple[str, ...]]:
    """Return the AUC, the TAR at each FAR, and what to warn of.

    Args:
        scores: shape ``[N]``.
        flags: of the same class or not, shape ``[N]``.
        rates: FARs.
        weights: number of pairs behind each entry; None: one.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score, roc_curve

    # Both measures ask for the order alone. Ranks keep it and its ties; sums of huge scores would overflow.
    ranks = np.unique(scores, return_inverse=True)[1]
    false_accepts, true_accepts, _ = roc_curve(flags, ranks, sample_weight=weights, drop_intermediate=False)
    # The curve starts where nothing is accepted, hence there is always an entry.
    tar_at_far = {rate: float(np.max(true_accepts[false_accepts <= rate])) for rate in rates}
    impostors = int((~flags).sum()) if weights is None else int(weights[~flags].sum())
    few = [rate for rate in rates if rate * impostors < 1]
    warnings: tuple[str, ...] = ()
    if few:
        told = ", ".join(f"{rate:g}" for rate in few)
        warnings = (
            f"{impostors} pairs of different classes are too few for a FAR of {told}: "
            "the TAR is that without a single false accept.",
        )
    return float(roc_auc_score(flags, ranks, sample_weight=weights)), tar_at_far, warnings


def read_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Refuse false-accept rates outside (0, 1].

    Raises:
        InputError: naming them.
    """
    try:
        found = tuple(float(rate) for rate in rates)
    except (TypeError, ValueError) as fault:
        raise InputError(f"Expected 'false_accept_rates' as a list of numbers. Got {rates!r}.") from fault
    if not all(0 < rate <= 1 for rate in found):
        raise InputError(f"Expected 'false_accept_rates' in (0, 1]. Got {list(found)}.")
    return found


def tar_line(tar_at_far: Mapping[float, float]) -> str:
    """Write true-accept rates as the end of a line; nothing where there are none.

    >>> tar_line({0.1: 0.75})
    ', TAR 0.75 at FAR 0.1'
    """
    return "".join(f", TAR {true:.4g} at FAR {rate:g}" for rate, true in tar_at_far.items())
