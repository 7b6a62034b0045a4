"""Backbones by name, and checkpoints of a backbone with its head."""

from .backbone import Backbone
from .checkpoint import CHECKPOINT_VERSION, ModelDescription, load_checkpoint, save_checkpoint
from .factory import create_backbone, list_backbones
from .resnet_cifar import ResNetCifar
from .small import Mlp, SmallCnn
from .timm_backbone import TimmBackbone
from .weight_file import WEIGHT_FILE, weight_file_digest

__all__ = [
    "CHECKPOINT_VERSION",
    "WEIGHT_FILE",
    "Backbone",
    "Mlp",
    "ModelDescription",
    "ResNetCifar",
    "SmallCnn",
    "TimmBackbone",
    "create_backbone",
    "list_backbones",
    "load_checkpoint",
    "save_checkpoint",
    "weight_file_digest",
]
