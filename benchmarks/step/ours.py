"""How we compute the step: the heads as a user makes them, their two paths by force, and the search alone."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from logitlab.functional import search_least_squares
from logitlab.functional.least_squares import choose_kappa
from logitlab.heads import CosineHead, Head, create_head
from logitlab.temperature import LeastSquares

from .form import Form, Search, Step
from .peers import ARCFACE_MARGIN, COSFACE_MARGIN
from .problem import KAPPA, Problem

FIXED = "ours, fixed κ"
FUSED = "ours, fixed κ, fused"
LEAST_SQUARES = "ours, least squares"
SEARCH = "search alone"


def step(problem: Problem, head: Head) -> Step:
    """A step of a head on the shared weight."""
    head.weight = problem.weight
    return Step(
        lambda: cast(Tensor, head(problem.features, problem.target)), problem.features, problem.weight, head=head
    )


def cosine(problem: Problem, **parameters: Any) -> Step:
    return step(problem, CosineHead(problem.shape.features, problem.shape.classes, **parameters))


def named(problem: Problem, name: str, margin: float) -> Step:
    return step(problem, create_head(name, problem.shape.features, problem.shape.classes, margin=margin, kappa=KAPPA))


def search(problem: Problem, **options: Any) -> Search:
    features, weight, cosines = problem.units
    return Search(
        lambda: search_least_squares(features, weight, cosine=cosines, **options),
        lambda: choose_kappa(features, weight, cosine=cosines, **options),
    )


OURS = (
    Form(FIXED, lambda problem: cosine(problem, kappa=KAPPA)),
    Form(FUSED, lambda problem: cosine(problem, kappa=KAPPA, fused=True)),
    Form("ours, fixed κ, plain", lambda problem: cosine(problem, kappa=KAPPA, fused=False)),
    Form("ours, CosFace, fixed κ", lambda problem: named(problem, "cosface", COSFACE_MARGIN), "cosface"),
    Form("ours, ArcFace, fixed κ", lambda problem: named(problem, "arcface", ARCFACE_MARGIN), "arcface"),
    Form(LEAST_SQUARES, lambda problem: cosine(problem, temperature=LeastSquares()), "least_squares"),
    Form(
        f"{LEAST_SQUARES}, surrogate",
        lambda problem: cosine(problem, temperature=LeastSquares(search="surrogate")),
        None,
    ),
    Form(
        f"{LEAST_SQUARES}, continuous",
        lambda problem: cosine(problem, temperature=LeastSquares(search="continuous")),
        None,
    ),
    Form(SEARCH, search, "grid"),
    Form(f"{SEARCH}, plain", lambda problem: search(problem, method="plain"), "grid"),
)
