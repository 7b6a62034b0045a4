"""Every head of the registry and every temperature passes check_head."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from logitlab.heads import NAMED_HEADS, create_head
from logitlab.margins import AdditiveAngularMargin
from logitlab.temperature import TEMPERATURES, LeastSquares
from logitlab.testing import check_head, check_heads_distributed

PARAMETERS: dict[str, dict[str, Any]] = {"squared_error": {"preset": "cifar10"}}


def continuous(in_features: int, num_classes: int) -> Any:
    return create_head("cosine", in_features, num_classes, temperature=LeastSquares(search="continuous"))


def margins_by_class(in_features: int, num_classes: int) -> Any:
    margin = AdditiveAngularMargin([0.1 + 0.5 * index / num_classes for index in range(num_classes)])
    return create_head("arcface", in_features, num_classes, margin=margin, kappa=12.0)


def logit_adjustment(in_features: int, num_classes: int) -> Any:
    return create_head("logit_adjustment", in_features, num_classes, class_counts=range(1, num_classes + 1))


def label_distribution(in_features: int, num_classes: int) -> Any:
    return create_head("ldam", in_features, num_classes, class_counts=range(1, num_classes + 1))


HEADS = {name: partial(create_head, name, **PARAMETERS.get(name, {})) for name in NAMED_HEADS}
OF_TEMPERATURES = {
    f"cosine, {name}": partial(create_head, "cosine", temperature=name, **({"kappa": 12.0} if name == "fixed" else {}))
    for name in TEMPERATURES
}
OTHERS = {
    "least squares, continuous": continuous,
    "margins by class": margins_by_class,
    "logit adjustment, unequal": logit_adjustment,
    "ldam, unequal": label_distribution,
    "arcface, detached": partial(create_head, "arcface", detach_margin=True, kappa=12.0),
    "group softmax, type I": partial(create_head, "group_softmax", groups=4, kind="I"),
    "group softmax, random": partial(create_head, "group_softmax", groups=4, grouping="random"),
    "sigmoid, cosine, least squares": partial(create_head, "sigmoid", classifier="cosine", temperature="least_squares"),
    "smoothing, dropout, penalties": partial(
        create_head, "softmax", alpha=0.1, keep_probability=0.8, beta=1e-3, weight_penalty=1e-3
    ),
    "sub-centres": partial(create_head, "arcface", kappa=12.0, centers=3),
}
ALL = {**HEADS, **OF_TEMPERATURES, **OTHERS}
# Compiled under another name already, or with the tests of temperatures: the same code with another number.
COMPILED_ELSEWHERE = (
    "cosine_2ls",
    "cosine, fixed",
    "cosine, least_squares",
    "least squares, continuous",
    "group softmax, type I",
    "sigmoid, cosine, least squares",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_conforms(name: str) -> None:
    report = check_head(ALL[name], skip=["compiled", "exported"] if name in COMPILED_ELSEWHERE else [])
    assert len(report.ran) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "arcface", "group_softmax"])
def test_inductor(name: str) -> None:
    assert check_head(ALL[name], only=["inductor"]).ran == ("inductor",)


@pytest.mark.slow
def test_two_processes_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # A fresh process must find this file under the name that pytest gave it.
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[len(__name__.split(".")) - 1])
    assert set(check_heads_distributed(ALL)) == set(ALL)
