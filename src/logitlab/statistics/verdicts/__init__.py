"""Is a statement about groups of seeds borne out? Rules, each with the sentence that carries its numbers. No torch."""

from .best_among import decide_best_among
from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision, Group, Verdict
from .differences import Contest, decide_difference, decide_differences
from .everywhere import decide_everywhere
from .ranks import decide_same_order, decide_trend
from .within import decide_exceeds

__all__ = [
    "DOES_NOT",
    "HOLDS",
    "NOT_DECIDED",
    "Contest",
    "Decision",
    "Group",
    "Verdict",
    "decide_best_among",
    "decide_difference",
    "decide_differences",
    "decide_everywhere",
    "decide_exceeds",
    "decide_same_order",
    "decide_trend",
]
