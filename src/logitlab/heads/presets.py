"""The named heads: for each its source, and its parameters in the papers' settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from logitlab.margins import (
    AdditiveAngularMargin,
    AdditiveCosineMargin,
    LabelDistributionMargin,
    Margin,
    MultiplicativeAngularMargin,
)

from .group_softmax_head import GroupSoftmaxHead
from .head import Head

#: Settings of W: Table A.1 (ImageNet), Table A.2 (CIFAR-10, CIFAR-100), with their numbers of classes.
PRESET_CLASSES: dict[str, int] = {"imagenet": 1000, "cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class NamedHead:
    """A head of the registry, as keywords of ``Head``.

    Attributes:
        source: paper and equation.
        fixed: keywords that make it what it is.
        usual: keywords that hold unless the caller says otherwise. A temperature among them gives way to a number.
        head_class: what builds it, from the keywords of ``Head`` and its own.
        margin: the class that its ``margin`` parameter, a number, is given to, or what it takes in place of that; None
            for a head without one.
        length_by_temperature: whether a temperature turns its classifier into cosines: κ then replaces the lengths.
        presets: keywords of each setting of W; a setting that is missing adds nothing.
        default: the setting that holds when none is named; None when the head has no safe default.
    """

    source: str
    fixed: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    default: str | None = "imagenet"
    usual: dict[str, Any] = field(default_factory=dict)
    head_class: type[Head] = Head
    margin: type[Margin] | None = None
    length_by_temperature: bool = False


def _settings(imagenet: Any, cifar10: Any, cifar100: Any) -> dict[str, Any]:
    return {"imagenet": imagenet, "cifar10": cifar10, "cifar100": cifar100}


def _one(parameter: str, imagenet: float, cifar10: float, cifar100: float) -> dict[str, dict[str, Any]]:
    return _settings({parameter: imagenet}, {parameter: cifar10}, {parameter: cifar100})


#: Other names of the literature.
ALIASES: dict[str, str] = {"amsoftmax": "cosface", "asoftmax": "sphereface"}

#: Every built-in head. The numbers are those of W Tables A.1 and A.2.
NAMED_HEADS: dict[str, NamedHead] = {
    "softmax": NamedHead("W (1)"),
    "label_smoothing": NamedHead("W (2), (3)", presets=_one("alpha", 0.1, 0.04, 0.18)),
    "dropout": NamedHead("W (4)", presets=_one("keep_probability", 0.7, 0.65, 0.75)),
    "final_l2": NamedHead("W §2", presets=_one("weight_penalty", 8e-4, 10**-1.5, 10**-3.33)),
    "logit_penalty": NamedHead("W (5)", presets=_one("beta", 6e-4, 10**-2.83, 10**-2.83)),
    "logit_norm": NamedHead("W (6)", {"normalize_logits": True}, _one("tau", 0.04, 0.14, 0.11)),
    "cosine": NamedHead("W (7), T (1), (2)", {"classifier": "cosine", "bias": True}, _one("tau", 0.05, 0.08, 0.1)),
    "cosine_ls": NamedHead("T (10), (11)", {"classifier": "cosine", "temperature": "least_squares"}),
    "cosine_2ls": NamedHead(
        "T (11), Table 2 (2κ*)", {"classifier": "cosine", "temperature": "least_squares", "multiplier": 2.0}
    ),
    "sigmoid": NamedHead("W (8), (9)", {"loss": "sigmoid"}),
    "squared_error": NamedHead(
        "W (10)",
        {"loss": "squared_error"},
        _settings(
            {"target_weight": 9.0, "target_value": 60.0, "loss_scale": 10.0},
            {"target_weight": 8.0, "target_value": 0.83},
            {"target_weight": 6.0, "target_value": 12.0},
        ),
        default=None,  # κ 9 with M 60 diverges at ten classes
    ),
    "lsoftmax": NamedHead(
        "L (ψ, f_y)",
        {"bias": False},
        # The slides' 0.1, 0.01, 0.001 are what remains after a start from 1000: from 0.1 classes lose their weight.
        usual={"margin": 4, "annealing": {"start": 1000.0, "gamma": 0.01, "power": 3.0, "minimum": 0.001}},
        margin=MultiplicativeAngularMargin,
        length_by_temperature=True,
    ),
    "sphereface": NamedHead(
        "T (ref. [25]), L (ψ)",
        {"classifier": "unit_weight"},
        usual={"margin": 4, "annealing": {"start": 1000.0, "gamma": 0.12, "minimum": 5.0}},
        margin=MultiplicativeAngularMargin,
        length_by_temperature=True,
    ),
    "cosface": NamedHead(
        "T §3.4.1, ref. [37]",
        {"classifier": "cosine"},
        usual={"margin": 0.35, "temperature": "least_squares"},
        margin=AdditiveCosineMargin,
    ),
    "arcface": NamedHead(
        "T §3.4.1, ref. [9]",
        {"classifier": "cosine"},
        usual={"margin": 0.5, "temperature": "least_squares"},
        margin=AdditiveAngularMargin,
    ),
    "subcenter_arcface": NamedHead(
        "Deng (sub-centres), T §3.4.1, ref. [9]",
        {"classifier": "cosine"},
        # Least squares needs one weight a class.
        usual={"centers": 3, "margin": 0.5, "temperature": "adacos"},
        margin=AdditiveAngularMargin,
    ),
    "ldam": NamedHead(
        "Cao §3.2",
        {"classifier": "cosine"},
        usual={"max_margin": 0.5, "class_counts": None, "kappa": 30.0},
        margin=LabelDistributionMargin,
    ),
    "logit_adjustment": NamedHead("Menon (10)", usual={"adjustment": 1.0, "class_counts": None}),
    # Not "focal": that name is what users register their own by, after the README.
    "focal_loss": NamedHead("Lin (4), (5)", {"loss": "focal"}, usual={"gamma": 2.0}),
    "group_softmax": NamedHead(
        "G (A.2), (A.13), (A.14)",
        usual={"groups": 8, "kind": "II", "grouping": "discriminative"},
        head_class=GroupSoftmaxHead,
    ),
}
