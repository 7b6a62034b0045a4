"""The named heads: for each its source, and its parameters in the papers' settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Settings of W: Table A.1 (ImageNet), Table A.2 (CIFAR-10, CIFAR-100), with their numbers of classes.
PRESET_CLASSES: dict[str, int] = {"imagenet": 1000, "cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class NamedHead:
    """A head of the registry, as keywords of ``Head``.

    Attributes:
        source: paper and equation.
        fixed: keywords that make it what it is.
        presets: keywords of each setting of W; a setting that is missing adds nothing.
        default: the setting that holds when none is named; None when the head has no safe default.
    """

    source: str
    fixed: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    default: str | None = "imagenet"


def _settings(imagenet: Any, cifar10: Any, cifar100: Any) -> dict[str, Any]:
    return {"imagenet": imagenet, "cifar10": cifar10, "cifar100": cifar100}


def _one(parameter: str, imagenet: float, cifar10: float, cifar100: float) -> dict[str, dict[str, Any]]:
    return _settings({parameter: imagenet}, {parameter: cifar10}, {parameter: cifar100})


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
}
