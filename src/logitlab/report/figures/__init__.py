"""The pictures of a report, one idea a file: matplotlib figures as inline SVG."""

from __future__ import annotations

from .class_accuracy import class_accuracy
from .confusion import MOST_LABELS, confusion
from .histograms import ood_scores, own_cosine
from .learning_curves import learning_curves
from .panel import Panel
from .reliability import reliability
from .seed_dots import seed_dots

__all__ = [
    "MOST_LABELS",
    "Panel",
    "class_accuracy",
    "confusion",
    "learning_curves",
    "ood_scores",
    "own_cosine",
    "reliability",
    "seed_dots",
]
