"""Group softmax beside plain softmax; ``benchmarks/group_softmax.py`` measures its parts."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from logitlab.functional import GroupKind, discriminative_grouping, group_logits, group_softmax_cross_entropy
from logitlab.heads import GroupSoftmaxHead

from .form import Form, Step
from .ours import step
from .problem import Problem

SOFTMAX = "eager, plain softmax"
GROUPS = 8


def softmax(problem: Problem) -> Step:
    return Step(
        lambda: F.cross_entropy(F.linear(problem.features, problem.weight), problem.target),
        problem.features,
        problem.weight,
    )


def masked_products(problem: Problem, kind: GroupKind) -> Step:
    """The plain version."""

    def loss() -> torch.Tensor:
        features, weight, target = problem.features, problem.weight, problem.target
        grouping = discriminative_grouping(features, weight, target, GROUPS)
        logits = group_logits(features, weight, grouping, GROUPS)
        return group_softmax_cross_entropy(logits, target, kind).mean()

    return Step(loss, problem.features, problem.weight)


def head(problem: Problem, kind: GroupKind) -> Step:
    _, classes, features = problem.shape
    return step(problem, GroupSoftmaxHead(features, classes, groups=GROUPS, kind=kind, bias=False))


GROUP_FORMS = (
    Form(SOFTMAX, softmax, None),
    Form("group softmax II, head", lambda problem: head(problem, "II"), "group II"),
    Form("group softmax I, head", lambda problem: head(problem, "I"), "group I"),
    Form("group softmax II, masked products", lambda problem: masked_products(problem, "II"), None),
)
