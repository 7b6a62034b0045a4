from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive

from logitlab.config.errors import InputError
from logitlab.functional import (
    von_mises_fisher_bound,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_log_ratio,
)
from logitlab.functional.von_mises_fisher import _DEBYE

KAPPAS = [1e-6, 1e-4, 0.01, 0.135, 1.0, 3.0, 10.0, 24.0, 50.0, 148.4, 1e3, 1e4, 1e6]
DIMENSIONS = [1, 2, 3, 4, 5, 8, 10, 21, 48, 50, 51, 64, 128, 512, 2048, 10_000]


def exact_log_ratio(dimension: int, kappa: float) -> mpmath.mpf:
    """log 0F1(; D/2; κ²/4) with forty digits: by the series, or by the expansion of I for large arguments."""
    with mpmath.workdps(40):
        order, x = mpmath.mpf(dimension) / 2 - 1, mpmath.mpf(kappa)
        if kappa < 1e3:
            return mpmath.log(mpmath.hyp0f1(order + 1, x * x / 4))
        bessel = mpmath.besseli(order, x, maxterms=10**6)
        return mpmath.loggamma(order + 1) + mpmath.log(bessel) - order * mpmath.log(x / 2)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_exact_log_ratio_equals_mpmath(dimension: int) -> None:
    # At D = 10,000 mpmath needs minutes for κ around 1e5, and less than a second for 1e6.
    expected = [exact_log_ratio(dimension, kappa) for kappa in KAPPAS]
    found = von_mises_fisher_log_ratio(torch.tensor(KAPPAS, dtype=torch.float64), dimension)
    np.testing.assert_allclose(found.numpy(), np.array(expected, dtype=float), rtol=1e-13)


@pytest.mark.parametrize("dimension", [2, 3, 51, 2048, 10_000])
def test_float32_keeps_six_digits(dimension: int) -> None:
    kappa = torch.tensor(KAPPAS, dtype=torch.float32)
    exact = von_mises_fisher_log_ratio(kappa.double(), dimension)
    torch.testing.assert_close(von_mises_fisher_log_ratio(kappa, dimension).double(), exact, rtol=5e-7, atol=0)


def test_closed_forms_in_one_and_three_dimensions() -> None:
    kappa = torch.tensor([0.5, 2.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(von_mises_fisher_log_ratio(kappa, 1), kappa.cosh().log())
    torch.testing.assert_close(von_mises_fisher_log_ratio(kappa, 3), (kappa.sinh() / kappa).log())


@pytest.mark.parametrize("dimension", [2, 3, 10, 100, 500])
@pytest.mark.parametrize("kappa", [0.3, 7.0, 90.0])
def test_log_normalizer_is_that_of_the_paper(dimension: int, kappa: float) -> None:
    order = dimension / 2 - 1
    bessel = math.log(ive(order, kappa)) + kappa if ive(order, kappa) else None
    if bessel is None:
        bessel = float(mpmath.log(mpmath.besseli(order, kappa)))
    expected = dimension / 2 * math.log(2 * math.pi) + bessel - order * math.log(kappa)
    found = von_mises_fisher_log_normalizer(torch.tensor([kappa], dtype=torch.float64), dimension)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_table_of_debye_polynomials_follows_from_their_recurrence() -> None:
    def multiply(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
        product = [Fraction(0)] * (len(a) + len(b) - 1)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                product[i + j] += x * y
        return product

    def add(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
        size = max(len(a), len(b))
        return [sum((p[i] for p in (a, b) if i < len(p)), Fraction(0)) for i in range(size)]

    # DLMF 10.41.9: U_{k+1} = p²(1-p²)U_k'/2 + ∫(1-5t²)U_k(t)dt/8.
    debye = [[Fraction(1)]]
    for _ in _DEBYE:
        slope = [i * c for i, c in enumerate(debye[-1])][1:] or [Fraction(0)]
        first = multiply([Fraction(0), Fraction(0), Fraction(1, 2), Fraction(0), Fraction(-1, 2)], slope)
        inner = multiply([Fraction(1), Fraction(0), Fraction(-5)], debye[-1])
        debye.append(add(first, [Fraction(0), *(c / (i + 1) / 8 for i, c in enumerate(inner))]))
    # The logarithm of a power series: n u_n = Σ k D_k u_{n-k}.
    logs: list[list[Fraction]] = [[]]
    for n in range(1, len(debye)):
        total = [n * c for c in debye[n]]
        for k in range(1, n):
            total = add(total, [-k * c for c in multiply(logs[k], debye[n - k])])
        logs.append([c / n for c in total])
        numerators, denominator = _DEBYE[n - 1]
        table = {n + 2 * j: Fraction(numerator, denominator) for j, numerator in enumerate(numerators)}
        assert {power: c for power, c in enumerate(logs[n]) if c} == table


@given(dimension=st.integers(2, 10_000), log_kappa=st.floats(math.log(1e-6), math.log(1e6)))
@settings(max_examples=200, deadline=None)
def test_hornik_and_gruen_bound_the_exact_value_from_both_sides(dimension: int, log_kappa: float) -> None:
    kappa = torch.tensor([math.exp(log_kappa)], dtype=torch.float64)
    exact = von_mises_fisher_log_ratio(kappa, dimension).item()
    upper = von_mises_fisher_bound(kappa, dimension).item()
    # The lower bound S_{ν+1/2, ν+3/2}, written here as it stands in the paper.
    alpha, beta, x = dimension / 2 - 0.5, dimension / 2 + 0.5, mpmath.mpf(kappa.item())
    with mpmath.workdps(50):
        root = mpmath.sqrt(x * x + beta * beta)
        lower = float(root - beta - alpha * mpmath.log((alpha + root) / (alpha + beta)))
    slack = 1e-12 * exact
    assert lower - slack <= exact <= upper + slack
    assert upper - lower <= 0.5 * math.log1p(kappa.item()) + slack


def test_the_bound_is_its_formula_and_integrates_the_amos_ratio() -> None:
    # Hand-computed at D = 6 (ν = 2, β = 4), κ = 3: √25 - 4 - 2 log(7/6).
    assert von_mises_fisher_bound(torch.tensor(3.0, dtype=torch.float64), 6).item() == pytest.approx(
        1 - 2 * math.log(7 / 6), rel=1e-14
    )
    kappa = torch.tensor([0.7, 30.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(von_mises_fisher_bound(kappa, 64).sum(), kappa)
    torch.testing.assert_close(slope, kappa.detach() / (31 + (kappa.detach() ** 2 + 33**2).sqrt()))


def test_no_concentration_means_the_uniform_distribution() -> None:
    zero = torch.zeros(1)
    assert von_mises_fisher_log_ratio(zero, 7).item() == 0
    assert von_mises_fisher_bound(zero, 7).item() == 0
    assert von_mises_fisher_log_normalizer(zero, 3).item() == pytest.approx(math.log(4 * math.pi))


@pytest.mark.parametrize("dimension", [3, 200])
def test_half_precision_is_computed_in_float32(dimension: int) -> None:
    kappa = torch.tensor([100.0], dtype=torch.float16)
    assert von_mises_fisher_log_ratio(kappa, dimension).dtype == torch.float32
    assert torch.equal(von_mises_fisher_bound(kappa, dimension), von_mises_fisher_bound(kappa.float(), dimension))


def test_dimensions_are_checked() -> None:
    with pytest.raises(InputError, match="at least 1. Got 0"):
        von_mises_fisher_log_normalizer(torch.ones(1), 0)
    with pytest.raises(InputError, match="at least 2.*Got 1"):
        von_mises_fisher_bound(torch.ones(1), 1)
