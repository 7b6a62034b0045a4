"""Check that a head of yours does what every head must: ``check_head(factory)``."""

from .catalogue import CHECKS, Check
from .distributed import check_heads_distributed
from .report import HeadCheckError, HeadReport
from .runner import check_head
from .traits import HeadTraits, traits_of

__all__ = [
    "CHECKS",
    "Check",
    "HeadCheckError",
    "HeadReport",
    "HeadTraits",
    "check_head",
    "check_heads_distributed",
    "traits_of",
]
