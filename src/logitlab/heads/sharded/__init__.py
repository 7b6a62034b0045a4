"""A head whose classes are split over the ranks of a process group."""

from .checkpoint import load_sharded, save_sharded
from .classes import ClassRange
from .data_parallel import clip_gradients, keep_shards_local
from .head import ShardedHead

__all__ = ["ClassRange", "ShardedHead", "clip_gradients", "keep_shards_local", "load_sharded", "save_sharded"]
