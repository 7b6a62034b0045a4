"""Inputs that nobody thought of: shapes, dtypes and values from Hypothesis, or a fixed set without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch

from ..case import Case, finite, gradients, same
from ..catalogue import check
from ..report import CheckFailed

#: How many inputs Hypothesis draws.
EXAMPLES = 25
_SHAPES = ((), (1,), (5,), (0,), (2, 3))
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_SIZES = (0.0, 1e-6, 1.0, 1e4)


@dataclass(frozen=True)
class _Input:
    """What is asked of a head.

    Attributes:
        shape: of the target.
        classes: C.
        dtype: of the features.
        size: of their entries.
        aligned: 1 puts the first sample on the weight of its target, -1 against it, 0 leaves it.
        soft: whether the target holds probabilities, where the head takes them.
        training: the mode.
        seed: of the values.
    """

    shape: tuple[int, ...]
    classes: int
    dtype: torch.dtype
    size: float
    aligned: int = 0
    soft: bool = False
    training: bool = True
    seed: int = 0


def has_hypothesis() -> bool:
    """Whether Hypothesis is installed."""
    return find_spec("hypothesis") is not None


@check()
def generated_inputs(case: Case) -> None:
    """Whatever the shape, dtype, size and target, losses and gradients are finite.

    Results are float32 at least and of the right shape, and the mean is that of the losses.
    """
    if not has_hypothesis():
        for given in _fixed(case):
            _holds(case, given)
        return
    import hypothesis
    from hypothesis import strategies as st

    least = case.traits.min_classes
    inputs = st.builds(
        _Input,
        shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
        classes=st.integers(least, max(least, 6)),
        dtype=st.sampled_from(_DTYPES),
        size=st.sampled_from(_SIZES) | st.floats(1e-3, 1e3),
        aligned=st.sampled_from((0, 1, -1)),
        soft=st.booleans() if case.traits.soft_targets else st.just(False),
        training=st.booleans(),
        seed=st.integers(0, 2**16),
    )

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )
    @hypothesis.given(inputs)
    def run(given: _Input) -> None:
        _holds(case, given)

    run()


def _fixed(case: Case) -> Iterator[_Input]:
    for number, (shape, dtype, size) in enumerate(product(_SHAPES, _DTYPES, _SIZES)):
        classes = max(case.traits.min_classes, 1 + number % 6)
        soft = case.traits.soft_targets and number % 3 == 0
        yield _Input(shape, classes, dtype, size, number % 3 - 1, soft, number % 2 == 0, number)


def _holds(case: Case, given: _Input) -> None:
    wide = torch.float64 if given.dtype == torch.float64 else torch.float32
    head: Any = case.head(training=given.training, dtype=wide, num_classes=given.classes)
    features, target = case.batch(*given.shape, num_classes=given.classes, seed=given.seed)
    # Gradients of larger ones may lie beyond the end of float16.
    size = min(given.size, 100.0) if given.dtype == torch.float16 else given.size
    features = size * features
    if given.aligned and target.numel():
        row = head.weight.detach().double().view(given.classes, -1, case.in_features)[target.reshape(-1)[0], 0]
        features.view(-1, case.in_features)[0] = given.aligned * max(size, 1e-3) * row
    features = features.to(given.dtype)
    what = f"{given}"
    wanted = target
    if given.soft:
        smooth = torch.nn.functional.one_hot(target, given.classes).to(features.dtype)
        wanted = 0.75 * smooth + 0.25 / given.classes
    loss, found = gradients(head, features, wanted)
    finite(loss, found, what)
    if loss.shape != () or torch.finfo(loss.dtype).bits < 32:
        raise CheckFailed(f"{what}: expected a scalar loss in float32 at least, got {loss.dtype} {list(loss.shape)}")
    head = case.head(training=False, dtype=wide, num_classes=given.classes)
    each, mean = head(features, wanted, reduction="none"), head(features, wanted)
    if each.shape != given.shape:
        raise CheckFailed(f"{what}: expected losses of shape {list(given.shape)}, got {list(each.shape)}")
    if each.numel():
        same(mean, each.mean(), f"{what}: the mean against the losses", rtol=1e-5, atol=1e-6)
    logits = head(features)
    if logits.shape != (*given.shape, given.classes) or torch.finfo(logits.dtype).bits < 32:
        raise CheckFailed(f"{what}: logits in {logits.dtype} of shape {list(logits.shape)}")
