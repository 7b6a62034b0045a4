"""Which models give the same answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name

from .arrays import ArrayLike, read_labels
from .measurement import Measurement
from .result import Result

AgreementKind = Literal["same", "both_right_or_both_wrong", "same_when_both_wrong"]

_CONVENTIONS = {
    "same": "share of samples with the same predicted class",
    "both_right_or_both_wrong": "share of samples on which both are right or both are wrong",
    "same_when_both_wrong": "share with the same predicted class among the samples on which both are wrong",
}


def agreement(
    first: ArrayLike, second: ArrayLike, y: ArrayLike | None = None, *, split: str | None = None
) -> Measurement:
    r"""Share of samples for which two models predict the same class.

    .. math:: \frac1N \sum_i [\hat y_i = \hat y'_i]

    Args:
        first: predicted classes (top-1) of one model, shape ``[N]``.
        second: of the other, samples in the same order.
        y: true classes, shape ``[N]``, for the two further ways of W to measure it.
        split: the part of the data, kept in the result. W measures on validation.

    Returns:
        A fraction in [0, 1]. ``details``, given ``y``: ``both_right_or_both_wrong``, the share of samples on which
        both are right or both are wrong, and ``same_when_both_wrong``, the share of equal answers among the samples
        on which both are wrong; NaN, with a warning, when there is no such sample.

    Raises:
        InputError: no class indices, or lengths that differ.

    References:
        W Figures 1 and D.1.

    >>> print(agreement([0, 1, 2, 0], [0, 1, 1, 1], [0, 1, 0, 0], split="test"))  # doctest: +NORMALIZE_WHITESPACE
    agreement 0.5 (share of samples with the same predicted class; test, n = 4);
    both_right_or_both_wrong 0.75; same_when_both_wrong 0
    """
    one = read_classes(first, "first")
    other = read_classes(second, "second", len(one))
    value = _similarity(one, other, None, "same")
    if y is None:
        return Measurement("agreement", value, _CONVENTIONS["same"], len(one), split)
    truth = read_classes(y, "y", len(one))
    details = {
        kind: _similarity(one, other, truth, kind) for kind in ("both_right_or_both_wrong", "same_when_both_wrong")
    }
    warnings: tuple[str, ...] = ()
    if math.isnan(details["same_when_both_wrong"]):
        warnings = ("The models are never both wrong: agreement among shared mistakes is undefined.",)
    return Measurement("agreement", value, _CONVENTIONS["same"], len(one), split, warnings, details)


@dataclass(frozen=True, kw_only=True, eq=False)
class AgreementMatrix(Result):
    """Agreement of every model with every other.

    Attributes:
        names: of the models, in order.
        kind: what counts as agreement.
        value: fractions, shape ``[M, M]``, symmetric; NaN where undefined.
    """

    name: ClassVar[str] = "agreement"

    names: tuple[str, ...]
    kind: AgreementKind
    value: Tensor

    @property
    def headline(self) -> str:
        """Number of models and the range over pairs of different ones."""
        apart = self.value[~torch.eye(len(self.names), dtype=torch.bool)]
        apart = apart[~apart.isnan()]
        between = f", {float(apart.min()):.4g} to {float(apart.max()):.4g} between different ones" if len(apart) else ""
        return f"of {len(self.names)} model{'s' if len(self.names) > 1 else ''}{between}"


def agreement_matrix(
    predictions: Mapping[str, ArrayLike],
    y: ArrayLike | None = None,
    kind: AgreementKind = "same",
    *,
    split: str | None = None,
) -> AgreementMatrix:
    """Agreement of every model with every other: W Figures 1a and D.1; with the answers of ensembles, D.2.

    Args:
        predictions: name → predicted classes, shape ``[N]`` each. For Figure D.2 give
            :func:`~logitlab.analysis.modal_vote` of each head's seeds.
        y: true classes, shape ``[N]``; needed unless ``kind`` is ``"same"``.
        kind: ``"same"``: the same predicted class; ``"both_right_or_both_wrong"``; ``"same_when_both_wrong"``: the
            same predicted class among the samples on which both are wrong (its diagonal is 1 too).
        split: the part of the data, kept in the result.

    Returns:
        The matrix; NaN, with a warning, for a pair that is never both wrong.

    Raises:
        InputError: no models, no class indices, lengths that differ, another kind, or no ``y`` where it is needed.

    References:
        W §3.2, Figures 1, D.1 and D.2.

    >>> found = agreement_matrix({"a": [0, 1, 2], "b": [0, 1, 1], "c": [2, 2, 2]}, split="test")
    >>> print(found.headline)
    of 3 models, 0 to 0.6667 between different ones
    """
    if kind not in get_args(AgreementKind):
        raise InputError(unknown_name("kind of agreement", str(kind), get_args(AgreementKind)))
    if not predictions:
        raise InputError("Expected the predictions of at least one model. Got none.")
    names = tuple(predictions)
    answers = [read_classes(predictions[names[0]], f"predictions[{names[0]!r}]")]
    count = len(answers[0])
    answers += [read_classes(predictions[name], f"predictions[{name!r}]", count) for name in names[1:]]
    if y is None and kind != "same":
        raise InputError(f"Expected 'y', the true classes, for agreement of kind {kind!r}. Got none.")
    truth = None if y is None else read_classes(y, "y", count)
    value = torch.empty(len(names), len(names), dtype=torch.float64)
    for row, one in enumerate(answers):
        for column, other in enumerate(answers[: row + 1]):
            value[row, column] = value[column, row] = _similarity(one, other, truth, kind)
    undefined = int(value.isnan().triu().sum())
    warnings: tuple[str, ...] = ()
    if undefined:
        warnings = (f"{undefined} of {len(names) * (len(names) + 1) // 2} pairs are never both wrong: undefined.",)
    return AgreementMatrix(
        names=names, kind=kind, value=value, convention=_CONVENTIONS[kind], n=count, split=split, warnings=warnings
    )


def read_classes(values: ArrayLike, name: str, count: int | None = None) -> Tensor:
    """Read predicted or true classes.

    Args:
        values: integers from 0, shape ``[N]``.
        name: what the caller calls them.
        count: N, where it is known.

    Returns:
        int64 ``[N]`` on the CPU: models may have answered on different devices.

    Raises:
        InputError: another shape, empty, no integers, or negative ones.
    """
    try:
        length = len(values)
    except TypeError as fault:
        raise InputError(f"Expected '{name}' of shape [N]. Got {type(values).__name__} without a length.") from fault
    if length == 0:
        raise InputError(f"Expected '{name}' of shape [N], not empty. Got [0].")
    classes = read_labels(values, name, length if count is None else count).cpu()
    if int(classes.min()) < 0:
        raise InputError(f"Expected '{name}' to hold class indices, from 0. Got {int(classes.min())}.")
    return classes


def _similarity(one: Tensor, other: Tensor, truth: Tensor | None, kind: str) -> float:
    if kind == "same" or truth is None:
        return int((one == other).sum()) / len(one)
    if kind == "both_right_or_both_wrong":
        return int(((one == truth) == (other == truth)).sum()) / len(one)
    both_wrong = (one != truth) & (other != truth)
    shared = int(both_wrong.sum())
    return int((one == other)[both_wrong].sum()) / shared if shared else math.nan
