"""Two heads on the same seeds, or two models on the same images: is the difference more than chance? No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from logitlab.config.errors import InputError, ParameterError

if TYPE_CHECKING:
    import numpy as np

# Differences closer together than this share of the values are equal but for rounding: 0.2 - 0.1 and 0.3 - 0.2.
_ROUNDING = 1e-12

# Numbers that SciPy's bootstrap may hold at once: 32 MiB. Its own default would hold resamples x images.
_BATCH_ELEMENTS = 2**22


@dataclass(frozen=True)
class PairedDifference:
    """What two groups of runs differ by, seed by seed.

    Attributes:
        mean: of first minus second over the seeds that both have.
        error: standard error of the mean; None with one seed.
        p: two-sided, of Student's paired t-test; None where the seeds give no estimate of the noise.
        n: seeds compared.
        left_out: seeds that only one of the two has a value for.
    """

    mean: float
    error: float | None
    p: float | None
    n: int
    left_out: tuple[int, ...] = ()

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.2g}"
        p = "no test" if self.p is None else f"p = {self.p:.3g}"
        rest = f"; left out, in one group only: seed {', '.join(map(str, self.left_out))}" if self.left_out else ""
        return f"difference {self.mean:+.4g}{error} ({p}, paired t-test, n = {self.n} seeds{rest})"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def paired_difference(first: Mapping[int, float | None], second: Mapping[int, float | None]) -> PairedDifference:
    r"""Compare two groups of runs seed by seed, where runs of one seed share their start and their batches.

    .. math:: t = \frac{\bar d}{s_d / \sqrt n}, \qquad d_i = a_i - b_i

    with n - 1 degrees of freedom. What a seed does to both runs alike cancels, so that smaller differences show
    than in the two-sample test of :func:`compare_to_best`. Differences that are all equal say nothing about the
    noise (SciPy would answer p = 0): p is 1 where they are all zero and None where they are not.

    Args:
        first: seed → value; None and NaN (undefined) count as missing.
        second: the same of the other group.

    Raises:
        InputError: no seed has a value in both, or one is infinite.

    References:
        Student, "The probable error of a mean", 1908. Computed by ``scipy.stats.ttest_1samp``.

    >>> print(paired_difference({0: 0.91, 1: 0.93, 2: 0.92}, {0: 0.90, 1: 0.91, 2: 0.91, 3: 0.95}))
    difference +0.01333 ± 0.0033 (p = 0.0572, paired t-test, n = 3 seeds; left out, in one group only: seed 3)
    """
    values, others = _defined(first), _defined(second)
    seeds = sorted(values.keys() & others.keys())
    if not seeds:
        raise InputError(
            f"Expected at least one seed with a value in both groups. Got seeds {sorted(values)} and {sorted(others)}."
        )
    differences = [values[seed] - others[seed] for seed in seeds]
    mean = statistics.fmean(differences)
    left_out = tuple(sorted(values.keys() ^ others.keys()))
    if len(seeds) == 1:
        return PairedDifference(mean, None, None, 1, left_out)
    largest = max(max(abs(values[seed]), abs(others[seed])) for seed in seeds)
    if max(differences) - min(differences) <= _ROUNDING * largest:
        return PairedDifference(mean, 0.0, 1.0 if abs(mean) <= _ROUNDING * largest else None, len(seeds), left_out)
    from scipy.stats import ttest_1samp

    error = statistics.stdev(differences) / math.sqrt(len(seeds))
    return PairedDifference(mean, error, float(ttest_1samp(differences, 0.0).pvalue), len(seeds), left_out)


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images: who is right where the other is not.

    Attributes:
        both: images that both models classify correctly.
        first_only: images that only the first does.
        second_only: images that only the second does.
        neither: images that none does.
        p: two-sided, exact.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    p: float

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the first minus accuracy of the second."""
        return (self.first_only - self.second_only) / self.n

    def __str__(self) -> str:
        return (
            f"difference {self.difference:+.4g} (p = {self.p:.3g}, exact McNemar test: "
            f"{self.first_only} images only the first has right, {self.second_only} only the second; n = {self.n})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``, ``difference`` and ``n`` too."""
        return {**asdict(self), "difference": self.difference, "n": self.n}


def mcnemar(first_correct: Iterable[bool], second_correct: Iterable[bool]) -> McNemar:
    r"""Compare two models by the images that only one of them has right.

    .. math:: p = \min\Bigl(1,\; 2 \sum_{k=0}^{\min(b, c)} \binom{b + c}{k} 2^{-(b + c)}\Bigr)

    If both were equally good, each of the b + c images on which they differ would be as likely to fall to the one
    as to the other. No normal approximation, no correction for continuity. Without such an image p is 1: the
    models made the same mistakes.

    It tells whether *these two models* differ on images like these. Whether their heads do takes several seeds:
    :func:`paired_difference`.

    Args:
        first_correct: whether the first model's answer is right, one an image; booleans, or 0 and 1.
        second_correct: the same of the second model, images in the same order.

    Raises:
        InputError: no images, lengths that differ, or other values.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
        1947. Computed by ``scipy.stats.binomtest``.

    >>> print(mcnemar([True] * 9 + [False], [False] * 8 + [True] * 2))
    difference +0.7 (p = 0.0391, exact McNemar test: 8 images only the first has right, 1 only the second; n = 10)
    """
    from scipy.stats import binomtest

    first, second = _flags(first_correct, second_correct)
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    both = int((first & second).sum())
    differing = first_only + second_only
    p = float(binomtest(first_only, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(both, first_only, second_only, len(first) - both - differing, p)


@dataclass(frozen=True)
class BootstrapDifference:
    """How far the difference of two accuracies may be off.

    Attributes:
        difference: accuracy of the first minus accuracy of the second.
        low: lower end of the interval; None where there is none (see ``warnings``).
        high: upper end.
        level: coverage that the interval aims at.
        resamples: drawn.
        n: images.
        warnings: why there is no interval, a sentence each.
    """

    difference: float
    low: float | None
    high: float | None
    level: float
    resamples: int
    n: int
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:+.4g} to {self.high:+.4g}"
        line = (
            f"difference {self.difference:+.4g} ({interval}, {self.level:.4g} percentile bootstrap over images, "
            f"{self.resamples} resamples; n = {self.n})"
        )
        return "\n".join([line, *(f"  warning: {warning}" for warning in self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def bootstrap_difference(
    first_correct: Iterable[bool],
    second_correct: Iterable[bool],
    *,
    resamples: int = 9999,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapDifference:
    """Interval for the difference of two models' accuracies on the same images, by resampling the images.

    Both models' answers to an image are drawn together (paired). The interval is the *percentile* one: the
    quantiles of the resampled differences. BCa would correct it for skewness, which a mean of thousands of numbers
    between -1 and 1 hardly has, at a price of N² steps.

    As with :func:`mcnemar`, images vary here, seeds do not. Models that differ on every image alike (on none of
    them, mostly) say nothing about the noise: there is no interval then, and a warning says so.

    Args:
        first_correct: whether the first model's answer is right, one an image; booleans, or 0 and 1.
        second_correct: the same of the second model, images in the same order.
        resamples: at least 99.
        level: of the interval, in (0, 1).
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ParameterError: an option outside its range.
        InputError: no images, lengths that differ, or other values.

    References:
        Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13. Computed by
        ``scipy.stats.bootstrap``.

    >>> found = bootstrap_difference([True] * 80 + [False] * 20, [True] * 70 + [False] * 30)
    >>> round(found.difference, 4), round(found.low, 4), round(found.high, 4)
    (0.1, 0.05, 0.16)
    """
    _check(resamples, level, seed)
    first, second = _flags(first_correct, second_correct)
    # One number an image: to draw it is to draw both answers together.
    differences = first.astype(float) - second.astype(float)
    count, mean = len(differences), float(differences.mean())
    if (differences == differences[0]).all():
        if count == 1:
            warning = "One image gives no interval."
        elif differences[0] == 0:
            warning = "The models are right and wrong on the same images: nothing tells how far 0 may be off."
        else:
            warning = "The models differ on every image alike: nothing tells how far the difference may be off."
        return BootstrapDifference(mean, None, None, level, resamples, count, (warning,))
    interval = _percentile_interval(differences, resamples, level, seed)
    return BootstrapDifference(mean, *interval, level, resamples, count)


def _percentile_interval(
    differences: np.ndarray[Any, Any], resamples: int, level: float, seed: int
) -> tuple[float, float]:
    import inspect

    import numpy as np
    from scipy.stats import bootstrap

    # SciPy 1.15 renamed the argument.
    generator = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _BATCH_ELEMENTS // len(differences)),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        **{generator: np.random.default_rng(seed)},
    ).confidence_interval
    return float(found.low), float(found.high)


def _defined(values: Mapping[int, float | None]) -> dict[int, float]:
    kept = {seed: float(value) for seed, value in values.items() if value is not None and not math.isnan(value)}
    infinite = [seed for seed, value in kept.items() if math.isinf(value)]
    if infinite:
        raise InputError(f"Expected finite values. Got an infinite one for seed {infinite[0]}.")
    return kept


def _flags(first: Iterable[bool], second: Iterable[bool]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    import numpy as np

    found = []
    for name, given in (("first_correct", first), ("second_correct", second)):
        # Arrays and tensors (on the CPU) are taken whole; element by element they would be slow.
        values = np.asarray(given if hasattr(given, "__array__") else list(given))
        if values.ndim != 1 or not len(values):
            raise InputError(f"Expected '{name}' of shape [N], not empty. Got {list(values.shape)}.")
        if values.dtype.kind not in "biuf" or not ((values == 0) | (values == 1)).all():
            raise InputError(f"Expected '{name}' to hold true and false (or 1 and 0). Got other values.")
        found.append(values.astype(bool))
    if len(found[0]) != len(found[1]):
        raise InputError(f"Expected both models' answers to the same images. Got {len(found[0])} and {len(found[1])}.")
    return found[0], found[1]


def _check(resamples: int, level: float, seed: int) -> None:
    faults = []
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 99:
        faults.append(f"'resamples' must be an integer of at least 99. Got {resamples!r}.")
    if not (isinstance(level, (int, float)) and math.isfinite(level) and 0 < level < 1):
        faults.append(f"'level' must be a number in the range (0, 1). Got {level!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        faults.append(f"'seed' must be an integer of at least 0. Got {seed!r}.")
    if faults:
        raise ParameterError(faults)
