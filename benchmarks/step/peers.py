"""How others compute the step: eager PyTorch, its own fused loss, pytorch-metric-learning."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import KAPPA_CANDIDATES

from .form import Form, NotThere, Step
from .problem import KAPPA, Problem

EAGER = "eager, fixed κ"
NAIVE = "eager, naive least squares"
#: Begins the names of every form of torch's fused loss that works in chunks.
CHUNKED = "torch linear_cross_entropy, chunked"

COSFACE_MARGIN, ARCFACE_MARGIN = 0.35, 0.5


def eager(problem: Problem) -> Step:
    """What a user writes who knows κ."""

    def loss() -> Tensor:
        logits = KAPPA * F.linear(F.normalize(problem.features), F.normalize(problem.weight))
        return F.cross_entropy(logits, problem.target)

    return Step(loss, problem.features, problem.weight)


def eager_least_squares(problem: Problem) -> Step:
    """What a user writes who does not: twenty reconstructions, κ of the lowest energy, no gradient through it."""

    def loss() -> Tensor:
        unit_features, unit_weight = F.normalize(problem.features), F.normalize(problem.weight)
        cosine = F.linear(unit_features, unit_weight)
        with torch.no_grad():
            energies = [
                (unit_features - torch.softmax(kappa * cosine, dim=1) @ unit_weight).square().sum(dim=1)
                for kappa in KAPPA_CANDIDATES
            ]
            kappa = torch.tensor(KAPPA_CANDIDATES)[torch.stack(energies).argmin(dim=0)]
        return F.cross_entropy(kappa.unsqueeze(1) * cosine, problem.target)

    return Step(loss, problem.features, problem.weight)


def linear_cross_entropy(problem: Problem, **options: Any) -> Step:
    """Torch's loss of a linear layer, given κx̃ and W̃; without options its unchunked way."""
    function = getattr(F, "linear_cross_entropy", None)
    if function is None:
        raise NotThere(f"torch {torch.__version__} has no linear_cross_entropy")
    further: dict[str, Any] = {}
    if options:
        maker = getattr(torch.nn, "LinearCrossEntropyOptions", None)
        if maker is None:
            raise NotThere(f"torch {torch.__version__} has no LinearCrossEntropyOptions")
        try:
            further["options"] = maker(**options)
        except (TypeError, ValueError) as fault:
            raise NotThere(f"torch {torch.__version__} refuses {options}") from fault

    def loss() -> Tensor:
        unit_features, unit_weight = F.normalize(problem.features), F.normalize(problem.weight)
        found: Tensor = function(KAPPA * unit_features, unit_weight, problem.target, **further)
        return found

    return Step(loss, problem.features, problem.weight)


def metric_learning(problem: Problem, name: str, **parameters: Any) -> Step:
    """A loss of pytorch-metric-learning, with its own weight ``[D, C]`` set to ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses = importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as fault:
        raise NotThere("pytorch-metric-learning is not installed") from fault
    # Few classes and features while it is made: the weight is replaced anyway.
    module = getattr(losses, name)(num_classes=2, embedding_size=2, **parameters)
    module.num_classes = problem.shape.classes
    module.W = problem.transposed_weight
    return Step(lambda: module(problem.features, problem.target), problem.features, module.W, transposed=True)


def chunked(label: str, options: Callable[[int], dict[str, Any]]) -> Form:
    """Torch's loss with one way to choose the rows of a chunk."""
    return Form(f"{CHUNKED} {label}", lambda problem: linear_cross_entropy(problem, **options(problem.shape.batch)))


PEERS = (
    Form(EAGER, eager),
    Form(NAIVE, eager_least_squares, None),
    Form("torch linear_cross_entropy, whole", linear_cross_entropy),
    chunked("auto", lambda rows: {"chunking_method": "auto"}),
    chunked("aspect_ratio", lambda rows: {"chunking_method": "aspect_ratio"}),
    chunked("aspect_ratio:2", lambda rows: {"chunking_method": "aspect_ratio:2"}),
    chunked("B/4 rows", lambda rows: {"chunking_method": None, "batch_chunk_size": max(1, rows // 4)}),
    chunked("B rows", lambda rows: {"chunking_method": None, "batch_chunk_size": rows}),
    Form(
        "metric-learning NormalizedSoftmax",
        lambda problem: metric_learning(problem, "NormalizedSoftmaxLoss", temperature=1 / KAPPA),
    ),
    Form(
        "metric-learning CosFace",
        lambda problem: metric_learning(problem, "CosFaceLoss", margin=COSFACE_MARGIN, scale=KAPPA),
        "cosface",
    ),
    Form(
        "metric-learning ArcFace",
        lambda problem: metric_learning(problem, "ArcFaceLoss", margin=math.degrees(ARCFACE_MARGIN), scale=KAPPA),
        "arcface",
    ),
)
