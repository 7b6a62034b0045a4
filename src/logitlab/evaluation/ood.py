"""How well a model's confidence rejects images of another world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from logitlab.analysis import UndefinedError, ood_ap

from .collecting import Confidence

if TYPE_CHECKING:
    import numpy

_SCORES = ("max_logit", "feature_norm")


def ood_measures(outputs: Mapping[str, numpy.ndarray], strange: Confidence) -> dict[str, float | None]:
    """Measure a set of out-of-distribution images against the test images that were classified correctly.

    Args:
        outputs: of the test images, as ``logitlab.records.read_outputs`` returns them.
        strange: of the out-of-distribution images.

    Returns:
        ``max_logit_ap``, ``max_logit_auroc``, ``feature_norm_ap``, ``feature_norm_auroc`` (T Figure 4 (b); None
        where no test image was classified correctly) and ``base_rate``, what chance gives for the precisions.
    """
    correct = outputs["predicted"] == outputs["labels"]
    found: dict[str, float | None] = {}
    for score in _SCORES:
        try:
            measured = ood_ap(outputs[score], correct, getattr(strange, score), split="test")
        except UndefinedError:
            found |= {f"{score}_ap": None, f"{score}_auroc": None}
        else:
            found |= {f"{score}_ap": measured.value, f"{score}_auroc": measured.details["auroc"]}
    right = int(correct.sum())
    return {**found, "base_rate": right / (right + len(strange.max_logit))}
