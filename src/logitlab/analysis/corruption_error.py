"""Mean corruption error: how badly a model does on corrupted images, measured by how badly AlexNet did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from logitlab.config.errors import InputError
from logitlab.config.names import nearest_name

from .measurement import UndefinedError
from .result import Result

#: Top-1 error of AlexNet on each corruption of ImageNet-C, the mean over its five severities. From the code of
#: Hendrycks & Dietterich (2019).
ALEXNET_ERRORS: Final[dict[str, float]] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}

_SEVERITIES = 5

#: ``"alexnet"``, None, or the errors of another model: a mean over severities, or one number for each.
Baseline: TypeAlias = Literal["alexnet"] | Mapping[str, float | Sequence[float]] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CorruptionError(Result):
    """What :func:`mean_corruption_error` finds.

    Attributes:
        value: the mean corruption error, in percent.
        by_corruption: the corruption error of each corruption, in percent.
        mean_error: mean error over corruptions and severities, in percent and relative to nothing.
        n: error rates that it rests on.
    """

    name: ClassVar[str] = "mean_corruption_error"

    value: float
    by_corruption: dict[str, float]
    mean_error: float

    @property
    def headline(self) -> str:
        """The mean corruption error as the literature prints it: a percentage with one decimal."""
        return f"{self.value:.1f} %"


@dataclass(frozen=True, kw_only=True, eq=False)
class UnnormalizedCorruptionError(CorruptionError):
    """The same without a baseline: plain errors, which published mean corruption errors are not."""

    name: ClassVar[str] = "unnormalized_mean_corruption_error"


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], *, baseline: Baseline = "alexnet", split: str | None = None
) -> CorruptionError:
    r"""Mean over the corruptions of the error of a model, divided by that of a baseline.

    .. math:: \mathrm{CE}_c = 100 \cdot \frac{\sum_s e_{cs}}{\sum_s e_{cs}^{\text{AlexNet}}}, \qquad
        \mathrm{mCE} = \frac1{15} \sum_c \mathrm{CE}_c

    It is the number of W Table 2 for all fifteen corruptions of ImageNet-C at all five severities with AlexNet as the
    baseline; over fewer, or on images of one's own, it is comparable with nothing published, and a mapping with the
    errors of a model of one's own is the better baseline (of softmax, say: below 100 is better than softmax).

    Args:
        errors: corruption → top-1 error rate, a fraction in [0, 1], at each severity; as many severities for each.
        baseline: ``"alexnet"``: the published errors of AlexNet; a mapping from each corruption to the errors of
            another model at the same severities, or to their mean; None: divide by nothing, which is the mean error.
        split: the part of the data, kept in the result.

    Returns:
        Percentages, as the literature prints them; above 100 is worse than the baseline. ``value`` is their mean.

    Raises:
        InputError: no errors, one outside [0, 1], severities that differ in number, a corruption that the baseline
            lacks, or a baseline out of range.
        UndefinedError: a baseline without any error on some corruption.

    References:
        Hendrycks & Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
        ICLR 2019, §4.2; W Table 2.

    >>> half = {name: [error / 2] * 5 for name, error in ALEXNET_ERRORS.items()}
    >>> print(mean_corruption_error(half))
    mean_corruption_error 50.0 % (mean of 15 corruptions at 5 severities, relative to AlexNet on ImageNet-C; n = 75)
    """
    rates = {name: _read_rates(name, values) for name, values in errors.items()}
    if not rates:
        raise InputError("Expected the errors of at least one corruption. Got none.")
    severities = {len(values) for values in rates.values()}
    if len(severities) > 1:
        counts = ", ".join(f"{name} {len(values)}" for name, values in rates.items())
        raise InputError(f"Expected as many severities for each corruption. Got {counts}.")
    (levels,) = severities
    means = {name: math.fsum(values) / levels for name, values in rates.items()}
    plain_mean = 100 * math.fsum(means.values()) / len(means)
    how = f"mean of {_count(len(means), 'corruption')} at {_count(levels, 'severity')}"
    warnings = []
    if len(means) < len(ALEXNET_ERRORS):
        warnings.append(
            f"Only {len(means)} of the 15 corruptions of ImageNet-C: not comparable with published mean corruption "
            "errors."
        )
    if levels != _SEVERITIES:
        warnings.append(f"{_count(levels, 'severity')} instead of 5: not comparable with published numbers.")
    if baseline is None:
        return UnnormalizedCorruptionError(
            value=plain_mean,
            by_corruption={name: 100 * mean for name, mean in means.items()},
            mean_error=plain_mean,
            convention=f"{how}, relative to nothing: the mean error",
            n=len(means) * levels,
            split=split,
            warnings=tuple(warnings),
        )
    divisors = _read_baseline(baseline, means, levels)
    relative = {name: 100 * mean / divisors[name] for name, mean in means.items()}
    to_whom = "AlexNet on ImageNet-C" if isinstance(baseline, str) else "a baseline of the caller's"
    return CorruptionError(
        value=math.fsum(relative.values()) / len(relative),
        by_corruption=relative,
        mean_error=plain_mean,
        convention=f"{how}, relative to {to_whom}",
        n=len(means) * levels,
        split=split,
        warnings=tuple(warnings),
    )


def _read_baseline(
    baseline: Literal["alexnet"] | Mapping[str, float | Sequence[float]], means: Mapping[str, float], levels: int
) -> dict[str, float]:
    """Return the baseline's mean error on each corruption of ``means``."""
    if isinstance(baseline, str) and baseline != "alexnet":
        raise InputError(f"Expected 'baseline' as 'alexnet', None or a mapping. Got '{baseline}'.")
    errors: Mapping[str, float | Sequence[float]] = ALEXNET_ERRORS if isinstance(baseline, str) else baseline
    divisors = {}
    for name in means:
        if name not in errors:
            suggestion = nearest_name(name, errors)
            question = f" Did you mean '{suggestion}'?" if suggestion else ""
            raise InputError(f"Expected corruptions among {', '.join(errors)}. Got '{name}'.{question}")
        found = errors[name]
        values = _read_rates(f"{name} of the baseline", [found] if isinstance(found, int | float) else found)
        if len(values) not in (1, levels):
            raise InputError(
                f"Expected the baseline's '{name}' as one mean or as {levels} errors, one a severity. "
                f"Got {len(values)} errors."
            )
        divisors[name] = math.fsum(values) / len(values)
        if divisors[name] == 0:
            raise UndefinedError(f"The baseline makes no error on '{name}': nothing can be relative to that.")
    return divisors


def _read_rates(name: str, values: Sequence[float]) -> list[float]:
    try:
        rates = [float(value) for value in values]
    except (TypeError, ValueError) as fault:
        raise InputError(f"Expected the errors of '{name}' as numbers, one a severity. Got {values!r}.") from fault
    if not rates:
        raise InputError(f"Expected the errors of '{name}' at one severity or more. Got none.")
    wrong = [rate for rate in rates if not 0 <= rate <= 1]
    if wrong:
        hint = " Divide percentages by 100." if any(1 < rate <= 100 for rate in wrong) else ""
        raise InputError(f"Expected the errors of '{name}' as fractions in [0, 1]. Got {wrong[0]}.{hint}")
    return rates


def _count(number: int, word: str) -> str:
    plural = word if number == 1 else f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number} {plural}"
