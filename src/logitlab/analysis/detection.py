"""Numbers on how well a score finds the positives: average precision, AUROC, FPR@95."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def detection(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[float, Mapping[str, float]]:
    r"""Measure how well larger scores mean positive.

    Args:
        positive: bool, shape ``[N]``; both kinds occur.
        score: finite float64, shape ``[N]``.

    Returns:
        the average precision (a step sum, tied scores share a threshold), and what stands beside it: ``base_rate``, the
        share of positives; ``auroc``, the share of pairs in which the positive has the larger score, a tie half;
        ``fpr95``, the share of negatives accepted at the largest threshold t that accepts (score ≥ t) at least 95 % of
        the positives.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    return float(average_precision_score(positive, score)), {
        "base_rate": float(positive.mean()),
        "auroc": float(roc_auc_score(positive, score)),
        "fpr95": _false_positive_rate(positive, score),
    }


def _false_positive_rate(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """At the largest threshold that accepts 95 % of the positives at least."""
    import numpy as np

    accepted = np.sort(score[positive])
    # So many positives may fall below; in integers, where 0.05 x 20 is 1.
    threshold = accepted[len(accepted) * 5 // 100]
    return float((score[~positive] >= threshold).mean())
