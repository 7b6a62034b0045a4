"""Classifier heads: modules that own the weight, the temperature and the loss."""

from .classifier import Classifier
from .cosine_head import CosineHead
from .group_softmax_head import GroupSoftmaxHead
from .head import Head
from .metric_learning_head import MetricLearningHead
from .optimizer_groups import param_groups
from .origins import head_module, head_source, import_head
from .presets import NAMED_HEADS, PRESET_CLASSES, NamedHead
from .registry import (
    canonical_parameters,
    create_head,
    head_name,
    known_parameters,
    list_heads,
    named_head,
    register_head,
    resolve_parameters,
)
from .sharded import ClassRange, ShardedHead, clip_gradients, keep_shards_local, load_sharded, save_sharded
from .update_kappa import update_kappa

__all__ = [
    "NAMED_HEADS",
    "PRESET_CLASSES",
    "ClassRange",
    "Classifier",
    "CosineHead",
    "GroupSoftmaxHead",
    "Head",
    "MetricLearningHead",
    "NamedHead",
    "ShardedHead",
    "canonical_parameters",
    "clip_gradients",
    "create_head",
    "head_module",
    "head_name",
    "head_source",
    "import_head",
    "keep_shards_local",
    "known_parameters",
    "list_heads",
    "load_sharded",
    "named_head",
    "param_groups",
    "register_head",
    "resolve_parameters",
    "save_sharded",
    "update_kappa",
]
