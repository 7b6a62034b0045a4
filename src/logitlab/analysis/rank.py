"""Rank of a feature distribution, by one of three named rules."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name

from .arrays import ArrayLike
from .measurement import Measurement, UndefinedError
from .spectra import singular_values

Rule = Literal["energy_99", "float32", "entropy"]

_CONVENTIONS = {
    "energy_99": "singular values that hold 99 % of the sum of squares",
    "float32": "singular values above max(N, D) times float32's epsilon times the largest",
    "entropy": "exponential of the entropy of the singular values as shares of their sum",
}


def feature_rank(
    x: ArrayLike, rule: Rule = "energy_99", *, center: bool = False, split: str | None = None
) -> Measurement:
    r"""How many directions the features fill.

    With singular values :math:`\sigma_1 \ge \sigma_2 \ge \dots` of the features:

    .. math:: \text{energy\_99} = \min\Big\{k : \sum_{i \le k} \sigma_i^2 \ge 0.99 \sum_i \sigma_i^2\Big\}, \quad
        \text{float32} = \#\{i : \sigma_i > \sigma_1 \max(N, D)\, 2^{-23}\}, \quad
        \text{entropy} = \exp\Big(-\sum_i p_i \ln p_i\Big),\ p_i = \frac{\sigma_i}{\sum_j \sigma_j}

    T Table 3 prints a rank without saying by which rule; of these three ``"energy_99"`` fits its values best.
    ``"float32"`` is what a library's ``matrix_rank`` says of float32 features; it falls as N grows. T does not say
    whether features were centred or normalised either; hand over normalised features for the rank of directions.

    Args:
        x: features, shape ``[N, D]``; more dimensions are flattened.
        rule: which of the three is the ``value``.
        center: subtract the mean of the features first.
        split: the part of the data, kept in the result.

    Returns:
        Between 1 and min(N, D), a whole number except for ``"entropy"``; ``details`` hold all three.

    Raises:
        InputError: NaN or infinity, another rule, no rows.
        UndefinedError: features that are all zero (all the same, when centred).

    References:
        T Table 3. Entropy: Roy and Vetterli, "The effective rank", EUSIPCO 2007.

    >>> feature_rank([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]], "entropy").value
    2.0
    """
    if rule not in get_args(Rule):
        raise InputError(unknown_name("rule", str(rule), get_args(Rule)))
    spectrum = singular_values(x, center=center, split=split)
    # What rounding leaves of zero is no direction.
    values = torch.where(spectrum.value > spectrum.resolved, spectrum.value, 0.0)
    if not bool(values[0] > spectrum.negligible):
        what = "that differ. Got the same point in every row" if center else "that are not all zero. Got zeros"
        raise UndefinedError(f"Expected features {what}: they have no rank.")
    details = {name: _rank(values / values[0], name, max(spectrum.n, spectrum.columns)) for name in get_args(Rule)}
    return Measurement(
        "feature_rank",
        details[rule],
        f"{_CONVENTIONS[rule]}; {'centred' if center else 'not centred'}",
        spectrum.n,
        split,
        (),
        details,
    )


def _rank(values: Tensor, rule: str, longest: int) -> float:
    if rule == "float32":
        return float((values > longest * torch.finfo(torch.float32).eps).sum())
    if rule == "entropy":
        shares = values / values.sum()
        return float(torch.special.entr(shares).sum().exp())
    energy = values.square().cumsum(0)
    # A hundred equal values need 99, whatever their sum was rounded to.
    return 1 + float((energy < 0.99 * energy[-1] * (1 - 1e-12)).sum())
