"""A head whose classes are split over the ranks of a process group."""

from .classes import ClassRange
from .head import ShardedHead

__all__ = ["ClassRange", "ShardedHead"]
