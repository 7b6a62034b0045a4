"""Temperature scaling: likelihood and calibration before and after one number has been fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .probabilities import ProbabilityLink, chunk_log_probabilities, logit_chunks, uses_sigmoid
from .reliability import BinSums
from .result import Result, plain
from .temperature_fit import fit_temperature


@dataclass(frozen=True, kw_only=True, eq=False)
class TemperatureScaling(Result):
    """Calibration before and after temperature scaling: a row of W Table 3.

    Attributes:
        temperature: T; above 1 where the logits are overconfident. Also ``value``.
        fitted_on: samples that T was fitted on.
        nll_before: mean negative log-likelihood at T = 1, in nats.
        nll_after: the same at T.
        ece_before: expected calibration error at T = 1, a fraction.
        ece_after: the same at T.
    """

    name: ClassVar[str] = "temperature_scaling"

    temperature: float
    fitted_on: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float

    @property
    def value(self) -> float:
        """T."""
        return self.temperature

    @property
    def headline(self) -> str:
        """T and what it changes."""
        return (
            f"T {self.temperature:.4g}, nats {self.nll_before:.4g} to {self.nll_after:.4g}, "
            f"calibration error {self.ece_before:.4g} to {self.ece_after:.4g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``value`` is T, as ``temperature`` is."""
        return {**super().to_json(), "value": plain(self.value)}


def temperature_scaling(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    fit_logits: ArrayLike | None = None,
    fit_y: ArrayLike | None = None,
    link: ProbabilityLink = "softmax",
    bins: int = 15,
    split: str | None = None,
) -> TemperatureScaling:
    r"""Fit a temperature, and measure likelihood and calibration at T = 1 and at it.

    W Table 3 seems to fit T on the very images it reports (only "the ImageNet validation set" is named): so does this
    function unless ``fit_logits`` are given. Guo et al. fit on images of their own, held out of both training and test,
    which is the honest way where there are some. The convention of the result says which it was.

    Args:
        logits: what to measure, shape ``[N, C]``; -inf masks a class.
        y: class indices, shape ``[N]``.
        fit_logits: what to fit T on, shape ``[M, C]``; ``logits`` themselves if None.
        fit_y: class indices of ``fit_logits``, shape ``[M]``.
        link: ``"softmax"``, or ``"sigmoid"`` (``"normalized_sigmoid"``), whose probabilities
            :math:`\sigma(z_c/T) / \sum_k \sigma(z_k/T)` are what is calibrated.
        bins: of the calibration error, at least 1; W uses 15.
        split: the part of the data that is measured, kept in the result.

    Returns:
        A :class:`TemperatureScaling`. Where T is zero and a label has not the largest logit, ``nll_after`` is infinite.

    Raises:
        InputError: as :func:`~logitlab.analysis.fit_temperature`; no bins; ``fit_logits`` without ``fit_y`` or the
            other way round; another number of classes.
        UndefinedError: as :func:`~logitlab.analysis.fit_temperature`.

    References:
        W Table 3; Guo et al., "On calibration of modern neural networks", 2017, §4.2.

    >>> import math
    >>> found = temperature_scaling([[2 * math.log(3), 0.0]] * 4, [0, 0, 0, 1])  # says 9 in 10, is right in 3 of 4
    >>> print(found)  # doctest: +ELLIPSIS
    temperature_scaling T 2, nats 0.6547 to 0.5623, calibration error 0.15 to ... (... fitted on the same images; ...)
    """
    is_sigmoid = uses_sigmoid(link)
    rows = Rows(logits, "logits", allow_infinite=True)
    labels = read_labels(y, "y", *rows.shape)
    before, after = BinSums(bins), BinSums(bins)
    if (fit_logits is None) != (fit_y is None):
        raise InputError("Expected 'fit_logits' and 'fit_y' together, or neither. Got one of them.")
    if fit_logits is None:
        fit, where_fitted = fit_temperature(logits, y, link=link), "the same images"
    else:
        fit_rows = Rows(fit_logits, "fit_logits", allow_infinite=True)
        if fit_rows.shape[1] != rows.shape[1]:
            raise InputError(f"Expected 'fit_logits' of {rows.shape[1]} classes as 'logits'. Got {fit_rows.shape[1]}.")
        fit, where_fitted = fit_temperature(fit_logits, fit_y, link=link), "images of their own"
    nll = dict.fromkeys(("before", "after"), 0.0)
    for where, chunk in logit_chunks(rows):
        label = labels[where].to(rows.device)
        # The scaled logits have the same order as the plain ones, but rounding may tie what T brings together.
        correct = chunk.argmax(dim=1) == label
        for key, temperature, sums in (("before", 1.0, before), ("after", fit.value, after)):
            logarithm = chunk_log_probabilities(chunk, is_sigmoid, temperature)
            nll[key] -= float(logarithm.gather(1, label.unsqueeze(1)).sum())
            sums.add(logarithm.amax(dim=1).exp(), correct)
    return TemperatureScaling(
        convention=f"{fit.convention}; {before.convention}; fitted on {where_fitted}",
        n=len(rows),
        split=split,
        warnings=fit.warnings,
        temperature=fit.value,
        fitted_on=fit.n,
        # Rounding may leave -0.0: a likelihood has no negative cost.
        nll_before=max(0.0, nll["before"] / len(rows)),
        nll_after=max(0.0, nll["after"] / len(rows)),
        ece_before=before.expected_error,
        ece_after=after.expected_error,
    )
