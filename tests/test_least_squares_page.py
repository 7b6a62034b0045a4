"""What docs/least_squares.md says is computed, so that it stays true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from logitlab.functional import (
    KAPPA_CANDIDATES,
    Method,
    Search,
    additive_cosine_margin,
    normalize,
    projection_energy,
    search_least_squares,
)
from logitlab.functional.class_chunks import split_cosine
from logitlab.functional.least_squares.bounds import energy_bound
from logitlab.functional.least_squares.certified import TOLERANCE
from logitlab.functional.least_squares.gram import gram_matrix
from logitlab.functional.least_squares.power_sums import power_sums
from logitlab.functional.least_squares.surrogate import Surrogate

FOLDER = Path(__file__).resolve().parent.parent / "docs"
PAGE = (FOLDER / "least_squares.md").read_text(encoding="utf-8")
KAPPA = torch.tensor(KAPPA_CANDIDATES, dtype=torch.float64)


def rows(classes: int = 150, features: int = 32, samples: int = 40) -> tuple[Tensor, Tensor]:
    """Features near their class, near two classes, and anywhere, float64."""
    generator = torch.Generator().manual_seed(classes)
    weight = normalize(torch.randn(classes, features, dtype=torch.float64, generator=generator))
    noise = normalize(torch.randn(samples, features, dtype=torch.float64, generator=generator))
    return normalize(weight[:samples] + noise * torch.linspace(0.1, 4, samples).unsqueeze(1)), weight


def reconstruct(x: Tensor, weight: Tensor, kappa: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax, mean cosine, reconstruction and its part across the feature."""
    share = torch.softmax(kappa * x @ weight.t(), dim=1)
    mean = (share * (x @ weight.t())).sum(dim=1)
    rebuilt = share @ weight
    return share, mean, rebuilt, rebuilt - mean.unsqueeze(1) * x


def test_the_page_names_every_method_search_and_number() -> None:
    tabulated = set(re.findall(r'^\| `"(\w+)"` \|', PAGE, re.MULTILINE))
    assert tabulated == {*get_args(Method), *get_args(Search)}
    assert TOLERANCE == 5e-7
    assert "`TOLERANCE`, 5·10⁻⁷" in PAGE
    assert "least_squares.png" in PAGE
    assert (FOLDER / "least_squares.png").is_file()
    assert (FOLDER / "least_squares_figure.py").is_file()


def test_the_example_of_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert code is not None
    space: dict[str, Any] = {}
    exec(compile(code.group(1), "least_squares.md", "exec"), space)
    assert capsys.readouterr().out == code.group(2)


def test_the_energy_splits_into_along_and_across() -> None:
    x, weight = rows()
    for kappa in KAPPA_CANDIDATES:
        _, mean, _, across = reconstruct(x, weight, kappa)
        split = 0.5 * ((1 - mean).square() + across.square().sum(dim=1))
        torch.testing.assert_close(split, projection_energy(x, weight, kappa), rtol=0, atol=1e-14)


def test_the_surrogate_is_formula_2_at_the_levels_and_near_it_between() -> None:
    x, weight = rows()
    cosine = x @ weight.t()
    chunks = split_cosine(cosine, weight)
    reference, nearest = chunks.largest()
    surrogate = Surrogate(power_sums(chunks, nearest, reference, masked=False), reference.unsqueeze(1))
    for kappa, tolerance in [*((2.0**level, 1e-12) for level in range(8)), *((k, 1e-3) for k in KAPPA_CANDIDATES[:18])]:
        share, mean, _, _ = reconstruct(x, weight, kappa)
        expected = 0.5 * ((1 - mean).square() + (share.square() * (1 - cosine.square())).sum(dim=1))
        found = surrogate.energy(torch.tensor([kappa], dtype=torch.float64)).squeeze(1)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(150, 32), (200, 3), (150, 200), (40, 8)])
def test_bound_3_lies_below_the_energy(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, weight = (part.to(dtype) for part in rows(*shape))
    chunks = split_cosine(x @ weight.t(), weight)
    reference, nearest = chunks.largest()
    sums = power_sums(chunks, nearest, reference, masked=False)
    bound = energy_bound(sums, reference.double().unsqueeze(1), KAPPA)
    energy = torch.stack([projection_energy(x.double(), weight.double(), float(kappa)) for kappa in KAPPA], 1)
    assert (bound - energy).max() <= (1e-12 if dtype == torch.float64 else 1e-6)
    # It says something: where one class dominates or all share alike it is tight.
    assert (bound / energy).amax(dim=1).median() > 0.8


def test_bound_4_lies_below_the_energy_for_any_short_vector_across_and_touches_it() -> None:
    x, weight = rows()
    for start in (3, 10, 16):
        _, _, _, across = reconstruct(x, weight, KAPPA_CANDIDATES[start])
        random = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(start))
        random = 0.7 * normalize(random - (random * x).sum(dim=1, keepdim=True) * x)
        for direction in (normalize(across), random):
            along = direction @ weight.t()
            for index, kappa in enumerate(KAPPA_CANDIDATES):
                share, mean, _, _ = reconstruct(x, weight, kappa)
                bound = 0.5 * ((1 - mean).square() + (share * along).sum(dim=1).square())
                energy = projection_energy(x, weight, kappa)
                assert (bound <= energy + 1e-14).all()
                if direction is not random and index == start:
                    torch.testing.assert_close(bound, energy, rtol=0, atol=1e-14)


def test_the_gram_form_is_the_energy_and_gives_the_projection() -> None:
    x, weight = rows(40, 8, 20)
    gram, cosine = gram_matrix(weight), x @ weight.t()
    for kappa in KAPPA_CANDIDATES:
        share, mean, _, across = reconstruct(x, weight, kappa)
        energy = 0.5 * (1 - 2 * mean + ((share @ gram) * share).sum(dim=1))
        torch.testing.assert_close(energy, projection_energy(x, weight, kappa), rtol=0, atol=1e-14)
        torch.testing.assert_close(across @ weight.t(), share @ gram - mean.unsqueeze(1) * cosine, rtol=0, atol=1e-13)


def test_the_methods_find_candidates_of_least_energy() -> None:
    x, weight = (part.float() for part in rows(200, 16, 200))
    energy = torch.stack([projection_energy(x.double(), weight.double(), k) for k in KAPPA_CANDIDATES], 1)
    for method in get_args(Method):
        kappa = search_least_squares(x, weight, method=method).double()
        assert (projection_energy(x.double(), weight.double(), kappa) - energy.amin(dim=1)).max() < 2e-6


def test_weights_in_tight_groups_give_the_energy_several_minima() -> None:
    generator = torch.Generator().manual_seed(0)
    centres, noise = (normalize(torch.randn(n, 64, dtype=torch.float64, generator=generator)) for n in (20, 400))
    weight = normalize(centres.repeat(20, 1) + 0.3 * noise)
    x = normalize(weight[:100] + normalize(torch.randn(100, 64, dtype=torch.float64, generator=generator)))
    energy = torch.stack([projection_energy(x, weight, kappa) for kappa in KAPPA_CANDIDATES], 1)
    barrier = energy - torch.maximum(energy.cummin(dim=1).values, energy.flip(1).cummin(dim=1).values.flip(1))
    assert (barrier.amax(dim=1) > 1e-6).double().mean() > 0.5


def test_the_gradients_are_the_formulas_of_the_page() -> None:
    """Against autograd of the loss as it is written, with margin, bias, κ a sample and unequal upstream gradients."""
    generator = torch.Generator().manual_seed(1)
    x, weight, bias, kappa, upstream = (
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((7, 5), (9, 5), (9,), (7,), (7,))
    )
    kappa = 3 + kappa.abs()
    target = torch.tensor([0, 3, 3, 8, 1, 1, 0])
    leaves = [part.requires_grad_() for part in (x, weight, bias, kappa)]
    cosine = normalize(x) @ normalize(weight).t()
    margin = additive_cosine_margin(cosine, 0.2)
    own = torch.nn.functional.one_hot(target, 9).bool()
    logits = kappa.unsqueeze(1) * torch.where(own, margin, cosine) + bias
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    expected = torch.autograd.grad((upstream * loss).sum(), leaves)
    with torch.no_grad():
        of_x, of_weight = x.norm(dim=1, keepdim=True), weight.norm(dim=1, keepdim=True)
        unit_x, unit_weight = x / of_x, weight / of_weight
        rivals = (kappa.unsqueeze(1) * cosine + bias).masked_fill(own, -torch.inf)
        r, t = rivals.logsumexp(dim=1), logits[own]
        torch.testing.assert_close(torch.nn.functional.softplus(r - t), loss, rtol=0, atol=1e-8)
        p = rivals.softmax(dim=1)
        g = upstream * torch.sigmoid(r - t)
        h = -g * kappa  # φ' = 1
        d = (g * kappa).unsqueeze(1) * p + h.unsqueeze(1) * own
        across = (g * kappa).unsqueeze(1) * (p @ unit_weight) + h.unsqueeze(1) * unit_weight[target]
        of_features = (across - (across * unit_x).sum(dim=1, keepdim=True) * unit_x) / of_x
        of_rows = (d.t() @ unit_x - (d * cosine).sum(dim=0).unsqueeze(1) * unit_weight) / of_weight
        # What is left to autograd: κ and β of the target's own logit.
        of_bias = (g.unsqueeze(1) * (p - own.double())).sum(dim=0)
        of_kappa = g * (p * cosine).sum(dim=1) - g * margin[own]
    for found, wanted in zip((of_features, of_rows, of_bias, of_kappa), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
