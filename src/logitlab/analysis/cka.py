"""Linear centred kernel alignment: how alike two representations of the same images are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows
from .measurement import Measurement, UndefinedError
from .products import Centered, cross_products, inner_products
from .result import Result

# Samples that the unbiased estimator needs: it divides by n (n - 3).
_FEWEST = 4

# N x N matrices of the layers are kept for the next comparison up to so many numbers together (1 GiB).
_KEPT = 2**27

# A debiased norm below this share of the biased one is float64 rounding.
_ROUNDING = 1e-13


@dataclass(frozen=True, kw_only=True, eq=False)
class CkaMatrix(Result):
    """CKA between every layer (or model) of one set and every one of another.

    Attributes:
        rows: names of the first set, R.
        columns: names of the second set, S.
        value: float64 ``[R, S]``.
    """

    name: ClassVar[str] = "cka_matrix"

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rows; of the columns too, when a set is compared with itself."""
        return self.rows

    @property
    def headline(self) -> str:
        """Its size and its range."""
        low, high = float(self.value.min()), float(self.value.max())
        return f"{len(self.rows)} x {len(self.columns)} from {low:.4g} to {high:.4g}"


def linear_cka(x1: ArrayLike, x2: ArrayLike, *, debiased: bool = False, split: str | None = None) -> Measurement:
    r"""Linear CKA of two representations, streamed.

    With column-centred features :math:`\mathbf X, \mathbf Y` of the same N samples,

    .. math:: \mathrm{CKA} = \frac{\|\mathbf X^\top \mathbf Y\|_F^2}
        {\|\mathbf X^\top \mathbf X\|_F \|\mathbf Y^\top \mathbf Y\|_F}

    Debiased, each of the three squared norms is replaced by the unbiased estimator of the Hilbert-Schmidt
    independence criterion, with squared lengths :math:`r_i = \|\mathbf x_i\|^2, s_i = \|\mathbf y_i\|^2`,

    .. math:: N(N - 3)\,\mathrm{HSIC}_1 = \|\mathbf X^\top \mathbf Y\|_F^2 - \frac{N}{N - 2} \sum_i r_i s_i
        + \frac{\sum_i r_i \sum_i s_i}{(N - 1)(N - 2)}

    The sums run in float64 over chunks: through D x D cross-products, or through N x N Gram matrices where those are
    smaller (few samples, wide layers). The features are read once for their mean, which is subtracted before any
    product is taken, and once for each product.

    Args:
        x1: one representation, ``[N, D1]``; feature maps ``[N, C, H, W]`` are flattened (hand over pooled ones to
            compare pooled ones: the numbers differ).
        x2: another of the same samples in the same order, ``[N, D2]``.
        debiased: remove the bias that makes wide representations of few samples look alike.
        split: the part of the data, kept in the result.

    Returns:
        Biased in [0, 1]: 1 for representations that are equal up to rotation, shift and scale. Debiased at most 1,
        around 0 for independent ones and possibly below.

    Raises:
        InputError: NaN or infinity, different numbers of samples, fewer than four samples when debiased.
        UndefinedError: a representation that is the same for every sample.

    References:
        W Figure 3. Kornblith et al., "Similarity of neural network representations revisited", ICML 2019. The
        estimator: Song et al., "Feature selection via dependence maximization", JMLR 2012.

    >>> x = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    >>> turned = [[5.0, 3.0], [7.0, 5.0], [5.0, 5.0], [7.0, 3.0]]
    >>> round(linear_cka(x, turned).value, 12)
    1.0
    """
    first, second = _Representation(x1, "x1"), _Representation(x2, "x2")
    value = _alignment(first, second, debiased)
    return Measurement("linear_cka", value, _convention(debiased), len(first.rows), split)


def cka_matrix(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike] | None = None,
    *,
    debiased: bool = False,
    split: str | None = None,
) -> CkaMatrix:
    """Linear CKA between every pair of two sets: layers of two models, or models at one layer.

    What W uses as a control, a model with its weights as initialised and batch-norm moments of the training set, is
    another ``second``.

    Args:
        first: representations by name, each ``[N, D]`` or feature maps, of the same samples.
        second: the other set; without it the first is compared with itself (symmetric, and 1 on the diagonal).
        debiased: as in :func:`linear_cka`.
        split: the part of the data, kept in the result.

    Returns:
        ``value[i, j]``: CKA of ``rows[i]`` with ``columns[j]``.

    Raises:
        InputError: an empty set, or what :func:`linear_cka` refuses; the message names the entry.
        UndefinedError: a representation that is the same for every sample.

    References:
        W Figure 3.

    >>> x = torch.eye(5)
    >>> cka_matrix({"a": x, "b": x[:, :2]}).value
    tensor([[1.0000, 0.6860],
            [0.6860, 1.0000]], dtype=torch.float64)
    """
    if not first or (second is not None and not second):
        raise InputError("Expected at least one representation in each set. Got none.")
    samples = len(Rows(next(iter(first.values())), f"first[{next(iter(first))!r}]", flatten=True))
    keep = samples**2 * (len(first) + len(second or ())) <= _KEPT
    rows = {name: _Representation(x, f"first[{name!r}]", keep=keep) for name, x in first.items()}
    columns = rows
    if second is not None:
        columns = {name: _Representation(x, f"second[{name!r}]", keep=keep) for name, x in second.items()}
    value = torch.empty(len(rows), len(columns), dtype=torch.float64)
    for i, one in enumerate(rows.values()):
        for j, other in enumerate(columns.values()):
            value[i, j] = value[j, i] if second is None and j < i else _alignment(one, other, debiased)
    return CkaMatrix(
        convention=_convention(debiased),
        n=samples,
        split=split,
        rows=tuple(rows),
        columns=tuple(columns),
        value=value,
    )


def minibatch_cka(batches: Iterable[tuple[ArrayLike, ArrayLike]], *, split: str | None = None) -> Measurement:
    r"""Linear CKA estimated from batches, each seen once: for representations that are never all at hand.

    .. math:: \frac{\sum_b \mathrm{HSIC}_1(\mathbf X_b, \mathbf Y_b)}{\sqrt{\sum_b \mathrm{HSIC}_1(\mathbf X_b,
        \mathbf X_b) \sum_b \mathrm{HSIC}_1(\mathbf Y_b, \mathbf Y_b)}}

    The sums are taken before the quotient. This estimates the debiased CKA of all samples and is not the same number:
    it depends on how the samples fall into batches.

    Args:
        batches: pairs of representations of the same samples, ``[n, D1]`` and ``[n, D2]`` or feature maps, with n at
            least 4 in each batch.
        split: the part of the data, kept in the result.

    Returns:
        At most about 1; around 0 for independent representations and possibly below. ``details``: ``batches``.

    Raises:
        InputError: no batch, one of fewer than four samples, NaN or infinity, or shapes that do not fit.
        UndefinedError: representations without differences within the batches.

    References:
        Nguyen, Raghu, Kornblith, "Do wide and deep networks learn the same things?", ICLR 2021, Eq. (2) and (3).

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [9.0]])
    >>> round(minibatch_cka([(x, 3 * x), (x[:4], 3 * x[:4])]).value, 12)
    1.0
    """
    sums = [0.0, 0.0, 0.0]
    samples = count = 0
    scales: tuple[float, float] | None = None
    for count, (x1, x2) in enumerate(batches, start=1):
        one, other = (_Representation(x, f"{name} of batch {count}") for x, name in ((x1, "x1"), (x2, "x2")))
        _same_samples(one, other)
        # All batches share one scale, or their sums would not add up.
        scales = scales or (one.points.scale, other.points.scale)
        size = len(one.rows)
        terms = (_dependence(one, other, True), _dependence(one, one, True), _dependence(other, other, True))
        here = (scales[0] / one.points.scale, scales[1] / other.points.scale)
        factors = (here[0] * here[1], here[0] ** 2, here[1] ** 2)
        for place, (term, factor) in enumerate(zip(terms, factors, strict=True)):
            sums[place] += term * factor**2 / (size * (size - 3))
        samples += size
    if not count:
        raise InputError("Expected at least one batch. Got none.")
    if not (sums[1] > 0 and sums[2] > 0):
        raise UndefinedError("Expected representations that differ within the batches. Got none: CKA is 0/0.")
    return Measurement(
        "minibatch_cka",
        sums[0] / sums[1] ** 0.5 / sums[2] ** 0.5,
        "linear, ratio of unbiased HSIC summed over batches",
        samples,
        split,
        (),
        {"batches": float(count)},
    )


class _Representation:
    """One representation: what belongs to it alone is computed once, however often it is compared."""

    def __init__(self, x: ArrayLike, name: str, *, keep: bool = True) -> None:
        self.rows = Rows(x, name, flatten=True)
        self.name = name
        self._keep = keep
        self._gram: Tensor | None = None

    @cached_property
    def points(self) -> Centered:
        """The centred rows."""
        return Centered(self.rows)

    @cached_property
    def lengths(self) -> Tensor:
        """Squared lengths of the centred rows, ``[N]``."""
        parts = [chunk.square_().sum(dim=1) for chunk in self.points.chunks(1)]
        return torch.cat(parts).cpu()

    def gram(self) -> Tensor:
        """Inner products of the centred rows, ``[N, N]``."""
        found = inner_products(self.points) if self._gram is None else self._gram
        if self._keep:
            self._gram = found
        return found

    @cached_property
    def energy(self) -> float:
        """The squared norm of the products of this representation with itself."""
        wide = self.rows.shape[1] > len(self.rows)
        found = float((self.gram() if wide else cross_products(self.points)).square().sum())
        if found**0.5 <= self.points.negligible:
            raise UndefinedError(f"Expected '{self.name}' to differ between samples. Got the same row throughout.")
        return found


def _same_samples(first: _Representation, second: _Representation) -> None:
    if len(first.rows) != len(second.rows):
        raise InputError(
            f"Expected '{first.name}' and '{second.name}' of the same samples. "
            f"Got {len(first.rows)} and {len(second.rows)} rows."
        )


def _alignment(first: _Representation, second: _Representation, debiased: bool) -> float:
    _same_samples(first, second)
    own = [_dependence(each, each, debiased) for each in (first, second)]
    for each, value in zip((first, second), own):
        if value <= _ROUNDING * each.energy:
            raise UndefinedError(f"Expected '{each.name}' whose debiased norm is not zero. Got 0/0.")
    return _dependence(first, second, debiased) / math.sqrt(own[0]) / math.sqrt(own[1])


def _dependence(first: _Representation, second: _Representation, debiased: bool) -> float:
    """The squared norm of the products of two representations, or N (N - 3) times the unbiased estimator."""
    energy = first.energy if first is second else _cross_energy(first, second)
    if not debiased:
        return energy
    count = len(first.rows)
    if count < _FEWEST:
        raise InputError(
            f"Expected at least {_FEWEST} samples, without which the unbiased estimator does not exist. "
            f"Got {count} in '{first.name}'."
        )
    product = float(first.lengths.sum() * second.lengths.sum()) / ((count - 1) * (count - 2))
    return energy - count / (count - 2) * float(first.lengths @ second.lengths) + product


def _cross_energy(first: _Representation, second: _Representation) -> float:
    count, widths = len(first.rows), (first.rows.shape[1], second.rows.shape[1])
    if widths[0] * widths[1] > count**2:
        return float((first.gram() * second.gram()).sum())
    # Chunks of equal numbers of rows, as the wider one allows.
    pairs = (each.points.chunks(width=max(widths)) for each in (first, second))
    total = torch.zeros(*widths, dtype=torch.float64, device=first.rows.device)
    for one, other in zip(*pairs, strict=True):
        total.addmm_(one.T, other)
    return float(total.square().sum())


def _convention(debiased: bool) -> str:
    return "linear, debiased" if debiased else "linear, biased"
